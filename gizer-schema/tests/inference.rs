//! What inference gives, and that neither the order nor the split of the documents matters.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bson::{Bson, Document, doc};
use gizer_schema::infer::Inference;
use gizer_schema::raw::{Kind, RawDoc};
use gizer_schema::{Layout, file};
use proptest::prelude::*;

fn observe<'d>(documents: impl IntoIterator<Item = &'d Document>) -> Inference {
    let mut inference = Inference::default();
    for document in documents {
        inference.observe(RawDoc::new(&document.to_vec().unwrap()).unwrap()).unwrap();
    }
    inference
}

fn schema_of(documents: &[Document]) -> serde_json::Value {
    let (schema, _) = observe(documents).classic_schema("c");
    serde_json::from_str(&file::write(&schema)).unwrap()
}

#[test]
fn each_type_has_its_classic_name() {
    let oid = bson::oid::ObjectId::from_bytes([1; 12]);
    let documents = [doc! {
        "_id": oid, "s": "x", "i": 1i32, "l": 1i64, "d": 1.5, "whole": 2.0, "b": true, "n": Bson::Null,
        "t": bson::DateTime::from_millis(0), "doc": {"_x": 1, "empty": {}}, "list": [1, 2], "lists": [[1], [2]],
        "none": [], "nulls": [Bson::Null], "docs": [{"a": 1}, {"b": "x"}], "oids": [oid],
    }];
    let expected = serde_json::json!({
        "_id": {"oid": "STRING", "bsontype": "INT"}, "s": "STRING", "i": "INT", "l": "BIGINT", "d": "DOUBLE",
        "whole": "DOUBLE", "b": "BOOLEAN", "n": "TINYINT", "t": "TIMESTAMP", "doc": {"_x": "INT", "empty": {}},
        "list": ["INT"], "lists": [["INT"]], "none": ["TINYINT"], "nulls": ["TINYINT"],
        "docs": [{"a": "INT", "b": "STRING"}], "oids": [{"oid": "STRING", "bsontype": "INT"}],
    });
    assert_eq!(schema_of(&documents), expected);
    let (schema, findings) = observe(&documents).classic_schema("c");
    assert_eq!(findings, []);
    Layout::new(&schema).unwrap();
}

/// The classic tool took the last document's word: a later null erased a type, and 2.0 became INT.
#[test]
fn no_document_has_the_last_word() {
    let documents = [doc! {"_id": 1, "a": "x"}, doc! {"_id": 2, "a": Bson::Null}, doc! {"_id": 3}];
    assert_eq!(schema_of(&documents)["a"], "STRING");
    let documents = [doc! {"_id": 1, "a": 2.0}, doc! {"_id": 2, "a": 1}, doc! {"_id": 3, "a": 1i64}];
    assert_eq!(schema_of(&documents)["a"], "DOUBLE");
    let documents = [doc! {"_id": 1, "a": 1i64}, doc! {"_id": 2, "a": 1}];
    assert_eq!(schema_of(&documents)["a"], "BIGINT");
}

#[test]
fn what_a_type_leaves_out_is_found() {
    let documents = [
        doc! {"_id": 1, "mixed": "x", "list": [1, "a", 2], "bin": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1] }},
        doc! {"_id": 2, "mixed": "y", "price": "1.5".parse::<bson::Decimal128>().unwrap()},
        doc! {"_id": 3, "mixed": {"a": 1}},
    ];
    let (schema, findings) = observe(&documents).classic_schema("c");
    type Found<'f> = (&'f str, &'f str, &'f [(Kind, u64)]);
    let found: Vec<Found<'_>> =
        findings.iter().map(|f| (f.path.as_str(), f.chosen, f.seen.as_slice())).collect();
    assert!(found.contains(&("mixed", "STRING", &[(Kind::String, 2), (Kind::Document, 1)])), "{found:?}");
    assert!(found.contains(&("list", "INT", &[(Kind::String, 1), (Kind::Int32, 2)])), "{found:?}");
    assert!(found.contains(&("bin", "TINYINT", &[(Kind::Binary, 1)])), "{found:?}");
    assert!(found.contains(&("price", "DOUBLE", &[(Kind::Decimal128, 1)])), "{found:?}");
    assert_eq!(found.len(), 4, "{found:?}");
    Layout::new(&schema).unwrap();
}

#[test]
fn data_used_as_field_names_has_an_end() {
    let documents: Vec<Document> = (0..11_000).map(|i| doc! {"_id": i, "by": {format!("k{i}"): 1}}).collect();
    let (_, findings) = observe(&documents).classic_schema("c");
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].path.as_str(), findings[0].names_beyond_limit), ("by", 1_000));
}

#[test]
fn very_deep_documents_are_walked_without_harm() {
    let mut bytes = doc! {}.to_vec().unwrap();
    for _ in 0..20_000 {
        let len = u32::try_from(bytes.len() + 8).unwrap();
        bytes = [&len.to_le_bytes()[..], &[3, b'a', 0], &bytes, &[0]].concat();
    }
    Inference::default().observe(RawDoc::new(&bytes).unwrap()).unwrap();
}

fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Bson::from),
        any::<i64>().prop_map(Bson::from),
        any::<f64>().prop_map(Bson::from),
        any::<bool>().prop_map(Bson::from),
        "[a-c]{0,3}".prop_map(Bson::from),
        Just(Bson::Null),
        Just(Bson::MinKey),
        Just(Bson::ObjectId(bson::oid::ObjectId::from_bytes([2; 12]))),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::from),
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|map| Bson::Document(map.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = Document> {
    prop::collection::btree_map("[a-d]", value(), 0..5).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn order_and_split_do_not_matter(
        (documents, shuffled) in prop::collection::vec(document(), 0..20)
            .prop_flat_map(|d| (Just(d.clone()), Just(d).prop_shuffle())),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = observe(&documents);
        let (left, right) = shuffled.split_at(cut.index(shuffled.len() + 1));
        let mut merged = observe(right);
        merged.merge(observe(left));
        prop_assert_eq!(merged.documents(), whole.documents());
        prop_assert_eq!(merged.classic_schema("c"), whole.classic_schema("c"));
    }

    #[test]
    fn an_inferred_schema_survives_its_file(documents in prop::collection::vec(document(), 0..20)) {
        let (schema, _) = observe(&documents).classic_schema("c");
        prop_assert_eq!(file::parse("c", &file::write(&schema)).unwrap(), schema);
    }
}
