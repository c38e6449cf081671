//! Documents are rebuilt from what a real server gives of their rows, and held against the source.

use std::str::FromStr;
use std::sync::Arc;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Decimal128, Document, doc};
use gizer_flatten::Flattener;
use gizer_pg::rows::{Keys, RowStore, WhichTables};
use gizer_schema::Layout;
use gizer_schema::raw::RawDoc;
use gizer_verify::{RebuildCheck, StoredRows};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};

use crate::generated::{documents_and_choices, layout_of};
use crate::scene::{Scene, layout};

/// Generated sets of documents; each becomes tables of its own.
const CASES: u32 = 40;

/// For each document the path at which the one that is rebuilt from its rows differs.
async fn differing(scene: &Scene, layout: &Arc<Layout>, documents: &[Document]) -> Vec<Option<String>> {
    let (session, flattener) = (scene.session().await, Flattener::new(layout));
    let bytes: Vec<Vec<u8>> = documents.iter().map(|document| document.to_vec().unwrap()).collect();
    let documents: Vec<RawDoc<'_>> = bytes.iter().map(|bytes| RawDoc::new(bytes).unwrap()).collect();
    let mut keys = Keys::new(layout);
    let numbers: Vec<u32> =
        documents.iter().map(|document| keys.insert(&flattener.key_of(*document).unwrap()).unwrap()).collect();
    let mut store = RowStore::open(&session, layout, WhichTables::Live).await.unwrap();
    session.begin().await.unwrap();
    let stored = StoredRows::read(&mut store, &keys).await.unwrap();
    session.roll_back().await;
    let mut check = RebuildCheck::new(layout).unwrap();
    let each = documents.into_iter().zip(numbers).map(|(document, key)| check.check(document, key, &stored));
    each.map(|found| found.err().map(|differs| differs.path)).collect()
}

#[tokio::test]
async fn random_documents_are_rebuilt() {
    let scene = Scene::prepared().await;
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    for case in 0..CASES {
        let (documents, choices) = documents_and_choices().new_tree(&mut runner).unwrap().current();
        let (_, layout) = layout_of(&format!("case{case}"), &documents, choices);
        scene.load(&layout, &documents).await.unwrap();
        assert_eq!(differing(&scene, &layout, &documents).await, vec![None; documents.len()], "{documents:#?}");
    }
}

/// Whatever the server's binary form is of, a change of it is found, and where.
#[tokio::test]
async fn a_change_of_a_cell_of_any_type_is_found() {
    let scene = Scene::prepared().await;
    let layout = layout(
        "posts",
        r#"{"$gizer": 1, "fields": {"_id": "INT", "b": "BOOLEAN", "bytes": "BINARY", "d": "DOUBLE", "e": "DECIMAL",
            "j": {"$as": "json"}, "l": {"$as": "array", "$type": "DECIMAL"}, "long": "BIGINT", "o": "OBJECTID",
            "s": "STRING", "small": "TINYINT", "t": "TIMESTAMP", "u": "UUID",
            "a": [{"x": "INT", "n": [["STRING"]]}], "in": {"ner": "INT"}}}"#,
    );
    let decimal = |text| Bson::Decimal128(Decimal128::from_str(text).unwrap());
    let binary = |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
    let document = |id: i32| {
        doc! {
            "_id": id, "b": true, "bytes": binary(BinarySubtype::Generic, b"\0\xFF"), "d": -0.5, "e": decimal("12345.670"),
            "j": {"bb": [1, 2.5, "x"], "a": Bson::Null}, "l": [decimal("1.5"), Bson::Null], "long": 1i64 << 40,
            "o": bson::oid::ObjectId::from_bytes([0xAB; 12]), "s": "ü \"", "small": 7,
            "t": bson::DateTime::from_millis(-5), "u": binary(BinarySubtype::Uuid, &[7; 16]),
            "a": [{"x": 1}, {"x": "stray", "n": [["p", "q"], []]}], "in": {"ner": 5}, "more": {"than": "the schema has"},
        }
    };
    let documents = [document(1), document(2)];
    scene.load(&layout, &documents).await.unwrap();
    let nested = layout.tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>();
    assert_eq!(differing(&scene, &layout, &documents).await, [None, None], "{nested:?}");
    let changes = [
        ("posts", "b = false", "b"),
        ("posts", r"bytes = '\x00fe'", "bytes"),
        ("posts", "d = 0.5", "d"),
        ("posts", "e = -e", "e"),
        ("posts", r#"j = '{"a": null, "bb": [{"$numberInt": "1"}, {"$numberInt": "2"}, "x"]}'"#, "j.bb.1"),
        ("posts", "l = ARRAY[1.5, 0]", "l.1"),
        ("posts", "l = NULL", "l"),
        ("posts", "long = long + 1", "long"),
        ("posts", "o = reverse(o)", "o"),
        ("posts", "s = 'u \"'", "s"),
        ("posts", "small = 8", "small"),
        ("posts", "t = t + interval '1 ms'", "t"),
        ("posts", "t = 'infinity'", "t"),
        ("posts", "u = '07070707-0707-0707-0707-070707070708'", "u"),
        ("posts", "in_ner = NULL", "in"),
        ("posts", "_extra = NULL", "more"),
        ("posts", r#"_extra = '{"/more": {"than": "the Schema has"}}'"#, "more.than"),
        ("post_a", "x = x + 1", "a.0.x"),
        ("post_a", r#"_extra = jsonb_set(_extra, '{/x}', '"strayed"')"#, "a.1.x"),
        ("post_a", "idx = idx + 1", "a"),
    ];
    let client = scene.client().await;
    for (table, change, path) in changes {
        let key = if table == "posts" { "id" } else { "posts_id" };
        scene.sql("DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept").await;
        let keep = format!("CREATE TABLE kept.t AS TABLE {table}");
        let back = format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept.t");
        client.batch_execute(&keep).await.unwrap();
        // Positions are moved one after the other.
        let last = format!("UPDATE {table} SET {change} WHERE {key} = 2");
        let last = if path == "a" { format!("{last} AND idx = 2") } else { last };
        client.batch_execute(&last).await.unwrap_or_else(|error| panic!("{last}: {error:?}"));
        assert_eq!(differing(&scene, &layout, &documents).await, [None, Some(path.to_owned())], "{change}");
        client.batch_execute(&back).await.unwrap();
    }
}
