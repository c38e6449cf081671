//! What `_extra` holds is evidence for a schema that grows, and moves to the places that it gets there.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "shared with other tests")]
mod generated;
#[allow(dead_code, reason = "shared with other tests")]
mod stored;
#[allow(dead_code, reason = "shared with other tests")]
mod varied;

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use generated::{document, same};
use gizer_flatten::{StoredCell, extra_part, rebuild};
use gizer_schema::infer::{Evolution, EvolveRules, Inference, InferenceRules, Limits, Unplaced, evolve};
use gizer_schema::raw::RawDoc;
use gizer_schema::{ColumnSource, Dialect, Layout, Schema, Table, TableId, file, pin_names};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use stored::{Rows, rows};

fn layout(fields: &str) -> Layout {
    Layout::new(&file::parse("posts", &format!("{{\"$gizer\": 1, \"fields\": {fields}}}")).unwrap()).unwrap()
}

/// The parts that the rows of a document have in `_extra`, with their paths.
fn parts(layout: &Layout, document: &Document) -> Vec<(Document, Vec<String>)> {
    let rows = rows(layout, &[document.to_vec().unwrap()]).0.remove(0).unwrap();
    let mut parts = Vec::new();
    for (table, rows) in rows.iter().enumerate() {
        for extra in rows.iter().filter_map(|row| row.extra.as_ref()) {
            let part = extra_part(layout, TableId(table), extra).unwrap();
            let paths = part.paths.iter().map(|path| path.join(".")).collect();
            parts.push((Document::from_reader(part.document.as_slice()).unwrap(), paths));
        }
    }
    parts
}

fn part(document: Document, paths: &[&str]) -> (Document, Vec<String>) {
    (document, paths.iter().map(|path| (*path).to_owned()).collect())
}

#[test]
fn a_part_stands_at_its_place_in_the_document() {
    let layout = layout(
        r#"{"_id": "INT", "n": "INT", "d": {"e": {"n": "INT"}}, "l": [{"d": {"n": "INT"}, "t": ["INT"]}],
            "m": {"$as": "map", "$values": {"n": "INT"}}, "g": [{"$as": "table", "$items": {"n": "INT"}}],
            "o": {"$as": "map", "$values": {"$as": "map", "$values": "INT"}}}"#,
    );
    let document = doc! {
        "_id": 1, "n": "x", "a/b": 1, "d": {"e": {"x": 2}, "f": 3},
        "l": [{"n": 1}, {"d": {"x": 4}, "t": [1, "y"]}, "z"],
        "m": {"k": {"n": 1, "x": 5}}, "g": [[], [{"n": 1, "x": 6}]], "o": {"a": {"b": 0.5}},
    };
    assert_eq!(
        parts(&layout, &document),
        [
            part(doc! {"d": {"e": {"x": 2}, "f": 3}, "a/b": 1, "n": "x"}, &["a/b", "d.e.x", "d.f", "n"]),
            part(doc! {"g": [[{"x": 6}]]}, &["g.item.x"]),
            part(doc! {"l": [{"n": 1}]}, &["l.n"]),
            part(doc! {"l": [{"d": {"x": 4}}]}, &["l.d.x"]),
            part(doc! {"l": ["z"]}, &["l"]),
            part(doc! {"l": [{"t": ["y"]}]}, &["l.t"]),
            part(doc! {"m": {"": {"x": 5}}}, &["m.x"]),
            part(doc! {"o": {"": {"": 0.5}}}, &["o.value"]),
        ]
    );
}

/// Marks of null and of what is empty, numbers that are in their column, documents kept whole, and keys that are too long.
#[test]
fn what_says_nothing_of_types_is_no_evidence() {
    let fields = r#"{"_id": "KEY", "n": "INT", "d": {"n": "INT"}, "t": ["INT"], "m": {"$as": "map", "$values": "INT"}, "j": "JSON"}"#;
    let mut schema = file::parse("posts", &format!("{{\"$gizer\": 1, \"fields\": {fields}}}")).unwrap();
    schema.dialect = Dialect::Gizer { exact_types: true };
    let layout = Layout::new(&schema).unwrap();
    let null = Bson::Null;
    for document in [
        doc! {"_id": {"long": "x".repeat(1_200)}, "n": &null, "d": &null, "t": &null, "m": &null, "j": &null},
        doc! {"_id": 1.0, "n": 5i64, "d": {}, "t": [], "m": {}},
        doc! {"_id": 1, "n": Bson::Undefined, "t": [2.0, null], "m": {"k".repeat(2_700): 1}},
    ] {
        for (part, paths) in parts(&layout, &document) {
            assert_eq!((part, paths), (doc! {}, vec![]), "{document}");
        }
    }
}

