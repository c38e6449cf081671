//! What else goes on while a collection is resynced.

use bson::{Document, doc};
use integration_tests::rig::{Gizer, Version, shared_mongod, shared_postgres, wait_until};

use super::{expect_nothing_left, held_at};
use crate::judge::judge_rebuilt;
use crate::loads::{
    AT_THE_GATE, Held, Writing, ended_by_signal, epoch, joined_after, posts, wait_for_drafts, wait_for_posts, write,
};
use crate::scenario::{judge, load, told};
use crate::world::{FOLLOW, LIMIT, SYNC, World};

/// gizer in another folder, with the same config file: on another machine, that is.
fn elsewhere(world: &World<'_>) -> Gizer {
    let config = std::fs::read_to_string(world.gizer.config_path()).unwrap();
    let other = Gizer::with_config(&config).unwrap();
    let folder = other.folder().join("schemas");
    std::fs::create_dir_all(&folder).unwrap();
    for collection in ["posts", "drafts"] {
        std::fs::write(folder.join(format!("{collection}.json")), world.schema_text(collection)).unwrap();
    }
    other
}

#[tokio::test]
async fn the_second_one_is_told_and_breaks_nothing() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    let other = elsewhere(&world);
    for (event, round) in [("INSERT", 1), ("UPDATE", 3)] {
        write(world.mongo(), &["posts", "drafts"], round).await;
        let held = held_at(&world, event, "posts", &["posts"]).await;
        write(world.mongo(), &["posts", "drafts"], round + 1).await;
        for args in [["resync", "posts"], ["load", "posts"], ["resync", "drafts"]] {
            // The same spool.
            let told = world.run(&args).await.expect_code(5);
            assert!(told.stderr.contains("in use by another run"), "{}", told.stderr);
        }
        for command in [["resync", "posts"].as_slice(), &["load", "posts"], &["resync", "posts", "--restart"]] {
            // Another spool, and the same tables.
            let told = other.run(command).await.unwrap().expect_code(5);
            assert!(told.stderr.contains("posts"), "{}", told.stderr);
        }
        for command in [["sync"].as_slice(), &["verify"]] {
            let told = world.run(command).await.expect_code(7);
            assert!(told.stderr.contains("\n  posts: resyncing: catching up"), "{}", told.stderr);
        }
        judge_rebuilt(&world, "drafts").await.unwrap();
        // The other collection is nobody's.
        other.run(["resync", "drafts"]).await.unwrap().expect_code(0);
        judge_rebuilt(&world, "drafts").await.unwrap();
        held.finish().await.expect_code(0);
        world.sync().await;
        judge(&world).await.unwrap();
        expect_nothing_left(&world).await;
    }
}

/// One is followed all the time; the other joins again by itself.
#[tokio::test]
async fn the_others_are_followed_meanwhile() {
    for version in [Version::V4_4] {
        let world = World::new([shared_mongod(version).await.unwrap()], shared_postgres().await.unwrap()).await;
        load(&world, &posts()).await;
        let mut follower = world.spawn(FOLLOW);
        joined_after(&world, "posts", 0, &mut follower).await;
        let mut round = 0;
        for event in ["UPDATE", "INSERT"] {
            let (before, ..) = epoch(&world, "posts").await;
            // A follower that is in the middle of things.
            let writing = Writing::to(&world, &["posts", "drafts"], round);
            let held = held_at(&world, event, "posts", &["posts"]).await;
            round = writing.stop().await;
            let writing = Writing::to(&world, &["posts", "drafts"], round);
            let (epoch, _, state) = epoch(&world, "posts").await;
            assert_eq!((epoch > before, state.as_str()), (true, "load due"));
            wait_until("changes to be followed", LIMIT, async || {
                assert!(follower.is_running().unwrap(), "{}", follower.stderr());
                let title = "SELECT count(*) FROM drafts WHERE id > 1000";
                world.client().await.query_one(title, &[]).await.unwrap().get::<_, i64>(0) > i64::from(round)
            })
            .await
            .unwrap();
            round = writing.stop().await;
            // The resync stands still, and does not hold the other one up.
            wait_for_drafts(&world, &mut follower).await;
            let resyncing = held.go_on().await;
            let writing = Writing::to(&world, &["posts", "drafts"], round);
            resyncing.wait().await.unwrap().expect_code(0);
            joined_after(&world, "posts", before, &mut follower).await;
            round = writing.stop().await;
            wait_for_posts(&world, &mut follower).await;
            wait_for_drafts(&world, &mut follower).await;
        }
        ended_by_signal(follower).await;
        world.sync().await;
        judge(&world).await.unwrap();
        expect_nothing_left(&world).await;
    }
}

/// A batch that was read before T0 is written, and not committed yet. Its document is by then as it was before it.
#[tokio::test]
async fn a_batch_that_is_under_way_is_waited_for() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    let all = world.mongo().collection::<Document>("posts");
    let set = async |title: &str| {
        all.update_one(doc! { "_id": 7 }, doc! { "$set": { "title": title } }).await.unwrap();
    };
    set("between").await;
    // It has looked whether it may still write them, for the last time.
    let position = "BEFORE UPDATE ON gizer_stream FOR EACH ROW WHEN (NEW.position IS DISTINCT FROM OLD.position)";
    let held = Held::when(&world, position, SYNC).await;
    set("post 7").await;
    let mut resync = world.spawn(&["resync", "posts"]);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND wait_event_type = 'Lock' AND wait_event <> 'advisory' AND application_name = 'gizer'";
    let watch = world.client().await;
    wait_until("the resync to wait", LIMIT, async || {
        let is_waiting = watch.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0;
        is_waiting || !resync.is_running().unwrap()
    })
    .await
    .unwrap();
    // All of the batch is applied; posts is resynced by then.
    let synced = held.finish().await;
    assert!(matches!(synced.code(), Some(0 | 7)), "{synced:?}");
    resync.wait().await.unwrap().expect_code(0);
    world.sync().await;
    judge(&world).await.unwrap();
    expect_nothing_left(&world).await;
}

/// All of its sessions are ended by somebody: it resumes by itself.
#[tokio::test]
async fn a_resync_whose_sessions_are_ended_goes_on() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    let ways =
        [("pg_terminate_backend", "UPDATE"), ("pg_cancel_backend", "UPDATE"), ("pg_terminate_backend", "INSERT")];
    for (round, (sql, event)) in (0..).zip(ways) {
        write(world.mongo(), &["posts", "drafts"], 3 * round).await;
        let held = held_at(&world, event, "posts", &[]).await;
        write(world.mongo(), &["posts", "drafts"], 3 * round + 1).await;
        let end = format!(
            "SELECT {sql}(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name LIKE 'gizer%'"
        );
        world.client().await.batch_execute(&end).await.unwrap();
        wait_until("the sessions to be ended", LIMIT, async || {
            held.running.stderr().contains("posts")
                || held.gate.query_one(AT_THE_GATE, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await
        .unwrap();
        write(world.mongo(), &["posts", "drafts"], 3 * round + 2).await;
        let ended = held.finish().await;
        if ended.code() != Some(0) {
            assert_eq!(sql, "pg_cancel_backend", "{ended:?}");
            world.run(&["resync"]).await.expect_code(0);
        }
        world.run(SYNC).await.expect_code(0);
        judge(&world).await.unwrap();
        expect_nothing_left(&world).await;
    }
}
