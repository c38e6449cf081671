//! Positions, shards, and what a run says when it cannot go on.

use std::time::Duration;

use bson::{Document, Timestamp, doc};
use integration_tests::rig::{Mongod, Postgres, Signal, Version, shared_mongod, shared_postgres, wait_until};
use integration_tests::traffic::Traffic;
use mongodb::ClusterTime;
use mongodb::options::WriteConcern;
use serde_json::json;

use super::judge::{judge_by_oracle, judge_traffic};
use super::scenario::{judge, load, told};
use super::world::{FOLLOW, LIMIT, SYNC, World, one_of_two};

fn posts() -> Vec<Document> {
    (1..=5).map(|n| doc! { "_id": n, "title": format!("post {n}"), "tags": ["a", "b"] }).collect()
}

async fn write(world: &World<'_>, n: i32) {
    for collection in ["posts", "drafts"] {
        let change = doc! { "$set": { "title": format!("changed {n}") }, "$push": { "tags": "c" } };
        let options = doc! { "q": { "_id": n }, "u": change, "upsert": true };
        world.mongo().run_command(doc! { "update": collection, "updates": [options] }).await.unwrap();
    }
}

async fn newest_entry(world: &World<'_>) -> Timestamp {
    let log = world.mongo().client().database("local").collection::<Document>("oplog.rs");
    let newest = log.find_one(doc! {}).sort(doc! { "$natural": -1 }).await.unwrap().unwrap();
    newest.get_timestamp("ts").unwrap()
}

/// Positions were compared as text, so that 99 came after 566.
#[tokio::test]
async fn positions_are_numbers() {
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let world = World::new([&mongod], shared_postgres().await.unwrap()).await;
    load(&world, &posts()).await;
    // An hour ahead, so that all writes to come are in one second, and differ by the increment alone.
    let hello = world.mongo().run_command(doc! { "hello": 1 }).await.unwrap();
    let mut ahead = hello.get_document("$clusterTime").unwrap().clone();
    let now = ahead.get_timestamp("clusterTime").unwrap();
    ahead.insert("clusterTime", Timestamp { time: now.time + 3_600, increment: 1 });
    let ahead: ClusterTime = bson::deserialize_from_document(ahead).unwrap();
    let mut session = world.mongo().client().start_session().await.unwrap();
    session.advance_cluster_time(&ahead);
    world.mongo().run_command(doc! { "ping": 1 }).session(&mut session).await.unwrap();

    let mut positions = Vec::new();
    for increment in [9, 10, 99, 100, 566, 1_001] {
        while newest_entry(&world).await.increment < increment {
            let missing = increment - newest_entry(&world).await.increment;
            let documents = (0..missing).map(|_| doc! { "title": "new" });
            world.mongo().collection::<Document>("bystander").insert_many(documents).await.unwrap();
        }
        write(&world, increment as i32).await;
        world.sync().await;
        judge(&world).await.unwrap_or_else(|difference| panic!("at increment {increment}: {difference}"));
        positions.extend(world.reached().await.into_values());
    }
    assert!(positions.iter().all(|(seconds, _)| *seconds == u64::from(now.time) + 3_600), "{positions:?}");
    assert!(positions.is_sorted(), "{positions:?}");
}

