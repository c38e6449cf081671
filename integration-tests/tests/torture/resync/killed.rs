//! Resyncs that die half-way: the next one resumes, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::{Document, doc};
use integration_tests::random::Random;
use integration_tests::rig::{Version, shared_mongod, shared_postgres};
use integration_tests::traffic::Traffic;

use super::{expect_nothing_left, held_at};
use crate::fail_points;
use crate::judge::{judge_against_fresh_load, judge_by_oracle, judge_rebuilt, judge_traffic};
use crate::loads::{Held, posts, write};
use crate::scenario::{judge, told};
use crate::world::{SYNC, World};

/// Where `GIZER_FAIL_POINT` ends a resync, in the order in which it comes by.
pub(crate) const FAIL_POINTS: [&str; 6] = [
    "resync.begun",
    "resync.before_write",
    "resync.before_commit",
    "resync.after_commit",
    "resync.before_align",
    "resync.before_finish",
];

/// What the sequence of random numbers is for.
const KILLS: u64 = 0x7265_7379;

const RESYNC: &[&str] = &["resync"];

async fn steps(world: &World<'_>, traffic: &mut Traffic, count: usize) {
    for step in traffic.take(count) {
        step.run(world.mongo()).await.unwrap_or_else(|error| panic!("{error}: {step:?}"));
    }
}

/// The documents after which a resync of this collection was resumed, by what it has said.
fn resumed_after(stderr: &str, collection: &str) -> Option<u64> {
    let begin = format!("{collection}: resuming after ");
    let (_, rest) = stderr.split_once(&begin)?;
    Some(rest.split_once(' ')?.0.parse().unwrap())
}

#[tokio::test]
async fn the_next_one_resumes_after_death_at_any_step() {
    let world = World::new([shared_mongod(Version::V6_0).await.unwrap()], shared_postgres().await.unwrap()).await;
    let mut traffic = Traffic::new(11);
    world.begin(std::slice::from_ref(&traffic)).await;
    world.sync().await;
    for point in FAIL_POINTS {
        // Keys in order, and keys without, which have a pass of their own.
        let both = ["counts", "others"];
        let collections = if point.ends_with("_commit") { &both[..] } else { &both[..1] };
        for collection in collections.iter().copied() {
            steps(&world, &mut traffic, 8).await;
            let died = world.gizer.spawn_with(["resync", collection], &[("GIZER_FAIL_POINT", point)]);
            let died = died.unwrap().wait().await.unwrap();
            assert!(died.signal().is_some(), "{collection}: {point} was not come by: {died:?}");
            // The others are followed meanwhile; this one is named.
            let synced = world.run(SYNC).await.expect_code(7);
            assert!(synced.stderr.contains(collection), "{}", synced.stderr);
            steps(&world, &mut traffic, 8).await;
            let resumed = world.run(&["resync", collection]).await.expect_code(0);
            let after = resumed_after(&resumed.stderr, collection)
                .unwrap_or_else(|| panic!("{collection}: not resumed after {point}: {}", resumed.stderr));
            let all = ["resync.before_align", "resync.before_finish"].contains(&point);
            assert!(!all || after > 0, "{point}: {}", resumed.stderr);
            // Nobody has written since: it is equal before it is followed.
            let told = |difference| panic!("{collection}, {point}: {difference}");
            match collection {
                "counts" => judge_by_oracle(&world, collection).await.unwrap_or_else(told),
                _ => judge_rebuilt(&world, collection).await.unwrap_or_else(told),
            }
            world.sync().await;
            judge_traffic(&world).await.unwrap_or_else(|difference| panic!("{collection}, {point}: {difference}"));
        }
    }
    judge_against_fresh_load(&world).await.unwrap();
    expect_nothing_left(&world).await;
}

/// `kill -9` at any moment, several times, under writes; now and then somebody follows in between.
async fn killed_at_random(version: Version, seed: u64) {
    println!("MongoDB {version}, seed {seed}");
    let mut plan = Random::of(seed, KILLS, 0);
    let world = World::new([shared_mongod(version).await.unwrap()], shared_postgres().await.unwrap()).await;
    let mut traffic = Traffic::new(seed);
    world.begin(std::slice::from_ref(&traffic)).await;
    world.sync().await;
    steps(&world, &mut traffic, 15).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (database, stopped) = (world.mongo().clone(), Arc::clone(&stop));
        async move {
            while !stopped.load(Ordering::Relaxed) {
                let step = traffic.next().unwrap();
                step.run(&database).await.unwrap_or_else(|error| panic!("{error}: {step:?}"));
            }
        }
    });
    for _ in 0..5 {
        let running = world.spawn(RESYNC);
        // The moment is all that is left to chance.
        tokio::time::sleep(Duration::from_millis(plan.between(5, 700))).await;
        running.kill().await.unwrap();
        if plan.percent(30) {
            let synced = world.run(SYNC).await;
            assert!(matches!(synced.code(), Some(0 | 3 | 7)), "{synced:?}");
        }
    }
    world.run(RESYNC).await.expect_code(0);
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    world.sync().await;
    judge_traffic(&world).await.unwrap_or_else(|difference| panic!("MongoDB {version}, seed {seed}: {difference}"));
    judge_against_fresh_load(&world).await.unwrap();
    expect_nothing_left(&world).await;
}

