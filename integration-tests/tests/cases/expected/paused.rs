//! A collection that somebody wants left alone for a while.

use std::time::Duration;

use bson::doc;
use integration_tests::rig::{Signal, wait_until};
use serde_json::Value;

use super::{rows, two_collections};
use crate::place::assert_says;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn o1_a_paused_collection_stays_as_it_is_and_catches_up() {
    let place = two_collections().await;
    let paused = place.gizer(&["pause", "orders", "--reason", "the tables are moved"]).await.expect_code(0);
    assert!(paused.stdout.contains("orders: paused; `gizer resume orders`"), "{paused:?}");
    place.insert("orders", [doc! {"_id": 100}]).await;
    place.insert("posts", [doc! {"_id": 100}]).await;
    let run = place.gizer(&["run"]).await;
    assert_says(&run, 7, &["orders: paused", "the tables are moved", "gizer resume orders"]);
    assert_eq!((rows(&place, "orders").await, rows(&place, "posts").await), (5, 6));
    assert_says(&place.gizer(&["sync"]).await, 7, &["orders: paused"]);
    let planned = place.gizer(&["plan", "--format", "json"]).await.expect_code(0);
    let planned: Value = serde_json::from_str(&planned.stdout).unwrap();
    assert_eq!((&planned["steps"][0]["standing"], &planned["steps"][0]["due"]), (&"paused".into(), &"none".into()));

    place.gizer(&["resume", "orders"]).await.expect_code(0);
    let again = place.gizer(&["resume", "orders"]).await.expect_code(0);
    assert!(again.stdout.contains("it was not paused"), "{again:?}");
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(rows(&place, "orders").await, 6);
    place.gizer(&["verify"]).await.expect_code(0);
}

#[tokio::test]
async fn o1_those_who_follow_leave_a_paused_collection_within_seconds() {
    let place = two_collections().await;
    let following = place.gizer.spawn(["run", "--follow"]).unwrap();
    place.insert("orders", [doc! {"_id": 100}]).await;
    wait_until("a change", LIMIT, async || rows(&place, "orders").await == 6).await.unwrap();
    place.gizer(&["pause", "orders"]).await.expect_code(0);
    following.wait_for_output("orders: paused").await.unwrap();
    place.insert("orders", [doc! {"_id": 101}]).await;
    place.insert("posts", [doc! {"_id": 101}]).await;
    wait_until("the other", LIMIT, async || rows(&place, "posts").await == 6).await.unwrap();
    assert_eq!(rows(&place, "orders").await, 6);
    place.gizer(&["resume", "orders"]).await.expect_code(0);
    wait_until("what it has missed", LIMIT, async || rows(&place, "orders").await == 7).await.unwrap();
    following.signal(Signal::Terminate).unwrap();
    following.wait().await.unwrap().expect_code(143);
    place.gizer(&["verify"]).await.expect_code(0);
}

/// Neither a load that is running when it is paused, nor one by hand, ends the pause.
#[tokio::test]
async fn o1_only_resume_ends_a_pause() {
    let place = two_collections().await;
    place.gizer(&["pause", "orders"]).await.expect_code(0);
    place.insert("orders", [doc! {"_id": 100}]).await;
    place.gizer(&["load", "orders"]).await.expect_code(0);
    place.insert("orders", [doc! {"_id": 101}]).await;
    assert_says(&place.gizer(&["run"]).await, 7, &["orders: paused"]);
    assert_eq!(rows(&place, "orders").await, 6);
    place.gizer(&["resume", "orders"]).await.expect_code(0);
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(rows(&place, "orders").await, 7);
    place.gizer(&["verify"]).await.expect_code(0);
}

#[tokio::test]
async fn what_nobody_knows_cannot_be_paused() {
    let place = two_collections().await;
    assert_says(&place.gizer(&["pause", "orderz"]).await, 2, &["orderz: neither loaded nor expected to be"]);
}