/// Operations of one document on two shards were lost.
#[tokio::test]
async fn one_document_on_two_shards() {
    let shard = |name| one_of_two(Version::V6_0, name);
    let (one, other) = tokio::try_join!(shard("rs0"), shard("rs1")).unwrap();
    let world = World::new([&one, &other], shared_postgres().await.unwrap()).await;
    world.schema_file("posts", r#"{"_id": "INT", "title": "STRING", "tags": ["STRING"]}"#);
    let posts = |at: usize| world.databases[at].collection::<Document>("posts");
    posts(0).insert_many((0..10).map(|n| doc! { "_id": n, "title": "on the first", "tags": ["a"] })).await.unwrap();
    posts(1).insert_many((10..20).map(|n| doc! { "_id": n, "title": "on the second", "tags": ["b"] })).await.unwrap();
    world.run(&["load"]).await.expect_code(0);

    let moved = |n: i32| doc! { "_id": n, "title": "moved", "tags": ["c", "d"] };
    // Deleted here, then written there; and the other way round, so that it is on both for a moment.
    for n in 0..3 {
        posts(0).update_one(doc! { "_id": n }, doc! { "$set": { "title": "before" } }).await.unwrap();
        posts(0).delete_one(doc! { "_id": n }).await.unwrap();
        posts(1).insert_one(moved(n)).await.unwrap();
        posts(1).update_one(doc! { "_id": n }, doc! { "$push": { "tags": "e" } }).await.unwrap();
    }
    for n in 10..13 {
        posts(0).insert_one(moved(n)).await.unwrap();
        posts(1).delete_one(doc! { "_id": n }).await.unwrap();
    }
    // There and back.
    posts(1).insert_one(moved(5)).await.unwrap();
    posts(0).delete_one(doc! { "_id": 5 }).await.unwrap();
    posts(0).insert_one(doc! { "_id": 5, "title": "home", "tags": [] }).await.unwrap();
    posts(1).delete_one(doc! { "_id": 5 }).await.unwrap();
    world.sync().await;
    judge_by_oracle(&world, "posts").await.unwrap();
    let sql = "SELECT title, count(*) FROM posts GROUP BY title ORDER BY title";
    assert_eq!(
        json!(world.rows(sql).await),
        json!([
            { "title": "home", "count": 1 }, { "title": "moved", "count": 6 }, { "title": "on the first", "count": 6 },
            { "title": "on the second", "count": 7 },
        ])
    );
    // The second one is idle, and holds nothing up.
    posts(0).delete_many(doc! {}).await.unwrap();
    world.sync().await;
    judge_by_oracle(&world, "posts").await.unwrap();
}

/// What is on it came to it by entries of its own.
#[tokio::test]
async fn a_shard_that_is_added_is_followed_from_its_beginning() {
    let shard = |name| one_of_two(Version::V6_0, name);
    let (one, other) = tokio::try_join!(shard("rs0"), shard("rs1")).unwrap();
    let world = World::new([&one, &other], shared_postgres().await.unwrap()).await;
    let both = std::fs::read_to_string(world.gizer.config_path()).unwrap();
    let alone = both.replace(&format!(", {:?}", other.uri()), "");
    assert_ne!(both, alone);
    std::fs::write(world.gizer.config_path(), alone).unwrap();
    load(&world, &posts()).await;
    write(&world, 1).await;
    world.sync().await;

    let change = async |ids: std::ops::Range<i32>| {
        for collection in ["posts", "drafts"] {
            let there = world.databases[1].collection::<Document>(collection);
            there.insert_many(ids.clone().map(|n| doc! { "_id": n, "title": "there", "tags": ["x"] })).await.unwrap();
            there.delete_one(doc! { "_id": ids.start }).await.unwrap();
            there.update_many(doc! {}, doc! { "$push": { "tags": "y" } }).await.unwrap();
        }
    };
    change(100..105).await;
    std::fs::write(world.gizer.config_path(), both).unwrap();
    write(&world, 2).await;
    change(200..205).await;
    let said = world.run(SYNC).await.expect_code(0).stderr;
    assert!(said.contains("rs1: a new shard"), "{said}");
    judge(&world).await.unwrap();
    assert_eq!(world.reached().await.len(), 2);
    write(&world, 3).await;
    change(300..305).await;
    let said = world.run(SYNC).await.expect_code(0).stderr;
    assert!(!said.contains("a new shard"), "{said}");
    judge(&world).await.unwrap();
    assert_eq!(json!(world.rows("SELECT count(*) FROM posts WHERE id >= 100").await), json!([{ "count": 12 }]));
}

/// Documents that were touched where it has been are not passed over for good.
#[tokio::test]
async fn a_collection_that_comes_to_a_second_shard() {
    let shard = |name| one_of_two(Version::V6_0, name);
    let (one, other) = tokio::try_join!(shard("rs0"), shard("rs1")).unwrap();
    let world = World::new([&one, &other], shared_postgres().await.unwrap()).await;
    load(&world, &posts()).await;
    world.sync().await;
    write(&world, 2).await;
    let other_log = world.databases[1].client().database("local").collection::<Document>("oplog.rs");
    let written = newest_entry(&world).await;
    wait_until("the other shard's clock to come by there", LIMIT, async || {
        let newest = other_log.find_one(doc! {}).sort(doc! { "$natural": -1 }).await.unwrap().unwrap();
        newest.get_timestamp("ts").unwrap() > written
    })
    .await
    .unwrap();
    for collection in ["posts", "drafts"] {
        let there = world.databases[1].collection::<Document>(collection);
        there.insert_many((100..105).map(|n| doc! { "_id": n, "title": "there", "tags": ["x"] })).await.unwrap();
    }
    write(&world, 3).await;
    // What was passed over, because the catalogue knows of the second one already, is not forgotten by a death in between.
    let died =
        world.gizer.spawn_with(SYNC, &[("GIZER_FAIL_POINT", "sync.after_passing_over")]).unwrap().wait().await.unwrap();
    assert!(died.signal().is_some(), "{died:?}");
    world.sync().await;
    judge(&world).await.unwrap();
}

/// It went unnoticed, and the tables stayed behind for ever.
#[tokio::test]
async fn an_oplog_that_has_rolled_over_is_told() {
    let mongod = Mongod::builder(Version::V6_0).oplog_mb(16).arg("--syncdelay").arg("1").start().await.unwrap();
    let world = World::new([&mongod], shared_postgres().await.unwrap()).await;
    load(&world, &posts()).await;
    write(&world, 1).await;
    world.sync().await;
    let (before, last) = (world.reached().await, newest_entry(&world).await);
    write(&world, 2).await;
    let filler = world.mongo().collection::<Document>("filler");
    let log = world.mongo().client().database("local").collection::<Document>("oplog.rs");
    let padding = "x".repeat(8 << 20);
    wait_until("the log to roll over", LIMIT, async || {
        filler.insert_one(doc! { "padding": &padding }).write_concern(WriteConcern::majority()).await.unwrap();
        // It may be taken away under the cursor.
        let oldest = log.find_one(doc! {}).sort(doc! { "$natural": 1 }).await.ok().flatten();
        oldest.is_some_and(|entry| entry.get_timestamp("ts").unwrap() > last)
    })
    .await
    .unwrap();
    let told = world.run(SYNC).await.expect_code(3);
    assert!(told.stderr.contains("rolled over"), "{}", told.stderr);
    assert_eq!(world.reached().await, before);
    judge(&world).await.unwrap_err();
    // What is due is a load, and then it goes on.
    world.run(&["load"]).await.expect_code(0);
    write(&world, 3).await;
    world.sync().await;
    judge(&world).await.unwrap();
}

/// After ten readings again, unequal data was committed.
#[tokio::test]
async fn what_cannot_be_made_equal_is_not_committed() {
    let world = told(Version::V6_0, &posts()).await;
    let spoil = "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN NEW.title := 'spoiled'; RETURN NEW; END $$; \
                 CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION spoil()";
    world.client().await.batch_execute(spoil).await.unwrap();
    write(&world, 1).await;
    let told = world.run(SYNC).await.expect_code(4);
    assert!(told.stderr.contains("posts") && !told.stderr.contains("changed 1"), "{}", told.stderr);
    // It stays behind alone, at its own position.
    let standing = "SELECT c.joined, e.obstacle FROM gizer_collection c JOIN gizer_expected e USING (collection) \
                    WHERE collection = 'posts'";
    assert_eq!(json!(world.rows(standing).await), json!([{ "joined": false, "obstacle": "failing" }]));
    let sql = "SELECT title FROM posts WHERE id = 1 UNION ALL SELECT title FROM drafts WHERE id = 1";
    assert_eq!(json!(world.rows(sql).await), json!([{ "title": "post 1" }, { "title": "changed 1" }]));
    world.client().await.batch_execute("DROP TRIGGER spoil ON posts").await.unwrap();
    world.sync().await;
    judge(&world).await.unwrap();
}

#[tokio::test]
async fn a_follower_ends_when_it_is_told() {
    for (signal, code) in [(Signal::Terminate, 143), (Signal::Interrupt, 130)] {
        let world = told(Version::V6_0, &posts()).await;
        let mut running = world.spawn(FOLLOW);
        for n in 1..4 {
            write(&world, n).await;
            let caught_up = async || judge(&world).await.is_ok() || !running.is_running().unwrap();
            wait_until("the follower to catch up", LIMIT, caught_up).await.unwrap();
            assert!(running.is_running().unwrap(), "{}", running.stderr());
            judge(&world).await.unwrap();
        }
        // Two would be one too many.
        world.run(SYNC).await.expect_code(5);
        running.signal(signal).unwrap();
        running.wait().await.unwrap().expect_code(code);
    }
}

/// A transaction of MongoDB is never split over two of PostgreSQL: no reader sees half of it.
#[tokio::test]
async fn readers_see_whole_transactions() {
    let world = told(Version::V6_0, &posts()).await;
    let running = world.spawn(FOLLOW);
    let reader = world.client().await;
    let equal = "SELECT (SELECT count(*) FROM posts) = (SELECT count(*) FROM drafts)";
    let mut seen = 0;
    let insert = |collection: &str, n: i32| doc! { "insert": collection, "documents": [{ "_id": n, "tags": ["t"] }] };
    for n in 100..160 {
        let commands = vec![insert("posts", n), insert("drafts", n)];
        let step = integration_tests::traffic::Step::Transaction { commands, commit: true };
        assert_eq!(step.run(world.mongo()).await.unwrap().refused, 0);
        for _ in 0..5 {
            assert!(reader.query_one(equal, &[]).await.unwrap().get::<_, bool>(0), "half of a transaction is visible");
            seen += 1;
        }
    }
    let whole = async || {
        assert!(reader.query_one(equal, &[]).await.unwrap().get::<_, bool>(0), "half of a transaction is visible");
        judge(&world).await.is_ok()
    };
    wait_until("the follower to catch up", LIMIT, whole).await.unwrap();
    assert_eq!(seen, 300);
    running.signal(Signal::Terminate).unwrap();
    running.wait().await.unwrap();
}

/// A server that goes away and comes back is no reason to give up.
#[tokio::test]
async fn a_follower_outlives_restarts_of_both_servers() {
    let (mongod, postgres) = tokio::try_join!(Mongod::start(Version::V6_0), Postgres::start()).unwrap();
    let world = World::new([&mongod], &postgres).await;
    let mut traffic = Traffic::new(11);
    world.begin(std::slice::from_ref(&traffic)).await;
    let mut running = world.spawn(FOLLOW);
    for restart in ["mongod", "PostgreSQL"] {
        for step in traffic.by_ref().take(20) {
            step.run(world.mongo()).await.unwrap();
        }
        match restart {
            "mongod" => mongod.restart().await.unwrap(),
            _ => postgres.restart().await.unwrap(),
        }
        world.wait_for_shards().await;
        for step in traffic.by_ref().take(20) {
            step.run(world.mongo()).await.unwrap();
        }
        let caught_up = async || judge_traffic(&world).await.is_ok() || !running.is_running().unwrap();
        wait_until("the follower to catch up", LIMIT, caught_up).await.unwrap();
        assert!(running.is_running().unwrap(), "a restart of {restart} ended it: {}", running.stderr());
        judge_traffic(&world).await.unwrap();
    }
    running.signal(Signal::Terminate).unwrap();
    running.wait().await.unwrap().expect_code(143);
}

/// Nobody writes, and a run has nothing to do; it ends at once, and the next one finds its place.
#[tokio::test]
async fn an_idle_position_is_kept() {
    for version in Version::ALL {
        let mongod = shared_mongod(version).await.unwrap();
        let world = World::new([mongod], shared_postgres().await.unwrap()).await;
        load(&world, &posts()).await;
        for n in 0..3 {
            let started = std::time::Instant::now();
            world.sync().await;
            world.sync().await;
            assert!(started.elapsed() < Duration::from_secs(20), "{:?} for nothing", started.elapsed());
            write(&world, n).await;
        }
        world.sync().await;
        judge(&world).await.unwrap();
    }
}
