//! Loads that are due, and collections that are gone from MongoDB by then.

use bson::{Document, doc};
use integration_tests::rig::{Version, shared_postgres};
use serde_json::json;

use super::ddl::{insert, rename, run};
use super::judge::judge_rebuilt;
use super::scenario::{judge, load, told};
use super::world::{SYNC, World, one_of_two};

const RUN: &[&str] = &["run"];

fn posts() -> Vec<Document> {
    (1..=5).map(|n| doc! { "_id": n, "title": format!("post {n}"), "tags": ["a", "b"] }).collect()
}

async fn drop_on(world: &World<'_>, shard: usize, collection: &str) {
    world.databases[shard].collection::<Document>(collection).drop().await.unwrap();
}

async fn count(world: &World<'_>) -> i64 {
    world.rows("SELECT count(*) FROM posts").await[0]["count"].as_i64().unwrap()
}

/// Everything is said to be there, and is.
async fn expect_all_there(world: &World<'_>) {
    judge(world).await.unwrap();
    world.run(&["status", "--check", "--min-headroom", "0s"]).await.expect_code(0);
    world.run(&["verify"]).await.expect_code(0);
}

/// Another collection takes this one's name, and gizer dies before it is loaded.
async fn make_load_due(world: &World<'_>, collection: &str) {
    insert(world, "fresh", 3..7).await;
    rename(world, "fresh", collection).await;
    let mut died = None;
    for _ in 0..3 {
        let point = [("GIZER_FAIL_POINT", "sync.after_commit")];
        let finished = world.gizer.spawn_with(SYNC, &point).unwrap().wait().await.unwrap();
        assert!(finished.signal().is_some(), "{finished:?}");
        let due =
            format!("SELECT state FROM gizer_collection WHERE collection = '{collection}' AND state = 'load due'");
        if !world.rows(&due).await.is_empty() {
            died = Some(finished);
            break;
        }
    }
    assert!(died.is_some(), "no load of {collection} is due");
}

/// No router says that both were one, and each has a UUID of its own.
#[tokio::test]
async fn what_is_dropped_on_two_shards_leaves_empty_tables() {
    let shard = |name| one_of_two(Version::V6_0, name);
    let (one, other) = tokio::try_join!(shard("rs0"), shard("rs1")).unwrap();
    let world = World::new([&one, &other], shared_postgres().await.unwrap()).await;
    for collection in ["posts", "drafts"] {
        let there = world.databases[1].collection::<Document>(collection);
        there.insert_many((11..=13).map(|n| doc! { "_id": n, "title": "there", "tags": ["c"] })).await.unwrap();
    }
    load(&world, &posts()).await;
    world.sync().await;
    // On one of them: what the other has stays.
    drop_on(&world, 0, "posts").await;
    world.sync().await;
    assert_eq!(count(&world).await, 3);
    expect_all_there(&world).await;
    // On both.
    insert(&world, "posts", 20..23).await;
    world.sync().await;
    drop_on(&world, 0, "posts").await;
    drop_on(&world, 1, "posts").await;
    run(&world, doc! { "update": "drafts", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "title": "x" } } }] })
        .await;
    world.sync().await;
    assert_eq!(count(&world).await, 0);
    expect_all_there(&world).await;
    // Others of its name are followed in its place.
    insert(&world, "posts", 30..32).await;
    let there = world.databases[1].collection::<Document>("posts");
    there.insert_one(doc! { "_id": 33, "title": "there again", "tags": [] }).await.unwrap();
    world.sync().await;
    assert_eq!(count(&world).await, 3);
    expect_all_there(&world).await;
}

#[tokio::test]
async fn a_load_that_is_due_is_named_until_it_is_done() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    make_load_due(&world, "posts").await;
    for n in 0..2 {
        insert(&world, "drafts", 10 + n..11 + n).await;
        let synced = world.run(SYNC).await.expect_code(7);
        assert!(synced.stderr.contains("posts: load due: another collection was renamed to its name"), "{synced:?}");
        judge_rebuilt(&world, "drafts").await.unwrap();
    }
    let verified = world.run(&["verify"]).await.expect_code(7);
    assert!(verified.stderr.contains("posts: load due"), "{verified:?}");
    world.run(&["status", "--check", "--min-headroom", "0s"]).await.expect_code(6);
    world.run(RUN).await.expect_code(0);
    expect_all_there(&world).await;
}

#[tokio::test]
async fn what_is_gone_when_its_load_is_due_leaves_empty_tables() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    make_load_due(&world, "posts").await;
    drop_on(&world, 0, "posts").await;
    let plan = world.run(&["plan", "--format", "json"]).await.expect_code(0);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["collection"] == "posts" && step["due"] == "load"), "{plan}");
    let said = world.run(RUN).await.expect_code(0).stderr;
    assert!(said.contains("posts: gone from MongoDB; its tables are emptied"), "{said}");
    assert_eq!(count(&world).await, 0);
    expect_all_there(&world).await;
    world.run(RUN).await.expect_code(0);
    insert(&world, "posts", 1..4).await;
    world.sync().await;
    assert_eq!(count(&world).await, 3);
    expect_all_there(&world).await;
}

/// `run` ended with 2 each time, because there was no such database.
#[tokio::test]
async fn a_database_that_is_gone_when_loads_are_due_leaves_empty_tables() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    for collection in ["posts", "drafts"] {
        make_load_due(&world, collection).await;
    }
    run(&world, doc! { "dropDatabase": 1 }).await;
    world.run(SYNC).await.expect_code(3);
    world.run(RUN).await.expect_code(0);
    let sql = "SELECT (SELECT count(*) FROM posts) AS posts, (SELECT count(*) FROM drafts) AS drafts";
    assert_eq!(json!(world.rows(sql).await), json!([{ "posts": 0, "drafts": 0 }]));
    expect_all_there(&world).await;
    insert(&world, "drafts", 1..4).await;
    world.run(RUN).await.expect_code(0);
    expect_all_there(&world).await;
}
