//! No more tables, columns and bytes of a row than the limits, whatever the documents are like.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bson::{Bson, Document, doc};
use gizer_schema::infer::{Crowded, Finding, Inference, InferenceRules, Limits};
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, Node, ScalarType, Schema};
use proptest::prelude::*;

fn inferred(documents: impl IntoIterator<Item = Document>) -> Inference {
    let mut inference = Inference::default();
    for document in documents {
        inference.observe(RawDoc::new(&document.to_vec().unwrap()).unwrap()).unwrap();
    }
    inference
}

/// The paths that became JSON, or whose fields were left out, and why.
fn crowded(findings: &[Finding]) -> Vec<(&str, &str, Crowded)> {
    findings.iter().filter_map(|finding| Some((finding.path.as_str(), finding.chosen, finding.crowded?))).collect()
}

fn is_json(schema: &Schema, name: &str) -> bool {
    schema.fields[name].node == Node::Scalar(ScalarType::Json)
}

/// Fields of as many types, so that they are no map.
fn mixed(name: &str, count: usize) -> Document {
    (0..count).map(|i| (format!("{name}{i}"), if i % 2 == 0 { Bson::from(1) } else { Bson::from(true) })).collect()
}

#[test]
fn the_widest_documents_become_json_until_the_columns_fit() {
    let inside = doc! {"attributes": mixed("a", 700), "size": {"w": 1, "h": 2}};
    let product = doc! {"_id": 1, "name": "x", "data": inside, "more": mixed("m", 500)};
    let (schema, findings) = inferred([product]).schema("products");
    assert_eq!(crowded(&findings), [("data.attributes", "JSON", Crowded::Columns(1_204))]);
    let layout = Layout::new(&schema).unwrap();
    assert_eq!(layout.tables[0].data_columns(), 1 + 1 + 1 + 2 + 500);
}

#[test]
fn what_a_person_allows_is_made() {
    let product = doc! {"_id": 1, "a": mixed("a", 700), "b": mixed("b", 500)};
    let inference = inferred([product]);
    let limits = Limits { columns: 1_500, ..Limits::default() };
    let (schema, findings) = inference.schema_by("products", &InferenceRules { limits, ..InferenceRules::default() });
    assert_eq!(crowded(&findings), []);
    assert_eq!(Layout::new(&schema).unwrap().tables[0].data_columns(), 1_201);
}

#[test]
fn of_its_own_fields_a_collection_keeps_those_that_come_most_often() {
    let rare = (0..1_500).map(|i| doc! {"_id": i, "often": 1, format!("k{i:04}"): 1});
    let (schema, findings) = inferred(rare).schema("c");
    assert_eq!(schema.fields.len(), 1_000);
    assert!(["_id", "often", "k0000"].iter().all(|name| schema.fields.contains_key(*name)));
    assert!(
        findings.iter().any(|finding| finding.path.is_empty() && finding.names_beyond_limit == 502),
        "{findings:?}"
    );
}

#[test]
fn tables_of_an_array_are_narrowed_as_well() {
    let item = doc! {"n": 1, "wide": mixed("w", 1_100)};
    let (schema, findings) = inferred([doc! {"_id": 1, "items": [item]}]).schema("c");
    assert_eq!(crowded(&findings), []);
    // More names than a table has columns, so that they were never taken for fields.
    assert!(findings.iter().any(|finding| finding.path == "items.wide" && finding.names_beyond_limit == 1_100));
    let item = doc! {"n": 1, "a": mixed("a", 600), "b": mixed("b", 500)};
    let (_, findings) = inferred([doc! {"_id": 1, "items": [item]}]).schema("c");
    assert_eq!(crowded(&findings), [("items.a", "JSON", Crowded::Columns(1_101))]);
    assert!(Layout::new(&schema).is_ok());
}

