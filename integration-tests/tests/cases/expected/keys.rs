//! O4: an `_id` that turns out to be of another type than in the schema file that `run` has made.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use integration_tests::rig::{Signal, Version, wait_until};
use serde_json::{Value, json};

use crate::place::{Place, assert_says, numbered};

const LIMIT: Duration = Duration::from_secs(60);

/// The type of `_id` in the schema file of `orders`.
fn key_type(place: &Place) -> Value {
    let text = std::fs::read_to_string(place.gizer.folder().join("schemas/orders.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["fields"]["_id"].clone()
}

/// Documents with ids of other types than numbers.
fn others() -> [Document; 3] {
    [doc! {"_id": "a text"}, doc! {"_id": ObjectId::new(), "list": [1]}, doc! {"_id": {"a": 1}}]
}

#[tokio::test]
async fn o4_an_id_of_another_type_is_taken_by_the_same_run() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(5)).await;
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(key_type(&place), json!("BIGINT"));
    place.insert("orders", others()).await;
    let run = place.gizer(&["run"]).await.expect_code(0);
    assert!(run.stderr.contains("orders: its _id has several types"), "{run:?}");
    assert_eq!(key_type(&place), json!("KEY"));
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 8);
    assert_eq!(place.number("SELECT count(*) FROM order_list").await, 11);
    assert_eq!(place.number("SELECT count(*) FROM gizer_reject").await, 0);
    place.gizer(&["verify"]).await.expect_code(0);
    let run = place.gizer(&["run"]).await.expect_code(0);
    assert!(!run.stderr.contains("several types"), "{run:?}");
}

/// By `sync` they are rejected and told; `plan` says what the next `run` does, and it does so while it follows, too.
#[tokio::test]
async fn o4_an_id_of_another_type_is_taken_while_following() {
    let place = Place::shared(Version::V5_0).await;
    place.insert("orders", numbered(5)).await;
    place.gizer(&["run"]).await.expect_code(0);
    place.insert("orders", [doc! {"_id": "first"}]).await;
    let synced = place.gizer(&["sync"]).await;
    assert!(synced.stderr.contains("_id is STRING: expected BIGINT"), "{synced:?}");
    let planned = place.gizer(&["plan"]).await.expect_code(0);
    assert!(planned.stdout.contains("its _id has turned out to be of another type"), "{planned:?}");
    let rows = async |rows: i64| {
        let there = "SELECT count(*) FROM orders WHERE id IS NOT NULL";
        place.postgres.query_one(there, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == rows)
    };
    let following = place.gizer.spawn(["run", "--follow"]).unwrap();
    wait_until("the reload", LIMIT, async || rows(6).await).await.unwrap();
    place.insert("orders", others()).await;
    wait_until("what came since", LIMIT, async || rows(9).await).await.unwrap();
    following.signal(Signal::Terminate).unwrap();
    following.wait().await.unwrap().expect_code(143);
    place.gizer(&["verify"]).await.expect_code(0);
}

/// What a person has written into a schema file stays.
#[tokio::test]
async fn o4_a_key_that_a_person_has_chosen_stays() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(5)).await;
    place.gizer(&["run"]).await.expect_code(0);
    let own = r#"{"$gizer": 1, "collection": "orders", "fields": {"_id": "BIGINT", "text": "STRING"}}"#;
    place.schema_file("orders.json", own);
    place.gizer(&["run"]).await.expect_code(0);
    place.insert("orders", others()).await;
    let run = place.gizer(&["run"]).await;
    assert!(run.stderr.contains("_id is STRING: expected BIGINT"), "{run:?}");
    assert_eq!(key_type(&place), json!("BIGINT"));
    assert_eq!(place.number("SELECT count(*) FROM gizer_reject").await, 3);
    let planned = place.gizer(&["plan"]).await.expect_code(0);
    assert!(planned.stdout.contains("orders: 3 documents are rejected and not in the tables"), "{planned:?}");
    assert_says(&place.gizer(&["status", "--check", "--min-headroom", "0s"]).await, 6, &[]);
}
