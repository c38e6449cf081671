//! The program dies at each step of a commit, and the next run carries on: nothing is lost and nothing is there twice.

use bson::doc;
use integration_tests::rig::{Version, shared_mongod, shared_postgres};
use integration_tests::traffic::Traffic;

use super::judge::{judge_against_fresh_load, judge_traffic};
use super::world::{SYNC, World};

/// Where `GIZER_FAIL_POINT` ends the program, in builds for tests.
pub(crate) const FAIL_POINTS: [&str; 5] =
    ["sync.before_apply", "sync.after_write", "sync.before_commit", "sync.after_commit", "sync.between_batches"];

/// Traffic with a collection dropped in the middle: a batch ends before such an entry, so there are several.
async fn write(world: &World<'_>, traffic: &mut Traffic) {
    for step in traffic.take(20) {
        step.run(world.mongo()).await.unwrap();
    }
    world.mongo().run_command(doc! { "drop": "counts" }).await.unwrap();
    world.mongo().collection("counts").insert_one(doc! { "_id": 1_000_000, "tags": ["again"] }).await.unwrap();
    for step in traffic.take(20) {
        step.run(world.mongo()).await.unwrap();
    }
}

#[tokio::test]
async fn the_next_run_carries_on_after_death_at_any_step() {
    let mongod = shared_mongod(Version::V6_0).await.unwrap();
    let world = World::new([mongod], shared_postgres().await.unwrap()).await;
    let mut traffic = Traffic::new(5);
    world.begin(std::slice::from_ref(&traffic)).await;
    for point in FAIL_POINTS {
        write(&world, &mut traffic).await;
        let before = world.reached().await;
        let died = world.gizer.spawn_with(SYNC, &[("GIZER_FAIL_POINT", point)]).unwrap().wait().await.unwrap();
        assert!(died.signal().is_some(), "{point} was not come by: {died:?}");
        let committed = world.reached().await != before;
        assert_eq!(committed, ["sync.after_commit", "sync.between_batches"].contains(&point), "{point}");
        world.sync().await;
        judge_traffic(&world).await.unwrap_or_else(|difference| panic!("{point}: {difference}"));
    }
    judge_against_fresh_load(&world).await.unwrap();
}