#[test]
fn documents_with_most_arrays_become_json_until_the_tables_fit() {
    let lists = |name: &str, count: usize| -> Document {
        (0..count).map(|i| (format!("{name}{i}"), Bson::from(vec![1, 2]))).collect()
    };
    let document =
        doc! {"_id": 1, "many": lists("m", 150), "few": lists("f", 100), "list": [1], "items": [lists("i", 20)]};
    let (schema, findings) = inferred([document]).schema("c");
    assert_eq!(crowded(&findings), [("many", "JSON", Crowded::Tables(273))]);
    assert_eq!(Layout::new(&schema).unwrap().tables.len(), 123);
    assert!(is_json(&schema, "many") && !is_json(&schema, "few"));
    // Directly in the documents of the collection: the rarest.
    let sparse = |i: i32| doc! {"_id": i, "often": [1], format!("l{i:03}"): [1]};
    let (schema, findings) = inferred((0..250).map(sparse)).schema("c");
    assert_eq!(Layout::new(&schema).unwrap().tables.len(), 200);
    assert_eq!(crowded(&findings).len(), 52);
    assert!(!is_json(&schema, "often") && is_json(&schema, "l249") && !is_json(&schema, "l000"));
}

/// As large as a document may be: looking through all of it for each that becomes JSON would take hours.
#[test]
fn thousands_of_documents_with_arrays_become_json() {
    let small = || doc! {"l": [1], "k": [1], "d": {"l": [1]}};
    let group = |_| (0..60).map(|i| (format!("b{i}"), Bson::from(small()))).collect::<Document>();
    let mut document = doc! {"_id": 1};
    document.extend((0..300).map(|i| (format!("a{i}"), Bson::from(group(i)))).collect::<Document>());
    let (schema, _) = inferred([document]).schema("c");
    assert!(Layout::new(&schema).unwrap().tables.len() <= 200);
}

/// A document of groups, each of which has so many small documents with two arrays.
fn groups(groups: usize, documents: usize) -> Document {
    let small = || Bson::from(doc! {"l": [1], "k": [1], "n": 1});
    let group = |_| Bson::from((0..documents).map(|i| (format!("b{i:04}"), small())).collect::<Document>());
    (0..groups).map(|i| (format!("a{i:02}"), group(i))).collect()
}

#[test]
fn few_wide_documents_become_json_rather_than_many_narrow_ones() {
    let mut document = doc! {"_id": 1, "name": "x"};
    document.extend(groups(19, 60));
    let (schema, findings) = inferred([document.clone()]).schema("c");
    let crowded_paths = crowded(&findings);
    assert_eq!(crowded_paths.len(), 18, "{crowded_paths:?}");
    assert!(
        crowded_paths
            .iter()
            .all(|(path, chosen, why)| { !path.contains('.') && *chosen == "JSON" && *why == Crowded::Tables(2_281) })
    );
    assert_eq!(Layout::new(&schema).unwrap().tables.len(), 121);
    // All of it in one document, which stays, since fewer in it are enough.
    document.insert("data", groups(12, 60));
    (0..19).for_each(|i| drop(document.remove(format!("a{i:02}"))));
    let (schema, findings) = inferred([document]).schema("c");
    assert_eq!(crowded(&findings).len(), 11);
    assert_eq!(Layout::new(&schema).unwrap().tables.len(), 121);
}

#[test]
fn of_the_last_document_a_few_in_it_become_json_if_that_is_enough() {
    let mut document = doc! {"_id": 1};
    // 241 tables, 41 too many: 21 documents with two each would be needed.
    document.extend(groups(2, 60));
    let (schema, findings) = inferred([document.clone()]).schema("c");
    assert_eq!(crowded(&findings), [("a00", "JSON", Crowded::Tables(241))]);
    assert_eq!(Layout::new(&schema).unwrap().tables.len(), 121);
    // One table less, and 20 are enough.
    document.get_document_mut("a00").unwrap().get_document_mut("b0000").unwrap().remove("l");
    let (schema, findings) = inferred([document]).schema("c");
    assert_eq!(crowded(&findings).len(), 20);
    assert!(crowded(&findings).iter().all(|(path, ..)| path.starts_with("a01.b")), "{findings:?}");
    assert_eq!(Layout::new(&schema).unwrap().tables.len(), 200);
}

