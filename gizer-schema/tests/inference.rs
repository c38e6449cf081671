//! What inference gives, and that neither the order nor the split of the documents matters.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bson::spec::BinarySubtype;
use bson::{Bson, Document, doc};
use gizer_schema::infer::{Inference, InferenceRules};
use gizer_schema::raw::{Kind, RawDoc};
use gizer_schema::{Layout, TIMESTAMP_MILLIS, file};
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
    assert_eq!(schema_of(&documents)["_id"], "BIGINT", "ids count up");
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
    let found: Vec<Found<'_>> = findings.iter().map(|f| (f.path.as_str(), f.chosen, f.seen.as_slice())).collect();
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
    assert_eq!((findings[0].path.as_str(), findings[0].names_beyond_limit), ("by", 11_000));
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

// ---- gizer's dialect ----

fn new_schema(documents: &[Document]) -> serde_json::Value {
    let (schema, _) = observe(documents).schema("c");
    let written = file::write(&schema);
    assert_eq!(file::parse("c", &written).unwrap(), schema);
    serde_json::from_str::<serde_json::Value>(&written).unwrap()["fields"].clone()
}

fn binary(subtype: BinarySubtype, length: usize) -> Bson {
    Bson::Binary(bson::Binary { subtype, bytes: vec![1; length] })
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let oid = bson::oid::ObjectId::from_bytes([1; 12]);
    let documents = [doc! {
        "_id": oid, "s": "x", "i": 1i32, "l": 1i64, "d": 1.5, "b": true, "n": Bson::Null, "ref": oid,
        "t": bson::DateTime::from_millis(0), "dec": "1.5".parse::<bson::Decimal128>().unwrap(),
        "bin": binary(BinarySubtype::Generic, 3), "uuid": binary(BinarySubtype::Uuid, 16),
        "odd": binary(BinarySubtype::UserDefined(0x80), 3), "regex": Bson::JavaScriptCode("f".into()),
        "doc": {"_x": 1, "empty": {}}, "list": [1, 2], "lists": [[1], [2]], "none": [], "$odd": 1,
    }];
    let expected = serde_json::json!({
        "_id": "OBJECTID", "s": "STRING", "i": "INT", "l": "BIGINT", "d": "DOUBLE", "b": "BOOLEAN", "n": "TINYINT",
        "ref": "OBJECTID", "t": "TIMESTAMP", "dec": "DECIMAL", "bin": "BINARY", "uuid": "UUID", "odd": {"$as": "json"},
        "regex": {"$as": "json"}, "doc": {"_x": "INT", "empty": {}}, "list": ["INT"], "lists": [{"$as": "json"}],
        "none": ["TINYINT"], "$$odd": "INT",
    });
    assert_eq!(new_schema(&documents), expected);
}

#[test]
fn a_family_needs_ninety_nine_of_a_hundred() {
    let documents = |strays: usize, all: usize| -> Vec<Document> {
        (0..all)
            .map(|i| {
                let id = i32::try_from(i).unwrap();
                if i < strays {
                    doc! {"_id": id, "a": "x", "l": {}}
                } else {
                    doc! {"_id": id, "a": 1, "l": [1]}
                }
            })
            .collect()
    };
    let kept = new_schema(&documents(1, 100));
    assert_eq!(kept["a"], serde_json::json!({"$type": "INT", "$seen": {"INT": 99, "STRING": 1}}));
    assert_eq!(kept["l"]["$items"], "INT");
    let mixed = new_schema(&documents(2, 100));
    assert_eq!(mixed["a"], serde_json::json!({"$as": "json", "$seen": {"INT": 98, "STRING": 2}}));
    assert_eq!(mixed["l"]["$as"], "json");
    // Nulls are of no family.
    let mut nulls = documents(1, 100);
    nulls.extend((100..1000).map(|i| doc! {"_id": i, "a": Bson::Null, "l": Bson::Null}));
    assert_eq!(new_schema(&nulls)["a"]["$type"], "INT");
}

#[test]
fn numbers_widen_as_far_as_they_must() {
    let decimal: Bson = "1.5".parse::<bson::Decimal128>().unwrap().into();
    let wide = (1i64 << 53) + 1;
    let cases: [(Vec<Bson>, &str); 6] = [
        (vec![1i32.into(), 1i64.into()], "BIGINT"),
        (vec![1i32.into(), 1.5.into()], "DOUBLE"),
        (vec![1i64.into(), 1.5.into()], "DOUBLE"),
        (vec![wide.into(), 1.5.into()], "DECIMAL"),
        (vec![1i32.into(), decimal.clone()], "DECIMAL"),
        (vec![1.5.into(), decimal], "DECIMAL"),
    ];
    for (values, expected) in cases {
        let documents: Vec<Document> =
            values.iter().enumerate().map(|(i, v)| doc! {"_id": i32::try_from(i).unwrap(), "n": v.clone()}).collect();
        assert_eq!(new_schema(&documents)["n"]["$type"], expected, "{values:?}");
    }
}

