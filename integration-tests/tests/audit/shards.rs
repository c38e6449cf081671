//! Two replica sets as shards, without a router: a migration has left a document on both.

use bson::{Document, doc};
use integration_tests::rig::{Mongod, Version, shared_postgres};
use serde_json::json;

use super::audit::verify;
use super::unusual::wait_until_out_of_reach;
use super::world::{World, one_of_two};

fn post(id: i32, title: &str) -> Document {
    doc! { "_id": id, "title": title, "tags": ["a", title] }
}

async fn insert(world: &World<'_>, shard: usize, documents: impl IntoIterator<Item = Document>) {
    world.databases[shard].collection::<Document>("posts").insert_many(documents).await.unwrap();
}

async fn set_title(world: &World<'_>, shard: usize, id: i32, title: &str) {
    let posts = world.databases[shard].collection::<Document>("posts");
    let change = doc! { "$set": { "title": title, "tags": ["a", title] } };
    assert_eq!(posts.update_one(doc! { "_id": id }, change).await.unwrap().modified_count, 1);
}

/// Documents 2 and 12 are on both shards: what is on the other one is as it was before it was changed for the last time.
async fn with_copies<'s>(shards: [&'s Mongod; 2]) -> World<'s> {
    let world = World::new(shards, shared_postgres().await.unwrap()).await;
    world.schema_file("posts", r#"{"_id": "INT", "title": "STRING", "tags": ["STRING"]}"#);
    insert(&world, 0, (0..10).map(|id| post(id, "old"))).await;
    insert(&world, 1, (10..20).map(|id| post(id, "old"))).await;
    world.run(&["load", "--verify", "full"]).await.expect_code(0);
    world.sync().await;
    insert(&world, 1, [post(2, "old")]).await;
    insert(&world, 0, [post(12, "old")]).await;
    world.sync().await;
    verify(&world, &[], 0).await.expect_nothing();
    set_title(&world, 0, 2, "new").await;
    set_title(&world, 1, 12, "new").await;
    world.sync().await;
    world
}

#[tokio::test]
async fn a_document_that_is_on_two_shards_equals_either_copy() {
    let window = "minSnapshotHistoryWindowInSeconds";
    let shard = |name| {
        let builder = Mongod::builder(Version::V6_0).repl_set_name(name).set_parameter("periodicNoopIntervalSecs", "1");
        builder.set_parameter(window, "1").start()
    };
    let (one, other) = tokio::try_join!(shard("rs0"), shard("rs1")).unwrap();
    let world = with_copies([&one, &other]).await;
    let rows = world.rows("SELECT id, title FROM posts WHERE id IN (2, 12) ORDER BY id").await;
    assert_eq!(json!(rows), json!([{ "id": 2, "title": "new" }, { "id": 12, "title": "new" }]));
    let equal = async || {
        let report = verify(&world, &[], 0).await;
        report.expect_nothing();
        assert_eq!(["documents", "equal"].map(|name| report.count("posts", name)), [20, 20]);
    };
    equal().await;
    // Whichever of the two they equal.
    let client = world.client().await;
    client.batch_execute("UPDATE posts SET title = 'old' WHERE id = 2; UPDATE post_tags SET tags = 'old' WHERE posts_id = 2 AND idx = 2").await.unwrap();
    equal().await;
    // Not a little of one, and a little of the other.
    client.batch_execute("UPDATE posts SET title = 'new' WHERE id = 2").await.unwrap();
    let report = verify(&world, &[], 4).await;
    assert_eq!(["documents", "different"].map(|name| report.count("posts", name)), [20, 1]);
    client.batch_execute("DELETE FROM posts WHERE id = 12").await.unwrap();
    let report = verify(&world, &[], 4).await;
    assert_eq!(["different", "only_in_mongodb"].map(|name| report.count("posts", name)), [1, 1]);
    verify(&world, &["--repair"], 0).await;
    equal().await;
    // Where the time is out of reach it is looked at again: the log decides.
    set_title(&world, 1, 12, "newest").await;
    world.sync().await;
    wait_until_out_of_reach(&world).await;
    set_title(&world, 1, 12, "newer").await;
    client.batch_execute("UPDATE posts SET title = 'wrong' WHERE id IN (2, 5)").await.unwrap();
    let report = verify(&world, &[], 4).await;
    assert_eq!(["different", "not_compared"].map(|name| report.count("posts", name)), [2, 1]);
}

/// One key for two `_id`s is a mistake of the schema, and no copy.
#[tokio::test]
async fn two_ids_with_one_key_are_told() {
    let shard = |name| one_of_two(Version::V6_0, name);
    let (one, other) = tokio::try_join!(shard("rs0"), shard("rs1")).unwrap();
    let world = World::new([&one, &other], shared_postgres().await.unwrap()).await;
    world.schema_file("posts", r#"{"_id": "BIGINT", "title": "STRING"}"#);
    insert(&world, 0, [post(1, "one")]).await;
    insert(&world, 1, [post(2, "two")]).await;
    world.run(&["load"]).await.expect_code(0);
    insert(&world, 1, [doc! { "_id": 1.0, "title": "another one" }]).await;
    world.sync().await;
    let told = world.run(&["verify"]).await.expect_code(1).stderr;
    assert!(told.contains("two documents of posts have the key 1"), "{told}");
}
