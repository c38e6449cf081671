//! O4, O10: collections that appear, are empty, or whose name something else takes.

use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{Signal, Version, wait_until};
use serde_json::Value;

use crate::place::{Place, numbered};

const LIMIT: Duration = Duration::from_secs(60);

async fn status(place: &Place) -> Value {
    let finished = place.gizer(&["status", "--format", "json"]).await.expect_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

async fn standing(place: &Place, name: &str) -> String {
    let status = status(place).await;
    let found = status["expected"].as_array().unwrap().iter().find(|each| each["collection"] == name);
    found.map_or("unknown", |each| each["standing"].as_str().unwrap()).to_owned()
}

async fn has_rows(place: &Place, table: &str, rows: i64) -> bool {
    let there = format!("SELECT count(*) FROM pg_class WHERE relname = '{table}'");
    place.number(&there).await == 1 && place.number(&format!("SELECT count(*) FROM {table}")).await == rows
}

#[tokio::test]
async fn o4_a_schema_is_inferred_once_documents_come() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(5)).await;
    place.mongo.create_collection("empty").await.unwrap();
    let following = place.gizer.spawn(["run", "--follow"]).unwrap();
    wait_until("the load", LIMIT, async || has_rows(&place, "orders", 5).await).await.unwrap();
    wait_until("the wait", LIMIT, async || standing(&place, "empty").await == "waiting").await.unwrap();
    place.insert("empty", (0..50).map(|n| doc! { "_id": n, "name": "x", "tags": ["a"] })).await;
    // One that was not there at all is taken up as well, while the others are followed.
    place.insert("late", numbered(7)).await;
    place.insert("orders", [doc! { "_id": 100 }]).await;
    wait_until("the first documents", LIMIT, async || has_rows(&place, "empty", 50).await).await.unwrap();
    wait_until("the new collection", LIMIT, async || has_rows(&place, "late", 7).await).await.unwrap();
    place.insert("late", [doc! { "_id": 100 }]).await;
    wait_until("its changes", LIMIT, async || has_rows(&place, "late", 8).await).await.unwrap();
    following.signal(Signal::Terminate).unwrap();
    following.wait().await.unwrap().expect_code(143);
    assert_eq!(place.number("SELECT count(*) FROM gizer_reject").await, 0);
    assert!(has_rows(&place, "empty_tags", 50).await && has_rows(&place, "orders", 6).await);
    place.gizer(&["verify"]).await.expect_code(0);
}

/// Of nothing there is nothing to copy: that is no reason to warn.
#[tokio::test]
async fn o4_an_empty_collection_is_waited_for_and_not_missing() {
    let place = Place::shared(Version::V4_4).await;
    place.mongo.create_collection("empty").await.unwrap();
    let following = place.gizer.spawn(["run", "--follow"]).unwrap();
    following.wait_for_output("waiting").await.unwrap();
    place.insert("empty", (0..3).map(|n| doc! { "_id": format!("id {n}") })).await;
    wait_until("the first documents", LIMIT, async || has_rows(&place, "empty", 3).await).await.unwrap();
    following.signal(Signal::Interrupt).unwrap();
    following.wait().await.unwrap().expect_code(130);
    place.mongo.create_collection("another").await.unwrap();
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(standing(&place, "another").await, "waiting");
    place.gizer(&["status", "--check", "--min-headroom", "0s"]).await.expect_code(0);
}

async fn taken_by(version: Version, take: impl AsyncFn(&Place)) {
    let place = Place::shared(version).await;
    place.insert("orders", numbered(5)).await;
    place.insert("posts", numbered(5)).await;
    place.gizer(&["run"]).await.expect_code(0);
    place.mongo.collection::<Document>("orders").drop().await.unwrap();
    take(&place).await;
    place.insert("posts", [doc! { "_id": 100 }]).await;
    let first = place.gizer(&["run"]).await.expect_code(0);
    assert!(first.stderr.contains("orders: it is a "), "{first:?}");
    assert!(has_rows(&place, "orders", 0).await && has_rows(&place, "order_list", 0).await);
    assert!(has_rows(&place, "posts", 6).await);
    let second = place.gizer(&["run"]).await.expect_code(0);
    assert!(!second.stderr.contains("orders: it is a "), "{second:?}");
    assert_eq!(standing(&place, "orders").await, "refused");
    place.gizer(&["sync"]).await.expect_code(0);
    place.gizer(&["verify"]).await.expect_code(0);

    // A collection again.
    place.mongo.collection::<Document>("orders").drop().await.unwrap();
    place.insert("orders", numbered(2)).await;
    place.gizer(&["run"]).await.expect_code(0);
    assert!(has_rows(&place, "orders", 2).await);
    assert_eq!(standing(&place, "orders").await, "followed");
}

#[tokio::test]
async fn o10_a_view_under_the_name_of_a_followed_collection_is_reported_once() {
    for version in [Version::V4_4, Version::V6_0] {
        taken_by(version, async |place| {
            place.mongo.run_command(doc! { "create": "orders", "viewOn": "posts", "pipeline": [] }).await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn o10_a_time_series_under_the_name_of_a_followed_collection_is_reported_once() {
    taken_by(Version::V6_0, async |place| {
        place.mongo.run_command(doc! { "create": "orders", "timeseries": { "timeField": "at" } }).await.unwrap();
    })
    .await;
}
