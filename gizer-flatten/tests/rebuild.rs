//! Flattened and rebuilt, a document is the same: documents of every type, against schemas that fit them and schemas
//! that do not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod generated;
mod stored;
mod varied;

use bson::{Bson, Document, doc};
use generated::{document, same};
use gizer_flatten::change::id_document;
use gizer_flatten::rebuild_id;
use gizer_schema::infer::Inference;
use gizer_schema::raw::RawDoc;
use gizer_schema::{Dialect, Layout, Schema, file, pin_names};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use stored::{flatten_and_rebuild, rows};

fn infer(documents: &[Vec<u8>]) -> Schema {
    let mut inference = Inference::default();
    for bytes in documents {
        inference.observe(RawDoc::new(bytes).unwrap()).unwrap();
    }
    let (mut schema, _) = inference.schema("posts");
    pin_names(&mut schema, None).unwrap();
    // What is inferred must also survive its file.
    let written = file::write(&schema);
    assert_eq!(file::parse("posts", &written).unwrap(), schema, "{written}");
    schema
}

fn check(schema: &Schema, documents: &[Vec<u8>], exact: bool) -> Result<(), TestCaseError> {
    let mut schema = schema.clone();
    schema.dialect = Dialect::Gizer { exact_types: exact };
    let layout = Layout::new(&schema).unwrap();
    // The row in the root table tells the `_id`, also where its key does not.
    let id_of = |document: &[u8]| id_document(RawDoc::new(document).unwrap()).unwrap().unwrap();
    for (bytes, rows) in documents.iter().zip(rows(&layout, documents).0) {
        let Some(rows) = rows else { continue };
        let rebuilt = rebuild_id(&layout, &rows[0][0]).expect("an _id");
        let read = |bytes: &[u8]| Document::from_reader(bytes).map(Bson::from);
        let (id, source) = (read(&rebuilt), read(&id_of(bytes)));
        if let (Ok(id), Ok(source)) = (id, source) {
            prop_assert!(same(&source, &id, exact), "{source:?}\n{id:?}");
        }
    }
    let (rebuilt, rejected) = flatten_and_rebuild(&layout, documents);
    for (bytes, rebuilt) in documents.iter().zip(rebuilt) {
        let Some(rebuilt) = rebuilt else { continue };
        let source = varied::copied(&schema, Document::from_reader(bytes.as_slice()).unwrap());
        prop_assert!(
            same(&source.clone().into(), &rebuilt.clone().into(), exact),
            "exact: {exact}\nsource:  {source:?}\nrebuilt: {rebuilt:?}\n{}",
            file::write(&schema)
        );
    }
    // A key that the schema's own documents have is never rejected; one of another type can be.
    prop_assert!(
        rejected.iter().all(|r| r.reason.to_string().starts_with("_id") || r.reason.to_string().starts_with("no _id"))
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn documents_that_the_schema_was_inferred_from_come_back(documents in prop::collection::vec(document(), 1..8)) {
        let bytes: Vec<Vec<u8>> = documents.iter().map(|d| d.to_vec().unwrap()).collect();
        let schema = infer(&bytes);
        check(&schema, &bytes, false)?;
        check(&schema, &bytes, true)?;
        let layout = Layout::new(&schema).unwrap();
        let (rebuilt, rejected) = flatten_and_rebuild(&layout, &bytes);
        prop_assert!(rejected.is_empty() && rebuilt.iter().all(Option::is_some), "{rejected:?}\n{}", file::write(&schema));
    }

    #[test]
    fn documents_that_the_schema_has_never_seen_come_back(
        seen in prop::collection::vec(document(), 1..8),
        unseen in prop::collection::vec(document(), 1..8),
    ) {
        let bytes = |documents: &[Document]| documents.iter().map(|d| d.to_vec().unwrap()).collect::<Vec<_>>();
        let schema = infer(&bytes(&seen));
        check(&schema, &bytes(&unseen), false)?;
        check(&schema, &bytes(&unseen), true)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(800) })]

    /// Maps in maps, in arrays, of arrays, with values that are jsonb or left out.
    #[test]
    fn documents_come_back_by_any_policies(
        seen in prop::collection::vec(document(), 1..8),
        unseen in prop::collection::vec(document(), 1..4),
        choices in prop::collection::vec(any::<u8>(), 1..24),
    ) {
        let bytes = |documents: &[Document]| documents.iter().map(|d| d.to_vec().unwrap()).collect::<Vec<_>>();
        let mut schema = infer(&bytes(&seen));
        varied::vary(&mut schema, choices);
        let written = file::write(&schema);
        prop_assert_eq!(&file::parse("posts", &written).unwrap(), &schema, "{}", written);
        for documents in [bytes(&seen), bytes(&unseen)] {
            check(&schema, &documents, false)?;
            check(&schema, &documents, true)?;
        }
    }
}

