//! Growth that PostgreSQL does not take leaves everything as it was, and is remembered.

use bson::{Document, doc};
use serde_json::{Value, json};

use super::{grown_by, is_as_kept, is_equal, keep, schema_text, versions, with_coupons};
use crate::place::{Place, assert_says};

/// More new fields than a row can hold values of.
fn wide(ids: std::ops::Range<i32>) -> impl Iterator<Item = Document> {
    let text = |id: i32, n: i32| {
        let mut random = integration_tests::random::Random::of(15, id as u64, n as u64);
        (0..5).map(|_| format!("{:08x}", random.next() >> 32)).collect::<String>()
    };
    ids.map(move |id| {
        let mut document = doc! { "_id": id, "name": "wide" };
        document.extend((0..700).map(|n| (format!("field{n}"), text(id, n).into())));
        document
    })
}

/// Everything that the growth of a place must leave as it is.
struct Before {
    catalog: Vec<Value>,
    file: String,
}

impl Before {
    async fn of(place: &Place) -> Before {
        Before { catalog: keep(place).await, file: schema_text(place, "orders") }
    }

    /// Nothing has changed, and it is followed and not tried again unasked.
    async fn is_left(&self, place: &Place, failures: usize) {
        is_as_kept(place, &self.catalog).await;
        assert_eq!(schema_text(place, "orders"), self.file);
        let all = versions(place).await;
        assert!(
            all.len() == failures && all.iter().all(|each| each["done"] == true && !each["failed"].is_null()),
            "{all:?}"
        );
        is_equal(place).await;
        let status = place.gizer(&["status"]).await;
        assert!(status.stdout.contains("could not") || status.stdout.contains("failed"), "{status:?}");
        place.insert("orders", [doc! { "_id": 1_000_000, "name": "later", "coupon": "c", "field1": "x" }]).await;
        place.gizer(&["run"]).await.expect_code(0);
        assert_eq!(place.number("SELECT count(*) FROM orders WHERE id = 1000000").await, 1);
        assert_eq!(versions(place).await.len(), failures, "it was tried again");
        is_equal(place).await;
        place.mongo.collection::<Document>("orders").delete_one(doc! { "_id": 1_000_000 }).await.unwrap();
        place.gizer(&["sync"]).await.expect_code(0);
        is_as_kept(place, &self.catalog).await;
    }
}

#[tokio::test]
async fn rows_too_big_for_a_page_stay_as_they_are() {
    let place = grown_by(wide(100..130)).await;
    let before = Before::of(&place).await;
    let evolved = place.gizer(&["schema", "evolve"]).await;
    assert_says(&evolved, 1, &["could not grow, and is as it was", "row is too big"]);
    before.is_left(&place, 1).await;
}

/// Rows of which PostgreSQL takes those of the first chunk alone.
async fn refused_later() -> Place {
    let place = grown_by(with_coupons(420)).await;
    let check =
        "ALTER TABLE orders ADD CONSTRAINT coupons_are_few CHECK (id < 400 OR _extra IS NOT NULL OR name = 'o')";
    place.postgres.batch_execute(check).await.unwrap();
    place
}

#[tokio::test]
async fn what_was_rewritten_goes_back_when_a_later_chunk_is_refused() {
    let place = refused_later().await;
    let before = Before::of(&place).await;
    let evolved = place.gizer(&["schema", "evolve"]).await;
    assert_says(&evolved, 1, &["could not grow, and is as it was", "coupons_are_few"]);
    before.is_left(&place, 1).await;
    // What was in the way is gone: asked for, it is done.
    place.postgres.batch_execute("ALTER TABLE orders DROP CONSTRAINT coupons_are_few").await.unwrap();
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(coupon) FROM orders").await, 420);
    is_equal(&place).await;
    super::is_equal_to_a_load(&place, "orders").await;
}

#[tokio::test]
async fn giving_back_is_gone_on_with_after_a_kill() {
    let place = refused_later().await;
    let before = Before::of(&place).await;
    let next: [&[&str]; 2] = [&["sync"], &["run"]];
    for (round, point) in ["evolve.before_taking_back", "evolve.after_taking_back"].into_iter().enumerate() {
        let running = place.gizer.spawn_with(["schema", "evolve"], &[("GIZER_FAIL_POINT", point)]).unwrap();
        assert_eq!(running.wait().await.unwrap().signal(), Some(6), "{point}");
        assert_eq!(versions(&place).await[round]["done"], json!(false), "{point}");
        let orders = place.mongo.collection::<Document>("orders");
        orders.update_one(doc! { "_id": 101 }, doc! { "$set": { "name": point } }).await.unwrap();
        place.gizer(next[round]).await;
        let all = versions(&place).await;
        assert!(all[round]["done"] == true && !all[round]["failed"].is_null(), "{point}: {all:?}");
        place.gizer(&["sync"]).await.expect_code(0);
        let named = format!("SELECT count(*) FROM orders WHERE id = 101 AND name = '{point}'");
        assert_eq!(place.number(&named).await, 1, "{point}");
        orders.update_one(doc! { "_id": 101 }, doc! { "$set": { "name": "new" } }).await.unwrap();
        place.gizer(&["sync"]).await.expect_code(0);
        before.is_left(&place, round + 1).await;
    }
}
