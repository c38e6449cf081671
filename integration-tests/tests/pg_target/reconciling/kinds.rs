//! Keys of every type.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use gizer_schema::{Layout, file};

use super::{fresh, ids, reconciled, rows};
use crate::scene::{Scene, layout};

/// A schema in gizer's dialect with a key of this type.
fn own(collection: &str, ty: &str) -> Arc<Layout> {
    let key = if ty == "JSON" { r#"{"$as": "json"}"#.to_owned() } else { format!("\"{ty}\"") };
    let schema = format!(r#"{{"$gizer": 1, "fields": {{"_id": {key}, "n": "INT", "a": [{{"b": ["INT"]}}]}}}}"#);
    Arc::new(Layout::new(&file::parse(collection, &schema).unwrap()).unwrap())
}

fn document(id: &Bson, n: i32) -> Document {
    doc! {"_id": id, "n": n, "a": vec![doc! {"b": [1, n]}; n as usize]}
}

/// One document stays, one changes, one goes, one comes; those of other ids are not touched.
async fn check(scene: &Scene, layout: &Arc<Layout>, ids_of: [Bson; 5]) {
    let [stays, changes, goes, comes, other] = ids_of;
    let before = [document(&stays, 2), document(&changes, 2), document(&goes, 2), document(&other, 2)];
    scene.load(layout, &before).await.unwrap();
    let after = [document(&stays, 2), document(&changes, 1), document(&comes, 3)];
    let touched = [stays, changes, goes, comes];
    let done = reconciled(scene, layout, &after, &touched).await.unwrap();
    let [root, a, b] = &done.changes.tables[..] else { panic!("{layout:?}") };
    assert_eq!((root.deleted, root.updated, root.inserted), (1, 1, 1), "{}", layout.collection);
    assert_eq!((a.deleted, a.updated, a.inserted), (3, 0, 3));
    assert_eq!((b.deleted, b.updated, b.inserted), (4 + 2, 1, 6));
    let whole = [&after[..], &before[3..]].concat();
    let stored = rows(scene, "public", layout).await;
    assert_eq!(stored, fresh(scene, layout, &whole).await, "{}", layout.collection);
    let again = reconciled(scene, layout, &after, &ids(&after)).await.unwrap();
    assert_eq!(again.changes.total(), 0);
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

fn binary(subtype: bson::spec::BinarySubtype, bytes: &[u8]) -> Bson {
    Bson::Binary(bson::Binary { subtype, bytes: bytes.to_vec() })
}

#[tokio::test]
async fn keys_of_every_type_are_found() {
    use bson::spec::BinarySubtype::{Generic, Uuid};
    let scene = Scene::prepared().await;
    let oid = |byte| Bson::ObjectId(bson::oid::ObjectId::from_bytes([byte; 12]));
    let time = |millis| Bson::DateTime(bson::DateTime::from_millis(millis));
    let cases: Vec<(&str, [Bson; 5])> = vec![
        // Under a natural language's collation these would sort and compare otherwise.
        ("STRING", ["a", "A", "ä", "", "it's \\ \"{},NULL"].map(Bson::from)),
        ("INT", [i32::MIN, -1, 0, 1, i32::MAX].map(Bson::from)),
        ("BIGINT", [i64::MIN, -1, 0, 1, i64::MAX].map(Bson::from)),
        ("DOUBLE", [-0.0, f64::NAN, f64::INFINITY, 5e-324, -1.5].map(Bson::from)),
        ("TIMESTAMP", [-1, 0, 1, 253_402_300_800_000, -62_135_596_800_001].map(time)),
        ("OBJECTID", [0, 1, 0xAB, 0xFF, 7].map(oid)),
        ("DECIMAL", ["1.50", "-0", "NaN", "9999999999999999999999999999999999E6111", "1E-6176"].map(decimal)),
        ("BINARY", [&b""[..], b"\0", b"\xff\0", b"a", b"\\x00"].map(|bytes| binary(Generic, bytes))),
        ("UUID", [0, 1, 2, 0xFE, 0xFF].map(|byte| binary(Uuid, &[byte; 16]))),
        ("KEY", ["x".repeat(1_200).into(), 1.into(), doc! {"a": 1, "b": "\0"}.into(), Bson::Null, "n1".into()]),
        ("JSON", ["s".into(), doc! {"bb": 1, "a": [1.5, oid(1)]}.into(), 1.into(), true.into(), "t".into()]),
    ];
    for (ty, ids) in cases {
        check(&scene, &own(&format!("by_{}", ty.to_lowercase()), ty), ids).await;
    }
}

/// There are but two.
#[tokio::test]
async fn booleans_are_keys() {
    let scene = Scene::prepared().await;
    let by_boolean = own("by_boolean", "BOOLEAN");
    scene.load(&by_boolean, &[document(&true.into(), 2), document(&false.into(), 2)]).await.unwrap();
    let after = [document(&true.into(), 1)];
    let done = reconciled(&scene, &by_boolean, &after, &[true.into()]).await.unwrap();
    assert_eq!(done.changes.total(), 1 + 1 + 3);
    let done = reconciled(&scene, &by_boolean, &after, &[true.into(), false.into()]).await.unwrap();
    assert_eq!(done.changes.sum().deleted, 1 + 2 + 4);
    assert_eq!(rows(&scene, "public", &by_boolean).await, fresh(&scene, &by_boolean, &after).await);
}

#[tokio::test]
async fn keys_of_classic_schemas_are_found() {
    let scene = Scene::prepared().await;
    let tables = r#""n": "INT", "a": [{"b": ["INT"]}]"#;
    let pairs = layout("pairs", &format!(r#"{{"_id": {{"oid": "STRING", "bsontype": "INT"}}, {tables}}}"#));
    let oid = |byte| Bson::ObjectId(bson::oid::ObjectId::from_bytes([byte; 12]));
    check(&scene, &pairs, [0, 1, 2, 3, 4].map(oid)).await;
    let texts = layout("texts", &format!(r#"{{"_id": "STRING", {tables}}}"#));
    check(&scene, &texts, ["a", "b", "c", "d", "e"].map(Bson::from)).await;
}

/// MongoDB takes them for one `_id`, and so does PostgreSQL; but they are other cells.
#[tokio::test]
async fn a_key_that_is_equal_but_not_the_same_is_written() {
    let scene = Scene::prepared().await;
    for (ty, from, to) in [("DOUBLE", Bson::from(0.0), Bson::from(-0.0)), ("DECIMAL", decimal("1.5"), decimal("1.50"))]
    {
        let layout = own(&format!("same_{}", ty.to_lowercase()), ty);
        scene.load(&layout, &[document(&from, 2)]).await.unwrap();
        let after = [document(&to, 2)];
        let done = reconciled(&scene, &layout, &after, &[to]).await.unwrap();
        assert_eq!((done.changes.sum().updated, done.changes.total()), (7, 7));
        assert_eq!(rows(&scene, "public", &layout).await, fresh(&scene, &layout, &after).await);
    }
}