/// With as many small documents next to each other no choice is better than another: first their tables, then their
/// columns and the bytes that so many columns of JSON take.
#[test]
fn wide_and_flat_documents_are_within_both_limits() {
    let mut document = doc! {"_id": 1};
    document.extend(groups(1, 1_140).get_document("a00").unwrap().clone());
    let (schema, findings) = inferred([document]).schema("c");
    let tables: Vec<_> = crowded(&findings).into_iter().filter(|(.., why)| *why == Crowded::Tables(1_999)).collect();
    // Of the names a table has 1,000 at most.
    assert_eq!(tables.len(), 900);
    let layout = Layout::new(&schema).unwrap();
    assert!(layout.tables.len() <= 200, "{}", layout.tables.len());
    assert!(layout.tables[0].data_columns() <= 1_000, "{}", layout.tables[0].data_columns());
}

#[test]
fn what_is_in_the_documents_of_an_array_or_a_map_becomes_json_in_its_table() {
    let lists: Document = (0..300).map(|i| (format!("l{i}"), Bson::from(vec![i]))).collect();
    let (schema, findings) = inferred([doc! {"_id": 1, "items": [lists]}]).schema("c");
    assert_eq!(crowded(&findings), [("items", "JSON", Crowded::Tables(302))]);
    let layout = Layout::new(&schema).unwrap();
    assert_eq!(layout.tables.len(), 2);
    assert_eq!(layout.tables[1].columns[1].name, "items");
}

/// A row lies in one page of 8 kB; text of more than some bytes leaves a pointer of 18.
#[test]
fn a_row_that_no_page_holds_is_foreseen() {
    let text = |name: &str, count: usize| -> Document {
        (0..count)
            .map(|i| (format!("{name}{i}"), Bson::from(if i % 2 == 0 { "long enough to be outside" } else { "x" })))
            .collect()
    };
    let with = |a: usize, b: usize| doc! {"_id": 1, "a": text("a", a), "b": text("b", b), "n": {"x": 1}};
    // Wide tables of short rows stay.
    let sparse = (0..900).map(|i| doc! {"_id": i, "a": {format!("a{i}"): i, "b": true, "c": "x"}});
    let rules = InferenceRules { maps: None, ..InferenceRules::default() };
    assert_eq!(crowded(&inferred(sparse).schema_by("c", &rules).1), []);
    let (schema, findings) = inferred([with(700, 250)]).schema_by("c", &rules);
    let bytes = 475 * 24 + 475 * 2 + 2 * 8;
    assert_eq!(crowded(&findings), [("a", "JSON", Crowded::RowBytes(bytes))]);
    assert!(is_json(&schema, "a") && !is_json(&schema, "b"));
    // Nothing but fields of its own.
    let mut own = doc! {"_id": 1};
    own.extend(text("a", 800));
    let (schema, findings) = inferred([own]).schema("c");
    assert!(matches!(crowded(&findings)[..], [("", "DOCUMENT", Crowded::RowBytes(_))]), "{findings:?}");
    assert!((schema.fields.len() - 1) * 24 < 7_600 && schema.fields.len() > 300, "{}", schema.fields.len());
}

/// Entries of a map are rows of another table, and a document that is JSON is one value.
#[test]
fn what_is_in_other_tables_or_in_json_does_not_make_a_row_long() {
    let document = |i: i32| {
        let entries =
            (0..400).map(|k| (format!("{:024x}", i * 1_000 + k), Bson::from(doc! {"q": k, "s": "some text"})));
        let sparse = (0..20).map(|k| {
            (
                format!("a{}", (i * 20 + k) % 760),
                if k % 2 == 0 { Bson::from("a long text of some length") } else { Bson::from(true) },
            )
        });
        doc! {"_id": i, "map": entries.collect::<Document>(), "a": sparse.collect::<Document>(), "j": mixed("j", 1_100)}
    };
    let (schema, findings) = inferred((0..48).map(document)).schema("c");
    // In one row there would be no room for all of `a`, but no document has more than 20 of it.
    assert_eq!(crowded(&findings), []);
    assert!(matches!(schema.fields["map"].node, Node::Map(_)) && is_json(&schema, "j") && !is_json(&schema, "a"));
}

