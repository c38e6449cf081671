//! Positions that are lost in other ways than by a log that has rolled over.

use bson::{Document, doc};
use integration_tests::rig::{Mongod, Version, shared_postgres, wait_until};
use mongodb::options::{DatabaseOptions, WriteConcern};

use super::expect_nothing_left;
use crate::judge::judge_against_fresh_load;
use crate::loads::{Writing, posts, write};
use crate::scenario::{judge, load, told};
use crate::world::{LIMIT, SYNC, World};

/// The position is of a term that no member of the set has had: it was rolled back.
#[tokio::test]
async fn a_position_that_has_diverged() {
    for version in [Version::V4_4, Version::V6_0] {
        let world = told(version, &posts()).await;
        world.sync().await;
        for round in 0..3 {
            write(world.mongo(), &["posts", "drafts"], round).await;
        }
        let diverged = "UPDATE gizer_stream SET position = regexp_replace(position::text, ':8[0-9a-f]+', \
                        ':8000000000000099', 'g')::jsonb";
        world.client().await.batch_execute(diverged).await.unwrap();
        let lost = world.run(SYNC).await.expect_code(3);
        assert!(lost.stderr.contains("gizer resync"), "{}", lost.stderr);
        let writing = Writing::to(&world, &["posts", "drafts"], 3);
        world.run(&["resync"]).await.expect_code(0);
        writing.stop().await;
        world.sync().await;
        judge(&world).await.unwrap_or_else(|difference| panic!("MongoDB {version}: {difference}"));
        judge_against_fresh_load(&world).await.unwrap();
        expect_nothing_left(&world).await;
    }
}

/// Another server, with a copy that is older, and an oplog of its own: as after a restore of a dump.
#[tokio::test]
async fn a_server_that_was_restored() {
    let before = Mongod::start(Version::V5_0).await.unwrap();
    let mut world = World::new([&before], shared_postgres().await.unwrap()).await;
    load(&world, &posts()).await;
    let dumped = [world.documents("posts").await, world.documents("drafts").await];
    // What comes after the dump is in the tables, and lost in the source.
    for round in 0..3 {
        write(world.mongo(), &["posts", "drafts"], round).await;
    }
    world.sync().await;
    // Its log begins in a later second than that of the position.
    let reached = world.reached().await.into_values().map(|(seconds, _)| seconds).max().unwrap();
    wait_until("the second to be over", LIMIT, async || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs() > reached
    })
    .await
    .unwrap();
    let after = Mongod::start(Version::V6_0).await.unwrap();
    let options = DatabaseOptions::builder().write_concern(WriteConcern::majority()).build();
    let name = world.mongo().name().to_owned();
    let restored = after.client().await.unwrap().database_with_options(&name, options);
    for (collection, documents) in ["posts", "drafts"].into_iter().zip(dumped) {
        restored.collection::<Document>(collection).insert_many(documents).await.unwrap();
    }
    let config = std::fs::read_to_string(world.gizer.config_path()).unwrap();
    std::fs::write(world.gizer.config_path(), config.replace(&before.uri(), &after.uri())).unwrap();
    world.databases = vec![restored];
    before.kill().unwrap();
    world.run(SYNC).await.expect_code(3);
    write(world.mongo(), &["posts", "drafts"], 5).await;
    world.run(&["resync"]).await.expect_code(0);
    world.sync().await;
    judge(&world).await.unwrap();
    let later = world.mongo().collection::<Document>("posts");
    later.update_many(doc! {}, doc! { "$set": { "title": "later" } }).await.unwrap();
    world.sync().await;
    judge(&world).await.unwrap();
    judge_against_fresh_load(&world).await.unwrap();
}
