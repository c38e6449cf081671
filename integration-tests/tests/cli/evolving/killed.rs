//! Growth that is killed at each of its steps is gone on with by whoever comes next.

use bson::{Document, doc};
use integration_tests::rig::Version;
use serde_json::{Value, json};

use super::{is_equal, is_equal_to_a_load, schema_text, versions};
use crate::place::Place;

/// More than the first chunk has.
const DOCUMENTS: i32 = 520;

/// Those who go on with it.
const NEXT: [&[&str]; 3] = [&["sync"], &["run"], &["schema", "evolve"]];

async fn loaded() -> Place {
    let place = Place::shared(Version::V6_0).await;
    let document = |n: i32| doc! { "_id": n, "name": format!("o{n}"), "items": [{ "sku": "a" }, { "sku": "b" }] };
    place.insert("orders", (0..DOCUMENTS).map(document)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    place
}

/// The fields of a round, in every document: columns, a nested document, an array, a map, and fields of elements.
async fn add_fields(place: &Place, round: usize) {
    let days: Document = (0..25).map(|day| (format!("2026-10-{:02}", day + 1), day.into())).collect();
    let set = doc! {
        format!("coupon{round}"): "c", format!("ship{round}"): { "city": "Rome", "lat": 1.5 },
        format!("tags{round}"): ["x", "y"], format!("items.$[].price{round}"): 5,
        format!("items.$[].serials{round}"): ["s"],
    };
    let orders = place.mongo.collection::<Document>("orders");
    orders.update_many(doc! {}, doc! { "$set": set }).await.unwrap();
    let clicks = doc! { "$set": { format!("clicks{round}"): days } };
    orders.update_many(doc! { "_id": { "$lt": 30 } }, clicks).await.unwrap();
    place.gizer(&["sync"]).await.expect_code(0);
}

/// Killed in the middle of its growth by the fields of this round.
pub(super) async fn killed_at(place: &Place, point: &str) {
    let running = place.gizer.spawn_with(["schema", "evolve"], &[("GIZER_FAIL_POINT", point)]).unwrap();
    let ended = running.wait().await.unwrap();
    assert_eq!(ended.signal(), Some(6), "{point}: {ended:?}");
}

/// Writes to documents that have been rewritten, and to others.
async fn write(place: &Place, round: usize) {
    let orders = place.mongo.collection::<Document>("orders");
    let round_id = 10_000 * (1 + round as i32);
    for (from, what) in [(0, "first"), (DOCUMENTS - 15, "last")] {
        let some = |from: i32| doc! { "_id": { "$gte": from, "$lt": from + 3 } };
        let set = doc! { "$set": { format!("coupon{round}"): what, format!("items.0.price{round}"): 7, "name": what } };
        orders.update_many(some(from), set).await.unwrap();
        let unset = doc! { "$unset": { format!("coupon{round}"): "", format!("tags{round}"): "" } };
        orders.update_many(some(from + 3), unset).await.unwrap();
        // So few that no column widens.
        let misfit = doc! { "$set": { format!("coupon{round}"): 5, format!("ship{round}"): "away" } };
        orders.update_one(some(from + 6), misfit).await.unwrap();
        orders.delete_one(doc! { "_id": from + 9 + round as i32 }).await.unwrap();
    }
    let new = |n: i32| doc! { "_id": round_id + n, "name": "new", format!("coupon{round}"): "n", "items": [{ "sku": "n", format!("price{round}"): n }] };
    place.insert("orders", (0..5).map(new)).await;
}

/// One round after the other, each gone on with by another command.
async fn killed_in_rounds(point: &str) {
    let place = loaded().await;
    for (round, next) in NEXT.iter().enumerate() {
        add_fields(&place, round).await;
        killed_at(&place, point).await;
        let killed = versions(&place).await;
        let done = point == "evolve.after_finish";
        assert_eq!(killed[round], json!({ "version": round + 1, "done": done, "failed": null }), "{point}");
        let coupon = format!("\"coupon{round}\"");
        assert!(!schema_text(&place, "orders").contains(&coupon), "the schema file is written last");
        let plan = place.gizer(&["plan", "--format", "json"]).await;
        let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
        assert_eq!((plan["steps"][0]["due"].as_str(), &plan["loads"]), (Some("sync"), &json!([])), "{point}");
        write(&place, round).await;
        place.gizer(next).await.expect_code(0);
        assert!(schema_text(&place, "orders").contains(&coupon), "{point}, {next:?}");
        let all = versions(&place).await;
        assert!(all.len() == round + 1 && all.iter().all(|version| version["done"] == true), "{point}: {all:?}");
        place.gizer(&["sync"]).await.expect_code(0);
        is_equal(&place).await;
        let none = format!(
            "SELECT count(*) FROM orders WHERE coupon{round} IS NULL AND (_extra IS NULL OR NOT _extra ? '/coupon{round}')"
        );
        assert_eq!(place.number(&none).await, 6, "{point}, {next:?}");
    }
    is_equal_to_a_load(&place, "orders").await;
}

#[tokio::test]
async fn killed_when_the_columns_are_there() {
    killed_in_rounds("evolve.after_begin").await;
}

#[tokio::test]
async fn killed_in_a_chunk() {
    killed_in_rounds("evolve.in_chunk").await;
}

#[tokio::test]
async fn killed_between_chunks() {
    killed_in_rounds("evolve.after_chunk").await;
}

#[tokio::test]
async fn killed_before_the_schema_file_is_written() {
    killed_in_rounds("evolve.after_finish").await;
}

#[tokio::test]
async fn a_schema_file_that_a_person_changed_meanwhile_stays() {
    let place = super::grown_by(super::with_coupons(20)).await;
    killed_at(&place, "evolve.after_finish").await;
    let changed = schema_text(&place, "orders").replacen("\"name\":", "\"mine\": \"INT\", \"name\":", 1);
    place.schema_file("orders.json", &changed);
    let evolved = place.gizer(&["schema", "evolve"]).await;
    assert!(evolved.stderr.contains("a load is due"), "{evolved:?}");
    let synced = place.gizer(&["sync"]).await;
    assert!(synced.code() == Some(3) && schema_text(&place, "orders") == changed, "{synced:?}");
    place.gizer(&["load"]).await.expect_code(0);
    assert_eq!(schema_text(&place, "orders"), changed);
    is_equal(&place).await;
}

/// It starts over from MongoDB by the old schema, and nothing of the unfinished version is left.
#[tokio::test]
async fn a_load_takes_the_place_of_unfinished_growth() {
    for point in ["evolve.after_begin", "evolve.after_chunk"] {
        let place = loaded().await;
        add_fields(&place, 0).await;
        let before = super::catalog(&place).await;
        killed_at(&place, point).await;
        write(&place, 0).await;
        place.gizer(&["load", "--verify", "full"]).await.expect_code(0);
        let (after, left) = (super::catalog(&place).await, versions(&place).await);
        let evolved = place.gizer(&["schema", "evolve"]).await;
        assert_eq!(after, before, "{point}: {left:?}, {evolved:?}");
        assert_eq!((left.len(), evolved.code()), (0, Some(0)), "{point}: {left:?}, {evolved:?}");
        is_equal(&place).await;
        is_equal_to_a_load(&place, "orders").await;
    }
}
