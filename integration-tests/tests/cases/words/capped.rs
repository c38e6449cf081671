//! Capped collections of MongoDB 4.4, which does not log what goes from them.

use bson::{Document, doc};
use integration_tests::rig::Version;
use serde_json::{Value, json};

use crate::place::Place;

async fn capped(version: Version, size: i64, max: i32) -> Place {
    let place = Place::shared(version).await;
    place.mongo.run_command(doc! {"create": "log", "capped": true, "size": size, "max": max}).await.unwrap();
    place
}

async fn ids(place: &Place) -> Vec<i64> {
    let rows = place.postgres.query("SELECT id::int8 FROM log ORDER BY 1", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn documents(place: &Place) -> i64 {
    i64::try_from(place.mongo.collection::<Document>("log").count_documents(doc! {}).await.unwrap()).unwrap()
}

#[tokio::test]
async fn o6_rows_of_a_capped_collection_go_with_its_documents() {
    for version in [Version::V4_4, Version::V5_0, Version::V6_0] {
        let place = capped(version, 4096, 3).await;
        place.insert("log", (0..3).map(|n| doc! {"_id": n, "list": [n]})).await;
        place.gizer(&["run"]).await.expect_code(0);
        assert_eq!(ids(&place).await, [0, 1, 2]);
        for n in 3..6 {
            place.insert("log", [doc! {"_id": n, "list": [n]}]).await;
            place.gizer(&["run"]).await.expect_code(0);
            assert_eq!(ids(&place).await, [n - 2, n - 1, n].map(i64::from), "{version:?}");
        }
        // Many at once, in no order of their ids, and an update of one.
        place.insert("log", [90, 7, 80, 8].map(|n| doc! {"_id": n, "list": [n]})).await;
        let log = place.mongo.collection::<Document>("log");
        log.update_one(doc! {"_id": 7}, doc! {"$set": {"list": [9]}}).await.unwrap();
        let synced = place.gizer(&["sync", "--format", "json"]).await.expect_code(0);
        let synced: Value = serde_json::from_str(&synced.stdout).unwrap();
        assert_eq!(synced["deletions_unknown"], json!([]), "{synced:#}");
        // 4.4 reads documents as of now: with others writing to the server, that may be after the last entry.
        assert_eq!(synced["exact"], json!(synced["ahead"].is_null()), "{synced:#}");
        assert_eq!(ids(&place).await, [7, 8, 80], "{version:?}");
        assert_eq!(place.number("SELECT count(*) FROM log_list").await, 3, "{version:?}");
        place.gizer(&["verify"]).await.expect_code(0);
    }
}

#[tokio::test]
async fn o6_a_large_capped_collection_is_never_called_exact() {
    const SAID: &str =
        "log: capped, on MongoDB 4.4 or older: deletions are not logged; `gizer verify --repair` removes what is gone";
    let place = capped(Version::V4_4, 16 << 20, 10_050).await;
    place.insert("log", (0..10_050).map(|n| doc! {"_id": n})).await;
    place.gizer(&["run"]).await.expect_code(0);
    place.insert("log", (20_000..20_005).map(|n| doc! {"_id": n})).await;
    assert_eq!(documents(&place).await, 10_050);
    // At the batch that touches it, and at each run since.
    for _ in 0..2 {
        let synced = place.gizer(&["sync"]).await.expect_code(0);
        assert!(synced.stdout.contains(", but for deletions that are not logged"), "{synced:?}");
        assert_eq!(synced.stderr.lines().filter(|line| *line == SAID).count(), 1, "{}", synced.stderr);
    }
    let synced = place.gizer(&["sync", "--format", "json"]).await.expect_code(0);
    let synced: Value = serde_json::from_str(&synced.stdout).unwrap();
    assert_eq!((&synced["exact"], &synced["deletions_unknown"]), (&json!(false), &json!(["log"])), "{synced:#}");
    for command in ["status", "plan"] {
        let said = place.gizer(&[command]).await.expect_code(0).stdout;
        assert!(said.contains(SAID), "{said}");
    }
    assert_eq!(ids(&place).await.len(), 10_055);
    place.gizer(&["verify"]).await.expect_code(4);
    place.gizer(&["verify", "--repair"]).await.expect_code(0);
    assert_eq!(ids(&place).await.len(), 10_050);
}
