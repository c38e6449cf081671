//! A disk that is full: nothing of what does not fit is half there, and all of it is once there is room.

use bson::{Document, doc};
use integration_tests::rig::{Finished, Postgres, Version, shared_mongod};
use integration_tests::traffic::Traffic;

use super::judge::judge_traffic;
use super::machine::expect_nothing_left;
use super::world::{SYNC, World};

/// There is no more room a little later.
const IMPATIENT: &[&str] = &["--run-retry-for", "1"];

/// Room for the tables of the traffic a few times over.
const DISK_MB: u32 = 24;

/// A world whose tables are on a small disk.
async fn world(postgres: &Postgres) -> World<'_> {
    let world = World::new([shared_mongod(Version::V6_0).await.unwrap()], postgres).await;
    let disk = postgres.small_disk().unwrap().display();
    let client = world.client().await;
    client.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{disk}'")).await.unwrap();
    let database = &world.target;
    client.batch_execute(&format!("ALTER DATABASE \"{database}\" SET default_tablespace = small")).await.unwrap();
    world
}

/// Takes all the room there is, but for what is free in the pages of tables.
async fn fill(world: &World<'_>) {
    let client = world.client().await;
    let table = "CREATE TABLE people_filler (x text); ALTER TABLE people_filler ALTER x SET STORAGE EXTERNAL";
    client.batch_execute(table).await.unwrap();
    for bytes in [1 << 20, 1 << 13] {
        let insert = format!("INSERT INTO people_filler SELECT repeat('x', {bytes})");
        while client.batch_execute(&insert).await.is_ok() {}
    }
}

async fn make_room(world: &World<'_>) {
    world.client().await.batch_execute("DROP TABLE people_filler").await.unwrap();
}

/// A document of each collection whose rows need pages of their own.
async fn write_much(world: &World<'_>) {
    let tags: Vec<String> = (0..20_000).map(|n| format!("tag {n}")).collect();
    for (collection, id) in [("things", bson::Bson::from("much")), ("others", 77_777.into())] {
        let things = world.mongo().collection::<Document>(collection);
        things.insert_one(doc! { "_id": id, "state": "new", "tags": &tags }).await.unwrap();
    }
}

fn assert_full(finished: &Finished) {
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("No space left on device"), "{}", finished.stderr);
}

#[tokio::test]
async fn a_full_disk_stops_a_load_and_a_round_and_leaves_nothing() {
    let postgres = Postgres::builder().small_disk_mb(DISK_MB).start().await.unwrap();
    let world = world(&postgres).await;
    let traffic = Traffic::new(11);
    world.begin(std::slice::from_ref(&traffic)).await;
    world.sync().await;

    write_much(&world).await;
    fill(&world).await;
    let before = world.reached().await;
    assert_full(&world.run(&[SYNC, IMPATIENT].concat()).await);
    assert_eq!(world.reached().await, before, "what does not fit is not passed over");
    make_room(&world).await;
    world.sync().await;
    judge_traffic(&world).await.unwrap();
    expect_nothing_left(&world, false).await;

    fill(&world).await;
    assert_full(&world.run(&[&["load"], IMPATIENT].concat()).await);
    judge_traffic(&world).await.unwrap();
    make_room(&world).await;
    world.run(&["load"]).await.expect_code(0);
    world.sync().await;
    judge_traffic(&world).await.unwrap();
    expect_nothing_left(&world, false).await;
}
