//! The JSON Schema of schema files says of their shape what the parser says.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "generated/mod.rs"]
mod generated;

use bson::{Bson, Document};
use generated::schema;
use gizer_schema::infer::Inference;
use gizer_schema::raw::RawDoc;
use gizer_schema::{ScalarType, file, json_schema};
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn validator() -> Validator {
    jsonschema::draft202012::new(&json_schema()).unwrap()
}

#[test]
fn it_is_a_json_schema_itself() {
    let schema = json_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::draft202012::meta::validate(&schema).unwrap();
}

/// Files that people and the classic tool wrote, and whatever a fuzzer made of them.
#[test]
fn the_files_of_the_tests_are_judged_as_the_parser_does() {
    let (validator, root) = (validator(), format!("{}/..", env!("CARGO_MANIFEST_DIR")));
    for name in ["mapping.json", "schema-only.json"] {
        let text = std::fs::read_to_string(format!("{root}/testdata/classic/{name}")).unwrap();
        let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            assert!(validator.is_valid(&case["schema"]), "{}", case["schema"]);
        }
    }
    let (mut judged, mut valid) = (0, 0);
    for entry in std::fs::read_dir(format!("{root}/fuzz/corpus/schema_file")).unwrap() {
        let Ok(text) = std::fs::read_to_string(entry.unwrap().path()) else { continue };
        let Ok(json) = serde_json::from_str::<Value>(&text) else { continue };
        let parsed = file::parse("posts", &text);
        // Neither is a matter of shape: JSON Schema sees one of two members of a name, and does not know the file's name.
        if parsed.as_ref().is_err_and(|e| e.problem.contains("twice") || e.problem.contains("this is the schema of")) {
            continue;
        }
        assert_eq!(validator.is_valid(&json), parsed.is_ok(), "{text}\n{parsed:?}");
        judged += 1;
        valid += i32::from(parsed.is_ok());
    }
    assert!(judged >= 10 && valid >= 3, "{judged} files, {valid} of them schemas");
}

#[test]
fn every_directive_is_taken() {
    let file = json!({"$gizer": 1, "collection": "shop.posts", "exact_types": true, "fields": {
        "_id": "KEY", "o": "objectid", "j": {"$as": "json", "$name": "k"}, "i": {"$as": "ignore", "$seen": {"INT": 1}},
        "list": {"$as": "array", "$type": "Int", "$name": "l"}, "matrix": [{"$as": "table", "$items": ["DOUBLE"]}],
        "plain": [["INT"]], "named": {"$type": "long", "$name": "other", "$seen": {"INT": 5, "STRING": 1}},
        "table": {"$items": {"x": "INT"}, "$name": "things"}, "doc": {"$as": "columns", "$seen": {"DOCUMENT": 3}, "x": "INT"},
        "$$odd": "STRING", "$$$as": "INT", "": "INT", "a.b": {"$$type": "INT"}, "none": [], "empty": {}}});
    file::parse("posts", &file.to_string()).unwrap();
    if let Err(error) = validator().validate(&file) {
        panic!("{error} at {}", error.instance_path());
    }
}

#[test]
fn what_the_parser_refuses_is_refused() {
    let new = |field: Value| json!({"$gizer": 1, "fields": {"_id": "INT", "a": field}});
    let refused = [
        json!([]),
        json!({"a": 5}),
        json!({"a": null}),
        json!({"a": "UUID"}),
        json!({"a": "STRNG"}),
        json!({"a": ["DECIMAL"]}),
        json!({"$gizer": 2, "fields": {}}),
        json!({"$gizer": "1", "fields": {}}),
        json!({"$gizer": 1}),
        json!({"$gizer": 1, "felds": {}, "fields": {}}),
        json!({"$gizer": 1, "fields": []}),
        json!({"$gizer": 1, "fields": {"$as": "json"}}),
        json!({"$gizer": 1, "fields": {}, "collection": null}),
        json!({"$gizer": 1, "fields": {}, "exact_types": 1}),
        new(json!({"$ass": "json"})),
        new(json!({"$as": "jsn"})),
        new(json!({"$as": "array"})),
        new(json!({"$as": "array", "$type": "JSON"})),
        new(json!({"$as": "array", "$type": "key"})),
        new(json!({"$as": "table"})),
        new(json!({"$as": "table", "$items": "INT", "x": "INT"})),
        new(json!({"$as": "json", "$type": "INT"})),
        new(json!({"$as": "json", "x": "INT"})),
        new(json!({"$as": "ignore", "$name": "x"})),
        new(json!({"$as": "columns", "$items": "INT"})),
        new(json!({"$type": "INT", "b": "INT"})),
        new(json!({"$type": "INT", "$items": "INT"})),
        new(json!({"$name": "x", "b": "INT"})),
        new(json!({"$name": "x"})),
        new(json!({"$as": "columns", "$name": "x"})),
        new(json!({"$name": 5, "$type": "INT"})),
        new(json!({"$seen": {"INT": "x"}})),
        new(json!({"$seen": {"INT": -1}})),
        new(json!(["INT", "INT"])),
        new(json!("STRNG")),
    ];
    let validator = validator();
    for file in refused {
        assert!(file::parse("posts", &file.to_string()).is_err(), "the parser takes {file}");
        assert!(!validator.is_valid(&file), "valid: {file}");
    }
}

