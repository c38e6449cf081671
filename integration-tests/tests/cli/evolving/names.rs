//! Names that are taken, and names that need care.

use bson::{Bson, Document, doc};
use serde_json::json;

use super::{catalog, grown_by, is_as_kept, is_equal, is_equal_to_a_load, keep, schema_text, versions, with_coupons};
use crate::place::{Place, assert_says};

fn with_tags(count: i32) -> impl Iterator<Item = Document> {
    (100..100 + count).map(|n| doc! { "_id": n, "name": "new", "tags": ["x", "y"] })
}

/// Growth that finds a name taken changes nothing, says so, and is not tried again and again.
async fn finds_taken(place: &Place, name: &str) {
    let (before, file) = (keep(place).await, schema_text(place, "orders"));
    let evolved = place.gizer(&["schema", "evolve"]).await;
    assert_says(&evolved, 1, &[name]);
    let ran = place.gizer(&["run"]).await;
    assert!(ran.code() != Some(0) || !ran.stdout.contains("has grown"), "{ran:?}");
    is_as_kept(place, &before).await;
    assert_eq!(schema_text(place, "orders"), file);
    place.insert("orders", [doc! { "_id": 500, "name": "later", "coupon": "c", "tags": ["z"] }]).await;
    place.gizer(&["sync"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE id = 500").await, 1);
    let unfinished = "SELECT count(*) FROM gizer_schema_history WHERE finished_at IS NULL";
    assert_eq!(place.number(unfinished).await, 0);
}

#[tokio::test]
async fn a_column_that_a_person_added_keeps_its_name() {
    let place = grown_by(with_coupons(20)).await;
    place
        .postgres
        .batch_execute("ALTER TABLE orders ADD coupon INT; UPDATE orders SET coupon = 7 WHERE id = 100")
        .await
        .unwrap();
    finds_taken(&place, "coupon").await;
    assert_eq!(place.number("SELECT sum(coupon) FROM orders").await, 7);
    place.postgres.batch_execute("ALTER TABLE orders DROP coupon").await.unwrap();
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    is_equal(&place).await;
    is_equal_to_a_load(&place, "orders").await;
}

#[tokio::test]
async fn a_table_that_a_person_made_keeps_its_name() {
    let place = grown_by(with_tags(20)).await;
    place
        .postgres
        .batch_execute("CREATE TABLE order_tags (mine INT); INSERT INTO order_tags VALUES (7)")
        .await
        .unwrap();
    finds_taken(&place, "order_tags").await;
    assert_eq!(place.number("SELECT sum(mine) FROM order_tags").await, 7);
    place.postgres.batch_execute("DROP TABLE order_tags").await.unwrap();
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    is_equal(&place).await;
    is_equal_to_a_load(&place, "orders").await;
}

#[tokio::test]
async fn a_table_of_another_collection_keeps_its_name() {
    let place = grown_by(with_tags(20)).await;
    place.insert("order_tags", (0..3).map(|n| doc! { "_id": n, "n": n })).await;
    place.gizer(&["schema", "infer", "order_tags"]).await.expect_code(0);
    place.gizer(&["load", "order_tags"]).await.expect_code(0);
    place.gizer(&["schema", "evolve", "orders"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM order_tags").await, 3);
    let of_orders = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'order\\_tags%' ORDER BY 1";
    let names = place.rows(of_orders).await;
    assert_eq!(names.len(), 2, "{names:?}");
    let other = names[1]["relname"].as_str().unwrap();
    assert_eq!(place.number(&format!("SELECT count(*) FROM \"{other}\"")).await, 40);
    is_equal(&place).await;
    is_equal_to_a_load(&place, "orders").await;
}

#[tokio::test]
async fn field_names_can_hold_anything() {
    let long = "ü\"'$$;--\\\n".repeat(100);
    let names =
        ["quo\"te", "'; DROP TABLE orders; --", "do.t", "$dollar", "", "new\nline", "\\", "a/b~c", "%s {}", &long];
    let grown = |n: i32| {
        let inner: Document = names.iter().map(|name| ((*name).to_owned(), Bson::from(format!("i{n}")))).collect();
        let mut document = doc! { "_id": n, "name": "new" };
        document.extend(names.iter().map(|name| ((*name).to_owned(), Bson::from(n))));
        document.insert("inner", inner.clone());
        document.extend([("list \"x\".y".to_owned(), Bson::from(vec![inner.clone()]))]);
        document.insert("items", vec![inner]);
        document
    };
    let place = grown_by((100..120).map(grown)).await;
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    assert_eq!(versions(&place).await, [json!({ "version": 1, "done": true, "failed": null })]);
    let columns: usize = catalog(&place).await.iter().map(|table| table["columns"].as_object().unwrap().len()).sum();
    assert!(columns >= 4 * names.len(), "{columns}");
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE _extra IS NOT NULL").await, 0);
    place.insert("orders", (200..203).map(grown)).await;
    place.gizer(&["sync"]).await.expect_code(0);
    is_equal(&place).await;
    is_equal_to_a_load(&place, "orders").await;
}