#[test]
fn the_key_is_of_its_own_type_or_tagged() {
    let oid: Bson = bson::oid::ObjectId::from_bytes([1; 12]).into();
    let cases: Vec<(Vec<Bson>, &str)> = vec![
        (vec![], "KEY"),
        (vec![oid.clone()], "OBJECTID"),
        (vec!["x".into()], "STRING"),
        (vec![1i32.into()], "BIGINT"),
        (vec![1i32.into(), 2i64.into()], "BIGINT"),
        (vec![1.5.into()], "DOUBLE"),
        (vec![true.into()], "BOOLEAN"),
        (vec![bson::DateTime::from_millis(0).into()], "TIMESTAMP"),
        (vec![binary(BinarySubtype::Uuid, 16)], "UUID"),
        (vec![binary(BinarySubtype::Generic, 9)], "BINARY"),
        (vec![binary(BinarySubtype::Generic, 2000)], "KEY"),
        (vec![oid, "x".into()], "KEY"),
        (vec![1i32.into(), 1.5.into()], "KEY"),
        (vec!["a\0b".into()], "KEY"),
        (vec!["x".repeat(1001).into()], "KEY"),
        (vec![bson::DateTime::from_millis(TIMESTAMP_MILLIS.end - 1).into()], "TIMESTAMP"),
        (vec![bson::DateTime::from_millis(TIMESTAMP_MILLIS.end).into()], "KEY"),
        (vec![bson::DateTime::from_millis(TIMESTAMP_MILLIS.start - 1).into()], "KEY"),
        (vec![Bson::Null, 1.into()], "KEY"),
        (vec![doc! {"a": 1}.into()], "KEY"),
        (vec!["1.5".parse::<bson::Decimal128>().unwrap().into()], "KEY"),
    ];
    for (ids, expected) in cases {
        let documents: Vec<Document> = ids.iter().map(|id| doc! {"_id": id.clone()}).collect();
        assert_eq!(new_schema(&documents)["_id"], expected, "{ids:?}");
    }
}

#[test]
fn names_that_are_data_become_json_and_tables_stay_within_postgresqls_limit() {
    let documents: Vec<Document> = (0..1_001).map(|i| doc! {"_id": i, "by": {format!("k{i}"): 1}, "f": 1}).collect();
    let (schema, _) = observe(&documents).schema_by("c", &InferenceRules { maps: None, ..InferenceRules::default() });
    assert_eq!(schema.fields["by"].node, gizer_schema::Node::Scalar(gizer_schema::ScalarType::Json));
    assert_eq!(new_schema(&documents)["by"], serde_json::json!({"$as": "map", "$values": "INT"}));
    // Its own fields: those that come most often have columns.
    let documents: Vec<Document> = (0..1_200).map(|i| doc! {"_id": i, "often": 1, format!("k{i:04}"): 1}).collect();
    let fields = new_schema(&documents);
    let fields = fields.as_object().unwrap();
    assert_eq!(fields.len(), 1_000);
    assert!(fields.contains_key("often") && fields.contains_key("_id") && fields.contains_key("k0000"));
    // Several wide documents in one table.
    let wide = |name: &str| -> Document { (0..600).map(|i| (format!("{name}{i}"), Bson::Int32(1))).collect() };
    let documents = [
        doc! {"_id": 1, "a": wide("a"), "b": wide("b"), "c": wide("c"), "l": [{"a": wide("a"), "b": wide("b"), "c": wide("c")}]},
    ];
    let (schema, _) = observe(&documents).schema("c");
    let layout = Layout::new(&schema).unwrap();
    assert!(layout.tables.iter().all(|table| table.columns.len() <= 1_600));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn order_and_split_do_not_matter_in_gizers_dialect(
        (documents, shuffled) in prop::collection::vec(document(), 0..20)
            .prop_flat_map(|d| (Just(d.clone()), Just(d).prop_shuffle())),
        cut in any::<prop::sample::Index>(),
    ) {
        let (left, right) = shuffled.split_at(cut.index(shuffled.len() + 1));
        let mut merged = observe(right);
        merged.merge(observe(left));
        prop_assert_eq!(merged.schema("c"), observe(&documents).schema("c"));
    }
}

/// Whatever was seen, a schema of gizer's dialect can be loaded: an array that no key has room for is JSON.
#[test]
fn arrays_too_deep_for_a_key_become_json() {
    let deep =
        |levels: usize| (0..levels).fold(Bson::Int32(1), |inner, _| vec![Bson::Document(doc! {"a": inner})].into());
    for levels in [31, 32, 49] {
        let documents = [doc! {"_id": 1, "l": deep(levels)}];
        let (schema, _) = observe(&documents).schema("c");
        let layout = Layout::new(&schema).unwrap();
        assert_eq!(layout.tables.len(), levels.min(31) + 1, "{levels}");
    }
}
