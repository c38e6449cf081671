//! How long a position will stay in the oplog.

use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{Mongod, Version, shared_postgres, wait_until};

use crate::place::Place;

const LIMIT: Duration = Duration::from_secs(60);

/// Nothing is forecast from the few seconds that a new oplog has seen; from one that rolls over it is, and from what.
#[tokio::test]
async fn m8_a_new_oplog_is_no_reason_for_an_alarm() {
    let mongod = Mongod::builder(Version::V6_0).oplog_mb(16).arg("--syncdelay").arg("1").start().await.unwrap();
    let place = Place::on(&mongod, shared_postgres().await.unwrap()).await;
    place.insert("orders", (0..5_000).map(|id| doc! {"_id": id, "text": "x".repeat(100)})).await;
    place.gizer(&["run"]).await.expect_code(0);
    let plan = place.gizer(&["plan"]).await.expect_code(0);
    assert!(!plan.stdout.contains("keeps an entry for about"), "{}", plan.stdout);
    place.gizer(&["status", "--check"]).await.expect_code(0);

    let oldest = async || {
        let log = mongod.client().await.unwrap().database("local").collection::<Document>("oplog.rs");
        log.find_one(doc! {}).sort(doc! {"$natural": 1}).await.unwrap().unwrap().get_timestamp("ts").unwrap()
    };
    let first = oldest().await;
    let mut next = 10_000;
    let written = async || {
        place.insert("filler", (next..next + 200).map(|id| doc! {"_id": id, "text": "x".repeat(10_000)})).await;
        next += 200;
        oldest().await != first
    };
    wait_until("the oplog to roll over", LIMIT, written).await.unwrap();
    place.gizer(&["run", "--schemas-infer", "never"]).await;
    place.gizer(&["load"]).await.expect_code(0);
    let check = place.gizer(&["status", "--check", "--min-headroom", "30d"]).await.expect_code(6);
    let said = [
        "warning: rs0: at the write rate of the last ",
        " the oplog will overwrite our position in about ",
        "(warning threshold 30 d)",
    ];
    assert!(said.iter().all(|words| check.stdout.contains(words)), "{}", check.stdout);
    let plan = place.gizer(&["plan"]).await;
    let said = "MongoDB: at the write rate of the last ";
    assert!(
        plan.stdout.contains(said) && plan.stdout.contains("the oplog of rs0 keeps an entry for about"),
        "{}",
        plan.stdout
    );
}
