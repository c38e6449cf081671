//! What goes into `_extra`, in which form: each row of the tables of docs/mapping.md.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};
use gizer_flatten::{Cell, Flattener, Row, RowSink};
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, file};
use serde_json::{Value, json};

#[derive(Default)]
struct Extras {
    /// By table: whether the value column is NULL, and `_extra`.
    rows: Vec<(usize, Value)>,
    nulls: Vec<bool>,
}

impl RowSink for Extras {
    fn begin_document(&mut self) {}

    fn row(&mut self, row: Row<'_>) {
        let mut json = Vec::new();
        row.extra.write_to(&mut json);
        let extra = serde_json::from_slice(&json).unwrap();
        self.rows.push((row.table.0, extra));
        self.nulls.extend((row.table.0 == 0).then(|| row.cells.contains(&Cell::Null)));
    }

    fn discard_document(&mut self) {}
}

fn layout(fields: &str, exact: bool) -> Layout {
    let text = format!("{{\"$gizer\": 1, \"exact_types\": {exact}, \"fields\": {fields}}}");
    Layout::new(&file::parse("c", &text).unwrap()).unwrap()
}

fn flatten(layout: &Layout, bytes: &[u8]) -> Extras {
    let mut extras = Extras::default();
    Flattener::new(layout).flatten([RawDoc::new(bytes).unwrap()], &mut extras, |_, rejection| panic!("{rejection:?}"));
    extras
}

/// `_extra` of the root row.
fn root(fields: &str, document: &Document) -> Value {
    let layout = layout(fields, false);
    flatten(&layout, &document.to_vec().unwrap()).rows.into_iter().find(|(table, _)| *table == 0).unwrap().1
}

#[test]
fn each_form() {
    let n = r#"{"_id": "INT", "n": "INT", "d": {"x": "INT"}, "l": ["INT"]}"#;
    let cases = [
        (n, doc! {"_id": 1, "n": 1.5}, json!({"/n": {"$numberDouble": "1.5"}})),
        (n, doc! {"_id": 1, "n": 1, "address": {"po~1/box": "7"}}, json!({"/address": {"po~1/box": "7"}})),
        (n, doc! {"_id": 1, "n": 1, "d": {"a~/b": "7"}}, json!({"/d/a~0~1b": "7"})),
        (n, doc! {"_id": 1, "n": Bson::Null}, json!({"/n": null})),
        (n, doc! {"_id": 1, "n": 1, "d": {}, "l": []}, json!({"/d": {}, "/l": []})),
        (n, doc! {"_id": 1, "n": 1, "d": Bson::Null, "l": Bson::Null}, json!({"/d": null, "/l": null})),
        (n, doc! {"_id": 1, "n": 1, "d": 5, "l": "x"}, json!({"/d": {"$numberInt": "5"}, "/l": "x"})),
        (n, doc! {"_id": 1, "n": 1, "d": {"x": 1}, "l": [1]}, json!({})),
        (n, doc! {"_id": 1}, json!({})),
    ];
    for (fields, document, expected) in cases {
        assert_eq!(root(fields, &document), expected, "{document}");
    }
}

