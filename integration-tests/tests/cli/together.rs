//! `gizer load --together`: all collections at once, or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{Version, wait_until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::place::{Place, assert_says};

const LIMIT: Duration = Duration::from_secs(60);

const DOCUMENTS: i32 = 50;

/// Orders and their customers, all of one generation.
async fn shop() -> Place {
    let place = Place::shared(Version::V6_0).await;
    for collection in ["customers", "orders"] {
        let document = |id| doc! {"_id": id, "g": 1, "list": [{"g": 1}]};
        place.insert(collection, (0..DOCUMENTS).map(document)).await;
        place.schema_file(&format!("{collection}.json"), r#"{"_id": "INT", "g": "INT", "list": [{"g": "INT"}]}"#);
    }
    place
}

async fn change_to(place: &Place, generation: i32) {
    for collection in ["customers", "orders"] {
        let set = doc! {"$set": {"g": generation, "list": [{"g": generation}]}};
        place.mongo.collection::<Document>(collection).update_many(doc! {}, set).await.unwrap();
    }
}

/// All tables of both collections.
const JOINED: &str = "\
    SELECT count(*), least(min(o.g), min(ol.g), min(c.g), min(cl.g)), greatest(max(o.g), max(ol.g), max(c.g), max(cl.g)) \
    FROM orders o JOIN order_list ol ON ol.orders_id = o.id \
    JOIN customers c ON c.id = o.id JOIN customer_list cl ON cl.customers_id = c.id";

/// Somebody who reads both collections all the while.
struct Reader {
    stop: Arc<AtomicBool>,
    generation: Arc<AtomicI64>,
    reads: Arc<AtomicU64>,
    reading: JoinHandle<()>,
}

impl Reader {
    async fn start(place: &Place) -> Reader {
        let (client, connection) = tokio_postgres::connect(&place.postgres_uri, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let (stop, generation, reads) = (Arc::default(), Arc::default(), Arc::default());
        let (stopped, seen, count) = (Arc::clone(&stop), Arc::clone(&generation), Arc::clone(&reads));
        let reading = tokio::spawn(async move {
            while !AtomicBool::load(&stopped, Ordering::SeqCst) {
                let row = client.query_one(JOINED, &[]).await.unwrap();
                let (rows, least, greatest): (i64, i32, i32) = (row.get(0), row.get(1), row.get(2));
                assert_eq!(rows, i64::from(DOCUMENTS), "half a load was seen");
                assert_eq!(least, greatest, "a mixture of generations was seen");
                AtomicI64::store(&seen, greatest.into(), Ordering::SeqCst);
                AtomicU64::fetch_add(&count, 1, Ordering::SeqCst);
            }
        });
        Reader { stop, generation, reads, reading }
    }

    async fn has_seen(&self, generation: i64) {
        let seen = async || self.reading.is_finished() || self.generation.load(Ordering::SeqCst) == generation;
        wait_until("the reader to see the new load", LIMIT, seen).await.unwrap();
    }

    /// Fails if it has seen what is not to be seen; gives how often it has read.
    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.reading.await.unwrap();
        self.reads.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_both_collections_change_at_once() {
    let place = shop().await;
    place.gizer(&["load", "--together"]).await.expect_code(0);
    let reader = Reader::start(&place).await;
    for generation in 2..5 {
        change_to(&place, generation).await;
        let loaded = place.gizer(&["load", "--together", "--format", "json"]).await.expect_code(0);
        let report: Value = serde_json::from_str(&loaded.stdout).unwrap();
        assert_eq!(report["collections"].as_array().unwrap().len(), 2, "{report}");
        reader.has_seen(generation.into()).await;
    }
    let reads = reader.stop().await;
    assert!(reads >= 200, "only {reads} reads");
    let states = place.rows("SELECT DISTINCT state, live FROM gizer_collection").await;
    assert_eq!(states, [json!({"state": "following", "live": true})]);
}

/// One that is loaded before the one that fails, and one after it.
#[tokio::test]
async fn one_that_fails_keeps_the_other_from_being_swapped_in() {
    for (good, bad) in [("customers", "orders"), ("orders", "customers")] {
        let place = shop().await;
        place.gizer(&["load", "--together"]).await.expect_code(0);
        change_to(&place, 2).await;
        let unfit = (0..3).map(|n| doc! {"_id": format!("number {n}"), "g": 2});
        place.insert(bad, unfit).await;
        let before = place.rows("SELECT captured, live_epoch, state FROM gizer_collection ORDER BY collection").await;

        let failed = place.gizer(&["load", "--together"]).await;
        let kept = format!("{good}: loaded, but not swapped in: --together means all or none");
        assert_says(
            &failed,
            1,
            &[&kept, "the next load only has to swap it in", &format!("0 documents of {bad} rejected")],
        );
        let (rows, least, greatest) = joined(&place).await;
        assert_eq!((rows, least, greatest), (DOCUMENTS.into(), 1, 1), "the live tables have changed");
        let after = place.rows("SELECT captured, live_epoch, state FROM gizer_collection ORDER BY collection").await;
        assert_eq!(after, before);

        let staging = format!("SELECT oid::bigint FROM pg_class WHERE relname = 'gizer_new_{good}'");
        let (made, captured) = (place.number(&staging).await, load_captured(&place, good).await);
        let next = place.gizer(&["load", "--together", "--max-rejects", "3"]).await.expect_code(0);
        let goes_on = format!("{good}: resuming after {DOCUMENTS} documents of an interrupted load");
        assert!(next.stderr.contains(&goes_on), "{}", next.stderr);
        assert!(next.stderr.contains(&format!("{bad}: resuming after")), "{}", next.stderr);
        assert_eq!(joined(&place).await, (DOCUMENTS.into(), 2, 2));
        let live = place.number(&format!("SELECT '{good}'::regclass::oid::bigint")).await;
        assert_eq!(live, made, "the tables were made anew");
        let sql = format!("SELECT captured, exact_at FROM gizer_collection WHERE collection = '{good}'");
        let rows = place.rows(&sql).await;
        assert_eq!(rows[0]["captured"], rows[0]["exact_at"], "it was not aligned from {captured}");
    }
}

async fn joined(place: &Place) -> (i64, i32, i32) {
    let row = place.postgres.query_one(JOINED, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

async fn load_captured(place: &Place, collection: &str) -> Value {
    let sql = format!("SELECT load_captured AS at FROM gizer_collection WHERE collection = '{collection}'");
    place.rows(&sql).await.remove(0)["at"].take()
}

/// A reader of one collection keeps both as they were.
#[tokio::test]
async fn a_swap_that_gives_up_gives_up_all() {
    let place = shop().await;
    place.gizer(&["load", "--together"]).await.expect_code(0);
    change_to(&place, 2).await;
    let (reader, connection) = tokio_postgres::connect(&place.postgres_uri, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    reader.batch_execute("BEGIN; SELECT FROM order_list LIMIT 1").await.unwrap();
    let busy = place.gizer(&["load", "--together", "--load-swap-timeout", "1"]).await;
    assert_says(&busy, 1, &["customers, orders: ", "were in use", "not swapped in"]);
    assert_eq!(joined(&place).await, (DOCUMENTS.into(), 1, 1));
    reader.batch_execute("COMMIT").await.unwrap();
    let next = place.gizer(&["load", "--together"]).await.expect_code(0);
    for collection in ["customers", "orders"] {
        let goes_on = format!("{collection}: resuming after {DOCUMENTS} documents");
        assert!(next.stderr.contains(&goes_on), "{}", next.stderr);
    }
    assert_eq!(joined(&place).await, (DOCUMENTS.into(), 2, 2));
}

/// Nothing goes on where the load of a dump has ended, and nobody is told so.
#[tokio::test]
async fn of_a_dump_too_all_or_none() {
    let place = shop().await;
    let folder = place.gizer.folder().join("dump");
    std::fs::create_dir(&folder).unwrap();
    let documents = |last: Document| {
        let documents = (0..DOCUMENTS).map(|id| doc! {"_id": id, "g": 1, "list": [{"g": 1}]}).chain([last]);
        documents.flat_map(|document| document.to_vec().unwrap()).collect::<Vec<u8>>()
    };
    std::fs::write(folder.join("customers.bson"), documents(doc! {"_id": DOCUMENTS})).unwrap();
    std::fs::write(folder.join("orders.bson"), documents(doc! {"_id": "unfit"})).unwrap();
    let failed = place.gizer(&["load", "--dump", "dump", "--together"]).await;
    assert_says(&failed, 1, &["customers: loaded, but not swapped in", "0 documents of orders rejected"]);
    let promised =
        ["only has to swap it in", "resumes from here", "--restart"].map(|words| failed.stderr.contains(words));
    assert_eq!(promised, [false; 3], "{}", failed.stderr);
    let tables = "SELECT count(*) FROM pg_class WHERE relname IN ('customers', 'orders')";
    assert_eq!(place.number(tables).await, 0);
    place.gizer(&["load", "--dump", "dump", "--together", "--max-rejects", "1"]).await.expect_code(0);
    assert_eq!(joined(&place).await, (DOCUMENTS.into(), 1, 1));
}