/// The policies are random, but of every kind.
#[test]
fn random_schemas_have_maps_of_every_kind() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut texts = String::new();
    for _ in 0..300 {
        let seen = prop::collection::vec(document(), 1..8).new_tree(&mut runner).unwrap().current();
        let choices = prop::collection::vec(any::<u8>(), 1..24).new_tree(&mut runner).unwrap().current();
        let mut schema = infer(&seen.iter().map(|d| d.to_vec().unwrap()).collect::<Vec<_>>());
        varied::vary(&mut schema, choices);
        texts += &serde_json::from_str::<serde_json::Value>(&file::write(&schema)).unwrap().to_string();
    }
    let map = r#"{"$as":"map","$values":"#;
    for inside in [map, r#"{"$as":"json"}"#, r#"{"$as":"ignore"}"#, r#"{"$as":"table""#, "[", r#"{"a":"#, "\""] {
        assert!(texts.contains(&format!("{map}{inside}")), "no map of {inside}");
    }
    assert!(texts.contains(&format!("[{map}")), "no array of maps");
}

#[test]
fn keys_of_every_kind_come_back() {
    let layout = layout(
        r#"{"_id": "STRING", "m": {"$as": "map", "$values": {"n": "INT"}}, "s": {"$as": "map", "$values": "INT"},
            "l": [{"m": {"$as": "map", "$values": {"$as": "map", "$values": ["INT"]}}}], "d": {"m": {"$as": "map", "$values": "INT"}}}"#,
    );
    let long = "k".repeat(1_000);
    let odd = ["", ".", "a.b", "$set", "/", "~0", "ü", "\u{1F600}", "key", "idx", &long];
    let map: Document = odd.iter().map(|key| ((*key).to_owned(), Bson::from(doc! { "n": 1, "x": 2 }))).collect();
    let scalars: Document = odd.iter().rev().map(|key| ((*key).to_owned(), Bson::from(1))).collect();
    let documents = [
        doc! {"_id": "a", "m": map, "s": scalars.clone(), "d": {"m": scalars}},
        doc! {"_id": "b", "m": {}, "s": Bson::Null, "l": [{"m": {"x": {"y": [1, 2], "z": []}, "w": {}}}, {}, {"m": {}}]},
        doc! {"_id": "c", "m": {"x": Bson::Null, "y": 5, "z": {}, "w": [1]}, "s": {"x": "text", "y": Bson::Null}},
        doc! {"_id": "d", "m": 5, "s": [1, 2], "l": [{"m": "x"}, {"m": {"x": 1, "y": Bson::Null}}]},
    ];
    let bytes: Vec<Vec<u8>> = documents.iter().map(|d| d.to_vec().unwrap()).collect();
    let (rebuilt, rejected) = flatten_and_rebuild(&layout, &bytes);
    assert_eq!(rejected, []);
    for (source, rebuilt) in documents.iter().zip(rebuilt) {
        assert!(same(&source.clone().into(), &rebuilt.clone().unwrap().into(), false), "{source}\n{rebuilt:?}");
    }
}

