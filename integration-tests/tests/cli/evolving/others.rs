//! Others who are at the tables while a schema grows: readers, loads and audits.

use std::time::{Duration, Instant};

use integration_tests::rig::{RunningGizer, wait_until};
use tokio_postgres::Client;

use super::{LIMIT, client, grown_by, is_as_kept, is_equal, keep, schema_text, versions, with_coupons};
use crate::place::{Place, assert_says};

/// A reader in an open transaction.
async fn reader(place: &Place) -> Client {
    let reader = client(place).await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM orders").await.unwrap();
    reader
}

/// Waits until gizer waits for a lock of this mode on a table.
async fn waits_for(place: &Place, mode: &str) {
    let sql = format!(
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND l.mode = '{mode}' \
         AND a.datname = current_database() AND a.application_name LIKE 'gizer%'"
    );
    wait_until(format!("gizer to wait for {mode}"), LIMIT, async || place.number(&sql).await > 0).await.unwrap();
}

async fn evolving_behind(place: &Place) -> RunningGizer {
    let evolving = place.gizer.spawn(["schema", "evolve"]).unwrap();
    waits_for(place, "AccessExclusiveLock").await;
    evolving
}

#[tokio::test]
async fn gives_way_to_readers_and_goes_on_when_they_are_gone() {
    let place = grown_by(with_coupons(20)).await;
    let holder = reader(&place).await;
    let evolving = evolving_behind(&place).await;
    let (other, mut longest, mut reads) = (client(&place).await, Duration::ZERO, 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let read = Instant::now();
        other.query("SELECT FROM orders LIMIT 1", &[]).await.unwrap();
        longest = longest.max(read.elapsed());
        reads += 1;
    }
    assert!(longest < Duration::from_millis(500) && reads > 20, "{reads} reads, the longest took {longest:?}");
    holder.batch_execute("COMMIT").await.unwrap();
    evolving.wait().await.unwrap().expect_code(0);
    assert_eq!(place.number("SELECT count(coupon) FROM orders").await, 20);
    is_equal(&place).await;
}

#[tokio::test]
async fn names_a_reader_that_does_not_go() {
    let place = grown_by(with_coupons(20)).await;
    let (before, file) = (keep(&place).await, schema_text(&place, "orders"));
    let holder = reader(&place).await;
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let evolved = place.gizer(&["schema", "evolve", "--load-swap-timeout", "1"]).await;
    assert_says(&evolved, 1, &["orders", &pid.to_string()]);
    drop(holder);
    is_as_kept(&place, &before).await;
    assert_eq!(schema_text(&place, "orders"), file);
    assert_eq!(versions(&place).await, [] as [serde_json::Value; 0]);
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    is_equal(&place).await;
}

#[tokio::test]
async fn does_not_begin_while_a_load_runs_nor_a_load_meanwhile() {
    let place = grown_by(with_coupons(20)).await;
    let holder = reader(&place).await;
    let loading = place.gizer.spawn(["load"]).unwrap();
    waits_for(&place, "AccessExclusiveLock").await;
    let evolved = place.gizer(&["schema", "evolve"]).await;
    assert_says(&evolved, 5, &["orders"]);
    holder.batch_execute("COMMIT").await.unwrap();
    loading.wait().await.unwrap().expect_code(0);

    let holder = reader(&place).await;
    let evolving = evolving_behind(&place).await;
    let loaded = place.gizer(&["load"]).await;
    assert_says(&loaded, 5, &["orders"]);
    holder.batch_execute("COMMIT").await.unwrap();
    evolving.wait().await.unwrap().expect_code(0);
    is_equal(&place).await;
}

#[tokio::test]
async fn does_not_begin_while_an_audit_runs_nor_an_audit_meanwhile() {
    let place = grown_by(with_coupons(20)).await;
    let holder = client(&place).await;
    holder.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let verifying = place.gizer.spawn(["verify"]).unwrap();
    waits_for(&place, "AccessShareLock").await;
    let evolved = place.gizer(&["schema", "evolve"]).await;
    assert_says(&evolved, 5, &["orders"]);
    holder.batch_execute("COMMIT").await.unwrap();
    verifying.wait().await.unwrap().expect_code(0);

    let holder = reader(&place).await;
    let evolving = evolving_behind(&place).await;
    let verified = place.gizer(&["verify"]).await;
    assert_says(&verified, 5, &["orders"]);
    holder.batch_execute("COMMIT").await.unwrap();
    evolving.wait().await.unwrap().expect_code(0);
    is_equal(&place).await;
}