/// Numbers among text are JSON, which takes more room than they do.
#[test]
fn a_column_may_be_wider_than_its_values() {
    let document = |i: i32| {
        let value = |k: i32| if (i + k) % 2 == 0 { Bson::from(5) } else { Bson::from("x") };
        let mut own = doc! {"_id": i};
        own.extend((0..450).map(|k| (format!("f{k}"), value(k))).collect::<Document>());
        own
    };
    let (schema, findings) = inferred((0..10).map(document)).schema("c");
    assert!(matches!(crowded(&findings)[..], [("", "DOCUMENT", Crowded::RowBytes(_))]), "{findings:?}");
    assert!(schema.fields.len() < 320, "{}", schema.fields.len());
}

#[test]
fn what_was_found_in_what_became_json_is_not_reported() {
    let lists: Document = (0..250).map(|i| (format!("l{i}"), Bson::from(vec![1]))).collect();
    let document = |i: i32| {
        let mut d = lists.clone();
        d.insert("mm", (0..20).map(|k| (format!("{:024x}", i * 20 + k), Bson::from(1))).collect::<Document>());
        doc! {"_id": i, "d": d}
    };
    let (schema, findings) = inferred((0..3).map(document)).schema("c");
    assert!(is_json(&schema, "d"));
    assert_eq!(findings.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(), ["d"]);
}

#[test]
fn small_documents_are_left_out_like_fields() {
    let small: Document = (0..990).map(|i| (format!("d{i}"), Bson::from(doc! {"x": 1.5}))).collect();
    let mut own = doc! {"_id": 1, "flag": true};
    own.extend(small);
    let (schema, findings) = inferred([own]).schema("c");
    assert!(matches!(crowded(&findings)[..], [("", "DOCUMENT", Crowded::RowBytes(_))]), "{findings:?}");
    assert!(schema.fields.contains_key("_id") && schema.fields.len() < 960, "{}", schema.fields.len());
}

fn value(depth: u32) -> BoxedStrategy<Bson> {
    let leaf =
        prop_oneof![Just(Bson::from(1)), Just(Bson::from(true)), Just(Bson::from("text")), Just(Bson::from(1.5))];
    leaf.prop_recursive(depth, 200, 12, |inside| {
        prop_oneof![
            2 => prop::collection::vec(("[a-f]{1,2}", inside.clone()), 0..12)
                .prop_map(|fields| Bson::from(fields.into_iter().collect::<Document>())),
            1 => prop::collection::vec(inside, 0..4).prop_map(Bson::from),
        ]
    })
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Small limits stand for large documents.
    #[test]
    fn whatever_the_documents_are_the_tables_are_within_the_limits(
        documents in prop::collection::vec(prop::collection::vec(("[a-f]{1,2}", value(4)), 0..10), 1..5),
        tables in 1..8_usize,
        columns in 1..8_usize,
    ) {
        let documents = documents.into_iter().enumerate().map(|(i, fields)| {
            let mut document = doc! {"_id": i as i64};
            document.extend(fields);
            document
        });
        let documents: Vec<Document> = documents.collect();
        let rules = InferenceRules { maps: None, limits: Limits { tables, columns } };
        let (schema, findings) = inferred(documents.clone()).schema_by("c", &rules);
        let backwards = documents.into_iter().rev();
        prop_assert_eq!(inferred(backwards).schema_by("c", &rules), (schema.clone(), findings));
        let layout = Layout::new(&schema).unwrap();
        prop_assert!(layout.tables.len() <= tables, "{} tables of {tables}", layout.tables.len());
        for table in &layout.tables {
            let fields = table.data_columns() - usize::from(table.parent.is_some());
            prop_assert!(fields <= columns, "{} columns of {columns} in {}", fields, table.name);
        }
    }
}
