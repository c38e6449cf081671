//! What a load could not take is tried again by following, and by `verify --repair`.

use bson::{Document, doc};
use serde_json::json;

use super::place::Place;

fn wide(id: i32, fields: std::ops::Range<i32>) -> Document {
    let mut document = doc! { "_id": id };
    document.extend(fields.map(|n| (format!("f{n}"), bson::Bson::Int64(1 << 40))));
    document
}

#[tokio::test]
async fn s3_what_a_load_rejects_is_tried_again() {
    let place = Place::new(vec![wide(1, 0..700), wide(2, 700..1_400)]).await;
    place.insert(wide(3, 0..1_400)).await;
    place.run(&["load", "a", "--max-rejects", "1"]).await.expect_code(0);
    place.judge().await;
    place.sync().await;
    let kept = "SELECT id, sqlstate, attempts FROM gizer_reject";
    assert_eq!(place.rows(kept).await, json!([{ "id": "{\"$numberInt\":\"3\"}", "sqlstate": "54000", "attempts": 1 }]));
    place.judge().await;
    place.run(&["verify", "a"]).await.expect_code(0);
    place.mongo.collection::<Document>("a").replace_one(doc! { "_id": 3 }, wide(3, 0..600)).await.unwrap();
    place.sync().await;
    assert_eq!(place.rows(kept).await, json!([]));
    place.judge().await;
}

#[tokio::test]
async fn s4_verify_tries_rejected_documents_again_where_it_repairs() {
    let place = Place::new((1..=9).map(|id| doc! { "_id": id, "n": id }).collect()).await;
    place.sql("ALTER TABLE a ADD CONSTRAINT small CHECK (n < 10)").await;
    place.set(3, doc! { "n": 11 }).await;
    assert_eq!(place.sync().await["rejected"], json!(1));
    place.sql("ALTER TABLE a DROP CONSTRAINT small").await;
    place.run(&["verify"]).await.expect_code(0);
    assert_eq!(place.rejected().await.as_array().unwrap().len(), 1);
    place.run(&["verify", "--repair"]).await.expect_code(0);
    assert_eq!(place.rejected().await, json!([]));
    place.judge().await;
}
