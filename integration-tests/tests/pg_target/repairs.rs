//! The queue of repairs, and the history of what was repaired and loaded anew.

use std::collections::BTreeMap;

use bson::doc;
use bytes::Bytes;
use gizer_pg::state::{
    self, HistoryEvent, RepairKey, count_event, forget_repairs, queue_repairs, read_status, repairs_waiting,
    take_repairs,
};
use integration_tests::rig::{unique_name, wait_until};

use crate::scene::{LIMIT, Scene, layout};

fn key(key: &[u8], id: Option<i32>) -> RepairKey {
    RepairKey { key: key.to_vec(), id: id.map(|id| Bytes::from(doc! {"_id": id}.to_vec().unwrap())) }
}

fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[tokio::test]
async fn what_is_queued_is_taken_in_the_order_of_the_keys_until_it_is_forgotten() {
    let scene = Scene::prepared().await;
    let session = scene.session().await;
    assert_eq!(repairs_waiting(&session).await.unwrap(), counts([]));
    let (a, b, c) = (key(b"\0a", Some(1)), key(b"b", None), key(b"c", Some(3)));
    queue_repairs(&session, "posts", "cells differ", &[c.clone(), b.clone(), key(b"c", None)]).await.unwrap();
    queue_repairs(&session, "posts", "rows are missing", &[key(b"c", None), a.clone(), b.clone()]).await.unwrap();
    queue_repairs(&session, "orders", "cells differ", &[key(b"b", None)]).await.unwrap();
    queue_repairs(&session, "orders", "cells differ", &[]).await.unwrap();
    assert_eq!(repairs_waiting(&session).await.unwrap(), counts([("orders", 1), ("posts", 3)]));
    let all = [a.clone(), b.clone(), c.clone()];
    assert_eq!(take_repairs(&session, "posts", 10).await.unwrap(), all, "an _id that is known stays known");
    assert_eq!(take_repairs(&session, "posts", 2).await.unwrap(), all[..2]);
    // One whose _id becomes known.
    let b = key(b"b", Some(2));
    queue_repairs(&session, "posts", "again", std::slice::from_ref(&b)).await.unwrap();
    assert_eq!(take_repairs(&session, "posts", 10).await.unwrap()[1], b);

    session.begin().await.unwrap();
    let gone = forget_repairs(&session, "posts", &[c.clone(), a.clone(), key(b"x", None)]).await.unwrap();
    assert_eq!(gone, counts([("cells differ", 1), ("rows are missing", 1)]), "for the reason it was queued first");
    session.roll_back().await;
    assert_eq!(take_repairs(&session, "posts", 10).await.unwrap().len(), 3, "what was not committed waits on");
    assert_eq!(forget_repairs(&session, "posts", &[c, a]).await.unwrap().len(), 2);
    assert_eq!(take_repairs(&session, "posts", 10).await.unwrap(), [b]);
    assert_eq!(take_repairs(&session, "orders", 10).await.unwrap().len(), 1);
}

/// Else a difference that is found while its key is being repaired could be lost.
#[tokio::test]
async fn what_is_queued_while_it_is_repaired_waits_for_the_repair_and_stays() {
    let scene = Scene::prepared().await;
    let (one, other) = (scene.session().await, scene.session().await);
    let both = [key(b"a", Some(1)), key(b"b", Some(2))];
    queue_repairs(&one, "posts", "first", &both).await.unwrap();
    one.begin().await.unwrap();
    forget_repairs(&one, "posts", &both).await.unwrap();
    let queueing = tokio::spawn(async move {
        queue_repairs(&other, "posts", "second", &[key(b"b", Some(2))]).await.unwrap();
    });
    let client = scene.client().await;
    let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until("it to wait", LIMIT, async || !client.query(waits, &[]).await.unwrap().is_empty()).await.unwrap();
    // A load that is swapped in meanwhile holds the tables for which the repair may wait: it must not wait for the repair.
    let swapping = scene.session().await;
    swapping.begin().await.unwrap();
    state::clear_repairs(&swapping, "posts").await.unwrap();
    swapping.end(Ok(())).await.unwrap();
    one.end(Ok(())).await.unwrap();
    queueing.await.unwrap();
    assert_eq!(scene.texts("SELECT reason FROM gizer_repair").await, ["second"]);
}

#[tokio::test]
async fn a_load_that_is_swapped_in_leaves_nothing_to_repair() {
    let scene = Scene::prepared().await;
    let session = scene.session().await;
    for collection in ["posts", "orders"] {
        queue_repairs(&session, collection, "cells differ", &[key(b"a", None), key(b"b", Some(2))]).await.unwrap();
    }
    scene.load(&layout("posts", r#"{"_id": "INT"}"#), &[doc! {"_id": 1}]).await.unwrap();
    assert_eq!(repairs_waiting(&session).await.unwrap(), counts([("orders", 2)]));
}

#[tokio::test]
async fn what_has_happened_adds_up_by_reason() {
    let scene = Scene::prepared().await;
    scene.load(&layout("posts", r#"{"_id": "INT"}"#), &[]).await.unwrap();
    let session = scene.session().await;
    let count = async |event, reason, n| count_event(&session, event, "posts", reason, n).await.unwrap();
    count(HistoryEvent::Repair, "cells differ", 2).await;
    count(HistoryEvent::Repair, "cells differ", 40).await;
    count(HistoryEvent::Repair, "rows are missing", 1).await;
    count(HistoryEvent::Repair, "nothing", 0).await;
    let epoch: i64 = scene.text("SELECT live_epoch FROM gizer_collection").await.parse().unwrap();
    state::mark_load_due(&session, "posts", epoch, "it was dropped").await.unwrap();
    let status = read_status(&session, 0).await.unwrap().unwrap();
    let told = |rows: &[state::HistoryRow]| -> Vec<(String, u64)> {
        assert!(rows.iter().all(|row| row.collection == "posts" && row.last_at.ends_with('Z')), "{rows:?}");
        rows.iter().map(|row| (row.reason.clone(), row.count)).collect()
    };
    assert_eq!(told(&status.repairs), [("cells differ".to_owned(), 42), ("rows are missing".to_owned(), 1)]);
    assert_eq!(told(&status.reloads), [("it was dropped".to_owned(), 1)]);
}

#[tokio::test]
async fn the_status_of_an_older_version_is_read_without_more_rights() {
    let scene = Scene::prepared().await;
    scene.load(&layout("posts", r#"{"_id": "INT"}"#), &[]).await.unwrap();
    let name = unique_name("monitor");
    let target = scene.role(&name).await;
    let old = "gizer_collection, gizer_range, gizer_reject, gizer_stream, qmetlstatus";
    scene.sql(&format!("GRANT SELECT ON {old} TO {name}")).await;
    let reader = gizer_pg::connect(&target).await.unwrap();
    // The tables are there, and nobody has given this role a right on them.
    let status = read_status(&reader, 1).await.unwrap().unwrap();
    assert_eq!((status.repairs, status.verified_up_to), (Vec::new(), None));
    scene.sql("DROP TABLE gizer_repair, gizer_history; ALTER TABLE gizer_stream DROP COLUMN verified").await;
    let status = read_status(&reader, 1).await.unwrap().unwrap();
    assert_eq!((status.collections.len(), status.repairs, status.verified_up_to), (1, Vec::new(), None));
    state::prepare(&scene.session().await).await.unwrap();
    assert_eq!(repairs_waiting(&scene.session().await).await.unwrap(), counts([]), "made where it was missing");
}