/// An entry of an index ends at 2,704 bytes, of all parts of a key together.
#[test]
fn keys_that_outgrow_an_index_entry_stay_with_their_map() {
    let layout = layout(r#"{"_id": "STRING", "m": {"$as": "map", "$values": {"$as": "map", "$values": "INT"}}}"#);
    let key = |length: usize, first: char| format!("{first}{}", "k".repeat(length - 1));
    let document = doc! {"_id": "i".repeat(900), "m": {
        key(1_692, 'a'): {"x": 1}, key(1_693, 'b'): {"x": 1}, key(900, 'c'): {key(784, 'd'): 1, key(785, 'e'): 2, "f": 3},
    }};
    let bytes = [document.to_vec().unwrap()];
    let (all, _) = rows(&layout, &bytes);
    let counts: Vec<usize> = all[0].as_ref().unwrap().iter().map(Vec::len).collect();
    assert_eq!(counts, [1, 2, 2], "of the first map's keys one is too long, and of the inner one's one");
    let (rebuilt, _) = flatten_and_rebuild(&layout, &bytes);
    assert_eq!(rebuilt[0].as_ref(), Some(&document));
}

/// Two arrays below, of whichever branch has more, take 8 bytes each; a map below counts for itself.
#[test]
fn keys_leave_room_for_the_arrays_below() {
    let key = |length: usize, first: char| format!("{first}{}", "k".repeat(length - 1));
    let layout = layout(
        r#"{"_id": "STRING", "m": {"$as": "map", "$values": {"a": ["INT"], "l": [{"l": ["INT"]}],
            "m": {"$as": "map", "$values": {"l": [[{"x": "INT"}]]}}}}}"#,
    );
    let document =
        doc! {"_id": "i".repeat(900), "m": {key(1_676, 'a'): {"l": [{"l": [1]}]}, key(1_677, 'b'): {"a": [1]}}};
    let bytes = [document.to_vec().unwrap()];
    let (all, _) = rows(&layout, &bytes);
    let counts: Vec<usize> = all[0].as_ref().unwrap().iter().map(Vec::len).collect();
    assert_eq!(counts, [1, 1, 0, 1, 1, 0, 0]);
    assert_eq!(flatten_and_rebuild(&layout, &bytes).0[0].as_ref(), Some(&document));
}

fn layout(fields: &str) -> Layout {
    Layout::new(&file::parse("posts", &format!("{{\"$gizer\": 1, \"fields\": {fields}}}")).unwrap()).unwrap()
}

#[test]
fn every_policy_comes_back() {
    let layout = layout(
        r#"{"_id": "KEY", "list": {"$as": "array", "$type": "INT"}, "j": {"$as": "json"}, "gone": {"$as": "ignore"},
            "m": [{"$as": "table", "$items": [{"$as": "table", "$items": "INT"}]}], "n": [["INT"]], "t": "TINYINT"}"#,
    );
    let documents = [
        doc! {"_id": {"b": 1, "a": "x"}, "list": [1, Bson::Null, 3], "j": {"x": [1, 2.5]}, "m": [[[1, 2], []], [], [[3]]]},
        doc! {"_id": "x", "list": [], "j": Bson::Null, "m": [1, [[1], "x"], Bson::Null], "n": [[1], 2, Bson::Null]},
        doc! {"_id": 5, "list": [1, "x"], "j": [], "m": [], "t": 7},
        doc! {"_id": Bson::Null, "list": 5, "t": "x", "m": Bson::Null},
    ];
    let bytes: Vec<Vec<u8>> = documents.iter().map(|d| d.to_vec().unwrap()).collect();
    let (rebuilt, rejected) = flatten_and_rebuild(&layout, &bytes);
    assert_eq!(rejected, []);
    for (source, rebuilt) in documents.iter().zip(rebuilt) {
        assert!(same(&source.clone().into(), &rebuilt.clone().unwrap().into(), false), "{source}\n{rebuilt:?}");
    }
    let gone = doc! {"_id": 1, "gone": 5}.to_vec().unwrap();
    assert_eq!(flatten_and_rebuild(&layout, &[gone]).0, [Some(doc! {"_id": 1})]);
}

