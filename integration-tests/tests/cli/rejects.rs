//! Documents that cannot be loaded, and many of them.

use std::time::Duration;

use bson::doc;
use integration_tests::rig::{RunningGizer, Version, wait_until};

use super::place::{Place, assert_says};

/// Loads whose documents are all rejected, of 1 KiB each.
const DOCUMENTS: i32 = 60_000;

/// A collection of which no document has an `_id` of the schema's type.
async fn all_unfit() -> Place {
    let place = Place::shared(Version::V6_0).await;
    let text = "x".repeat(1000);
    for from in (0..DOCUMENTS).step_by(10_000) {
        let documents = (from..from + 10_000).map(|n| doc! {"_id": format!("number {n}"), "text": &text});
        place.insert("posts", documents).await;
    }
    place.schema_file("posts.json", r#"{"_id": "INT", "text": "STRING"}"#);
    place
}

/// The most memory that a run has had so far, in MiB: `VmHWM` of proc(5).
pub(super) fn peak_memory(running: &RunningGizer) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() / 1024)
}

/// Runs a load to its good end; gives the most memory that it had, in MiB.
pub(super) async fn loaded_with_peak(place: &Place, args: &[&str]) -> u64 {
    let mut running = place.gizer.spawn(args).unwrap();
    let mut peak = 0;
    wait_until("the load to end", Duration::from_secs(60), async || {
        peak = peak.max(peak_memory(&running).unwrap_or_default());
        !running.is_running().unwrap()
    })
    .await
    .unwrap();
    running.wait().await.unwrap().expect_code(0);
    peak
}

#[tokio::test]
async fn memory_is_bounded_where_every_document_is_rejected() {
    let place = all_unfit().await;
    let allowed = DOCUMENTS.to_string();
    let peak = loaded_with_peak(&place, &["load", "--max-rejects", &allowed, "--run-memory", "32MiB"]).await;
    assert_eq!(place.number("SELECT count(*) FROM gizer_reject").await, i64::from(DOCUMENTS));
    // The program itself, threads and connections take some 40 MiB of it.
    assert!(peak > 0 && peak < 32 + 64, "{peak} MiB for a budget of 32 MiB");
}

#[tokio::test]
async fn a_load_stops_once_more_documents_are_rejected_than_allowed() {
    let place = all_unfit().await;
    let stopped = place.gizer(&["load", "--max-rejects", "10"]).await;
    assert_says(&stopped, 1, &["more than 10 documents of posts rejected", "_id is STRING: expected INT", "help:"]);
    let kept = place.number("SELECT count(*) FROM gizer_reject").await;
    assert!((11..1000).contains(&kept), "{kept} were kept aside");
}

#[tokio::test]
async fn memory_is_bounded_where_one_document_has_more_rows_than_fit() {
    // 130 MiB of rows: every element brings the key along.
    let place = Place::shared(Version::V5_0).await;
    let list: Vec<i32> = (0..140_000).collect();
    place.insert("lists", [doc! {"_id": "k".repeat(900), "list": list}]).await;
    place.schema_file(
        "lists.json",
        r#"{"$gizer": 1, "collection": "lists", "fields": {"_id": "STRING", "list": ["INT"]}}"#,
    );
    let peak = loaded_with_peak(&place, &["load", "--run-memory", "32MiB"]).await;
    assert_eq!(place.number("SELECT count(*) FROM list_list").await, 140_000);
    assert!(peak > 0 && peak < 32 + 64, "{peak} MiB for a budget of 32 MiB");
}
