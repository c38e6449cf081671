//! A collection that MongoDB does not let gizer read is set apart, until it does.

use bson::{Document, doc};
use integration_tests::rig::{Mongod, Signal, Version, wait_until};
use serde_json::json;

use super::failing::LIMIT;
use super::place::Place;

fn documents() -> Vec<Document> {
    (1..=20).map(|id| doc! { "_id": id, "s": format!("s{id}"), "tags": ["x", "y"] }).collect()
}

const STANDING: &str =
    "SELECT joined, obstacle FROM gizer_collection JOIN gizer_expected USING (collection) WHERE collection = 'a'";

/// `a` cannot be read, whatever is tried, and `b` goes on.
async fn is_failing(place: &Place, reason: &str) {
    let before = place.rows("SELECT * FROM a ORDER BY id").await;
    for (round, command) in (0..).zip(["sync", "run", "sync"]) {
        place.set(1 + round, doc! { "s": format!("round {round}") }).await;
        place.write_others(100 + 10 * round..110 + 10 * round).await;
        let finished = place.run(&[command]).await.expect_code(7);
        assert!(finished.stderr.contains(reason), "{}", finished.stderr);
        assert_eq!(place.rows("SELECT * FROM a ORDER BY id").await, before);
        place.judge_one("b").await;
        assert_eq!(place.rows(STANDING).await, json!([{ "joined": false, "obstacle": "failing" }]));
    }
}

async fn is_followed_again(place: &Place) {
    let report = place.sync().await;
    assert_eq!(report["exact"], json!(true), "{report}");
    assert_eq!(place.rows(STANDING).await, json!([{ "joined": true, "obstacle": null }]));
    place.judge().await;
}

#[tokio::test]
async fn s4_a_collection_that_mongodb_fails_to_read_is_failing() {
    let mongod = Mongod::builder(Version::V6_0).set_parameter("enableTestCommands", "1").start().await.unwrap();
    let place = Place::on(&mongod, &mongod.uri(), documents(), "").await;
    let fail = async |mode: bson::Bson| {
        let namespace = format!("{}.a", place.mongo.name());
        // OperationFailed
        let data = doc! { "failCommands": ["find"], "namespace": namespace, "errorCode": 96 };
        let fail = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        mongod.client().await.unwrap().database("admin").run_command(fail).await.unwrap();
    };
    fail("alwaysOn".into()).await;
    is_failing(&place, "OperationFailed").await;
    fail("off".into()).await;
    is_followed_again(&place).await;
}

#[tokio::test]
async fn s4_a_collection_that_may_no_longer_be_read_is_failing() {
    let mongod = Mongod::builder(Version::V6_0).auth("root", "secret").start().await.unwrap();
    let admin = mongod.client().await.unwrap().database("admin");
    let run = async |command: Document| drop(admin.run_command(command).await.unwrap());
    let database = integration_tests::rig::unique_name("rights");
    let right = |collection: &str, actions: &[&str]| {
        let resource = doc! { "db": &database, "collection": collection };
        doc! { "resource": resource, "actions": actions }
    };
    let others = vec![right("", &["listCollections"]), right("b", &["find", "collStats", "indexStats"])];
    let of_a = vec![right("a", &["find", "collStats", "indexStats"])];
    let all: Vec<Document> = others.into_iter().chain(of_a.clone()).collect();
    let local = doc! { "role": "read", "db": "local" };
    run(doc! { "createRole": "copier", "privileges": all, "roles": [local] }).await;
    run(doc! { "createUser": "gizer", "pwd": "gizer", "roles": ["copier"] }).await;
    let place = Place::in_database(&mongod, &database, &mongod.uri_as("gizer", "gizer"), documents(), "").await;
    run(doc! { "revokePrivilegesFromRole": "copier", "privileges": of_a.clone() }).await;
    is_failing(&place, "does not let the user run find on").await;
    run(doc! { "grantPrivilegesToRole": "copier", "privileges": of_a }).await;
    is_followed_again(&place).await;
}

/// Its rows are asked for before its documents, since 4.4 does not log what goes.
#[tokio::test]
async fn o6_a_capped_collection_whose_rows_cannot_be_read_is_loaded_again() {
    let mongod = Mongod::start(Version::V4_4).await.unwrap();
    let database = integration_tests::rig::unique_name("capped");
    let capped = doc! { "create": "a", "capped": true, "size": 1 << 20 };
    mongod.client().await.unwrap().database(&database).run_command(capped).await.unwrap();
    let place = Place::in_database(&mongod, &database, &mongod.uri(), documents(), "").await;
    let mut running = place.gizer.spawn(["sync", "--follow"]).unwrap();
    place.write_others(10..20).await;
    let others = async |rows: i64| place.rows("SELECT count(*) FROM b").await == json!([{ "count": rows }]);
    wait_until("the others to be followed", LIMIT, async || others(13).await).await.unwrap();
    place.sql("DROP TABLE a").await;
    place.insert(doc! { "_id": 21, "s": "new", "tags": [] }).await;
    place.write_others(20..30).await;
    wait_until("the others to go on", LIMIT, async || others(23).await).await.unwrap();
    running.wait_for_output("it is reloaded").await.unwrap();
    wait_until("it to be loaded again", LIMIT, async || {
        let there = "SELECT count(*) FROM pg_tables WHERE tablename = 'a'";
        place.rows(there).await == json!([{ "count": 1 }])
    })
    .await
    .unwrap();
    assert!(running.is_running().unwrap());
    running.signal(Signal::Terminate).unwrap();
    running.wait().await.unwrap().expect_code(143);
    place.sync().await;
    place.judge().await;
}
