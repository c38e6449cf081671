//! Loads that die go on where they ended, and end equal to the source.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bson::{Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use integration_tests::rig::{Finished, RunningGizer, Signal, Version, wait_until};
use integration_tests::shop::{Shop, fill};

use super::documents::same;
use super::place::{Place, assert_says};
use super::rebuilt::rebuilt;
use super::rejects::loaded_with_peak;

const LIMIT: Duration = Duration::from_secs(60);

const ORDERS: u64 = 20_000;

/// Ranges of a mebibyte: some fifteen of them.
const SMALL: [&str; 3] = ["load", "--run-memory", "32MiB"];

/// A collection of orders with its schema file.
async fn orders(version: Version) -> Place {
    so_many_orders(version, ORDERS).await
}

async fn so_many_orders(version: Version, count: u64) -> Place {
    let place = Place::shared(version).await;
    let orders = place.mongo.collection::<RawDocumentBuf>("orders");
    fill(&orders, Shop::new(4).orders(0..count), |_| {}).await.unwrap();
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place
}

/// Documents that the load under way has committed.
async fn committed(place: &Place) -> i64 {
    let table = "SELECT count(*) FROM pg_class WHERE relname = 'gizer_range'";
    if place.number(table).await == 0 {
        return 0;
    }
    place.number("SELECT coalesce(sum(documents), 0)::bigint FROM gizer_range").await
}

/// Starts a load and kills it (-9) once it has committed so many documents, or has come to its keys.
async fn killed_after(place: &Place, documents: i64) -> Finished {
    let mut running = place.gizer.spawn(SMALL).unwrap();
    wait_until("the load to commit", LIMIT, async || {
        committed(place).await >= documents || !running.is_running().unwrap()
    })
    .await
    .unwrap();
    running.kill().await.unwrap()
}