#[test]
fn elements_keep_what_does_not_fit_under_the_empty_pointer() {
    let layout = layout(r#"{"_id": "INT", "l": [{"x": "INT"}], "m": ["INT"]}"#, false);
    let document = doc! {"_id": 1, "l": [{"x": 1}, 5, Bson::Null, {}, {"y": 2}], "m": [1, "x", Bson::Null]};
    let rows = flatten(&layout, &document.to_vec().unwrap()).rows;
    let of =
        |table: usize| rows.iter().filter(|(t, _)| *t == table).map(|(_, extra)| extra.clone()).collect::<Vec<_>>();
    let five = json!({"": {"$numberInt": "5"}});
    let y = json!({"/y": {"$numberInt": "2"}});
    assert_eq!(of(1), [json!({}), five, json!({"": null}), json!({}), y]);
    assert_eq!(of(2), [json!({}), json!({"": "x"}), json!({})], "a NULL element is null by itself");
}

#[test]
fn what_jsonb_would_not_give_back_is_kept_as_bson() {
    let deep = (0..120).fold(Bson::Int32(1), |inner, _| vec![inner].into());
    for value in [Bson::from("a\0b"), doc! {"$x": 1}.into(), deep] {
        let extra = root(r#"{"_id": "INT", "n": "INT"}"#, &doc! {"_id": 1, "n": value});
        assert!(extra["/n"]["$bson"].is_string(), "{extra}");
    }
    // A field twice: the whole document it stands in, under its own pointer.
    let mut bytes = doc! {"_id": 1, "d": {"x": 1, "Q": 2}}.to_vec().unwrap();
    let at = bytes.iter().position(|byte| *byte == b'Q').unwrap();
    bytes[at] = b'x';
    let layout = layout(r#"{"_id": "INT", "d": {"x": "INT"}}"#, false);
    let extras = flatten(&layout, &bytes);
    assert!(extras.rows[0].1["/d"]["$bson"].is_string(), "{:?}", extras.rows);
    assert_eq!(extras.nulls, [false], "the first of the two is in its column");
}

#[test]
fn ids_that_their_key_does_not_hold_and_exact_types() {
    let long = "x".repeat(1500);
    assert_eq!(root(r#"{"_id": "KEY"}"#, &doc! {"_id": &long}), json!({"/_id": long}));
    assert_eq!(root(r#"{"_id": "KEY"}"#, &doc! {"_id": {"a": 1}}), json!({}));
    let exact = layout(r#"{"_id": "INT", "n": "INT", "d": "DOUBLE"}"#, true);
    let extras = flatten(&exact, &doc! {"_id": 1, "n": 5.0, "d": 2.0}.to_vec().unwrap());
    assert_eq!(extras.rows[0].1, json!({"/n": {"$numberDouble": "5.0"}}));
    assert_eq!(extras.nulls, [false], "the column has the value too");
}

/// Each type of a schema with a value that fits and one that does not.
#[test]
fn each_type_takes_its_own() {
    let binary = |subtype, length| Bson::Binary(Binary { subtype, bytes: vec![1; length] });
    let oid: Bson = bson::oid::ObjectId::from_bytes([1; 12]).into();
    let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
    let cases: Vec<(&str, Bson, Bson)> = vec![
        ("\"STRING\"", "x".into(), oid.clone()),
        ("\"INT\"", 5.0.into(), 5.5.into()),
        ("\"BIGINT\"", 5.into(), "5".into()),
        ("\"TINYINT\"", 5.into(), 70_000.into()),
        ("\"DOUBLE\"", decimal("0.5"), decimal("0.1")),
        ("\"DECIMAL\"", 0.5.into(), 0.1.into()),
        ("\"DECIMAL\"", decimal("1E+6000"), decimal("Infinity")),
        ("\"BOOLEAN\"", true.into(), 1.into()),
        ("\"TIMESTAMP\"", bson::DateTime::from_millis(0).into(), bson::DateTime::from_millis(i64::MAX).into()),
        ("\"OBJECTID\"", oid, "0123456789abcdef01234567".into()),
        ("\"BINARY\"", binary(BinarySubtype::Generic, 3), binary(BinarySubtype::Md5, 3)),
        ("\"UUID\"", binary(BinarySubtype::Uuid, 16), binary(BinarySubtype::Uuid, 15)),
        (r#"{"$as": "array", "$type": "INT"}"#, vec![Bson::from(1), Bson::Null].into(), vec![Bson::from("x")].into()),
    ];
    for (ty, fits, stray) in cases {
        let layout = layout(&format!("{{\"_id\": \"INT\", \"v\": {ty}}}"), false);
        let kept = flatten(&layout, &doc! {"_id": 1, "v": fits}.to_vec().unwrap());
        assert_eq!((kept.nulls.as_slice(), &kept.rows[0].1), (&[false][..], &json!({})), "{ty}");
        let kept = flatten(&layout, &doc! {"_id": 1, "v": stray}.to_vec().unwrap());
        assert_eq!(kept.nulls, [true], "{ty}");
        assert!(kept.rows[0].1["/v"] != Value::Null, "{ty}: {:?}", kept.rows);
    }
    for anything in [Bson::from(1), doc! {"x": [1]}.into(), Bson::MinKey] {
        let layout = layout(r#"{"_id": "INT", "v": {"$as": "json"}, "gone": {"$as": "ignore"}}"#, false);
        let kept = flatten(&layout, &doc! {"_id": 1, "v": anything, "gone": 1}.to_vec().unwrap());
        assert_eq!((kept.nulls.as_slice(), &kept.rows[0].1), (&[false][..], &json!({})));
    }
}
