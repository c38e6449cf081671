//! Schemas that grow while changes are applied.

use bson::{Document, doc};
use integration_tests::rig::{RunningGizer, Signal, wait_until};

use super::{LIMIT, client, grown_by, is_equal, is_equal_to_a_load, versions, with_coupons};
use crate::place::Place;

async fn stop(follower: RunningGizer) {
    follower.signal(Signal::Interrupt).unwrap();
    let ended = follower.wait().await.unwrap();
    assert_eq!(ended.code(), Some(130), "{ended:?}");
}

async fn reaches(place: &Place, sql: &str, number: i64) {
    wait_until(format!("{sql}: {number}"), LIMIT, async || place.number(sql).await == number).await.unwrap();
}

/// A collection that grows, and another one.
async fn two() -> Place {
    let place = grown_by(with_coupons(20)).await;
    place.insert("others", (0..5).map(|n| doc! { "_id": n, "n": n })).await;
    place.gizer(&["schema", "infer", "others"]).await.expect_code(0);
    place.gizer(&["load", "others"]).await.expect_code(0);
    place
}

/// What a follower does while another process lets the schema of one collection grow.
async fn goes_on_meanwhile(follow: &[&str]) {
    let place = two().await;
    let follower = place.gizer.spawn(follow).unwrap();
    place.insert("others", [doc! { "_id": 100, "n": 1 }]).await;
    reaches(&place, "SELECT count(*) FROM others", 6).await;
    // Rewriting waits at this row for as long as the holder wants.
    let wait = "CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS \
                    'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(15); RETURN new; END'; \
                CREATE TRIGGER waits BEFORE UPDATE ON orders FOR EACH ROW WHEN (old.id = 110) EXECUTE FUNCTION wait_here()";
    place.postgres.batch_execute(wait).await.unwrap();
    let holder = client(&place).await;
    holder.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(15)").await.unwrap();
    let evolving = place.gizer.spawn(["schema", "evolve", "orders"]).unwrap();
    let begun = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'gizer_schema_history'";
    reaches(&place, begun, 1).await;
    reaches(&place, "SELECT count(*) FROM gizer_schema_history WHERE finished_at IS NULL", 1).await;
    let orders = place.mongo.collection::<Document>("orders");
    place.insert("orders", (200..210).map(|n| doc! { "_id": n, "name": "m", "coupon": "meanwhile" })).await;
    orders.update_one(doc! { "_id": 101 }, doc! { "$set": { "coupon": "changed" } }).await.unwrap();
    orders.update_one(doc! { "_id": 102 }, doc! { "$set": { "coupon": 5 } }).await.unwrap();
    orders.delete_one(doc! { "_id": 103 }).await.unwrap();
    // The other collection is followed meanwhile; this one is not.
    place.insert("others", (200..205).map(|n| doc! { "_id": n, "n": n })).await;
    reaches(&place, "SELECT count(*) FROM others", 11).await;
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE id >= 200").await, 0);
    holder.batch_execute("COMMIT").await.unwrap();
    evolving.wait().await.unwrap().expect_code(0);
    reaches(&place, "SELECT count(*) FROM orders WHERE coupon = 'meanwhile'", 10).await;
    place.insert("orders", [doc! { "_id": 300, "name": "later", "coupon": "later" }]).await;
    reaches(&place, "SELECT count(*) FROM orders WHERE coupon = 'later'", 1).await;
    stop(follower).await;
    assert_eq!(place.number("SELECT count(coupon) FROM orders").await, 18 + 11);
    place.postgres.batch_execute("DROP TRIGGER waits ON orders").await.unwrap();
    is_equal(&place).await;
    is_equal_to_a_load(&place, "orders").await;
}

#[tokio::test]
async fn sync_follows_the_others_meanwhile_and_takes_up_the_new_layout() {
    goes_on_meanwhile(&["sync", "--follow"]).await;
}

#[tokio::test]
async fn run_follows_the_others_meanwhile_and_takes_up_the_new_layout() {
    goes_on_meanwhile(&["run", "--follow", "--schemas-evolve", "off"]).await;
}

#[tokio::test]
async fn schemas_grow_by_themselves_while_traffic_goes_on() {
    let place = two().await;
    let follower = place.gizer.spawn(["run", "--follow", "--schemas-evolve-every", "0"]).unwrap();
    for round in 0..3 {
        let first = 1_000 + 1_000 * round;
        let field = format!("field{round}");
        let mut written = 0;
        let done = format!(
            "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'orders' \
             AND column_name = '{field}'"
        );
        // Traffic goes on until the column is there and for a while longer.
        let mut more = 3;
        while more > 0 {
            let new = (written..written + 15)
                .map(|n| doc! { "_id": first + n, "name": "t", &field: n, "items": [{ "sku": "a", &field: n }] });
            place.insert("orders", new).await;
            place.insert("others", [doc! { "_id": first + written, "n": 1 }]).await;
            written += 15;
            let rows = format!("SELECT count(*) FROM others WHERE id >= {first} AND id < {first} + 1000");
            reaches(&place, &rows, i64::from(written / 15)).await;
            more -= i64::from(more < 3 || place.number(&done).await == 1);
        }
        reaches(&place, &format!("SELECT count({field}) FROM orders"), written.into()).await;
        reaches(&place, &format!("SELECT count({field}) FROM order_items"), written.into()).await;
    }
    stop(follower).await;
    place.gizer(&["sync"]).await.expect_code(0);
    let all = versions(&place).await;
    assert!(all.len() >= 3 && all.iter().all(|each| each["done"] == true && each["failed"].is_null()), "{all:?}");
    is_equal(&place).await;
    is_equal_to_a_load(&place, "orders").await;
}