async fn assert_equal_to_the_source(place: &Place) {
    let source = place.mongo.collection::<Document>("orders");
    let documents: Vec<Document> = source.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    let expected: BTreeMap<String, Document> =
        documents.into_iter().map(|document| (document.get_object_id("_id").unwrap().to_hex(), document)).collect();
    let stored = rebuilt(place, "orders").await;
    assert_eq!(stored.len(), expected.len());
    for (id, document) in &expected {
        let stored = stored.get(id).unwrap_or_else(|| panic!("{id} is missing"));
        assert!(same(&document.clone().into(), &stored.clone().into(), false), "{document}\n{stored}");
    }
    for table in ["gizer_range", "gizer_reject"] {
        assert_eq!(place.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer_new%'").await, 0);
}

#[tokio::test]
async fn a_load_that_is_killed_ten_times_ends_equal() {
    let place = orders(Version::V5_0).await;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut random = u64::from(seed) | 1;
    let mut reached = 0;
    let mut half_way = 0;
    for kill in 0..10 {
        // xorshift: any moments will do.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let step = 1 + (random % (ORDERS / 10)) as i64;
        let finished = killed_after(&place, reached + step).await;
        if finished.code() == Some(0) {
            // It was faster than the kill: the next one begins anew.
            reached = 0;
            continue;
        }
        let now = committed(&place).await;
        println!("kill {kill} at {now} of {ORDERS}");
        assert!(now >= reached, "what was committed is gone: {now} of {reached}");
        if reached > 0 {
            assert!(finished.stderr.contains("orders: resuming after "), "{}", finished.stderr);
        }
        half_way += usize::from(now > 0);
        reached = now;
    }
    assert!(half_way >= 3, "only {half_way} of ten kills met a load half-way");
    place.gizer(&["load"]).await.expect_code(0);
    assert_equal_to_the_source(&place).await;
    let ledger = place.rows("SELECT ledger FROM gizer_collection").await;
    let orders = i64::try_from(ORDERS).unwrap();
    assert_eq!(ledger[0]["ledger"]["read"], orders, "counted over all runs: {ledger:?}");
    assert_eq!(ledger[0]["ledger"]["rows"]["orders"], orders);
}

/// A load that has done all but its swap, which a reader of the live tables holds up.
async fn held_at_its_swap(place: &Place) -> (RunningGizer, tokio_postgres::Client) {
    let (reader, connection) = tokio_postgres::connect(&place.postgres_uri, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    reader.batch_execute("BEGIN; SELECT FROM orders LIMIT 1").await.unwrap();
    let running = place.gizer.spawn(SMALL).unwrap();
    let keys = "SELECT count(*) FROM pg_constraint WHERE conname LIKE 'gizer_new%' AND contype = 'p'";
    wait_until("all keys to be made", LIMIT, async || place.number(keys).await == 3).await.unwrap();
    (running, reader)
}

#[tokio::test]
async fn a_load_that_dies_before_its_swap_has_only_the_swap_to_do() {
    let place = orders(Version::V6_0).await;
    place.gizer(&SMALL).await.expect_code(0);
    let (running, reader) = held_at_its_swap(&place).await;
    running.kill().await.unwrap();
    drop(reader);
    let finished = place.gizer(&["load"]).await.expect_code(0);
    assert!(finished.stderr.contains("resuming after 20,000 documents"), "{}", finished.stderr);
    assert_equal_to_the_source(&place).await;
}

#[tokio::test]
async fn indexes_that_change_between_two_runs_are_carried_over() {
    let place = orders(Version::V5_0).await;
    place.gizer(&SMALL).await.expect_code(0);
    place.postgres.batch_execute("CREATE INDEX orders_changed ON orders (number)").await.unwrap();
    let (running, reader) = held_at_its_swap(&place).await;
    running.kill().await.unwrap();
    drop(reader);
    place
        .postgres
        .batch_execute(
            "DROP INDEX orders_changed; CREATE INDEX orders_changed ON orders (number DESC); \
             CREATE INDEX orders_new ON orders (note)",
        )
        .await
        .unwrap();
    let finished = place.gizer(&["load"]).await.expect_code(0);
    assert!(finished.stderr.contains("resuming after 20,000 documents"), "{}", finished.stderr);
    let indexes = "SELECT string_agg(regexp_replace(indexdef, '.* USING ', ''), ', ' ORDER BY indexname) AS indexes \
                   FROM pg_indexes WHERE indexname IN ('orders_changed', 'orders_new')";
    assert_eq!(place.rows(indexes).await[0]["indexes"], "btree (number DESC), btree (note)");
    assert_equal_to_the_source(&place).await;
}

#[tokio::test]
async fn an_interrupted_load_goes_on_too_and_starts_over_when_told() {
    let place = so_many_orders(Version::V4_4, 3 * ORDERS).await;
    let mut running = place.gizer.spawn(SMALL).unwrap();
    wait_until("the load to commit", LIMIT, async || committed(&place).await > 2_000).await.unwrap();
    assert!(running.is_running().unwrap(), "the load is too fast for this test");
    running.signal(Signal::Interrupt).unwrap();
    running.wait().await.unwrap().expect_code(130);
    let reached = killed_after(&place, 9_000).await;
    assert!(reached.stderr.contains("resuming after"), "{}", reached.stderr);

    let finished = place.gizer(&["load", "--restart"]).await.expect_code(0);
    assert!(finished.stderr.contains("orders: starting over"), "{}", finished.stderr);
    assert_equal_to_the_source(&place).await;
}

#[tokio::test]
async fn what_has_changed_since_is_told_and_loaded_from_the_beginning() {
    let place = orders(Version::V6_0).await;
    killed_after(&place, 2_000).await;
    let path = place.gizer.folder().join("schemas/orders.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(r#""note": "STRING""#, r#""note": {"$as": "ignore"}"#)).unwrap();
    assert_ne!(std::fs::read_to_string(&path).unwrap(), text);
    let finished = place.gizer(&["load"]).await.expect_code(0);
    assert!(
        finished.stderr.contains("schema file") && finished.stderr.contains("starting over"),
        "{}",
        finished.stderr
    );

    // The same name, another collection.
    killed_after(&place, 2_000).await;
    place.mongo.collection::<Document>("orders").drop().await.unwrap();
    place.insert("orders", [doc! {"_id": bson::oid::ObjectId::new(), "number": 1}]).await;
    let finished = place.gizer(&["load"]).await.expect_code(0);
    assert!(finished.stderr.contains("starting over"), "{}", finished.stderr);
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 1);
}

#[tokio::test]
async fn a_load_of_fewer_shards_is_given_up() {
    let place = orders(Version::V5_0).await;
    killed_after(&place, 2_000).await;
    // As a load leaves it that ran before this shard, and its [[oplog]], was added behind a router.
    place.postgres.batch_execute("UPDATE gizer_collection SET load_captured = '{}'").await.unwrap();
    let finished = place.gizer(&["load"]).await.expect_code(0);
    assert!(finished.stderr.contains("starting over"), "{}", finished.stderr);
    assert_equal_to_the_source(&place).await;
    let captured = "SELECT count(*) FROM gizer_collection WHERE state = 'following' AND captured <> '{}'";
    assert_eq!(place.number(captured).await, 1, "it can be followed from a position of each shard");
}

#[tokio::test]
async fn memory_is_bounded_where_much_is_written_down_of_a_load() {
    let place = orders(Version::V6_0).await;
    killed_after(&place, 2_000).await;
    // What ranges leave whose documents have data as the names of fields: 130 MB of names.
    let ranges = "INSERT INTO gizer_range \
            (collection, load_epoch, kind, segment, sequence, part, rows, bytes, tally, documents) \
        SELECT r.collection, r.load_epoch, 'range', 1000000, i, 0, ARRAY(SELECT 0 FROM unnest(r.rows)), 0, names.tally, 0 \
        FROM (SELECT * FROM gizer_range WHERE kind = 'range' LIMIT 1) AS r, generate_series(1, 200) AS i, \
             (SELECT json_build_object('read', 0, 'loaded', 0, 'rejected', 0, 'unknown_beyond', 0, \
                                       'mismatches', json_build_array(), 'unknown', \
                                       json_object_agg(repeat('name ', 10) || n, '[[1, 1, 1]]'::json))::text AS tally \
              FROM generate_series(1, 10000) AS n) AS names";
    place.postgres.batch_execute(ranges).await.unwrap();
    let peak = loaded_with_peak(&place, &SMALL).await;
    assert!(peak > 0 && peak < 32 + 80, "{peak} MiB for a budget of 32 MiB");
    assert_equal_to_the_source(&place).await;
}

/// More columns than a page has room for, if all of them hold a number.
const COLUMNS: usize = 1_100;

/// Documents of which every hundredth is too wide.
async fn some_too_wide(place: &Place) {
    let fields: Vec<String> = (0..COLUMNS).map(|i| format!(r#""f{i:04}": "DOUBLE""#)).collect();
    place.schema_file("wide.json", &format!(r#"{{"_id": "INT", "list": ["INT"], {}}}"#, fields.join(", ")));
    let document = |id: i32| {
        let mut document = doc! {"_id": id, "list": [id, id]};
        let columns = if id % 100 == 50 { COLUMNS } else { 3 };
        document.extend((0..columns).map(|i| (format!("f{i:04}"), bson::Bson::Double(i as f64))));
        document
    };
    place.insert("wide", (0..500).map(document)).await;
}

#[tokio::test]
async fn a_row_that_postgresql_refuses_is_kept_aside_and_the_load_goes_on() {
    let place = Place::shared(Version::V6_0).await;
    some_too_wide(&place).await;
    let stopped = place.gizer(&["load"]).await;
    assert_says(&stopped, 1, &["more than 0 documents of wide rejected", "PostgreSQL refused it", "--max-rejects"]);
    assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname = 'wide'").await, 0);
    let staging = "SELECT count(*) FROM pg_class WHERE relname = 'gizer_new_wide'";
    assert_eq!(place.number(staging).await, 1, "what was loaded is kept");
    let again = place.gizer(&["load"]).await;
    assert_says(&again, 1, &["more than 0 documents of wide rejected", "--restart"]);

    let loaded = place.gizer(&["load", "--max-rejects", "5"]).await.expect_code(0);
    assert!(loaded.stderr.contains("wide: resuming after"), "{}", loaded.stderr);
    assert_eq!(place.number("SELECT count(*) FROM wide").await, 495);
    assert_eq!(place.number("SELECT count(*) FROM wide_list").await, 990, "no row is left of a document kept aside");
    let kept = "SELECT id::int AS id, reason LIKE '%row is too big%' AS why, length(document) > 9000 AS whole \
                FROM gizer_reject ORDER BY 1";
    let expected = [50, 150, 250, 350, 450].map(|id| serde_json::json!({"id": id, "why": true, "whole": true}));
    // Integers in canonical Extended JSON.
    let kept = kept.replace("id::int", "(id::jsonb ->> '$numberInt')::int");
    assert_eq!(place.rows(&kept).await, expected);
    let ledger = place.rows("SELECT ledger, rejected FROM gizer_collection").await;
    let counts = ["read", "loaded", "rejected"].map(|name| ledger[0]["ledger"][name].as_i64().unwrap());
    assert_eq!((counts, &ledger[0]["rejected"]), ([500, 495, 5], &serde_json::json!(5)));
}
