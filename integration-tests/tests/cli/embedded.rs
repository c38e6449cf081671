//! The example of gizer-engine: another program, which has nothing of the command line.

use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{Version, shared_mongod, wait_until};
use tokio::process::Command;

use super::place::{Place, numbered};

const LIMIT: Duration = Duration::from_secs(60);

/// Infers, loads and follows a collection, verified by what stands in the tables.
#[tokio::test]
async fn another_program_loads_and_follows() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(20)).await;
    let program = place.gizer.program().with_file_name("examples").join("embed");
    let mongo_uri = shared_mongod(Version::V6_0).await.unwrap().uri();
    let folder = place.gizer.folder().join("embedded");
    let mut embedding = Command::new(program)
        .args([&mongo_uri, place.mongo.name(), "orders", &place.postgres_uri])
        .arg(&folder)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let joined = "SELECT count(*) FROM orders o JOIN order_list l ON l.orders_id = o.id";
    let is_there = "SELECT count(*) FROM pg_tables WHERE tablename = 'order_list'";
    wait_until("its load", LIMIT, async || place.number(is_there).await == 1).await.unwrap();
    assert_eq!(place.number(joined).await, 40);
    let orders = place.mongo.collection::<Document>("orders");
    orders.delete_one(doc! {"_id": 3}).await.unwrap();
    orders.update_one(doc! {"_id": 4}, doc! {"$push": {"list": 5}}).await.unwrap();
    wait_until("its batches", LIMIT, async || place.number(joined).await == 39).await.unwrap();
    // What comes after a batch is applied by a program that stays on, and by no other.
    orders.insert_one(doc! {"_id": 30, "list": [1, 2, 3]}).await.unwrap();
    wait_until("what comes later", LIMIT, async || place.number(joined).await == 42).await.unwrap();
    assert!(embedding.try_wait().unwrap().is_none(), "it stays on");
    embedding.kill().await.unwrap();
}
