//! The memory budget holds, whatever the documents are.
//!
//! What is measured is `VmHWM` of proc(5), the most that the process ever had. The bounds are the budget, some 64 MiB of the
//! program itself, its threads and connections, and for documents that are larger than the budget's share of one (BSON of
//! 16 MiB at most) a few copies of the largest: its BSON, its row as text and as it was sent, and as it came back.

use std::time::Duration;

use bson::{Bson, Document, doc};
use integration_tests::rig::{Mongod, RunningGizer, Version, shared_postgres, wait_until};

use crate::place::Place;

/// The most memory that a run has had, in MiB.
fn peak_memory(running: &RunningGizer) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() / 1024)
}

/// Runs a command to its good end; gives the most memory that it had, in MiB.
async fn peak_of(place: &Place, args: &[&str]) -> u64 {
    let mut running = place.gizer.spawn(args).unwrap();
    let mut peak = 0;
    wait_until("the command to end", Duration::from_secs(120), async || {
        peak = peak.max(peak_memory(&running).unwrap_or_default());
        !running.is_running().unwrap()
    })
    .await
    .unwrap();
    running.wait().await.unwrap().expect_code(0);
    assert!(peak > 0, "nothing was measured");
    peak
}

/// Runs sync and verify within a budget of 32 MiB, and checks what they take.
async fn within(place: &Place, change: impl AsyncFn(), bound: u64) {
    change().await;
    for command in ["sync", "verify"] {
        let peak = peak_of(place, &[command, "--run-memory", "32MiB"]).await;
        assert!(peak < bound, "{command} took {peak} MiB, the bound is {bound}");
    }
}

#[tokio::test]
async fn m1_a_large_json_value_is_compared_without_building_it() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file(
        "big.json",
        r#"{"$gizer": 1, "collection": "big", "fields": {"_id": "INT", "a": {"$as": "json"}}}"#,
    );
    let array: Vec<i32> = (0..1_000_000).collect();
    place.insert("big", [doc! {"_id": 1, "a": array}]).await;
    let peak = peak_of(&place, &["load", "--run-memory", "32MiB"]).await;
    assert!(peak < 256, "load took {peak} MiB");
    let big = place.mongo.collection::<Document>("big");
    within(&place, async || drop(big.update_one(doc! {"_id": 1}, doc! {"$set": {"a.5": "x"}}).await.unwrap()), 256)
        .await;
    assert_eq!(place.number("SELECT count(*) FROM big WHERE a ->> 5 = 'x'").await, 1);
    // Fields that jsonb puts into another order, deep and many.
    let fields: Vec<Bson> = (0..200_000).map(|n| Bson::Document(doc! {"later": n, "b": {"two": 1, "a": n}})).collect();
    let replaced = doc! {"_id": 1, "a": fields};
    within(&place, async || drop(big.replace_one(doc! {"_id": 1}, &replaced).await.unwrap()), 256).await;
}

/// The default budget of 256 MiB, and what the program takes without any documents.
const DEFAULT_BOUND: u64 = 256 + 64;

#[tokio::test]
async fn m1_the_default_budget_holds_for_large_documents_and_transactions() {
    // A transaction larger than the shared servers take: what is not committed has to fit in the cache.
    let mongod = Mongod::builder(Version::V6_0).oplog_mb(512).cache_gb(3.0).start().await.unwrap();
    let place = Place::on(&mongod, shared_postgres().await.unwrap()).await;
    let fields = r#"{"_id": "INT", "text": "STRING", "list": ["INT"]}"#;
    place.schema_file("large.json", &format!(r#"{{"$gizer": 1, "collection": "large", "fields": {fields}}}"#));
    place.insert("large", [doc! {"_id": 0}]).await;
    place.gizer(&["load"]).await.expect_code(0);
    let large = place.mongo.collection::<Document>("large");

    // One transaction of many oplog entries, of 100 MB in all.
    let mut session = place.mongo.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let text = "y".repeat(5_000);
    for from in (10..20_010).step_by(500) {
        let documents = (from..from + 500).map(|id| doc! {"_id": id, "text": &text});
        large.insert_many(documents).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
    // Long strings, in documents of nearly 16 MiB; and an array of many rows.
    let text = "x".repeat((16 << 20) - 1_000);
    for id in 1..4 {
        large.insert_one(doc! {"_id": id, "text": &text}).await.unwrap();
    }
    let list: Vec<i32> = (0..1_000_000).collect();
    large.insert_one(doc! {"_id": 4, "list": list}).await.unwrap();
    for command in ["sync", "verify"] {
        let peak = peak_of(&place, &[command]).await;
        assert!(peak < DEFAULT_BOUND, "{command} took {peak} MiB, the bound is {DEFAULT_BOUND}");
    }
    assert_eq!(place.number("SELECT count(*) FROM large").await, 20_005);
    assert_eq!(place.number("SELECT count(*) FROM large_list").await, 1_000_000);
}
