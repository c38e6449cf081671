//! Documents of every type, their rows as the encoder writes them, and rows in which something is wrong.

use bson::{Bson, Document, doc};
use gizer_flatten::Flattener;
use gizer_pg::copy::CopyEncoder;
use gizer_schema::infer::Inference;
use gizer_schema::raw::{self, RawDoc};
use gizer_schema::{ColumnSource, ColumnType, Dialect, Layout, Schema, TableId, file};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use super::*;

#[path = "../../../gizer-flatten/tests/generated/mod.rs"]
#[allow(dead_code, reason = "its own comparison is for documents that the bson crate has read")]
mod generated;

#[path = "../../../gizer-flatten/tests/varied/mod.rs"]
#[allow(dead_code, reason = "its copy of a document is for what the bson crate has read")]
mod varied;

use generated::document;

/// Rows of one table: for each the number of its document, and its fields.
type Rows = Vec<(TableId, u32, Vec<Option<Vec<u8>>>)>;

/// The rows of documents, in the form in which the server has them; the documents that have none are left out.
fn rows_of<'b>(layout: &Layout, documents: &'b [Vec<u8>]) -> (Vec<RawDoc<'b>>, Rows) {
    let (mut flattener, mut encoder) = (Flattener::new(layout), CopyEncoder::new(layout));
    let (mut loaded, mut rows) = (Vec::new(), Rows::new());
    for bytes in documents {
        let document = RawDoc::new(bytes).unwrap();
        let mut rejected = false;
        flattener.flatten([document], &mut encoder, |_, _| rejected = true);
        let unit = encoder.take();
        if rejected {
            continue;
        }
        let key = loaded.len() as u32;
        loaded.push(document);
        for table in &unit.tables {
            let types = &layout.table(table.table).columns;
            rows.extend(tuples(&table.bytes).into_iter().map(|mut fields| {
                let json = fields.iter_mut().zip(types).filter(|(_, column)| column.ty == ColumnType::Json);
                json.filter_map(|(field, _)| field.as_mut()).for_each(as_jsonb_gives_it);
                (table.table, key, fields)
            }));
        }
    }
    (loaded, rows)
}

/// The tuples of one binary COPY: a header of 19 bytes, tuples of so many fields, and −1.
fn tuples(mut copy: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    let mut take = |n: usize| {
        let (head, rest) = copy.split_at(n);
        copy = rest;
        head.to_vec()
    };
    take(19);
    let mut tuples = Vec::new();
    loop {
        let fields = i16::from_be_bytes(take(2).try_into().unwrap());
        if fields == -1 {
            return tuples;
        }
        let mut field = || match i32::from_be_bytes(take(4).try_into().unwrap()) {
            -1 => None,
            length => Some(take(length as usize)),
        };
        tuples.push((0..fields).map(|_| field()).collect());
    }
}

/// Fields in the order of their length and bytes, and blanks.
fn as_jsonb_gives_it(field: &mut Vec<u8>) {
    fn print(json: &Value, out: &mut Vec<u8>) {
        let (elements, [open, close]): (Vec<(Option<&String>, &Value)>, _) = match json {
            Value::Array(elements) => (elements.iter().map(|element| (None, element)).collect(), [b'[', b']']),
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().map(|(name, value)| (Some(name), value)).collect();
                fields.sort_by_key(|(name, _)| (name.map(String::len), *name));
                (fields, [b'{', b'}'])
            }
            scalar => return out.extend_from_slice(scalar.to_string().as_bytes()),
        };
        out.push(open);
        for (at, (name, value)) in elements.into_iter().enumerate() {
            out.extend_from_slice(if at > 0 { b", " } else { b"" });
            if let Some(name) = name {
                out.extend_from_slice(serde_json::to_string(name).unwrap().as_bytes());
                out.extend_from_slice(b": ");
            }
            print(value, out);
        }
        out.push(close);
    }
    let json = serde_json::from_slice(&field[1..]).unwrap();
    field.truncate(1);
    print(&json, field);
}

