//! The judges judged: what traffic leaves behind can be loaded, and is equal then.

use integration_tests::rig::{Mongod, Postgres, Version};
use integration_tests::traffic::{Outcome, Traffic};

use super::judge::judge_traffic;
use super::world::{World, one_of_two};

/// Loads, writes, loads again; and sees the judges find what was written in between.
async fn written_between_two_loads(world: &World<'_>, seed: u64) {
    println!("seed {seed}");
    let count = world.shards.len() as u64;
    let mut traffic: Vec<Traffic> = (0..count).map(|shard| Traffic::of_shard(seed, shard, count)).collect();
    world.begin(&traffic).await;
    judge_traffic(world).await.unwrap();
    for _ in 0..2 {
        let mut outcome = Outcome::default();
        for (database, traffic) in world.databases.iter().zip(&mut traffic) {
            for step in traffic.take(60) {
                outcome += step.run(database).await.unwrap_or_else(|error| panic!("{error}: {step:?}"));
            }
        }
        println!("{outcome:?}");
        assert!(outcome.refused * 3 < outcome.commands, "too much is refused: {outcome:?}");
        judge_traffic(world).await.unwrap_err();
        world.run(&["load"]).await.expect_code(0);
        judge_traffic(world).await.unwrap();
    }
}

#[tokio::test]
async fn traffic_can_be_loaded() {
    let postgres = Postgres::start().await.unwrap();
    for version in Version::ALL {
        let mongod = Mongod::start(version).await.unwrap();
        written_between_two_loads(&World::new([&mongod], &postgres).await, 1).await;
    }
}

#[tokio::test]
async fn traffic_on_two_shards_can_be_loaded() {
    let postgres = Postgres::start().await.unwrap();
    let shard = |name| one_of_two(Version::V6_0, name);
    let (one, other) = tokio::try_join!(shard("rs0"), shard("rs1")).unwrap();
    written_between_two_loads(&World::new([&one, &other], &postgres).await, 2).await;
}
