//! `_id`s of several types: the key becomes one that takes any, and rejected documents get their
//! rows.

use bson::{Bson, Document, doc};
use integration_tests::rig::Version;
use serde_json::json;

use super::killed::killed_at;
use super::{is_equal, is_equal_to_a_load, schema_text, versions};
use crate::place::Place;

const REJECTS: &str = "SELECT count(*) FROM gizer_reject WHERE unfit_key";

fn document(id: impl Into<Bson>) -> Document {
    doc! { "_id": id, "name": "n", "items": [{ "sku": "a", "sizes": [1, 2] }, { "sku": "b" }], "tags": { "x": 1 } }
}

/// Documents with an `_id` of another type have come, by a load and by following; they are
/// rejected.
async fn rejected() -> Place {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", (0..300).map(document)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.insert("orders", (0..6).map(|n| document(format!("early {n}")))).await;
    place.gizer(&["load", "--max-rejects", "100"]).await.expect_code(0);
    place.insert("orders", (0..6).map(|n| document(format!("late {n}")))).await;
    place.insert("orders", [document(doc! { "a": 1, "b": [2] }), document(0.5)]).await;
    let orders = place.mongo.collection::<Document>("orders");
    orders.update_one(doc! { "_id": "early 1" }, doc! { "$set": { "name": "changed" } }).await.unwrap();
    orders.delete_one(doc! { "_id": "early 2" }).await.unwrap();
    place.gizer(&["sync"]).await;
    let rejects = place.rows("SELECT id, reason, unfit_key FROM gizer_reject").await;
    assert_eq!(place.number(REJECTS).await, 13, "{rejects:#?}");
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 300);
    place
}

async fn has_all(place: &Place) {
    assert_eq!(place.number(REJECTS).await, 0);
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 313);
    assert_eq!(place.number("SELECT count(*) FROM order_item_sizes").await, 626);
    let types = "SELECT count(DISTINCT atttypid) FROM pg_attribute WHERE attrelid IN ('orders'::regclass, \
                 'order_items'::regclass, 'order_item_sizes'::regclass) AND attname IN ('id', 'orders_id')";
    assert_eq!(place.number(types).await, 1);
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE name = 'changed'").await, 1);
    is_equal(place).await;
}

#[tokio::test]
async fn rejected_documents_get_their_rows() {
    let place = rejected().await;
    let dry = place.gizer(&["schema", "evolve", "--dry-run"]).await.expect_code(0);
    assert!(dry.stderr.contains("orders._id: BIGINT becomes KEY, 13 documents"), "{dry:?}");
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    has_all(&place).await;
    place.insert("orders", [document(true), document("later")]).await;
    place.gizer(&["sync"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 315);
    is_equal_to_a_load(&place, "orders").await;
}

#[tokio::test]
async fn a_new_key_is_resumed_wherever_it_was_killed() {
    for point in
        ["evolve.after_begin", "evolve.in_chunk", "evolve.after_chunk", "evolve.before_swap", "evolve.after_finish"]
    {
        let place = rejected().await;
        killed_at(&place, point).await;
        let done = point == "evolve.after_finish";
        assert_eq!(versions(&place).await, [json!({ "version": 1, "done": done, "failed": null })], "{point}");
        place.gizer(&["sync"]).await.expect_code(0);
        has_all(&place).await;
    }
}

/// Documents that wait to be made equal wait under their new keys.
#[tokio::test]
async fn what_waits_for_repair_is_repaired_under_its_new_key() {
    let place = rejected().await;
    // The second has no document any more, as far as whoever queued it knew: its rows go.
    let id: String = doc! { "_id": 5 }.to_vec().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let faults = format!(
        "UPDATE orders SET name = 'wrong' WHERE id IN (5, 6); \
         INSERT INTO gizer_repair (collection, key, id, reason) VALUES ('orders', int8send(5), '\\x{id}', 'verify'), \
             ('orders', int8send(6), NULL, 'verify'), ('orders', 'no key', NULL, 'verify')"
    );
    let orders = place.mongo.collection::<Document>("orders");
    orders.delete_one(doc! { "_id": 6 }).await.unwrap();
    place.postgres.batch_execute(&faults).await.unwrap();
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM gizer_repair").await, 2);
    place.gizer(&["sync"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE name = 'wrong'").await, 0);
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 312);
    is_equal(&place).await;
}

/// `run` chose the type of the key, and gives it another as soon as one document does not fit it;
/// nothing is loaded for that.
#[tokio::test]
async fn run_widens_a_key_in_place() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", (0..30).map(document)).await;
    place.gizer(&["run"]).await.expect_code(0);
    let loaded = "SELECT loaded_at::text AS at, live_epoch FROM gizer_collection";
    let before = place.rows(loaded).await;
    place.insert("orders", [document("one"), document(31)]).await;
    place.gizer(&["run"]).await;
    let ran = place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(place.rows(loaded).await, before, "{ran:?}");
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 32, "{ran:?}");
    is_equal(&place).await;
    is_equal_to_a_load(&place, "orders").await;
}

/// A person has pinned it: such documents stay rejected, and the collection is followed.
#[tokio::test]
async fn a_pinned_key_stays() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", (0..30).map(document)).await;
    place.gizer(&["run"]).await.expect_code(0);
    let pin = r#""_id": { "$type": "BIGINT", "$pinned": true }"#;
    let pinned = schema_text(&place, "orders").replacen(r#""_id": "BIGINT""#, pin, 1);
    assert!(pinned.contains(pin), "{pinned}");
    place.schema_file("orders.json", &pinned);
    place.insert("orders", [document("one"), document("two")]).await;
    for round in 0..3 {
        place.insert("orders", [document(100 + round)]).await;
        place.gizer(&["run"]).await;
        place.gizer(&["schema", "evolve"]).await.expect_code(0);
    }
    assert_eq!((versions(&place).await.len(), place.number(REJECTS).await), (0, 2));
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 33);
    assert_eq!(schema_text(&place, "orders"), pinned);
}

/// Where schemas do not grow by themselves, it is loaded.
#[tokio::test]
async fn a_key_is_widened_by_a_load_where_nothing_grows() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", (0..30).map(document)).await;
    place.gizer(&["run", "--schemas-evolve", "off"]).await.expect_code(0);
    place.insert("orders", [document("one")]).await;
    place.gizer(&["run", "--schemas-evolve", "off"]).await;
    place.gizer(&["run", "--schemas-evolve", "off"]).await.expect_code(0);
    assert_eq!((place.number("SELECT count(*) FROM orders").await, versions(&place).await.len()), (31, 0));
    is_equal(&place).await;
}
