//! Loads that do not come to their end: the live tables stay as they were, and the next run works.
//!
//! A transaction of the test locks the load's row in `gizer_collection`: every unit waits at its fence, so that the
//! load stands still half-way for as long as the test wants.

use std::time::Duration;

use bson::{RawDocumentBuf, doc};
use integration_tests::rig::{Mongod, Postgres, RunningGizer, Signal, Version, wait_until};
use integration_tests::shop::{Shop, fill};
use serde_json::json;

use super::place::{Place, assert_says, numbered};

const LIMIT: Duration = Duration::from_secs(60);

/// More than fits into the channels of a small budget.
pub(super) const ORDERS: u64 = 60_000;

/// A place whose live tables hold one order, and whose collection has many by now.
pub(super) async fn loaded_once(mongod: &Mongod, postgres: &Postgres) -> Place {
    filled_after_a_load(Place::on(mongod, postgres).await).await
}

/// As [`loaded_once`], for a place that is there.
pub(super) async fn filled_after_a_load(place: Place) -> Place {
    let shop = Shop::new(1);
    let orders = place.mongo.collection::<RawDocumentBuf>("orders");
    fill(&orders, shop.orders(0..1), |_| {}).await.unwrap();
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    fill(&orders, shop.orders(1..ORDERS), |_| {}).await.unwrap();
    place
}

/// Starts a load and holds it half-way; the load goes on when the client is dropped.
async fn held_half_way(place: &Place) -> (RunningGizer, tokio_postgres::Client) {
    held_with(place, &[]).await
}

/// As [`held_half_way`], for a load with these arguments.
pub(super) async fn held_with(place: &Place, args: &[&str]) -> (RunningGizer, tokio_postgres::Client) {
    let (holder, connection) = tokio_postgres::connect(&place.postgres_uri, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // What it is going to read is written down: from now on all that waits are ranges.
    let planned = "SELECT coalesce(max(load_epoch), 0) FROM gizer_range";
    let before = place.number(planned).await;
    let running = place.gizer.spawn([&["load", "--run-memory", "32MiB"], args].concat()).unwrap();
    wait_until("the load to begin", LIMIT, async || place.number(planned).await > before).await.unwrap();
    hold(place, &holder).await;
    (running, holder)
}

async fn hold(place: &Place, holder: &tokio_postgres::Client) {
    holder.batch_execute("BEGIN; SELECT FROM gizer_collection FOR UPDATE").await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'gizer'";
    wait_until("units to wait", LIMIT, async || place.number(waiting).await >= 2).await.unwrap();
}

pub(super) async fn assert_untouched(place: &Place) {
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 1, "the live tables have changed");
    let state = place.rows("SELECT state, live FROM gizer_collection").await;
    assert_eq!(state, [json!({"state": "following", "live": true})]);
}

