//! Collections that are dropped, renamed and replaced while they are resynced.

use bson::{Document, doc};
use integration_tests::rig::{Version, wait_until};

use super::{expect_nothing_left, held_at};
use crate::ddl::{insert, rename, run};
use crate::judge::{judge_by_oracle, judge_rebuilt};
use crate::loads::{posts, write};
use crate::scenario::{judge, told};
use crate::world::{LIMIT, SYNC, World};

/// What becomes of a collection of this name.
const FATES: [&str; 7] =
    ["dropped", "made again", "made again empty", "renamed away", "away and back", "renamed onto", "capped"];

async fn befall(world: &World<'_>, fate: &str, collection: &str) {
    match fate {
        "dropped" => run(world, doc! { "drop": collection }).await,
        "made again" => {
            run(world, doc! { "drop": collection }).await;
            insert(world, collection, 5..9).await;
        }
        "made again empty" => {
            run(world, doc! { "drop": collection }).await;
            run(world, doc! { "create": collection }).await;
        }
        "renamed away" => rename(world, collection, "aside").await,
        "away and back" => {
            rename(world, collection, "aside").await;
            insert(world, "aside", 70..72).await;
            rename(world, "aside", collection).await;
        }
        "renamed onto" => {
            insert(world, "fresh", 3..9).await;
            rename(world, "fresh", collection).await;
        }
        "capped" => run(world, doc! { "convertToCapped": collection, "size": 1 << 20 }).await,
        other => panic!("{other}"),
    }
}

/// A collection with all documents, whatever has become of it before, which is followed.
async fn fill(world: &World<'_>, collections: &[&str]) {
    for collection in ["aside"].iter().chain(collections) {
        world.mongo().collection::<Document>(collection).drop().await.unwrap();
    }
    for collection in collections {
        world.mongo().collection::<Document>(collection).insert_many(posts()).await.unwrap();
    }
    world.sync().await;
}

/// Whether the tables of one collection are what its documents say.
async fn judge_one(world: &World<'_>, collection: &str) -> Result<(), String> {
    match collection {
        "posts" => judge_by_oracle(world, collection).await,
        _ => judge_rebuilt(world, collection).await,
    }
}

/// One fate after the other, of one collection and the other by turns.
async fn while_held(version: Version, event: &str, first: usize) {
    let world = told(version, &posts()).await;
    let collections = ["posts", "drafts"].into_iter().cycle().skip(first);
    for ((fate, collection), round) in FATES.into_iter().zip(collections).zip(1..) {
        let told = format!("MongoDB {version}, {event}, {collection} {fate}");
        fill(&world, &[collection]).await;
        write(world.mongo(), &[collection], round).await;
        let held = held_at(&world, event, collection, &[collection]).await;
        befall(&world, fate, collection).await;
        let resynced = held.finish().await;
        let synced = world.run(SYNC).await;
        assert_eq!((resynced.code(), synced.code()), (Some(0), Some(0)), "{told}: {resynced:?} {synced:?}");
        judge_one(&world, collection).await.unwrap_or_else(|difference| panic!("{told}: {difference}"));
        // What comes later is followed.
        insert(&world, collection, 100..103).await;
        world.sync().await;
        judge_one(&world, collection).await.unwrap_or_else(|difference| panic!("{told}, later: {difference}"));
    }
    expect_nothing_left(&world).await;
}

#[tokio::test]
async fn before_anything_is_compared() {
    while_held(Version::V4_4, "INSERT", 0).await;
}

#[tokio::test]
async fn half_way() {
    while_held(Version::V6_0, "UPDATE", 1).await;
}

/// The same between the death of a resync and the next one.
#[tokio::test]
async fn between_death_and_the_next_one() {
    let world = told(Version::V6_0, &posts()).await;
    for (fate, collection) in FATES.into_iter().zip(["posts", "drafts"].into_iter().cycle()) {
        fill(&world, &[collection]).await;
        let point = [("GIZER_FAIL_POINT", "resync.before_align")];
        let died = world.gizer.spawn_with(["resync", collection], &point).unwrap().wait().await.unwrap();
        assert!(died.signal().is_some(), "{died:?}");
        befall(&world, fate, collection).await;
        let resynced = world.run(&["resync", collection]).await;
        if ["dropped", "renamed away"].contains(&fate) {
            // As a load says it, to somebody who has named it. `run` empties its tables.
            assert_eq!(resynced.code(), Some(2), "{fate}: {resynced:?}");
            world.run(&["run"]).await.expect_code(0);
        } else {
            assert_eq!(resynced.code(), Some(0), "{fate}: {resynced:?}");
        }
        world.sync().await;
        judge(&world).await.unwrap_or_else(|difference| panic!("{fate}: {difference}"));
    }
    expect_nothing_left(&world).await;
}

/// Starting over it looks for the collection again. What becomes of it between that and T0 is in no log that is read.
#[tokio::test]
async fn while_it_starts_over() {
    let world = told(Version::V6_0, &posts()).await;
    for (first, then) in [("renamed away", "made again"), ("renamed onto", "renamed onto"), ("made again", "dropped")] {
        fill(&world, &["posts"]).await;
        let held = held_at(&world, "UPDATE", "posts", &["posts"]).await;
        befall(&world, first, "posts").await;
        // The first that it reads after it has looked for the collection again.
        let mut client = world.client().await;
        let lock = client.transaction().await.unwrap();
        lock.batch_execute("LOCK TABLE gizer_schema_history IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let mut running = held.go_on().await;
        let watch = world.client().await;
        let waits = "SELECT count(*) FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'gizer'";
        wait_until("the resync to start over", LIMIT, async || {
            assert!(running.is_running().unwrap(), "{}", running.stderr());
            watch.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await
        .unwrap();
        match then {
            "made again" => insert(&world, "posts", 5..9).await,
            fate => befall(&world, fate, "posts").await,
        }
        lock.rollback().await.unwrap();
        let resynced = running.wait().await.unwrap();
        let synced = world.run(&["sync"]).await;
        assert_eq!((resynced.code(), synced.code()), (Some(0), Some(0)), "{first}, {then}: {resynced:?} {synced:?}");
        judge(&world).await.unwrap_or_else(|difference| panic!("{first}, {then}: {difference}"));
        let all = world.mongo().collection::<Document>("posts");
        all.insert_one(doc! { "_id": 200, "title": "later" }).await.unwrap();
        world.sync().await;
        judge(&world).await.unwrap_or_else(|difference| panic!("{first}, {then}: {difference}"));
        expect_nothing_left(&world).await;
    }
}
