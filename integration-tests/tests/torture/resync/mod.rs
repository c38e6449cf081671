//! Tables whose position is lost are made equal in place, and followed again.

mod beside;
mod classic;
mod hung_on;
mod killed;
mod lost;
mod many;
mod refused;
mod replaced;

pub(crate) use killed::FAIL_POINTS;

use bson::{Document, doc};
use integration_tests::rig::{Version, shared_postgres};
use serde_json::{Value, json};

use super::judge::judge_against_fresh_load;
use super::loads::{Held, Writing, posts, roll_over, small_log, write};
use super::scenario::{judge, load, told};
use super::world::{SYNC, World};

/// Starts a resync of these collections and waits until it stands still at one of them: before anything of it is
/// compared (`INSERT`), or before its first chunks are committed (`UPDATE`).
async fn held_at(world: &World<'_>, event: &str, collection: &str, resync: &[&str]) -> Held {
    let comes = format!("BEFORE {event} ON gizer_resync FOR EACH ROW WHEN (NEW.collection = '{collection}')");
    Held::when(world, &comes, &[&["resync"], resync].concat()).await
}

/// What a resync prints for machines.
async fn resynced(world: &World<'_>, args: &[&str]) -> Value {
    let done = world.run(&[&["resync", "--format", "json"], args].concat()).await.expect_code(0);
    serde_json::from_str(&done.stdout).unwrap()
}

fn number(report: &Value, collection: usize, name: &str) -> u64 {
    report["collections"][collection][name].as_u64().unwrap()
}

/// Nothing that a resync needs is left behind.
async fn expect_nothing_left(world: &World<'_>) {
    let left = "SELECT (SELECT count(*) FROM gizer_resync) AS segments, \
                       (SELECT count(*) FROM gizer_collection WHERE load_kind IS NOT NULL) AS unfinished, \
                       (SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer_new%') AS staging";
    assert_eq!(world.rows(left).await, [json!({"segments": 0, "unfinished": 0, "staging": 0})]);
}

#[tokio::test]
async fn a_log_that_has_rolled_over_is_no_load() {
    for version in [Version::V4_4, Version::V5_0, Version::V6_0] {
        let mongod = small_log(version).await;
        let world = World::new([&mongod], shared_postgres().await.unwrap()).await;
        load(&world, &posts()).await;
        world.sync().await;
        let oids = "SELECT 'posts'::regclass::oid::text AS posts, 'drafts'::regclass::oid::text AS drafts";
        let before = world.rows(oids).await;
        let mut round = 0;
        roll_over(&world, &["posts", "drafts"], &mut round).await;
        let lost = world.run(SYNC).await.expect_code(3);
        assert!(lost.stderr.contains("gizer resync"), "{}", lost.stderr);

        let writing = Writing::to(&world, &["posts", "drafts"], round);
        let report = resynced(&world, &[]).await;
        writing.stop().await;
        assert!(number(&report, 0, "different") > 0, "{report}");
        world.sync().await;
        judge(&world).await.unwrap_or_else(|difference| panic!("MongoDB {version}: {difference}"));
        judge_against_fresh_load(&world).await.unwrap();
        assert_eq!(world.rows(oids).await, before, "the tables were made anew");
        expect_nothing_left(&world).await;
    }
}

#[tokio::test]
async fn what_differs_is_written_and_nothing_else() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    let report = resynced(&world, &["posts"]).await;
    let of = |report: &Value, name| number(report, 0, name);
    assert_eq!((of(&report, "documents"), of(&report, "equal"), of(&report, "rows_updated")), (60, 60, 0), "{report}");

    // Behind the back of whoever follows.
    let spoilt = "UPDATE posts SET title = 'spoilt' WHERE id = 7; DELETE FROM posts WHERE id = 8; \
                  INSERT INTO posts (id, title) VALUES (7000, 'nobody'); DELETE FROM post_tags WHERE posts_id = 9; \
                  INSERT INTO drafts (id) VALUES (-1)";
    world.client().await.batch_execute(spoilt).await.unwrap();
    let report = resynced(&world, &["posts", "drafts"]).await;
    let (drafts, posts) = (0, 1);
    assert_eq!(number(&report, posts, "different"), 2, "{report}");
    assert_eq!(number(&report, posts, "only_in_mongodb"), 1, "{report}");
    assert_eq!(number(&report, posts, "only_in_postgresql"), 1, "{report}");
    assert_eq!(number(&report, drafts, "only_in_postgresql"), 1, "{report}");
    assert_eq!(number(&report, posts, "rows_deleted"), 1, "{report}");
    judge(&world).await.unwrap();

    // All of them.
    let all = world.mongo().collection::<Document>("posts");
    all.update_many(doc! {}, doc! { "$set": { "title": "all" } }).await.unwrap();
    let report = resynced(&world, &["posts"]).await;
    assert_eq!(number(&report, 0, "different"), 60, "{report}");
    judge(&world).await.unwrap();
    world.sync().await;
    write(world.mongo(), &["posts", "drafts"], 3).await;
    world.sync().await;
    judge(&world).await.unwrap();
    expect_nothing_left(&world).await;
}