fn stored(layout: &Layout, keys: usize, rows: &Rows) -> StoredRows {
    let rows = rows.iter().map(|(table, key, row)| (*table, *key, row.iter().map(Option::as_deref)));
    StoredRows::gathered(layout, keys, rows)
}

/// What changes the policies of a schema: to maps above all, and to nothing that is left out.
fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![15]),
        prop::collection::vec(any::<u8>().prop_map(|choice| if choice % 16 == 1 { choice + 1 } else { choice }), 1..12),
    ]
}

fn infer(documents: &[Vec<u8>], exact: bool, choices: Vec<u8>) -> (Schema, Layout) {
    let mut inference = Inference::default();
    for bytes in documents {
        inference.observe(RawDoc::new(bytes).unwrap()).unwrap();
    }
    let (mut schema, _) = inference.schema("posts");
    varied::vary(&mut schema, choices);
    schema.dialect = Dialect::Gizer { exact_types: exact };
    let layout = Layout::new(&schema).unwrap();
    (schema, layout)
}

fn layout(fields: &str) -> Layout {
    Layout::new(&file::parse("posts", &format!("{{\"$gizer\": 1, \"fields\": {fields}}}")).unwrap()).unwrap()
}

fn bytes(documents: &[Document]) -> Vec<Vec<u8>> {
    documents.iter().map(|document| document.to_vec().unwrap()).collect()
}

/// What is found of each document, when `change` has been made to the rows.
fn found(layout: &Layout, documents: &[Vec<u8>], change: impl FnOnce(&mut Rows)) -> Vec<Result<(), RebuiltDiffers>> {
    let (loaded, mut rows) = rows_of(layout, documents);
    change(&mut rows);
    judged(layout, loaded, &rows)
}

fn judged<'b>(
    layout: &Layout,
    documents: impl IntoIterator<Item = RawDoc<'b>, IntoIter: ExactSizeIterator>,
    rows: &Rows,
) -> Vec<Result<(), RebuiltDiffers>> {
    let documents = documents.into_iter();
    let stored = stored(layout, documents.len(), rows);
    let mut check = RebuildCheck::new(layout).unwrap();
    let each = (0..).zip(documents).map(|(key, document)| {
        let found = check.check(document, key, &stored);
        // Walking along may be unsure, but never wrong.
        assert_eq!(found, check.by_definition(document, key, &stored));
        found
    });
    each.collect()
}

