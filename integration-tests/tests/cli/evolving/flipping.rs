//! Fields whose types flip with every batch: a schema that has decided stands by it.

use std::ops::Range;

use bson::{Bson, Document, doc};
use serde_json::Value;

use super::{grown_by, is_equal, is_equal_to_a_load, schema_text, versions};
use crate::place::Place;

/// Batches of changes, each followed by growth.
const BATCHES: i32 = 6;

/// Documents that are new in a batch.
const DOCUMENTS: i32 = 15;

/// Versions at most: that of the adoption, and those in which types that flip may widen.
const MOST_VERSIONS: usize = 3;

/// What fields hold in a batch: text or a number, a whole number or a fraction, a document, null.
fn fields(batch: i32, n: i32) -> Document {
    let is_even = batch % 2 == 0;
    let either = |one: Bson, other: Bson| if is_even { one } else { other };
    let text = || Bson::from(format!("t{n}"));
    doc! {
        "amount": either(n.into(), text()),
        "rate": either(n.into(), (f64::from(n) + 0.5).into()),
        "state": either(text(), doc! { "code": n }.into()),
        "weight": either(Bson::Null, n.into()),
        "inner": { "amount": either(text(), n.into()) },
        "items": [
            { "sku": "a", "price": either(n.into(), text()) },
            { "sku": "b", "price": either((f64::from(n) + 0.5).into(), n.into()) },
        ],
        "tags": [either(n.into(), text())],
    }
}

fn ids(batch: i32) -> Range<i32> {
    let first = 100 + 100 * batch;
    first..first + DOCUMENTS
}

/// New documents of a batch; and those of the first batch flip with it.
async fn write(place: &Place, batch: i32) {
    let new = ids(batch).map(|n| {
        let mut document = doc! { "_id": n, "name": "new" };
        document.extend(fields(batch, n));
        document
    });
    place.insert("orders", new).await;
    let orders = place.mongo.collection::<Document>("orders");
    for n in ids(0).take(5) {
        orders.update_one(doc! { "_id": n }, doc! { "$set": fields(batch, n) }).await.unwrap();
    }
}

/// Orders that have none of these fields yet.
async fn loaded() -> Place {
    grown_by([doc! { "_id": 50, "name": "old" }]).await
}

/// The fields of the schema file.
fn schema(place: &Place) -> Value {
    let file: Value = serde_json::from_str(&schema_text(place, "orders")).unwrap();
    file["fields"].clone()
}

/// Lets all types flip, with these commands after each batch; gives the schemas that there were.
async fn flips(place: &Place, commands: &[&[&str]]) -> Vec<Value> {
    let mut schemas = vec![schema(place)];
    for batch in 0..BATCHES {
        write(place, batch).await;
        for command in commands {
            place.gizer(command).await.expect_code(0);
        }
        is_equal(place).await;
        schemas.push(schema(place));
    }
    schemas
}

/// Nothing changes back, and nothing at all once both types of each field have come twice.
async fn has_settled(place: &Place, schemas: Vec<Value>) {
    let last = schemas.last().cloned();
    assert!(schemas[4..].iter().all(|each| Some(each) == last.as_ref()), "{schemas:#?}");
    let mut distinct = schemas;
    distinct.dedup();
    let changes = distinct.len() - 1;
    assert!((1..=MOST_VERSIONS).contains(&changes), "{distinct:#?}");
    let versions = versions(place).await;
    assert!((changes..=MOST_VERSIONS).contains(&versions.len()), "{versions:?}");
    assert!(versions.iter().all(|each| each["done"] == true && each["failed"].is_null()), "{versions:?}");
    for (at, one) in distinct.iter().enumerate() {
        assert!(!distinct[at + 1..].contains(one), "the schema has changed back to {one:#}");
    }
    is_equal_to_a_load(place, "orders").await;
}

#[tokio::test]
async fn run_does_not_follow_types_that_flip() {
    let place = loaded().await;
    let schemas = flips(&place, &[&["run", "--schemas-evolve-every", "0"]]).await;
    has_settled(&place, schemas).await;
}

#[tokio::test]
async fn schema_evolve_does_not_follow_types_that_flip() {
    let place = loaded().await;
    let schemas = flips(&place, &[&["sync"], &["schema", "evolve"], &["schema", "evolve"]]).await;
    has_settled(&place, schemas).await;
}

/// What began with several types is not narrowed where one type alone comes later.
#[tokio::test]
async fn what_is_json_stays_json() {
    let place = loaded().await;
    for batch in [0, 1] {
        write(&place, batch).await;
    }
    place.gizer(&["run", "--schemas-evolve-every", "0"]).await.expect_code(0);
    let before = schema(&place);
    assert_eq!(before["amount"]["$as"], "json", "{before:#}");
    for batch in [2, 4, 6] {
        write(&place, batch).await;
        place.gizer(&["run", "--schemas-evolve-every", "0"]).await.expect_code(0);
        place.gizer(&["schema", "evolve"]).await.expect_code(0);
        is_equal(&place).await;
    }
    let orders = place.mongo.collection::<Document>("orders");
    orders.delete_many(doc! { "_id": { "$in": ids(1).collect::<Vec<_>>() } }).await.unwrap();
    place.gizer(&["run", "--schemas-evolve-every", "0"]).await.expect_code(0);
    assert_eq!(schema(&place), before);
    assert_eq!(versions(&place).await.len(), 1);
    is_equal(&place).await;
}