#[tokio::test]
async fn death_at_any_moment_loses_nothing() {
    killed_at_random(Version::V6_0, 0).await;
}

#[tokio::test]
async fn death_at_any_moment_loses_nothing_on_4_4() {
    killed_at_random(Version::V4_4, 1).await;
}

/// What another load does between the death and the next resync: it has a spool of its own, or takes the place.
#[tokio::test]
async fn loads_come_between() {
    let world = told(Version::V5_0, &posts()).await;
    world.sync().await;
    held_at(&world, "UPDATE", "posts", &["posts"]).await.kill().await;
    write(world.mongo(), &["posts", "drafts"], 1).await;
    // Of another collection: this one is resumed all the same.
    world.run(&["load", "drafts"]).await.expect_code(0);
    write(world.mongo(), &["posts", "drafts"], 2).await;
    let resumed = world.run(&["resync", "posts"]).await.expect_code(0);
    assert!(resumed.stderr.contains("posts: resuming after"), "{}", resumed.stderr);
    world.sync().await;
    judge(&world).await.unwrap();

    // Of the same one: nothing is left to resume.
    held_at(&world, "UPDATE", "posts", &["posts"]).await.kill().await;
    write(world.mongo(), &["posts", "drafts"], 3).await;
    world.run(&["load", "posts"]).await.expect_code(0);
    world.sync().await;
    judge(&world).await.unwrap();
    expect_nothing_left(&world).await;
    let again = world.run(&["resync", "posts"]).await.expect_code(0);
    assert!(!again.stderr.contains("resuming"), "{}", again.stderr);

    // The other way round: a load that dies, and a resync that takes its place.
    Held::at(&world, "posts", &["posts"]).await.kill().await;
    write(world.mongo(), &["posts", "drafts"], 4).await;
    let again = world.run(&["resync", "posts"]).await.expect_code(0);
    assert!(!again.stderr.contains("resuming"), "{}", again.stderr);
    world.sync().await;
    judge(&world).await.unwrap();
    // The staging tables of the dead load, which nothing resumes any more.
    world.run(&["run"]).await.expect_code(0);
    expect_nothing_left(&world).await;
}

/// Alignment is what whoever follows does, and dies as he does.
#[tokio::test]
async fn death_in_the_alignment_is_made_good() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    let die = async |point| {
        let died = world.gizer.spawn_with(["resync", "posts"], &[("GIZER_FAIL_POINT", point)]);
        let died = died.unwrap().wait().await.unwrap();
        assert!(died.signal().is_some(), "{point} was not come by: {died:?}");
    };
    for (round, point) in (0..).zip(fail_points::FAIL_POINTS) {
        // What is written after this has to be aligned.
        die("resync.before_align").await;
        write(world.mongo(), &["posts", "drafts"], 2 * round).await;
        die(point).await;
        write(world.mongo(), &["posts", "drafts"], 2 * round + 1).await;
        let resumed = world.run(&["resync", "posts"]).await.expect_code(0);
        assert!(resumed_after(&resumed.stderr, "posts").is_some_and(|after| after > 0), "{}", resumed.stderr);
        judge_by_oracle(&world, "posts").await.unwrap_or_else(|difference| panic!("{point}: {difference}"));
        world.sync().await;
        judge(&world).await.unwrap_or_else(|difference| panic!("{point}: {difference}"));
    }
    expect_nothing_left(&world).await;
}

/// So many that they are several segments, some of which are done at the death, and others not. All differ.
#[tokio::test]
async fn segments_that_are_done_are_not_done_again() {
    const MANY: u64 = 1_500;
    let all: Vec<Document> =
        (0..MANY as i32).map(|n| doc! { "_id": 2_000 + n, "title": "old", "tags": ["a", "b"] }).collect();
    let world = told(Version::V6_0, &all).await;
    world.sync().await;
    for collection in ["posts", "drafts"] {
        let of_it = world.mongo().collection::<Document>(collection);
        of_it.update_many(doc! {}, doc! { "$set": { "title": "new" }, "$push": { "tags": "c" } }).await.unwrap();
        let died = world.gizer.spawn_with(["resync", collection], &[("GIZER_FAIL_POINT", "resync.after_commit")]);
        let died = died.unwrap().wait().await.unwrap();
        assert!(died.signal().is_some(), "{died:?}");
        write(world.mongo(), &[collection], 1).await;
        let resumed = world.run(&["resync", collection]).await.expect_code(0);
        let after = resumed_after(&resumed.stderr, collection).unwrap();
        assert!(after > 0 && after < MANY, "{}", resumed.stderr);
        world.sync().await;
    }
    judge(&world).await.unwrap();
    expect_nothing_left(&world).await;
}
