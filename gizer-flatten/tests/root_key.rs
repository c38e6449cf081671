//! The key of a raw `{"_id": …}` is the key of all rows of a document with that `_id`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "shared with tests that use all of it")]
mod generated;

use bson::{Document, doc};
use generated::document;
use gizer_flatten::{Flattener, Row, RowSink};
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, file};
use proptest::prelude::*;

/// The keys of a document's rows, as text.
struct KeysOf<'l>(&'l Layout, Vec<String>);

impl RowSink for KeysOf<'_> {
    fn begin_document(&mut self) {}

    fn row(&mut self, row: Row<'_>) {
        self.1.push(format!("{:?}", row.cells[self.0.table(row.table).key.0]));
    }

    fn discard_document(&mut self) {
        self.1.clear();
    }
}

/// Schemas with a key of each type, in both dialects.
fn layouts() -> Vec<Layout> {
    let own =
        ["STRING", "INT", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP", "OBJECTID", "DECIMAL", "BINARY", "UUID", "KEY"]
            .map(|ty| format!(r#"{{"$gizer": 1, "fields": {{"_id": "{ty}", "a": [{{"b": ["INT"]}}]}}}}"#));
    let classic = [
        r#"{"_id": "STRING", "a": ["INT"]}"#.to_owned(),
        r#"{"_id": {"oid": "STRING", "bsontype": "INT"}, "a": ["INT"]}"#.to_owned(),
    ];
    own.iter().chain(&classic).map(|schema| Layout::new(&file::parse("posts", schema).unwrap()).unwrap()).collect()
}

fn check(layout: &Layout, document: &Document) -> Result<(), TestCaseError> {
    let mut flattener = Flattener::new(layout);
    let whole = document.to_vec().unwrap();
    let alone = doc! {"_id": document.get("_id").unwrap()}.to_vec().unwrap();
    let key = flattener.key_of(RawDoc::new(&alone).unwrap());
    let (mut sink, mut rejections) = (KeysOf(layout, Vec::new()), Vec::new());
    flattener.flatten([RawDoc::new(&whole).unwrap()], &mut sink, |_, rejection| rejections.push(rejection.reason));
    match key {
        Ok(key) => {
            prop_assert!(rejections.is_empty() && !sink.1.is_empty());
            prop_assert!(sink.1.iter().all(|of_row| *of_row == format!("{key:?}")), "{key:?}: {:?}", sink.1);
        }
        Err(reason) => prop_assert_eq!(rejections, [reason]),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn an_id_alone_gives_the_key_of_its_document(mut document in document(), elements in 0..4usize) {
        let element = doc! {"b": [1, 2]};
        document.insert("a", vec![element; elements]);
        for layout in layouts() {
            check(&layout, &document)?;
        }
    }
}

#[test]
fn each_type_of_key_is_tried() {
    // Random documents alone might never have a key that fits.
    let binary = |subtype, bytes| bson::Binary { subtype, bytes };
    let ids: Vec<bson::Bson> = vec![
        "text".into(),
        7.into(),
        (1i64 << 40).into(),
        f64::NAN.into(),
        (-0.0).into(),
        true.into(),
        bson::DateTime::from_millis(5).into(),
        bson::oid::ObjectId::from_bytes([7; 12]).into(),
        bson::Bson::Decimal128("1.50".parse().unwrap()),
        binary(bson::spec::BinarySubtype::Generic, vec![1, 2]).into(),
        binary(bson::spec::BinarySubtype::Uuid, vec![3; 16]).into(),
        doc! {"oid": "x", "bsontype": 7}.into(),
        "x".repeat(1001).into(),
    ];
    for layout in layouts() {
        let fits = |id: &bson::Bson| {
            let bytes = doc! {"_id": id}.to_vec().unwrap();
            Flattener::new(&layout).key_of(RawDoc::new(&bytes).unwrap()).is_ok()
        };
        assert!(ids.iter().any(fits), "{:?}", layout.key);
        for id in &ids {
            check(&layout, &doc! {"_id": id, "a": [1, {"b": [2]}]}).unwrap();
        }
    }
}
