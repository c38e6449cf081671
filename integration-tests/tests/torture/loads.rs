//! Loads beside writes, beside a follower, and by a follower.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::{Document, Timestamp, doc};
use integration_tests::rig::{
    Finished, Mongod, RunningGizer, Signal, Version, shared_mongod, shared_postgres, wait_until,
};
use mongodb::Database;
use mongodb::options::WriteConcern;
use serde_json::json;

use super::ddl::{insert, rename, run};
use super::judge::{judge_by_oracle, judge_rebuilt};
use super::scenario::{judge, load, told};
use super::world::{FOLLOW, LIMIT, SYNC, World};

const DOCUMENTS: i32 = 60;

pub(crate) fn posts() -> Vec<Document> {
    (0..DOCUMENTS)
        .map(|n| doc! { "_id": n, "title": format!("post {n}"), "tags": ["a", "b"], "note": "short" })
        .collect()
}

/// What a run has to get by before it goes on. Everything else that comes by stands still, too.
const GATE: &str = "\
    CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$; \
    CREATE TRIGGER gate WHEN_IT_COMES EXECUTE FUNCTION gate()";

const GATE_IS_GONE: &str = "DROP FUNCTION IF EXISTS gate CASCADE";

/// Sessions of gizer that stand still at a gate.
pub(crate) const AT_THE_GATE: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE datname = current_database() AND wait_event = 'advisory' AND application_name = 'gizer'";

/// A run that stands still, until the gate is opened.
pub(crate) struct Held {
    pub(crate) running: RunningGizer,
    pub(crate) gate: tokio_postgres::Client,
}

impl Held {
    /// Starts a load of these collections and waits until it stands still at one of them: it has read documents, and
    /// has not said that they are written.
    pub(crate) async fn at(world: &World<'_>, collection: &str, load: &[&str]) -> Held {
        let comes = format!(
            "AFTER INSERT ON gizer_range FOR EACH ROW \
             WHEN (NEW.kind = 'range' AND NEW.collection = '{collection}')"
        );
        Held::when(world, &comes, &[&["load"], load].concat()).await
    }

