//! State as gizer 0.1 wrote it, whose positions were seconds, increment and term.

use bson::{Document, doc};
use integration_tests::rig::Version;
use mongodb::options::WriteConcern;
use serde_json::Value;

use super::place::{Place, numbered};

const AS_FIRST_VERSION: &str = include_str!("../../../testdata/state/positions-0.1.sql");

async fn json_of(place: &Place, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
    serde_json::from_str(&place.gizer(&args).await.expect_code(0).stdout).unwrap()
}

/// One of each kind of change to a collection.
async fn change(place: &Place, collection: &str, round: i32) {
    let documents = place.mongo.collection::<Document>(collection);
    place.insert(collection, [doc! { "_id": 1_000 + round, "text": "new", "list": [] }]).await;
    documents.update_one(doc! { "_id": round }, doc! { "$set": { "text": format!("changed {round}") } }).await.unwrap();
    let delete = documents.delete_one(doc! { "_id": 10 + round });
    delete.write_concern(WriteConcern::majority()).await.unwrap();
}

/// What all columns hold in which there are positions, row by row.
async fn positions(place: &Place) -> Vec<Value> {
    let sql = "SELECT position AS a, exact_at AS b, verified AS c FROM gizer_stream \
               UNION ALL SELECT captured, exact_at, load_captured FROM gizer_collection";
    place.rows(sql).await
}

/// A collection in step with the stream, and one that a load has left at a position of its own.
#[tokio::test]
async fn it_is_followed_on_from_its_positions_without_a_load() {
    let place = Place::shared(Version::V6_0).await;
    for collection in ["orders", "posts"] {
        place.insert(collection, numbered(50)).await;
    }
    json_of(&place, &["run"]).await;
    change(&place, "posts", 1).await;
    place.gizer(&["load", "posts"]).await.expect_code(0);
    for collection in ["orders", "posts"] {
        change(&place, collection, 2).await;
    }
    let (status, now) = (json_of(&place, &["status"]).await, positions(&place).await);
    place.postgres.batch_execute(AS_FIRST_VERSION).await.unwrap();
    let before = positions(&place).await;
    assert!(before.iter().all(|row| !now.contains(row)), "{before:?}");
    assert!(before[0]["a"]["rs0"]["term"].is_i64() && before[1]["a"]["rs0"]["seconds"].is_i64(), "{before:?}");

    // Whoever only reads it needs no rights to rewrite it.
    let read = json_of(&place, &["status"]).await;
    for part in ["/stream", "/collections/0/captured", "/collections/1/captured", "/collections/1/exact_at"] {
        assert_eq!(read.pointer(part), status.pointer(part), "{part}");
    }
    assert_eq!(positions(&place).await, before);

    let run = json_of(&place, &["run"]).await;
    let steps: Vec<&String> =
        run["steps"].as_array().unwrap().iter().flat_map(|step| step.as_object().unwrap().keys()).collect();
    assert_eq!(steps, ["sync"], "{run}");
    assert_eq!(run["steps"][0]["sync"]["changes"]["inserts"], 2, "{run}");
    for row in positions(&place).await {
        let is_text = |value: &Value| value.is_null() || value["rs0"].is_string();
        assert!(["a", "b", "c"].iter().all(|column| is_text(&row[column])), "{row}");
    }
    place.gizer(&["verify"]).await.expect_code(0);
    for (collection, changed) in [("orders", 1), ("posts", 2)] {
        let text = format!("SELECT count(*) FROM {collection} WHERE text LIKE 'changed%'");
        assert_eq!(place.number(&text).await, changed);
        assert_eq!(place.number(&format!("SELECT count(*) FROM {collection}")).await, 50);
    }
}