/// Types by right and wrong names, and in whatever case.
fn type_name() -> impl Strategy<Value = Value> {
    let known: Vec<&str> =
        ScalarType::ALL.iter().map(|ty| ty.name()).chain(["LONG", "long", "Json", "TEXT", ""]).collect();
    prop::sample::select(known).prop_map(Value::from)
}

/// Anything that looks a little like a field, right or wrong.
fn almost_field() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![8 => type_name(), 1 => Just(json!(1)), 1 => Just(json!(null)), 1 => Just(json!({})), 1 => Just(json!([]))];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let policies = ["columns", "table", "array", "json", "ignore", "jsn"];
        let directive = prop_oneof![
            4 => (Just("$as"), prop::sample::select(policies.to_vec()).prop_map(Value::from).boxed()),
            3 => (Just("$type"), type_name().boxed()),
            3 => (Just("$items"), inner.clone().boxed()),
            2 => (Just("$name"), prop_oneof![4 => Just(json!("n")), 1 => Just(json!(5))].boxed()),
            1 => (Just("$seen"), prop_oneof![4 => Just(json!({"INT": 2})), 1 => Just(json!({"INT": -2}))].boxed()),
            1 => (Just("$odd"), inner.clone().boxed()),
        ];
        let member = prop_oneof![
            3 => (directive).prop_map(|(name, value)| (name.to_owned(), value)),
            1 => ("[ab]|\\$\\$as|", inner.clone()),
        ];
        prop_oneof![
            5 => prop::collection::vec(member, 0..4).prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            2 => prop::collection::vec(inner, 0..3).prop_map(Value::from),
        ]
    })
}

fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Bson::from),
        any::<f64>().prop_map(Bson::from),
        "[a-c]{0,3}".prop_map(Bson::from),
        Just(Bson::Null),
        Just(Bson::MinKey),
        Just(Bson::ObjectId(bson::oid::ObjectId::from_bytes([2; 12]))),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::from),
            prop::collection::btree_map("[$ab.]{0,2}", inner, 0..4)
                .prop_map(|map| Bson::Document(map.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = Document> {
    prop::collection::btree_map("[$ab]{0,2}", value(), 0..5).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn parser_and_schema_agree(field in almost_field(), classic in any::<bool>()) {
        let validator = validator();
        let file = if classic { json!({"_id": "INT", "a": field}) } else { json!({"$gizer": 1, "fields": {"a": field}}) };
        let parsed = file::parse("c", &file.to_string());
        prop_assert_eq!(validator.is_valid(&file), parsed.is_ok(), "{}: {:?}", file, parsed);
    }

    #[test]
    fn whatever_is_written_is_valid(schema in schema()) {
        let written: Value = serde_json::from_str(&file::write(&schema)).unwrap();
        prop_assert!(validator().is_valid(&written), "{}", written);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn whatever_is_inferred_is_valid(documents in prop::collection::vec(document(), 0..10)) {
        let mut inference = Inference::default();
        for document in &documents {
            inference.observe(RawDoc::new(&document.to_vec().unwrap()).unwrap()).unwrap();
        }
        let validator = validator();
        for schema in [inference.schema("c").0, inference.classic_schema("c").0] {
            let written: Value = serde_json::from_str(&file::write(&schema)).unwrap();
            prop_assert!(validator.is_valid(&written), "{}", written);
        }
    }
}