fn none_differs(schema: &Schema, layout: &Layout, documents: &[Vec<u8>]) -> Result<(), TestCaseError> {
    for (at, found) in found(layout, documents, |_| ()).into_iter().enumerate() {
        prop_assert_eq!(found, Ok(()), "document {} with {}", at, file::write(schema));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn documents_come_back(
        seen in prop::collection::vec(document(), 1..8),
        unseen in prop::collection::vec(document(), 1..8),
        exact in any::<bool>(),
        choices in choices(),
    ) {
        let (schema, layout) = infer(&bytes(&seen), exact, choices);
        none_differs(&schema, &layout, &bytes(&seen))?;
        none_differs(&schema, &layout, &bytes(&unseen))?;
    }

    #[test]
    fn rows_of_another_document_are_found(
        documents in prop::collection::vec(document(), 1..4),
        exact in any::<bool>(),
        choices in choices(),
        twice in any::<bool>(),
        at in any::<Index>(),
    ) {
        let documents = bytes(&documents);
        let (schema, layout) = infer(&documents, exact, choices);
        let (loaded, rows) = rows_of(&layout, &documents);
        let others: Vec<Vec<u8>> =
            loaded.iter().map(|source| edited(*source, twice, &mut Some(at.index(elements_in(*source))))).collect();
        let others = others.iter().map(|bytes| RawDoc::new(bytes).unwrap());
        for found in judged(&layout, others, &rows) {
            prop_assert!(found.is_err(), "{}", file::write(&schema));
        }
    }

    #[test]
    fn a_fault_is_found(
        documents in prop::collection::vec(document(), 1..8),
        exact in any::<bool>(),
        choices in choices(),
        fault in fault(),
        row in any::<Index>(),
        cell in any::<Index>(),
    ) {
        let documents = bytes(&documents);
        let (schema, layout) = infer(&documents, exact, choices);
        let mut expected = None;
        let found = found(&layout, &documents, |rows| expected = break_row(&layout, rows, fault, row, cell));
        // Another fault than was asked for may be made, or none that matters.
        if let Some(key) = expected.filter(|_| !exact) {
            for (at, found) in (0..).zip(found) {
                prop_assert_eq!(found.is_err(), at == key, "{:?} {:?} in {}", found, fault, file::write(&schema));
            }
        }
    }
}

/// A document with one of its fields or elements, however deep, left out or there twice; the one that is met when `at` has
/// come to 0.
fn edited(document: RawDoc<'_>, twice: bool, at: &mut Option<usize>) -> Vec<u8> {
    let mut body = Vec::new();
    for element in document.elements().map(Result::unwrap) {
        let times = match at {
            Some(0) => {
                *at = None;
                if twice { 2 } else { 0 }
            }
            Some(left) => {
                *left -= 1;
                1
            }
            None => 1,
        };
        let value = match element.value().unwrap() {
            raw::Value::Document(inner) | raw::Value::Array(inner) => edited(inner, twice, at),
            _ => element.bytes.to_vec(),
        };
        for _ in 0..times {
            body.extend([&[element.kind as u8], element.name, &[0], &value].concat());
        }
    }
    [&(body.len() as u32 + 5).to_le_bytes()[..], &body, &[0]].concat()
}

/// How many fields and elements there are, however deep.
fn elements_in(document: RawDoc<'_>) -> usize {
    let inside = |element: raw::Element<'_>| match element.value().unwrap() {
        raw::Value::Document(inner) | raw::Value::Array(inner) => elements_in(inner),
        _ => 0,
    };
    document.elements().map(|element| 1 + inside(element.unwrap())).sum()
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    RowMissing,
    RowTwice,
    Null,
    ExtraGone,
    /// This bit of this byte.
    Bit(usize, u8),
}

fn fault() -> impl Strategy<Value = Fault> {
    // Not the bit that makes a capital letter.
    let bit = (any::<usize>(), prop_oneof![Just(1), Just(2), Just(4), Just(8), Just(16), Just(64), Just(128)]);
    prop_oneof![
        1 => Just(Fault::RowMissing),
        1 => Just(Fault::RowTwice),
        2 => Just(Fault::Null),
        2 => Just(Fault::ExtraGone),
        6 => bit.prop_map(|(at, bit)| Fault::Bit(at, bit)),
    ]
}

/// Makes the fault; gives the key under which something must be found then, if that is certain.
fn break_row(layout: &Layout, rows: &mut Rows, fault: Fault, row: Index, cell: Index) -> Option<u32> {
    let at = row.index(rows.len());
    let (table, key, fields) = &mut rows[at];
    let key = *key;
    let columns = &layout.table(*table).columns;
    let of_field = |at: &usize| matches!(columns[*at].source, ColumnSource::Field(_));
    let set: Vec<usize> = (0..columns.len()).filter(|at| of_field(at) && fields[*at].is_some()).collect();
    let last = columns.len() - 1;
    let has_extra = fields[last].is_some();
    match fault {
        Fault::RowMissing => drop(rows.remove(at)),
        Fault::RowTwice => rows.push(rows[at].clone()),
        Fault::ExtraGone => return fields[last].take().map(|_| key),
        _ if set.is_empty() => return None,
        Fault::Null => {
            fields[set[cell.index(set.len())]] = None;
            // What is kept may stand over it.
            return (!has_extra).then_some(key);
        }
        Fault::Bit(byte, bit) => {
            let column = set[cell.index(set.len())];
            let field = fields[column].as_mut().filter(|field| !field.is_empty())?;
            let byte = byte % field.len();
            field[byte] ^= bit;
            // Numbers of the same value, another form of the same JSON, an array's flag for NULLs or type of elements.
            let may_be_the_same = matches!(
                columns[column].ty,
                ColumnType::Double | ColumnType::Numeric | ColumnType::Json | ColumnType::List(_)
            );
            return (!has_extra && !may_be_the_same).then_some(key);
        }
    }
    Some(key)
}