async fn assert_next_load_works(place: &Place) {
    place.gizer(&["load"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM orders").await, i64::try_from(ORDERS).unwrap());
    let open = "SELECT count(*) FROM qmetlstatus WHERE time_end IS NULL";
    assert_eq!(place.number(open).await, 0, "a run's row is still open");
    assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer_new%'").await, 0);
    let due = "SELECT count(*) FROM qmetlstatus WHERE error";
    assert_eq!(place.number(due).await, 0, "the live tables were good all the time: no load was due");
}

#[tokio::test]
async fn a_signal_ends_a_load_in_order() {
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let postgres = Postgres::start().await.unwrap();
    let place = loaded_once(&mongod, &postgres).await;
    for (signal, code, says) in [(Signal::Interrupt, 130, "SIGINT"), (Signal::Terminate, 143, "SIGTERM")] {
        let (running, holder) = held_half_way(&place).await;
        running.signal(signal).unwrap();
        let ended = running.wait().await.unwrap();
        assert_says(&ended, code, &[says]);
        drop(holder);
        assert_untouched(&place).await;
        let run = place
            .rows(
                "SELECT reason, error, time_end IS NOT NULL AS ended FROM qmetlstatus ORDER BY time_start DESC LIMIT 1",
            )
            .await;
        assert!(run[0]["reason"].as_str().unwrap().contains(says), "{run:?}");
        assert_eq!((&run[0]["error"], &run[0]["ended"]), (&json!(false), &json!(true)));
    }
    assert_next_load_works(&place).await;
}

#[tokio::test]
async fn a_killed_load_is_put_right_by_the_next() {
    let mongod = Mongod::start(Version::V5_0).await.unwrap();
    let postgres = Postgres::start().await.unwrap();
    let place = loaded_once(&mongod, &postgres).await;
    let (running, holder) = held_half_way(&place).await;
    let second = place.gizer(&["load"]).await;
    assert_says(&second, 5, &["spool", "in use by another run"]);
    let newest = place.rows("SELECT time_end IS NULL AS open FROM qmetlstatus ORDER BY time_start DESC LIMIT 1").await;
    assert_eq!(newest, [json!({"open": true})], "the newest row is that of the run that loads");
    running.kill().await.unwrap();
    drop(holder);
    assert_untouched(&place).await;
    assert_next_load_works(&place).await;
    let died = "SELECT count(*) FROM qmetlstatus WHERE reason = 'the run ended without closing its row'";
    assert_eq!(place.number(died).await, 1);
}

#[tokio::test]
async fn a_mongod_killed_in_a_load_is_an_error_and_not_the_end() {
    let mongod = Mongod::start(Version::V4_4).await.unwrap();
    let postgres = Postgres::start().await.unwrap();
    let place = loaded_once(&mongod, &postgres).await;
    let (running, holder) = held_with(&place, &["--run-retry-for", "0"]).await;
    mongod.kill().unwrap();
    drop(holder);
    assert_says(&running.wait().await.unwrap(), 1, &["MongoDB"]);
    assert_untouched(&place).await;
    mongod.restart().await.unwrap();
    assert_next_load_works(&place).await;
}

#[tokio::test]
async fn a_postgres_killed_in_a_load_leaves_the_live_tables() {
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let postgres = Postgres::start().await.unwrap();
    let mut place = loaded_once(&mongod, &postgres).await;
    let (running, holder) = held_with(&place, &["--run-retry-for", "0"]).await;
    postgres.kill().unwrap();
    drop(holder);
    assert_says(&running.wait().await.unwrap(), 1, &["PostgreSQL"]);
    postgres.restart().await.unwrap();
    let database = place.postgres_uri.rsplit_once('/').unwrap().1.to_owned();
    place.postgres = postgres.client(&database).await.unwrap();
    assert_untouched(&place).await;
    assert_next_load_works(&place).await;
}

/// Monitors of the first load of all must not be told that a load is due while it is under way.
#[tokio::test]
async fn a_refused_second_load_says_nothing_to_monitors() {
    let place = Place::shared(Version::V6_0).await;
    let orders = place.mongo.collection::<RawDocumentBuf>("orders");
    fill(&orders, Shop::new(1).orders(0..ORDERS), |_| {}).await.unwrap();
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    // Makes the state tables, so that they can be looked at, and nothing else.
    place.schema_file("ghost.json", r#"{"_id": "INT"}"#);
    place.gizer(&["load", "ghost"]).await.expect_code(2);

    let (holder, connection) = tokio_postgres::connect(&place.postgres_uri, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let running = place.gizer.spawn(["load", "orders", "--run-memory", "32MiB"]).unwrap();
    let begun = "SELECT count(*) FROM gizer_range";
    wait_until("the load to begin", LIMIT, async || place.number(begun).await > 0).await.unwrap();
    hold(&place, &holder).await;
    assert_says(&place.gizer(&["load", "orders"]).await, 5, &["spool", "in use by another run"]);
    let rows = place.rows("SELECT error, time_end FROM qmetlstatus").await;
    assert_eq!(rows, [json!({"error": null, "time_end": null})], "only the run that loads has a row");
    drop(holder);
    running.wait().await.unwrap().expect_code(0);
}

/// An interruption is of the whole run: what comes after is not begun.
#[tokio::test]
async fn an_interrupted_load_begins_no_other_collection() {
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let postgres = Postgres::start().await.unwrap();
    let place = loaded_once(&mongod, &postgres).await;
    place.insert("zebras", super::place::numbered(3)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    let (running, holder) = held_half_way(&place).await;
    running.signal(Signal::Interrupt).unwrap();
    let ended = running.wait().await.unwrap();
    assert_says(&ended, 130, &["orders: interrupted by SIGINT", "not begun: zebras"]);
    drop(holder);
    assert_untouched(&place).await;
}

/// Readers come first; how long they do is a setting, and somebody is told.
#[tokio::test]
async fn a_swap_waits_for_readers() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", super::place::numbered(3)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    let (reader, connection) = tokio_postgres::connect(&place.postgres_uri, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    reader.batch_execute("BEGIN; SELECT FROM posts").await.unwrap();

    let started = std::time::Instant::now();
    let busy = place.gizer(&["load", "--load-swap-timeout", "1"]).await;
    assert_says(&busy, 1, &["posts", "were in use", "not swapped in", "raise load.swap_timeout"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());

    let running = place.gizer.spawn(["load", "--format", "json"]).unwrap();
    running.wait_for_output("waiting for readers").await.unwrap();
    assert_eq!(running.stdout(), "", "what goes on is not a result");
    reader.batch_execute("COMMIT").await.unwrap();
    let loaded = running.wait().await.unwrap().expect_code(0);
    assert!(loaded.stderr.contains("posts: loaded; waiting for readers") && loaded.stderr.contains("300 s"));
    let report: serde_json::Value = serde_json::from_str(&loaded.stdout).unwrap();
    assert_eq!(report["collections"][0]["loaded"], 3);
}

/// The session that holds the collection's lock does nothing while the tables are filled; that it is lost is noticed all
/// the same, and not only when hours of work are to be swapped in.
#[tokio::test]
async fn a_spool_that_does_not_answer_does_not_keep_a_load_from_its_end() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", numbered(100)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    let load = ["load", "--cache-uri", &place.postgres_uri];
    place.gizer(&load).await.expect_code(0);
    let (reader, connection) = tokio_postgres::connect(&place.postgres_uri, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    reader.batch_execute("BEGIN; SELECT FROM posts LIMIT 1").await.unwrap();
    let running = place.gizer.spawn(load).unwrap();
    // It has read the spool, to be aligned, and waits for the reader.
    running.wait_for_output("waiting for readers").await.unwrap();
    place.postgres.batch_execute("BEGIN; LOCK TABLE gizer_spool_span").await.unwrap();
    place.insert("other", [doc! {"_id": 1}]).await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'gizer_spool_span'::regclass AND NOT granted";
    wait_until("the spool to wait", LIMIT, async || place.number(waiting).await > 0).await.unwrap();
    reader.batch_execute("ROLLBACK").await.unwrap();
    let finished = running.wait().await.unwrap().expect_code(0);
    assert!(finished.stderr.contains("the spool could not be completed"), "{}", finished.stderr);
}

#[tokio::test]
async fn a_lost_lock_ends_the_load_at_once() {
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let postgres = Postgres::start().await.unwrap();
    let place = loaded_once(&mongod, &postgres).await;
    let (running, holder) = held_with(&place, &["--run-retry-for", "0"]).await;
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name = 'gizer' AND state = 'idle'";
    assert_eq!(place.number(ended).await, 1, "the sinks wait for a lock, one session is idle");
    assert_says(&running.wait().await.unwrap(), 1, &["lost the connection to PostgreSQL"]);
    drop(holder);
    assert_untouched(&place).await;
    assert_next_load_works(&place).await;
}
