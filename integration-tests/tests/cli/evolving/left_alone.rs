//! What does not grow: classic tables, copies, and collections that are excluded or paused.

use bson::doc;
use integration_tests::rig::Version;
use serde_json::Value;

use super::{catalog, grown_by, is_equal, versions, with_coupons};
use crate::place::{Place, assert_says};

#[tokio::test]
async fn classic_schemas_never_grow() {
    let place = Place::shared(Version::V6_0).await;
    let text = r#"{"_id": "INT", "name": "STRING"}"#;
    place.schema_file("orders.json", text);
    place.insert("orders", (0..5).map(|n| doc! { "_id": n, "name": "old" })).await;
    place.gizer(&["load"]).await.expect_code(0);
    place.insert("orders", with_coupons(20)).await;
    place.gizer(&["run"]).await.expect_code(0);
    let before = catalog(&place).await;
    let named = place.gizer(&["schema", "evolve", "orders"]).await;
    assert_says(&named, 2, &["orders", "classic dialect", "gizer schema infer orders --force"]);
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    place.gizer(&["run", "--schemas-evolve-every", "0"]).await.expect_code(0);
    assert_eq!(catalog(&place).await, before);
    assert_eq!(super::schema_text(&place, "orders"), text);
}

#[tokio::test]
async fn copies_stay_as_they_are() {
    let place = grown_by([doc! { "_id": 50, "name": "new" }]).await;
    place.gizer(&["load", "--prefix", "copy_"]).await.expect_code(0);
    place.insert("orders", with_coupons(20)).await;
    place.gizer(&["sync"]).await.expect_code(0);
    let copies = async || -> Vec<Value> {
        let all = catalog(&place).await.into_iter();
        all.filter(|table| table["relname"].as_str().unwrap().starts_with("copy_")).collect()
    };
    let before = copies().await;
    assert_eq!(before.len(), 2);
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    assert_eq!(copies().await, before);
    assert_eq!(place.number("SELECT count(coupon) FROM orders").await, 20);
    is_equal(&place).await;
}

#[tokio::test]
async fn what_is_paused_grows_when_it_is_resumed() {
    let place = grown_by(with_coupons(20)).await;
    let before = catalog(&place).await;
    place.gizer(&["pause", "orders"]).await.expect_code(0);
    place.gizer(&["run"]).await.expect_code(7);
    assert_eq!(catalog(&place).await, before);
    place.gizer(&["resume", "orders"]).await.expect_code(0);
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(coupon) FROM orders").await, 20);
    assert_eq!(versions(&place).await.len(), 1);
    is_equal(&place).await;
}

#[tokio::test]
async fn what_is_excluded_does_not_grow() {
    let place = grown_by(with_coupons(20)).await;
    let before = catalog(&place).await;
    place.gizer(&["run", "--schemas-exclude", "orders"]).await;
    assert_eq!(catalog(&place).await, before);
}

#[tokio::test]
async fn what_is_paused_grows_only_if_named() {
    let place = grown_by(with_coupons(20)).await;
    let before = catalog(&place).await;
    place.gizer(&["pause", "orders"]).await.expect_code(0);
    let evolved = place.gizer(&["schema", "evolve"]).await;
    assert_eq!(catalog(&place).await, before, "{evolved:?}");
}