#[test]
fn a_document_kept_whole_is_no_evidence_but_in_an_unknown_field() {
    let layout = layout(r#"{"_id": "INT", "d": {"a": "INT"}}"#);
    let twice = |name: &str| {
        let mut bytes = doc! {"_id": 1, name: {"a": 1, "Q": 2}}.to_vec().unwrap();
        let at = bytes.iter().position(|byte| *byte == b'Q').unwrap();
        bytes[at] = b'a';
        let rows = rows(&layout, &[bytes]).0.remove(0).unwrap();
        extra_part(&layout, TableId(0), rows[0][0].extra.as_ref().unwrap()).unwrap().paths
    };
    assert_eq!((twice("d"), twice("x")), (vec![], vec![vec!["x".to_owned()]]));
}

#[test]
fn malformed_extra_is_an_error() {
    let layout = layout(r#"{"_id": "INT", "n": "INT", "d": {"n": "INT"}, "l": [{"n": "INT"}]}"#);
    for (table, text) in [
        (0, "5"),
        (0, r#"{"/x": 5}"#),
        (0, r#"{"x": true}"#),
        (0, r#"{"": true}"#),
        (0, r#"{"/n/x": true}"#),
        (0, r#"{"/x/y/z": true}"#),
        (0, r#"{"/d": true, "/d/x": {"$bson": "AAAA"}}"#),
        (1, r#"{"/n/0": true}"#),
        (1, r#"{"/x": {"$numberInt": "x"}}"#),
    ] {
        let extra = serde_json::from_str(text).unwrap();
        extra_part(&layout, TableId(table), &extra).expect_err(text);
    }
    let deep = format!("{{\"{}\": true}}", "/x".repeat(1_000_000));
    extra_part(&layout, TableId(0), &serde_json::from_str(&deep).unwrap()).unwrap_err();
}

/// Parts of one document as BSON, and their paths.
type Parts = (Vec<Vec<u8>>, BTreeSet<Vec<String>>);

/// What the rows of documents have in `_extra`, of each document.
struct Stored {
    rows: Vec<Option<Rows>>,
    parts: Vec<Parts>,
}

impl Stored {
    fn new(layout: &Layout, documents: &[Document]) -> Stored {
        let bytes: Vec<Vec<u8>> = documents.iter().map(|document| document.to_vec().unwrap()).collect();
        let (rows, _) = rows(layout, &bytes);
        let mut parts = Vec::new();
        for (document, rows) in documents.iter().zip(&rows) {
            let (mut found, mut paths) = (Vec::new(), BTreeSet::new());
            let Some(rows) = rows else {
                let id = document.get("_id").cloned().unwrap_or(Bson::Null);
                parts.push((vec![doc! {"_id": id}.to_vec().unwrap()], BTreeSet::from([vec!["_id".to_owned()]])));
                continue;
            };
            for (table, rows) in rows.iter().enumerate() {
                for extra in rows.iter().filter_map(|row| row.extra.as_ref()) {
                    let part = extra_part(layout, TableId(table), extra).unwrap();
                    found.push(part.document);
                    paths.extend(part.paths);
                }
            }
            parts.push((found, paths));
        }
        Stored { rows, parts }
    }

    fn seen<'p>(parts: impl IntoIterator<Item = &'p Parts>) -> Unplaced {
        let mut seen = Unplaced::default();
        for (found, paths) in parts {
            found.iter().for_each(|part| seen.observe(RawDoc::new(part).unwrap()).unwrap());
            paths.iter().for_each(|path| seen.count_document(path));
        }
        seen
    }

    fn hold(&self, layout: &Layout, mut seen: Unplaced) -> Unplaced {
        for (table, column) in seen.paths_with_strays(layout) {
            let rows = self.rows.iter().flatten().flat_map(|rows| &rows[table.0]);
            let held = rows.filter(|row| row.cells[column.0] != StoredCell::Null).count();
            seen.held(table, column, held as u64);
        }
        seen
    }
}

fn rules(limits: Limits) -> EvolveRules {
    EvolveRules {
        inference: InferenceRules { limits, ..InferenceRules::default() },
        threshold: 1,
        adopts: true,
        widens: true,
    }
}

/// Mostly the usual ones.
fn limits() -> impl Strategy<Value = Limits> {
    let narrow = (1usize..6, 1usize..8).prop_map(|(tables, columns)| Limits { tables, columns });
    prop_oneof![3 => Just(Limits::default()), 1 => narrow]
}

/// Nothing that was added is beyond the limits.
fn check_limits(before: &Layout, after: &Layout, limits: Limits) -> Result<(), TestCaseError> {
    prop_assert!(after.tables.len() <= limits.tables.max(before.tables.len()));
    let fields =
        |table: &Table| table.columns.iter().filter(|column| matches!(column.source, ColumnSource::Field(_))).count();
    for table in &after.tables {
        let had = before.tables.iter().find(|had| had.name == table.name).map_or(0, fields);
        prop_assert!(fields(table) <= limits.columns.max(had), "{}", table.name);
    }
    Ok(())
}

/// A schema of the first documents, with policies by choice.
fn first_schema(documents: &[Document], choices: &[u8], exact_types: bool) -> Schema {
    let mut inference = Inference::default();
    documents.iter().for_each(|d| inference.observe(RawDoc::new(&d.to_vec().unwrap()).unwrap()).unwrap());
    let (mut schema, _) = inference.schema("posts");
    pin_names(&mut schema, None).unwrap();
    if !choices.is_empty() {
        varied::vary(&mut schema, choices.to_vec());
    }
    schema.dialect = Dialect::Gizer { exact_types };
    schema
}

fn same_rows(a: &Rows, b: &Rows, exact: bool) -> bool {
    let same_row = |(a, b): (&gizer_flatten::StoredRow, &gizer_flatten::StoredRow)| {
        a.cells.len() == b.cells.len()
            && a.cells.iter().zip(&b.cells).all(|(a, b)| same_cell(a, b, exact))
            && match (&a.extra, &b.extra) {
                (Some(a), Some(b)) => same_json(a, b, exact),
                (a, b) => a.is_none() && b.is_none(),
            }
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(same_row))
}

fn same_cell(a: &StoredCell, b: &StoredCell, exact: bool) -> bool {
    match (a, b) {
        (StoredCell::Double(a), StoredCell::Double(b)) => same(&Bson::Double(*a), &Bson::Double(*b), exact),
        (StoredCell::Numeric(a), StoredCell::Numeric(b)) if !exact => {
            let plain = |text: &str| match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text.to_owned(),
            };
            plain(a) == plain(b)
        }
        (StoredCell::Json(a), StoredCell::Json(b)) => same_json(a, b, exact),
        (a, b) => a == b,
    }
}

/// Whether two values in Extended JSON are the same but for the types of equal numbers.
fn same_json(a: &serde_json::Value, b: &serde_json::Value, exact: bool) -> bool {
    use serde_json::Value::{Array, Object};
    match (a, b) {
        (a, b) if a == b => true,
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b, exact)),
        (Object(a), Object(b)) => match (number(a), number(b)) {
            (Some(a), Some(b)) => same(&a, &b, exact),
            _ => a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same_json(a, b, exact))),
        },
        _ => false,
    }
}

fn number(fields: &serde_json::Map<String, serde_json::Value>) -> Option<Bson> {
    let (name, text) = fields.iter().next().filter(|_| fields.len() == 1)?;
    let text = text.as_str()?;
    Some(match name.as_str() {
        "$numberInt" => Bson::Int32(text.parse().ok()?),
        "$numberLong" => Bson::Int64(text.parse().ok()?),
        "$numberDouble" => Bson::Double(text.parse().ok()?),
        "$numberDecimal" => Bson::Decimal128(text.parse().ok()?),
        _ => return None,
    })
}

/// A column: its table with its path, its name, what it holds, its type.
type Named = (String, Option<Vec<String>>, String, String, String);

fn columns(layout: &Layout) -> BTreeSet<Named> {
    let mut columns = BTreeSet::new();
    for table in &layout.tables {
        let path = table.path.map(|path| layout.path(path).fields.clone());
        for column in &table.columns {
            let source = match column.source {
                ColumnSource::Field(path) => layout.path(path).dotted(),
                ref other => format!("{other:?}"),
            };
            columns.insert((table.name.clone(), path.clone(), column.name.clone(), source, format!("{:?}", column.ty)));
        }
    }
    columns
}

/// Columns that were are still there under their names, but for their types where told.
fn check_names(before: &Layout, after: &Layout, evolution: &Evolution) -> Result<(), TestCaseError> {
    let now = columns(after);
    for column in columns(before) {
        let is_widened = evolution.widened.iter().any(|widened| widened.path == column.3);
        let is_key = column.3 == "RootKey" && evolution.widened.iter().any(|widened| widened.path == "_id");
        if is_widened || is_key {
            let same = |other: &Named| (&other.0, &other.2, &other.3) == (&column.0, &column.2, &column.3);
            prop_assert!(now.iter().any(same), "{column:?}");
        } else {
            prop_assert!(now.contains(&column), "{column:?}\n{now:#?}");
        }
    }
    Ok(())
}

/// Nothing remains where every value has a place.
fn check_places(evolution: &Evolution, after: &Stored) -> Result<(), TestCaseError> {
    for (_, paths) in &after.parts {
        for path in paths {
            // Names with dots are not told from paths.
            if path.iter().any(|name| name.is_empty() || name.contains('.')) {
                continue;
            }
            let path = path.join(".");
            let adopted = evolution.adopted.iter().find(|adopted| adopted.path == path);
            let all_fit = ["JSON", "DOCUMENT", "BOOLEAN", "INT", "BIGINT", "UUID", "OBJECTID", "BINARY"];
            prop_assert!(adopted.is_none_or(|adopted| !all_fit.contains(&adopted.chosen)), "{path}: {adopted:?}");
        }
    }
    Ok(())
}

fn check(first: &Schema, documents: &[Document], exact: bool, limits: Limits) -> Result<Evolution, TestCaseError> {
    let rules = rules(limits);
    let before = Layout::new(first).unwrap();
    let stored = Stored::new(&before, documents);
    let seen = stored.hold(&before, Stored::seen(&stored.parts));
    let evolution = evolve(first, &seen, &rules).unwrap();
    let after = Layout::new(&evolution.schema).unwrap();
    let told = || format!("{}\n{}\n{:#?}", file::write(first), file::write(&evolution.schema), evolution.left);
    prop_assert_eq!(&file::parse("posts", &file::write(&evolution.schema)).unwrap(), &evolution.schema);
    check_names(&before, &after, &evolution)?;
    check_limits(&before, &after, limits)?;

    let direct = Stored::new(&after, documents);
    for (i, rows_before) in stored.rows.iter().enumerate() {
        let Some(rows_before) = rows_before else { continue };
        let rebuilt = rebuild(&before, rows_before).unwrap();
        let moved = rows(&after, &[rebuilt]).0.remove(0);
        let (Some(moved), Some(direct)) = (&moved, &direct.rows[i]) else {
            return Err(TestCaseError::fail(format!("rejected: {}\n{}", documents[i], told())));
        };
        prop_assert!(same_rows(moved, direct, exact), "{}\n{moved:#?}\n{direct:#?}\n{}", documents[i], told());
    }

    let again = evolve(&evolution.schema, &Unplaced::default(), &rules).unwrap();
    prop_assert_eq!(
        (&again.schema, again.adopted.len(), again.widened.len(), again.left.len()),
        (&evolution.schema, 0, 0, 0)
    );
    // A document that was rejected has fields of which nothing was known.
    let was_stored = |(document, rows): (&Document, &Option<Rows>)| rows.is_some().then(|| document.clone());
    let documents: Vec<Document> = documents.iter().zip(&stored.rows).filter_map(was_stored).collect();
    let rest = Stored::new(&after, &documents);
    check_places(&evolution, &rest)?;
    let seen = rest.hold(&after, Stored::seen(&rest.parts));
    let again = evolve(&evolution.schema, &seen, &rules).unwrap();
    prop_assert!(again.adopted.is_empty() && again.widened.is_empty(), "{again:#?}\n{}", told());
    Ok(evolution)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn rows_that_move_are_those_of_the_new_schema(
        known in prop::collection::vec(document(), 1..4),
        more in prop::collection::vec(document(), 0..8),
        choices in prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 1..24)],
        exact in any::<bool>(),
        limits in limits(),
    ) {
        let first = first_schema(&known, &choices, exact);
        let documents: Vec<Document> = known.into_iter().chain(more).collect();
        check(&first, &documents, exact, limits)?;
    }

    #[test]
    fn neither_the_order_of_rows_nor_their_split_matters(
        known in prop::collection::vec(document(), 1..3),
        more in prop::collection::vec(document(), 1..8),
        order in any::<[u32; 12]>(),
        split in 0usize..8,
    ) {
        let first = first_schema(&known, &[], false);
        let (layout, rules) = (Layout::new(&first).unwrap(), rules(Limits::default()));
        let stored = Stored::new(&layout, &more);
        let expected = evolve(&first, &stored.hold(&layout, Stored::seen(&stored.parts)), &rules).unwrap();
        let mut parts: Vec<_> = stored.parts.iter().zip(order).collect();
        parts.sort_by_key(|(_, order)| *order);
        let parts: Vec<_> = parts.into_iter().map(|(part, _)| part).collect();
        let (one, other) = parts.split_at(split.min(parts.len()));
        let mut merged = Stored::seen(one.iter().copied());
        merged.merge(Stored::seen(other.iter().copied()));
        let merged = stored.hold(&layout, merged);
        prop_assert_eq!(evolve(&first, &merged, &rules).unwrap(), expected);
    }
}

/// Documents are random, but what is adopted and widened is of every kind.
#[test]
fn random_documents_make_schemas_grow_in_every_way() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut kinds = BTreeSet::new();
    for _ in 0..150 {
        let mut draw = |count: std::ops::Range<usize>| {
            prop::collection::vec(document(), count).new_tree(&mut runner).unwrap().current()
        };
        let (known, more) = (draw(1..3), draw(1..6));
        let first = first_schema(&known, &[], false);
        let documents: Vec<Document> = known.into_iter().chain(more).collect();
        let evolution = check(&first, &documents, false, Limits::default()).unwrap();
        kinds.extend(evolution.adopted.iter().map(|adopted| adopted.chosen.to_owned()));
        kinds.extend(evolution.widened.iter().map(|widened| format!("to {}", widened.to)));
    }
    for kind in ["STRING", "INT", "DOUBLE", "DECIMAL", "DOCUMENT", "ARRAY", "JSON", "to JSON", "to KEY"] {
        assert!(kinds.contains(kind), "no {kind}: {kinds:?}");
    }
}

#[test]
fn rows_move_into_maps_and_into_what_is_below_them() {
    let id = |i: i32| format!("{i:024x}");
    let documents: Vec<Document> = (0..40)
        .map(|i| {
            doc! {
                "_id": i, "words": {id(i): "w", id(i + 1): "x"},
                "posts": {id(i): {"n": i, "tags": ["a", {"b": 1}], "by": {id(i): i}}},
                "list": [{"seen": {id(i): true}}, {}],
                "known": {"k": {"n": 1, "likes": {id(i): 0.5}}, "": {"n": 2}},
            }
        })
        .collect();
    let known = r#"{"_id": "INT", "list": [{}], "known": {"$as": "map", "$values": {"n": "INT"}}}"#;
    let first = file::parse("posts", &format!("{{\"$gizer\": 1, \"fields\": {known}}}")).unwrap();
    let evolution = check(&first, &documents, false, Limits::default()).unwrap();
    let adopted: Vec<_> = evolution.adopted.iter().map(|adopted| (adopted.path.as_str(), adopted.chosen)).collect();
    assert_eq!(adopted, [("known.likes", "MAP"), ("list.seen", "MAP"), ("posts", "MAP"), ("words", "MAP")]);
}
