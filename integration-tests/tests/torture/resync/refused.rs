//! Documents that PostgreSQL refuses, or that have no key: what a resync makes of them, and who takes them up again.

use bson::{Document, doc};
use integration_tests::rig::{Version, shared_mongod, shared_postgres};
use serde_json::json;

use super::{expect_nothing_left, held_at, number, resynced};
use crate::judge::{judge_against_fresh_load, judge_by_oracle};
use crate::world::World;

const DOCUMENTS: i32 = 400;

/// A collection in which no two documents have the same `slot`, so large that it has several segments; its tables are
/// followed, and have a unique constraint of somebody's.
async fn world(constraint: &str) -> World<'static> {
    let world = World::new([shared_mongod(Version::V6_0).await.unwrap()], shared_postgres().await.unwrap()).await;
    let all = (0..DOCUMENTS).map(|n| doc! { "_id": n, "slot": format!("slot {n}"), "tags": ["a"] });
    world.mongo().collection::<Document>("posts").insert_many(all).await.unwrap();
    world.run(&["schema", "infer", "posts", "--classic"]).await.expect_code(0);
    world.run(&["load"]).await.expect_code(0);
    world.client().await.batch_execute(constraint).await.unwrap();
    world.sync().await;
    world
}

async fn set_slot(world: &World<'_>, id: i32, slot: &str) {
    let posts = world.mongo().collection::<Document>("posts");
    posts.update_one(doc! { "_id": id }, doc! { "$set": { "slot": slot } }).await.unwrap();
}

/// Those at both ends of the collection, which no chunk has both of, and neighbours.
async fn exchange(world: &World<'_>) {
    for n in 0..20 {
        let other = DOCUMENTS - 1 - n;
        set_slot(world, n, &format!("slot {other}")).await;
        set_slot(world, other, &format!("slot {n}")).await;
    }
    set_slot(world, 200, "slot 201").await;
    set_slot(world, 201, "slot 200").await;
    // A ring of three.
    for (id, slot) in [(100, 300), (300, 150), (150, 100)] {
        set_slot(world, id, &format!("slot {slot}")).await;
    }
}

const REJECTED: &str = "SELECT count(*)::int AS count FROM gizer_reject";

#[tokio::test]
async fn documents_that_exchange_what_is_unique() {
    for constraint in [
        "ALTER TABLE posts ADD CONSTRAINT one_slot UNIQUE (slot)",
        "ALTER TABLE posts ADD CONSTRAINT one_slot UNIQUE (slot) DEFERRABLE INITIALLY DEFERRED",
    ] {
        let world = world(constraint).await;
        exchange(&world).await;
        let resynced = world.run(&["resync"]).await;
        assert_eq!(resynced.code(), Some(0), "{resynced:?}");
        world.sync().await;
        judge_by_oracle(&world, "posts").await.unwrap_or_else(|difference| panic!("{constraint}: {difference}"));
        assert_eq!(world.rows(REJECTED).await, [json!({ "count": 0 })], "{constraint}");

        // The same, killed half-way, and with one more exchange until it goes on.
        exchange(&world).await;
        let died = world.gizer.spawn_with(["resync"], &[("GIZER_FAIL_POINT", "resync.before_align")]).unwrap();
        assert!(died.wait().await.unwrap().signal().is_some());
        exchange(&world).await;
        world.run(&["resync"]).await.expect_code(0);
        world.sync().await;
        judge_by_oracle(&world, "posts").await.unwrap_or_else(|difference| panic!("{constraint}: {difference}"));
        assert_eq!(world.rows(REJECTED).await, [json!({ "count": 0 })], "{constraint}");
        expect_nothing_left(&world).await;
    }
}

/// It is refused for good, until somebody makes room.
#[tokio::test]
async fn a_document_that_is_refused_is_named_and_taken_up_again() {
    let world = world("ALTER TABLE posts ADD CONSTRAINT short CHECK (slot <> 'long')").await;
    set_slot(&world, 5, "long").await;
    set_slot(&world, 399, "long").await;
    let report = resynced(&world, &[]).await;
    assert_eq!(number(&report, 0, "rejected"), 2, "{report}");
    assert_eq!(world.rows(REJECTED).await, [json!({ "count": 2 })]);
    let status = world.run(&["status"]).await.expect_code(0);
    assert!(status.stdout.contains("rejected"), "{}", status.stdout);
    assert_eq!(json!(world.rows("SELECT id FROM posts WHERE id IN (5, 399)").await), json!([]));
    // One fits by now, and of the other the reason is gone.
    set_slot(&world, 5, "fits").await;
    world.client().await.batch_execute("ALTER TABLE posts DROP CONSTRAINT short").await.unwrap();
    world.sync().await;
    let report = resynced(&world, &[]).await;
    assert_eq!(number(&report, 0, "rejected"), 0, "{report}");
    world.sync().await;
    judge_by_oracle(&world, "posts").await.unwrap();
    assert_eq!(world.rows(REJECTED).await, [json!({ "count": 0 })]);
    expect_nothing_left(&world).await;
}

/// `_id`s that the key's column cannot hold.
#[tokio::test]
async fn documents_without_a_key_are_counted() {
    let world = world("SELECT 1").await;
    let posts = world.mongo().collection::<Document>("posts");
    posts.insert_many((0..7).map(|n| doc! { "_id": format!("text {n}"), "slot": "x" })).await.unwrap();
    posts.insert_one(doc! { "_id": doc! { "a": 1 }, "slot": "y" }).await.unwrap();
    posts.delete_one(doc! { "_id": 17 }).await.unwrap();
    for _ in 0..2 {
        let report = resynced(&world, &[]).await;
        assert_eq!(number(&report, 0, "rejected"), 8, "{report}");
        assert_eq!(number(&report, 0, "documents"), 407, "{report}");
        assert_eq!(world.rows(REJECTED).await, [json!({ "count": 8 })]);
    }
    // More, and fewer, while it goes on.
    let held = held_at(&world, "UPDATE", "posts", &["posts"]).await;
    posts.insert_one(doc! { "_id": "late", "slot": "z" }).await.unwrap();
    posts.delete_one(doc! { "_id": "text 3" }).await.unwrap();
    posts.delete_one(doc! { "_id": 18 }).await.unwrap();
    held.finish().await.expect_code(0);
    world.sync().await;
    assert_eq!(world.rows(REJECTED).await, [json!({ "count": 8 })]);
    let rejected = crate::judge::judge_with_rejects(&world, "posts").await.unwrap();
    assert_eq!(rejected, 8);
    posts.delete_many(doc! { "_id": { "$type": ["string", "object"] } }).await.unwrap();
    let report = resynced(&world, &[]).await;
    assert_eq!(number(&report, 0, "rejected"), 0, "{report}");
    world.sync().await;
    assert_eq!(world.rows(REJECTED).await, [json!({ "count": 0 })]);
    judge_by_oracle(&world, "posts").await.unwrap();
    judge_against_fresh_load(&world).await.unwrap();
    expect_nothing_left(&world).await;
}