    /// Starts gizer with these arguments and waits until it stands still at a trigger.
    pub(crate) async fn when(world: &World<'_>, comes: &str, args: &[&str]) -> Held {
        let gate = world.client().await;
        gate.batch_execute(GATE_IS_GONE).await.unwrap();
        gate.batch_execute(&GATE.replace("WHEN_IT_COMES", comes)).await.unwrap();
        gate.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
        let mut running = world.spawn(args);
        wait_until(format!("{args:?} to stand still"), LIMIT, async || {
            assert!(running.is_running().unwrap(), "{}", running.stderr());
            gate.query_one(AT_THE_GATE, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await
        .unwrap();
        Held { running, gate }
    }

    /// Opens the gate.
    pub(crate) async fn go_on(self) -> RunningGizer {
        self.gate.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
        self.running
    }

    /// Opens the gate, and waits for the end.
    pub(crate) async fn finish(self) -> Finished {
        self.go_on().await.wait().await.unwrap()
    }

    /// `kill -9`; what it has not committed is rolled back once the gate is open.
    pub(crate) async fn kill(self) {
        self.running.kill().await.unwrap();
        self.gate.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    }
}

/// Every kind of write, to some of the documents.
pub(crate) async fn write(database: &Database, collections: &[&str], round: i32) {
    for &collection in collections {
        let posts = database.collection::<Document>(collection);
        let some = doc! { "_id": { "$mod": [7, round % 7] } };
        let change = doc! { "$set": { "title": format!("round {round}") }, "$push": { "tags": { "$each": ["c"], "$slice": -4 } } };
        posts.update_many(some, change).await.unwrap();
        posts.delete_one(doc! { "_id": round % DOCUMENTS }).await.unwrap();
        posts.insert_one(doc! { "title": "new", "_id": 1_000 + round, "tags": ["n"] }).await.unwrap();
        let replaced = doc! { "title": format!("replaced in {round}"), "tags": [] };
        posts.replace_one(doc! { "_id": (round * 3) % DOCUMENTS }, replaced).upsert(true).await.unwrap();
    }
}

/// Writes without an end, until it is told to.
pub(crate) struct Writing {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<i32>,
}

impl Writing {
    pub(crate) fn to(world: &World<'_>, collections: &'static [&'static str], first: i32) -> Writing {
        let (database, stop) = (world.mongo().clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut round = first;
            while !stopped.load(Ordering::Relaxed) {
                write(&database, collections, round).await;
                round += 1;
            }
            round
        });
        Writing { stop, task }
    }

    /// Gives the number of the round to come.
    pub(crate) async fn stop(self) -> i32 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Writes to these collections, large documents among them, until the log holds nothing of what was written before.
pub(crate) async fn roll_over(world: &World<'_>, collections: &[&str], round: &mut i32) {
    let log = world.mongo().client().database("local").collection::<Document>("oplog.rs");
    let time = |entry: Document| entry.get_timestamp("ts").unwrap();
    let last: Timestamp = time(log.find_one(doc! {}).sort(doc! { "$natural": -1 }).await.unwrap().unwrap());
    let padding = "x".repeat(7 << 20);
    let roll = async {
        loop {
            write(world.mongo(), collections, *round).await;
            *round += 1;
            for collection in collections {
                let large = doc! { "_id": 5_000, "title": "large", "note": format!("{round} {padding}") };
                let posts = world.mongo().collection::<Document>(collection);
                let replace = posts.replace_one(doc! { "_id": 5_000 }, large).upsert(true);
                replace.write_concern(WriteConcern::majority()).await.unwrap();
            }
            // It may be taken away under the cursor.
            let oldest = log.find_one(doc! {}).sort(doc! { "$natural": 1 }).await.ok().flatten();
            if oldest.is_some_and(|entry| time(entry) > last) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, roll).await.expect("the log to roll over");
    // What comes later is small, and judged.
    for collection in collections {
        world.mongo().collection::<Document>(collection).delete_one(doc! { "_id": 5_000 }).await.unwrap();
    }
}

pub(crate) async fn small_log(version: Version) -> Mongod {
    Mongod::builder(version).oplog_mb(16).arg("--syncdelay").arg("1").start().await.unwrap()
}

/// What was written while documents were read is in the spool alone, and in the tables.
#[tokio::test]
async fn a_small_log_rolls_over_under_a_load() {
    let mongod = small_log(Version::V6_0).await;
    let world = World::new([&mongod], shared_postgres().await.unwrap()).await;
    load(&world, &posts()).await;
    let mut round = 0;
    let held = Held::at(&world, "posts", &["posts"]).await;
    roll_over(&world, &["posts"], &mut round).await;
    held.finish().await.expect_code(0);
    // Nobody wrote after the gate was opened.
    judge_by_oracle(&world, "posts").await.unwrap();

    // The same for the other one, which is written to up to the end and beyond.
    let held = Held::at(&world, "drafts", &["drafts"]).await;
    roll_over(&world, &["drafts"], &mut round).await;
    let writing = Writing::to(&world, &["drafts"], round);
    held.finish().await.expect_code(0);
    writing.stop().await;
    world.run(&["load", "posts"]).await.expect_code(0);
    world.sync().await;
    judge(&world).await.unwrap();
}

/// While a load is aligned the log rolls over again, behind what was read of the spool when that began.
#[tokio::test]
async fn a_small_log_rolls_over_while_a_load_is_aligned() {
    let mongod = small_log(Version::V6_0).await;
    let world = World::new([&mongod], shared_postgres().await.unwrap()).await;
    load(&world, &posts()).await;
    let mut round = 0;
    let held = Held::at(&world, "posts", &["posts"]).await;
    for _ in 0..3 {
        roll_over(&world, &["posts"], &mut round).await;
    }
    // The next one to have the row after the unit, and before the first batch of what has changed is committed.
    let fence = world.client().await;
    let waiting = fence.batch_execute("BEGIN; SELECT FROM gizer_collection WHERE collection = 'posts' FOR UPDATE");
    let open = async {
        let stands = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                      WHERE a.datname = current_database() AND NOT l.granted AND l.locktype = 'transactionid'";
        let client = world.client().await;
        wait_until("the row to be waited for", LIMIT, async || {
            client.query_one(stands, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await
        .unwrap();
        held.go_on().await
    };
    let (waited, mut running) = tokio::join!(waiting, open);
    waited.unwrap();
    let stands = "SELECT count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'gizer'";
    let client = world.client().await;
    wait_until("the load to be aligned", LIMIT, async || {
        assert!(running.is_running().unwrap(), "{}", running.stderr());
        client.query_one(stands, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await
    .unwrap();
    roll_over(&world, &["posts"], &mut round).await;
    fence.batch_execute("ROLLBACK").await.unwrap();
    let loaded = running.wait().await.unwrap();
    // Where the spool lagged when that began, the log is needed behind its end.
    if loaded.code() != Some(0) {
        let told = loaded.expect_code(3);
        assert!(
            told.stderr.contains("rolled over") && told.stderr.contains("nothing is swapped in"),
            "{}",
            told.stderr
        );
        world.run(&["load", "posts"]).await.expect_code(0);
    }
    judge_by_oracle(&world, "posts").await.unwrap();
    world.run(&["load", "drafts"]).await.expect_code(0);
    world.sync().await;
    judge(&world).await.unwrap();
}

/// Whose load has ended before can be followed only from the log: it is told that it cannot, and nothing is wrong.
#[tokio::test]
async fn a_log_that_rolls_over_under_the_next_load_is_told() {
    let mongod = small_log(Version::V5_0).await;
    let world = World::new([&mongod], shared_postgres().await.unwrap()).await;
    load(&world, &posts()).await;
    let (both, mut round) = (["drafts", "posts"], 0);
    let held = Held::at(&world, "posts", &both).await;
    judge_rebuilt(&world, "drafts").await.unwrap();
    roll_over(&world, &both, &mut round).await;
    held.finish().await.expect_code(0);
    judge_by_oracle(&world, "posts").await.unwrap();
    let synced = world.run(SYNC).await;
    if synced.code() != Some(0) {
        // The other one goes on.
        let told = synced.expect_code(3);
        assert!(told.stderr.contains("drafts: the oplog of rs0 no longer reaches back"), "{}", told.stderr);
        judge_by_oracle(&world, "posts").await.unwrap();
        world.run(&["load", "drafts"]).await.expect_code(0);
        world.sync().await;
    }
    judge(&world).await.unwrap();
}

/// Where a collection stands.
pub(crate) async fn epoch(world: &World<'_>, collection: &str) -> (i64, bool, String) {
    let sql = "SELECT coalesce(live_epoch, 0), joined, state FROM gizer_collection WHERE collection = $1";
    let row = world.client().await.query_opt(sql, &[&collection]).await.unwrap();
    row.map_or((0, false, String::new()), |row| (row.get(0), row.get(1), row.get(2)))
}

/// Waits until a later load of a collection than that of `before` is followed.
pub(crate) async fn joined_after(world: &World<'_>, collection: &str, before: i64, running: &mut RunningGizer) {
    wait_until(format!("{collection} to be followed"), LIMIT, async || {
        assert!(running.is_running().unwrap(), "{}", running.stderr());
        let (epoch, joined, state) = epoch(world, collection).await;
        epoch > before && joined && state == "following"
    })
    .await
    .unwrap();
}

pub(crate) async fn ended_by_signal(running: RunningGizer) -> Finished {
    running.signal(Signal::Terminate).unwrap();
    running.wait().await.unwrap().expect_code(143)
}

pub(crate) async fn wait_for_posts(world: &World<'_>, running: &mut RunningGizer) {
    wait_until("posts to be equal", LIMIT, async || {
        assert!(running.is_running().unwrap(), "{}", running.stderr());
        judge_by_oracle(world, "posts").await.is_ok()
    })
    .await
    .unwrap();
}

pub(crate) async fn wait_for_drafts(world: &World<'_>, running: &mut RunningGizer) {
    wait_until("drafts to be equal", LIMIT, async || {
        assert!(running.is_running().unwrap(), "{}", running.stderr());
        judge_rebuilt(world, "drafts").await.is_ok()
    })
    .await
    .unwrap();
}

/// One is followed all the time; the other is loaded, joins, and is loaded anew.
#[tokio::test]
async fn a_collection_is_loaded_while_another_is_followed() {
    for version in [Version::V4_4, Version::V6_0] {
        let world = World::new([shared_mongod(version).await.unwrap()], shared_postgres().await.unwrap()).await;
        for collection in ["posts", "drafts"] {
            world.mongo().collection::<Document>(collection).insert_many(posts()).await.unwrap();
        }
        world.run(&["schema", "infer", "posts", "--classic"]).await.expect_code(0);
        world.run(&["schema", "infer", "drafts"]).await.expect_code(0);
        world.run(&["load", "drafts"]).await.expect_code(0);
        let mut follower = world.spawn(FOLLOW);
        let mut round = 0;
        for _ in 0..2 {
            let (before, ..) = epoch(&world, "posts").await;
            let held = Held::at(&world, "posts", &["posts"]).await;
            let writing = Writing::to(&world, &["posts", "drafts"], round);
            wait_until("changes to be followed", LIMIT, async || {
                let title = "SELECT count(*) FROM drafts WHERE id > 1000";
                world.client().await.query_one(title, &[]).await.unwrap().get::<_, i64>(0) > i64::from(round)
            })
            .await
            .unwrap();
            round = writing.stop().await;
            // The load stands still, and does not hold the other one up.
            wait_for_drafts(&world, &mut follower).await;
            let loading = held.go_on().await;
            let writing = Writing::to(&world, &["posts", "drafts"], round);
            loading.wait().await.unwrap().expect_code(0);
            joined_after(&world, "posts", before, &mut follower).await;
            round = writing.stop().await;
            wait_for_posts(&world, &mut follower).await;
            wait_for_drafts(&world, &mut follower).await;
        }
        ended_by_signal(follower).await;
        world.sync().await;
        judge(&world).await.unwrap();
    }
}

/// `$out`, and a rename onto it: the follower itself loads it anew, and stays.
#[tokio::test]
async fn a_collection_is_replaced_under_a_follower() {
    for version in [Version::V4_4, Version::V6_0] {
        let world = told(version, &posts()).await;
        let mut follower = world.spawn(FOLLOW);
        for replace in ["$out", "rename"] {
            let (before, ..) = epoch(&world, "posts").await;
            insert(&world, "fresh", 3..40).await;
            let writing = Writing::to(&world, &["drafts"], 0);
            match replace {
                "$out" => {
                    let out = doc! { "aggregate": "fresh", "pipeline": [{ "$out": "posts" }], "cursor": {} };
                    run(&world, out).await;
                    run(&world, doc! { "drop": "fresh" }).await;
                }
                _ => rename(&world, "fresh", "posts").await,
            }
            insert(&world, "posts", 50..53).await;
            joined_after(&world, "posts", before, &mut follower).await;
            writing.stop().await;
            insert(&world, "posts", 60..63).await;
            wait_for_posts(&world, &mut follower).await;
            wait_for_drafts(&world, &mut follower).await;
            let number = world.rows("SELECT count(*) FROM posts").await;
            assert_eq!(json!(number), json!([{ "count": 43 }]), "MongoDB {version}: {replace}");
            world.mongo().collection::<Document>("drafts").delete_many(doc! {}).await.unwrap();
        }
        let said = ended_by_signal(follower).await;
        assert_eq!(said.stderr.matches("it is reloaded").count(), 2, "{}", said.stderr);
    }
}
