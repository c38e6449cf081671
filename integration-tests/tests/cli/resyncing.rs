//! What is reported of a resync while it runs, when it was interrupted, and at its end.

use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{RunningGizer, Version, wait_until};
use serde_json::{Value, json};

use super::place::{Place, assert_says, numbered};

const LIMIT: Duration = Duration::from_secs(60);

const DOCUMENTS: i32 = 30;

/// Two collections, loaded and followed; all of `orders` has changed since.
async fn changed() -> Place {
    let place = Place::shared(Version::V6_0).await;
    for name in ["orders", "posts"] {
        place.insert(name, numbered(DOCUMENTS)).await;
    }
    place.gizer(&["run"]).await.expect_code(0);
    let orders = place.mongo.collection::<Document>("orders");
    orders.update_many(doc! {}, doc! { "$set": { "text": "changed" } }).await.unwrap();
    place
}

/// Starts a resync of orders and waits until it has written and compared everything, and stands before the end.
async fn held(place: &Place) -> (RunningGizer, tokio_postgres::Client) {
    let gate = "CREATE OR REPLACE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS \
        $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$; \
        CREATE OR REPLACE TRIGGER gate BEFORE UPDATE ON gizer_collection FOR EACH ROW \
        WHEN (OLD.load_kind IS NOT NULL AND NEW.load_kind IS NULL) EXECUTE FUNCTION gate()";
    place.postgres.batch_execute(gate).await.unwrap();
    let (holder, connection) = tokio_postgres::connect(&place.postgres_uri, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    holder.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let mut running = place.gizer.spawn(["resync", "orders"]).unwrap();
    let stands = "SELECT count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND wait_event = 'advisory' AND application_name = 'gizer'";
    wait_until("the resync to stand before its end", LIMIT, async || {
        assert!(running.is_running().unwrap(), "{}", running.stderr());
        place.number(stands).await > 0
    })
    .await
    .unwrap();
    (running, holder)
}

async fn status(place: &Place) -> Value {
    serde_json::from_str(&place.gizer(&["status", "--format", "json"]).await.expect_code(0).stdout).unwrap()
}

fn standing<'s>(status: &'s Value, collection: &str) -> &'s Value {
    let expected = status["expected"].as_array().unwrap();
    expected.iter().find(|each| each["collection"] == collection).unwrap()
}

#[tokio::test]
async fn how_far_a_resync_has_come_is_shown() {
    let place = changed().await;
    let (running, holder) = held(&place).await;
    let shown = status(&place).await;
    let orders = &shown["collections"][0];
    assert_eq!(orders["resync"], json!({"documents": DOCUMENTS, "rows": 3 * DOCUMENTS, "differed": DOCUMENTS}));
    assert_eq!((&orders["loading_now"], &orders["live"]), (&json!(true), &json!(true)), "{orders}");
    let stands = standing(&shown, "orders");
    assert_eq!((&stands["standing"], &stands["missing"]), (&json!("resyncing"), &json!(true)), "{stands}");
    assert_eq!(stands["reason"], "catching up: 30 documents compared, 30 differed");
    assert_eq!(standing(&shown, "posts")["standing"], "followed");
    let run = &shown["runs"][0];
    assert_eq!((&run["status"], &run["comment"], &run["ended"]), (&json!(3), &json!("oplog resync"), &Value::Null));
    let text = place.gizer(&["status"]).await.expect_code(0).stdout;
    assert!(text.contains("resyncing"), "{text}");

    // The others are followed as ever; this one is nobody else's.
    place.insert("posts", [doc! { "_id": 1_000, "text": "new" }]).await;
    let synced = place.gizer(&["sync"]).await.expect_code(7);
    assert!(synced.stderr.contains("orders: resyncing: catching up"), "{}", synced.stderr);
    assert_eq!(place.number("SELECT count(*) FROM posts WHERE text = 'new'").await, 1);
    let ran = place.gizer(&["run"]).await.expect_code(7);
    assert!(ran.stderr.contains("orders: resyncing"), "{}", ran.stderr);
    assert_says(&place.gizer(&["resync", "orders"]).await, 5, &["another run"]);

    drop(holder);
    let done = running.wait().await.unwrap().expect_code(0);
    assert!(done.stdout.contains("30 documents differed"), "{}", done.stdout);
    let shown = status(&place).await;
    assert_eq!(
        (&shown["collections"][0]["resync"], &shown["collections"][0]["state"]),
        (&Value::Null, &json!("following"))
    );
    assert!(shown["collections"][0]["ledger"]["resync_seconds"].as_f64().unwrap() > 0.0, "{shown}");
    assert!(
        shown["collections"][0]["ledger"]["seconds"].as_f64().is_some(),
        "what a load takes is still known: {shown}"
    );
    place.gizer(&["sync"]).await.expect_code(0);
    place.gizer(&["verify"]).await.expect_code(0);
}

#[tokio::test]
async fn an_interrupted_resync_is_shown_and_resumed_by_run() {
    let place = changed().await;
    let (running, holder) = held(&place).await;
    running.kill().await.unwrap();
    drop(holder);
    let stands = async || standing(&status(&place).await, "orders").clone();
    wait_until("the server to notice", LIMIT, async || {
        stands().await["reason"].as_str().unwrap().starts_with("interrupted after 30 documents")
    })
    .await
    .unwrap();
    let stand = stands().await;
    assert!(stand["remedy"].as_str().unwrap().contains("`gizer resync orders` resumes it"), "{stand}");
    let text = place.gizer(&["status"]).await.expect_code(0).stdout;
    assert!(text.contains("resync interrupted"), "{text}");
    let due = place.gizer(&["plan"]).await.expect_code(0).stdout;
    assert!(due.contains("resyncing") && due.contains("an interrupted resync is resumed"), "{due}");
    place.postgres.batch_execute("DROP FUNCTION gate CASCADE").await.unwrap();
    let ran = place.gizer(&["run"]).await.expect_code(0);
    assert!(ran.stderr.contains("orders: resuming after 30 documents of an interrupted resync"), "{}", ran.stderr);
    place.gizer(&["verify"]).await.expect_code(0);
}

#[tokio::test]
async fn a_load_in_the_place_of_an_interrupted_resync_starts_over() {
    let place = changed().await;
    let (running, holder) = held(&place).await;
    running.kill().await.unwrap();
    drop(holder);
    place.postgres.batch_execute("DROP FUNCTION gate CASCADE").await.unwrap();
    place.gizer(&["load", "orders"]).await.expect_code(0);
    let left = "SELECT count(*) FROM gizer_resync";
    assert_eq!(place.number(left).await, 0);
    assert_eq!(status(&place).await["collections"][0]["resync"], Value::Null);
    place.gizer(&["run"]).await.expect_code(0);
    place.gizer(&["verify"]).await.expect_code(0);
}

#[tokio::test]
async fn what_cannot_be_resynced_is_named_with_what_helps() {
    let place = changed().await;
    place.schema_file("orders.json", r#"{"$gizer": 1, "fields": {"_id": "INT", "text": "STRING"}}"#);
    place.insert("ghosts", numbered(1)).await;
    place.gizer(&["schema", "infer", "ghosts"]).await.expect_code(0);
    let refused = place.gizer(&["resync", "orders", "ghosts", "posts"]).await.expect_code(3);
    for words in ["schema file has changed", "gizer load orders", "table ghosts is missing", "gizer load ghosts"] {
        assert!(refused.stderr.contains(words), "{words:?} is not in:\n{}", refused.stderr);
    }
    assert!(refused.stdout.contains("posts: all rows were equal"), "{}", refused.stdout);
}