#[test]
fn what_the_bson_crate_would_change_comes_back() {
    // Options that are not sorted, and the old subtype with its second length; as a value, in a column, and as `_id`.
    let regex = b"\x0Br\0a\0xim\0";
    let old = b"\x05o\0\x07\0\0\0\x02\x03\0\0\0abc";
    let empty = layout(r#"{"_id": "KEY"}"#);
    let json = layout(r#"{"_id": "KEY", "r": {"$as": "json"}, "o": {"$as": "json"}}"#);
    for values in [&regex[..], &old[..], &[&regex[..], old].concat()] {
        let id = doc! {"_id": 1}.to_vec().unwrap();
        let body = [&id[4..id.len() - 1], values, &[0]].concat();
        let document = [&(body.len() as u32 + 4).to_le_bytes()[..], &body].concat();
        for layout in [&empty, &json] {
            assert_eq!(found(layout, std::slice::from_ref(&document), |_| ()), [Ok(())]);
        }
    }
    let id = b"\x05_id\0\x07\0\0\0\x02\x03\0\0\0abc\0";
    let document = [&(id.len() as u32 + 4).to_le_bytes()[..], id].concat();
    assert_eq!(found(&empty, &[document], |_| ()), [Ok(())]);
    // An `_id` with a field twice.
    let mut twice = doc! {"_id": {"a": 1, "Q": 2}}.to_vec().unwrap();
    let at = twice.iter().position(|byte| *byte == b'Q').unwrap();
    twice[at] = b'a';
    assert_eq!(found(&empty, &[twice], |_| ()), [Ok(())]);
}

#[test]
fn ignored_fields_are_left_out_on_both_sides() {
    let layout = layout(
        r#"{"_id": "INT", "gone": {"$as": "ignore"}, "a": "INT", "d": {"gone": {"$as": "ignore"}, "x": "INT"},
            "l": [{"gone": {"$as": "ignore"}, "x": "INT"}]}"#,
    );
    let documents = bytes(&[
        doc! {"_id": 1, "gone": 1, "a": 1, "d": {"gone": 1, "x": 1}, "l": [{"gone": 1}, {"x": 1, "gone": 1}]},
        // Of the document nothing is left that a column could tell of.
        doc! {"_id": 2, "gone": {"x": 1}, "d": {"gone": 1}},
        doc! {"_id": 3, "d": {}, "l": []},
        // The document is kept whole, with what is ignored.
        doc! {"_id": 4, "gone": 1, "a": "stray", "d": {"gone": 1, "x": 1, "\u{1}": {"gone": 1}}},
    ]);
    assert_eq!(found(&layout, &documents, |_| ()), vec![Ok(()); documents.len()]);
    // With a field twice.
    let mut twice = doc! {"_id": 5, "gone": 1, "a": 1, "Q": 1}.to_vec().unwrap();
    let at = twice.iter().position(|byte| *byte == b'Q').unwrap();
    twice[at] = b'a';
    assert_eq!(found(&layout, &[twice], |_| ()), [Ok(())]);
}

#[test]
fn the_first_path_that_differs_is_named() {
    let layout = layout(r#"{"_id": "INT", "a": [{"b": [["INT"]], "c": {"$as": "json"}}]}"#);
    let source = doc! {"_id": 1, "a": [{"c": 1}, {"b": [[1], [2, 3]], "c": {"x": [1, {"y": 2}]}}]};
    let (_, rows) = rows_of(&layout, &bytes(&[source]));
    let cases = [
        (doc! {"_id": 1, "a": [{"c": 1}, {"b": [[1], [2, 4]], "c": {"x": [1, {"y": 2}]}}]}, "a.1.b.1.1"),
        (doc! {"_id": 1, "a": [{"c": 1}, {"b": [[1], [2, 3, 4]], "c": {"x": [1, {"y": 2}]}}]}, "a.1.b.1.2"),
        (doc! {"_id": 1, "a": [{"c": 1}, {"b": [[1], [2, 3]], "c": {"x": [1, {"y": 2i64}]}}]}, "a.1.c.x.1.y"),
        (doc! {"_id": 1, "a": [{"c": 1}, {"b": [[1], [2, 3]]}]}, "a.1.c"),
        (doc! {"_id": 1, "a": [{"c": 1}]}, "a.1"),
        (doc! {"_id": 1, "a": Bson::Null}, "a"),
        (doc! {"_id": 2, "new": 1}, "_id"),
    ];
    for (document, path) in cases {
        let other = bytes(&[document]);
        let found = judged(&layout, [RawDoc::new(&other[0]).unwrap()], &rows);
        assert_eq!(found, [Err(RebuiltDiffers { path: path.to_owned(), error: None })]);
    }
}

/// Else an audit would take ten times as long.
#[test]
fn what_is_usual_is_settled_without_rebuilding() {
    let layout = layout(
        r#"{"_id": "KEY", "a": "INT", "d": {"x": "DOUBLE", "t": "TIMESTAMP"}, "e": "DECIMAL", "j": {"$as": "json"},
            "l": [{"x": "INT"}], "n": ["STRING"], "s": {"$as": "array", "$type": "STRING"},
            "m": {"$as": "map", "$values": {"x": "INT", "l": ["INT"], "deep": {"$as": "map", "$values": "INT"}}},
            "lm": [{"m": {"$as": "map", "$values": "STRING"}}]}"#,
    );
    let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
    let documents = bytes(&[
        doc! {"_id": 1, "a": 1, "d": {"x": 1.5, "t": bson::DateTime::from_millis(-5)}, "e": decimal("1.50"), "j": [1]},
        doc! {"_id": "two", "a": 2i64, "d": {"x": 1}, "e": 5, "l": [{"x": 1}, {}, {"x": Bson::Null}], "n": ["ü\n"]},
        doc! {"_id": bson::oid::ObjectId::from_bytes([3; 12]), "a": Bson::Null, "d": {}, "l": [], "n": Bson::Null},
        doc! {"_id": 4, "a": "stray", "new": {"bb": [1.5], "a": true}, "l": ["x", {"x": "y", "z/~": 1}], "s": ["a"]},
        doc! {"_id": 5, "m": {"b": {"x": 1, "l": [1, 2], "deep": {"z": 1, "": 2, "ü": Bson::Null}}, "a": {"x": 1}, "": {}}},
        doc! {"_id": 6, "m": {"b": {"deep": {"b": 1}}, "a": "stray", "$.~/": {"x": "stray", "new": 1, "l": [], "deep": {}}}},
        doc! {"_id": 7, "m": {}, "lm": [{"m": {"k": "1", "a": "2"}}, {"m": {}}, {}, {"m": {"k": "3"}}, {"m": {"z": 1}}]},
    ]);
    let (loaded, rows) = rows_of(&layout, &documents);
    let stored = stored(&layout, loaded.len(), &rows);
    let mut check = RebuildCheck::new(&layout).unwrap();
    for (key, document) in (0..).zip(loaded) {
        check.check(document, key, &stored).unwrap();
        assert_eq!(check.rebuilt, 0, "document {key}");
    }
}
