//! A primary dies with writes that no other member has: they are rolled back, and are never in the tables.

use std::env;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use integration_tests::random::Random;
use integration_tests::rig::{
    Gizer, Mongod, Postgres, ReplicaSet, Signal, Version, shared_postgres, unique_name, wait_until,
};
use integration_tests::traffic::Traffic;
use mongodb::Database;
use mongodb::options::{DatabaseOptions, WriteConcern};

use super::judge::judge_traffic;
use super::machine::expect_nothing_left;
use super::world::{FOLLOW, LIMIT, World};

/// Steps of traffic before, and after.
const STEPS: usize = 15;

/// What the sequence of random numbers is for.
const ROLLBACK: u64 = 0x726f_6c6c;

/// A set of three, its database, and gizer, which follows the set wherever its primary is.
async fn world<'s>(set: &ReplicaSet, postgres: &'s Postgres) -> World<'s> {
    let target = postgres.create_database().await.unwrap();
    let name = unique_name("torture");
    let options = DatabaseOptions::builder().write_concern(WriteConcern::majority()).build();
    let database = set.client().await.unwrap().database_with_options(&name, options);
    let gizer = Gizer::new(&set.uri(), &name, &postgres.uri(&target), "public").unwrap();
    World { shards: Vec::new(), postgres, databases: vec![database], target, gizer }
}

/// Writes that the primary alone has, and that it still has after it was killed.
async fn write_alone(database: &Database, count: u64) {
    for n in 0..count {
        for (collection, id) in
            [("things", bson::Bson::from(format!("lost {n}"))), ("counts", (900_000 + n as i64).into())]
        {
            let insert = doc! {
                "insert": collection, "documents": [{ "_id": id, "state": "lost", "tags": ["lost"] }],
                "writeConcern": { "w": 1, "j": true },
            };
            database.run_command(insert).await.unwrap();
        }
        let update = doc! {
            "update": "things", "updates": [{ "q": {}, "u": { "$set": { "note": "lost" } }, "multi": true }],
            "writeConcern": { "w": 1, "j": true },
        };
        database.run_command(update).await.unwrap();
    }
}

/// Whether a member has none of the writes that were lost.
async fn has_rolled_back(member: &Mongod, database: &str) -> bool {
    let Ok(client) = member.client().await else { return false };
    let things = client.database(database).collection::<Document>("things");
    things.count_documents(doc! { "note": "lost" }).await.is_ok_and(|count| count == 0)
}

async fn steps(database: &Database, traffic: &mut Traffic) {
    for step in traffic.take(STEPS) {
        step.run(database).await.unwrap_or_else(|error| panic!("{error}: {step:?}"));
    }
}

async fn roll_back(set: &ReplicaSet, seed: u64) {
    println!("seed {seed}");
    let mut plan = Random::of(seed, ROLLBACK, 0);
    let world = world(set, shared_postgres().await.unwrap()).await;
    let (database, mut traffic) = (world.mongo(), Traffic::new(seed));
    world.begin(std::slice::from_ref(&traffic)).await;
    let follower = plan.percent(60).then(|| world.spawn(FOLLOW));
    steps(database, &mut traffic).await;

    let old = set.primary().await.unwrap();
    let secondaries = set.secondaries().await.unwrap();
    for secondary in &secondaries {
        // One that is only stopped still gets what is on its way to it.
        secondary.kill().unwrap();
    }
    write_alone(database, plan.between(1, 5)).await;
    if plan.percent(50) {
        // Whoever reads now may see what will be lost.
        let ended = world.spawn(&["sync"]).kill().await.unwrap();
        assert!(ended.signal().is_some(), "{ended:?}");
    }
    old.kill().unwrap();
    futures::future::try_join_all(secondaries.iter().map(|secondary| secondary.restart())).await.unwrap();
    let new = set.primary().await.unwrap();
    assert!(has_rolled_back(new, database.name()).await, "the new primary has what the old one alone had");
    wait_until("the set to take writes", LIMIT, async || {
        database.collection("bystander").insert_one(doc! { "ready": true }).await.is_ok()
    })
    .await
    .unwrap();
    steps(database, &mut traffic).await;
    old.restart().await.unwrap();
    let rolled_back = async || has_rolled_back(old, database.name()).await;
    wait_until("the old primary to roll back", LIMIT, rolled_back).await.unwrap();
    steps(database, &mut traffic).await;

    if let Some(mut follower) = follower {
        if follower.is_running().unwrap() {
            follower.signal(Signal::Terminate).unwrap();
        }
        let ended = follower.wait().await.unwrap();
        assert!(matches!(ended.code(), Some(143 | 1)), "{ended:?}");
    }
    world.sync().await;
    judge_traffic(&world).await.unwrap();
    expect_nothing_left(&world, false).await;
}

/// So many on one set, or as many as there is time for.
async fn roll_back_on(version: Version, seeds: u64) {
    let builder = Mongod::builder(version).set_parameter("periodicNoopIntervalSecs", "1");
    let set = builder.start_replica_set(3).await.unwrap();
    let seconds = env::var("GIZER_TORTURE_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut seed = 0;
    while until.map_or(seed < seeds, |until| Instant::now() < until) {
        roll_back(&set, seed).await;
        seed += 1;
    }
    println!("MongoDB {version}: {seed} primaries killed with writes that were rolled back");
}

#[tokio::test]
async fn what_is_rolled_back_was_never_there() {
    roll_back_on(Version::V6_0, 2).await;
}

#[tokio::test]
async fn what_is_rolled_back_on_4_4_was_never_there() {
    roll_back_on(Version::V4_4, 1).await;
}