/// Two documents are one `_id` only if their fields have the same order, which `jsonb` does not keep.
#[test]
fn a_compound_id_that_is_kept_by_its_hash_comes_back_byte_for_byte() {
    let layout = layout(r#"{"_id": "KEY"}"#);
    let document = doc! {"_id": {"long": "x".repeat(1_200), "n": {"b": 1, "a": 2.5}}}.to_vec().unwrap();
    let rows = rows(&layout, std::slice::from_ref(&document)).0.remove(0).unwrap();
    assert_eq!(rebuild_id(&layout, &rows[0][0]), Some(document));
}

/// What the `bson` crate cannot even hold: duplicate names, names and text that are not UTF-8.
#[test]
fn malformed_names_and_text_come_back_byte_for_byte() {
    let layout = layout(
        r#"{"_id": "INT", "a": "INT", "d": {"a": "INT"}, "l": [{"a": "INT"}], "j": {"$as": "json"},
            "m": {"$as": "map", "$values": "INT"}}"#,
    );
    let cases = [
        (doc! {"_id": 1, "a": 1, "Q": 2}, b'Q', b'a'),
        (doc! {"_id": 1, "d": {"a": 1, "Q": "two"}}, b'Q', b'a'),
        (doc! {"_id": 1, "l": [{"a": 1}, {"a": 1, "Q": 2}]}, b'Q', b'a'),
        (doc! {"_id": 1, "d": {"x": 1, "Q": 2}}, b'Q', b'x'),
        (doc! {"_id": 1, "a": 1, "Q": 2}, b'Q', 0xFF),
        (doc! {"_id": 1, "text": "Q"}, b'Q', 0xFF),
        (doc! {"_id": 1, "a": "Q"}, b'Q', 0xFF),
        (doc! {"_id": 1, "j": "Q"}, b'Q', 0xFF),
        (doc! {"_id": 1, "j": {"x": {"y": 1, "Q": 2}}}, b'Q', b'y'),
        (doc! {"_id": 1, "m": {"x": 1, "Q": 2}}, b'Q', b'x'),
        (doc! {"_id": 1, "m": {"x": 1, "Q": 2}}, b'Q', 0xFF),
        (doc! {"_id": 1, "m": {"x": "Q"}}, b'Q', 0xFF),
    ];
    for (document, from, to) in cases {
        let mut bytes = document.to_vec().unwrap();
        let at = bytes.iter().position(|byte| *byte == from).unwrap();
        bytes[at] = to;
        assert_eq!(stored::rebuilt_bytes(&layout, &[bytes.clone()]), [bytes], "{document} with {to:#x}");
    }
}

#[test]
fn a_hundred_levels_come_back() {
    let deep = (0..95).fold(Bson::Int32(1), |inner, i| {
        if i % 2 == 0 { Bson::Document(doc! {"a": inner}) } else { Bson::Array(vec![inner]) }
    });
    let document = doc! {"_id": 1, "deep": deep};
    let bytes = document.to_vec().unwrap();
    let shallow = layout(r#"{"_id": "INT"}"#);
    assert_eq!(flatten_and_rebuild(&shallow, &[bytes]).0, [Some(document)]);
}

/// What the `bson` crate reads and writes otherwise: options that are not sorted, binary of the old subtype, a field twice in
/// an `_id`.
#[test]
fn what_the_bson_crate_would_change_comes_back_byte_for_byte() {
    let layout = layout(r#"{"_id": "KEY", "r": {"$as": "json"}}"#);
    let elements: [&[u8]; 4] = [
        b"\x10_id\0\x01\0\0\0\x0Br\0a\0xim\0",
        b"\x10_id\0\x01\0\0\0\x0Bother\0a\0xim\0",
        b"\x05_id\0\x07\0\0\0\x02\x03\0\0\0abc\x05r\0\x07\0\0\0\x02\x03\0\0\0abc",
        b"\x03_id\0\x13\0\0\0\x10a\0\x01\0\0\0\x10a\0\x02\0\0\0\0",
    ];
    for elements in elements {
        let document = [&(elements.len() as u32 + 5).to_le_bytes()[..], elements, &[0]].concat();
        assert_eq!(stored::rebuilt_bytes(&layout, std::slice::from_ref(&document)), [document]);
    }
}
