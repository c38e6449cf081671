//! A schema grows by what stored rows have in `_extra`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bson::{Bson, Document, doc};
use gizer_schema::infer::{Evolution, EvolveRules, InferenceRules, LeftBecause, Limits, Unplaced, evolve, threshold};
use gizer_schema::raw::RawDoc;
use gizer_schema::{ColumnId, Dialect, Layout, ScalarType, Schema, TableId, file};

const RULES: fn() -> EvolveRules =
    || EvolveRules { inference: InferenceRules::default(), threshold: 2, adopts: true, widens: true };

fn schema(fields: &str) -> Schema {
    file::parse("posts", &format!("{{\"$gizer\": 1, \"fields\": {fields}}}")).unwrap()
}

/// So many documents with this part in `_extra`; paths are joined by dots.
fn add(seen: &mut Unplaced, documents: u64, part: &Document, paths: &[&str]) {
    for _ in 0..documents {
        seen.observe(RawDoc::new(&part.to_vec().unwrap()).unwrap()).unwrap();
        for path in paths {
            seen.count_document(&path.split('.').map(str::to_owned).collect::<Vec<_>>());
        }
    }
}

fn seen(parts: &[(u64, Document, &str)]) -> Unplaced {
    let mut seen = Unplaced::default();
    for (documents, part, path) in parts {
        add(&mut seen, *documents, part, &[path]);
    }
    seen
}

/// Checks the schema that follows.
fn grows(fields: &str, seen: &Unplaced, into: &str) -> Evolution {
    let evolution = evolve(&schema(fields), seen, &RULES()).unwrap();
    let (mut is, expected) = (evolution.schema.clone(), schema(into));
    clear_seen(&mut is);
    assert_eq!(file::write(&is), file::write(&expected));
    evolution
}

/// What inference saw is for people.
fn clear_seen(schema: &mut Schema) {
    let mut written: serde_json::Value = serde_json::from_str(&file::write(schema)).unwrap();
    fn clear(json: &mut serde_json::Value) {
        match json {
            serde_json::Value::Object(fields) => {
                fields.remove("$seen");
                fields.values_mut().for_each(clear);
            }
            serde_json::Value::Array(elements) => elements.iter_mut().for_each(clear),
            _ => {}
        }
    }
    clear(&mut written);
    *schema = file::parse(&schema.collection, &written.to_string()).unwrap();
}

fn adopted(evolution: &Evolution) -> Vec<(&str, u64, &str)> {
    evolution.adopted.iter().map(|adopted| (adopted.path.as_str(), adopted.documents, adopted.chosen)).collect()
}

fn left(evolution: &Evolution) -> Vec<(&str, u64, LeftBecause)> {
    evolution.left.iter().map(|left| (left.path.as_str(), left.documents, left.why.clone())).collect()
}

const TOO_FEW: LeftBecause = LeftBecause::TooFew { threshold: 2 };

#[test]
fn a_new_scalar_gets_a_column() {
    let seen = seen(&[(2, doc! {"n": 1}, "n"), (1, doc! {"n": 5i64}, "n"), (1, doc! {"n": Bson::Null}, "n")]);
    let evolution = grows(r#"{"_id": "INT"}"#, &seen, r#"{"_id": "INT", "n": "BIGINT"}"#);
    assert_eq!(adopted(&evolution), [("n", 4, "BIGINT")]);
}

#[test]
fn a_new_document_gets_columns_and_tables_without_what_is_not_known_yet() {
    let address =
        doc! {"address": {"city": "x", "geo": {"lat": 0.5}, "tags": ["a"], "old": Bson::Null, "none": [], "e": {}}};
    let evolution = grows(
        r#"{"_id": "INT"}"#,
        &seen(&[(2, address, "address")]),
        r#"{"_id": "INT", "address": {"city": "STRING", "geo": {"lat": "DOUBLE"}, "tags": ["STRING"]}}"#,
    );
    assert_eq!(adopted(&evolution), [("address", 2, "DOCUMENT")]);
}

#[test]
fn new_arrays_get_tables() {
    let seen = seen(&[
        (2, doc! {"tags": ["a", "b"]}, "tags"),
        (3, doc! {"items": [{"n": 1}, {"m": true}]}, "items"),
        (2, doc! {"grid": [[1], [2]]}, "grid"),
    ]);
    let into = r#"{"_id": "INT", "grid": ["JSON"], "items": [{"m": "BOOLEAN", "n": "INT"}], "tags": ["STRING"]}"#;
    let evolution = grows(r#"{"_id": "INT"}"#, &seen, into);
    assert_eq!(adopted(&evolution), [("items", 3, "ARRAY"), ("grid", 2, "ARRAY"), ("tags", 2, "ARRAY")]);
}

#[test]
fn fields_of_elements_of_entries_and_of_documents_are_found() {
    let map = r#"{"$as": "map", "$values": {"n": "INT"}}"#;
    let grid = r#"[{"$as": "table", "$items": {"n": "INT"}}]"#;
    let seen = seen(&[
        (2, doc! {"comments": [{"likes": [1]}]}, "comments.likes"),
        (2, doc! {"scores": {"": {"by": {"who": "x"}}}}, "scores.by"),
        (2, doc! {"d": {"x": 1}}, "d.x"),
        (2, doc! {"grid": [[{"m": 1}]]}, "grid.item.m"),
    ]);
    let evolution = grows(
        &format!(
            r#"{{"_id": "INT", "comments": [{{"n": "INT"}}], "scores": {map}, "d": {{"n": "INT"}}, "grid": {grid}}}"#
        ),
        &seen,
        r#"{"_id": "INT", "comments": [{"n": "INT", "likes": ["INT"]}], "d": {"n": "INT", "x": "INT"},
            "scores": {"$as": "map", "$values": {"n": "INT", "by": {"who": "STRING"}}},
            "grid": [{"$as": "table", "$items": {"m": "INT", "n": "INT"}}]}"#,
    );
    assert_eq!(
        adopted(&evolution),
        [("comments.likes", 2, "ARRAY"), ("d.x", 2, "INT"), ("grid.item.m", 2, "INT"), ("scores.by", 2, "DOCUMENT")]
    );
}

#[test]
fn an_object_with_names_that_are_data_becomes_a_map() {
    let part = |i: u32| doc! {"m": {format!("{i:024x}"): {"points": 1}}};
    let mut unplaced = Unplaced::default();
    (0..20).for_each(|i| add(&mut unplaced, 1, &part(i), &["m"]));
    let into = r#"{"_id": "INT", "m": {"$as": "map", "$values": {"points": "INT"}}}"#;
    let evolution = grows(r#"{"_id": "INT"}"#, &unplaced, into);
    assert_eq!(adopted(&evolution), [("m", 20, "MAP")]);
    assert_eq!(evolution.adopted[0].map.unwrap().names, 20);
}

#[test]
fn what_is_rare_or_says_nothing_stays() {
    let unplaced = seen(&[
        (1, doc! {"rare": 1}, "rare"),
        (5, doc! {"null": Bson::Null}, "null"),
        (5, doc! {"none": []}, "none"),
        (5, doc! {"empty": {"x": {}, "y": Bson::Null}}, "empty"),
    ]);
    let fields = r#"{"_id": "INT"}"#;
    let evolution = grows(fields, &unplaced, fields);
    let expected = [
        ("empty", 5, LeftBecause::OnlyEmpty),
        ("none", 5, LeftBecause::OnlyEmpty),
        ("null", 5, LeftBecause::OnlyNull),
        ("rare", 1, TOO_FEW),
    ];
    assert_eq!(left(&evolution), expected);
    assert_eq!(evolution.left[3].why.to_string(), "in fewer than 2 documents");
}

#[test]
fn mixed_types_become_json() {
    let seen = seen(&[(2, doc! {"x": 1}, "x"), (2, doc! {"x": "text"}, "x"), (2, doc! {"x": {"y": 1}}, "x")]);
    let evolution = grows(r#"{"_id": "INT"}"#, &seen, r#"{"_id": "INT", "x": "JSON"}"#);
    assert_eq!(adopted(&evolution), [("x", 6, "JSON")]);
    assert_eq!(evolution.adopted[0].seen.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn a_new_name_never_takes_that_of_a_column_or_a_table() {
    let fields = r#"{"_id": "INT", "a_b": "INT", "x": [{"y": ["INT"]}]}"#;
    let before = Layout::new(&schema(fields)).unwrap();
    let seen = seen(&[
        (2, doc! {"a": {"b": 1}}, "a"),
        (2, doc! {"_x": [{"y": [1]}]}, "_x"),
        (2, doc! {"idx": 1, "_extra": 2}, "idx"),
        (2, doc! {"_extra": 2}, "_extra"),
    ]);
    let evolution = evolve(&schema(fields), &seen, &RULES()).unwrap();
    assert_eq!(evolution.adopted.len(), 4);
    let after = Layout::new(&evolution.schema).unwrap();
    for table in &before.tables {
        let same = after.tables.iter().find(|same| same.name == table.name).unwrap();
        let path =
            |layout: &Layout, table: &gizer_schema::Table| table.path.map(|path| layout.path(path).fields.clone());
        assert_eq!(path(&before, table), path(&after, same));
        for column in &table.columns {
            assert!(same.columns.iter().any(|same| same.name == column.name && same.ty == column.ty), "{column:?}");
        }
    }
    assert_eq!(file::parse("posts", &file::write(&evolution.schema)).unwrap(), evolution.schema);
}

/// Policies that a person wrote, an `_id`, and values that are no document, array or map.
#[test]
fn what_stands_is_not_changed() {
    let fields = r#"{"_id": "KEY", "j": "JSON", "i": {"$as": "ignore"}, "l": {"$as": "array", "$type": "INT"},
        "d": {"n": "INT"}, "t": ["INT"], "m": {"$as": "map", "$values": "INT"}}"#;
    let seen = seen(&[
        (5, doc! {"l": ["text"]}, "l"),
        (5, doc! {"d": 5}, "d"),
        (5, doc! {"t": 5}, "t"),
        (5, doc! {"m": [1]}, "m"),
        (5, doc! {"j": {"x": 1}}, "j"),
        (5, doc! {"i": {"x": 1}}, "i"),
        (5, doc! {"_id": {"x": 1}}, "_id"),
    ]);
    let evolution = grows(fields, &seen, fields);
    let differ = |path| (path, 5, LeftBecause::TypesDiffer);
    assert_eq!(left(&evolution), ["_id", "d", "j", "l", "m", "t"].map(differ));
    assert_eq!(evolution.schema, schema(fields));
}

#[test]
fn a_classic_schema_never_grows() {
    let classic = file::parse("posts", r#"{"_id": "INT", "n": "INT"}"#).unwrap();
    let evolution = evolve(&classic, &seen(&[(9, doc! {"x": 1}, "x")]), &RULES()).unwrap();
    assert_eq!((&evolution.schema, evolution.adopted.len(), evolution.left.len()), (&classic, 0, 0));
}

/// The key of a schema without `_id` stays the same.
#[test]
fn an_id_that_is_no_key_is_not_adopted() {
    let fields = r#"{"id": "INT"}"#;
    grows(fields, &seen(&[(9, doc! {"_id": 1}, "_id"), (9, doc! {"id": "x"}, "id")]), fields);
}

#[test]
fn within_the_limits_what_most_documents_have_comes_first() {
    let mut rules = RULES();
    rules.inference.limits = Limits { tables: 2, columns: 3 };
    let seen = seen(&[
        (2, doc! {"a": 1}, "a"),
        (9, doc! {"b": [1]}, "b"),
        (8, doc! {"c": [1]}, "c"),
        (7, doc! {"d": {"x": 1, "y": 2}}, "d"),
        (2, doc! {"b": [{}]}, "b"),
    ]);
    let evolution = evolve(&schema(r#"{"_id": "INT"}"#), &seen, &rules).unwrap();
    assert_eq!(adopted(&evolution), [("b", 11, "ARRAY"), ("c", 8, "JSON"), ("d", 7, "JSON")]);
    assert_eq!(left(&evolution), [("a", 2, LeftBecause::TooManyColumns)]);
}

#[test]
fn the_threshold_is_the_smaller_of_number_and_share_but_two_at_least() {
    assert_eq!([0, 100, 201, 900, 10_000].map(|documents| threshold(documents, 10, 1.0)), [2, 2, 3, 9, 10]);
    assert_eq!([f64::NAN, -1.0, f64::INFINITY].map(|share| threshold(1_000, 10, share)), [2, 2, 10]);
}

/// The type of a column of the root table that holds so many values, with so many in `_extra`.
fn widened(from: &str, held: u64, strays: &[(u64, Bson)]) -> Option<ScalarType> {
    let schema = schema(&format!(r#"{{"_id": "INT", "x": "{from}"}}"#));
    let layout = Layout::new(&schema).unwrap();
    let mut unplaced = Unplaced::default();
    for (documents, stray) in strays {
        add(&mut unplaced, *documents, &doc! {"x": stray.clone()}, &["x"]);
    }
    if let [(table, column)] = unplaced.paths_with_strays(&layout)[..] {
        unplaced.held(table, column, held);
    }
    let evolution = evolve(&schema, &unplaced, &RULES()).unwrap();
    let off = evolve(&schema, &unplaced, &EvolveRules { widens: false, ..RULES() }).unwrap();
    assert_eq!(off.schema, schema);
    evolution.widened.first().map(|widened| widened.to)
}

#[test]
fn columns_widen_as_inference_widens() {
    let (long, double): (Bson, Bson) = ((1i64 << 40).into(), 0.5.into());
    let wide: Bson = i64::MAX.into();
    let decimal = Bson::Decimal128("0.1".parse().unwrap());
    let text: Bson = "text".into();
    for (from, held, strays, to) in [
        ("INT", 9_000, vec![(2, long.clone())], Some(ScalarType::BigInt)),
        ("INT", 9_000, vec![(1, long.clone())], None),
        ("INT", 9_000, vec![(2, double.clone())], Some(ScalarType::Double)),
        ("INT", 9_000, vec![(2, double.clone()), (2, long.clone())], Some(ScalarType::Double)),
        ("INT", 9_000, vec![(2, double.clone()), (2, wide.clone())], Some(ScalarType::Decimal)),
        ("BIGINT", 0, vec![(2, double.clone())], Some(ScalarType::Decimal)),
        ("DOUBLE", 5, vec![(2, wide.clone())], Some(ScalarType::Decimal)),
        ("DOUBLE", 5, vec![(2, decimal.clone())], Some(ScalarType::Decimal)),
        ("DECIMAL", 5, vec![(2, f64::INFINITY.into())], None),
        ("INT", 99, vec![(2, text.clone())], None),
        ("BOOLEAN", 99, vec![(2, text.clone())], Some(ScalarType::Json)),
        ("INT", 9_000, vec![(2, text.clone())], None),
        ("INT", 9_000, vec![(2, text.clone()), (1, long.clone())], None),
        ("INT", 0, vec![(500, text.clone())], Some(ScalarType::Json)),
        ("STRING", 1, vec![(500, text.clone())], None),
        ("STRING", 10, vec![(2, doc! {"y": 1}.into())], Some(ScalarType::Json)),
        ("TINYINT", 0, vec![(2, text.clone())], Some(ScalarType::String)),
        ("TINYINT", 0, vec![(2, text.clone()), (2, true.into())], Some(ScalarType::Json)),
        ("TINYINT", 0, vec![(2, doc! {"y": 1}.into())], None),
        ("TINYINT", 3, vec![(2, 100_000.into())], Some(ScalarType::Int)),
        ("TINYINT", 3, vec![(2, text.clone())], None),
        ("JSON", 3, vec![(2, text.clone())], None),
    ] {
        assert_eq!(widened(from, held, &strays), to, "{from} with {held} and {strays:?}");
    }
}

/// JSON has the types of numbers, and a column has not: what they were is known where the schema
/// keeps it.
#[test]
fn a_column_of_numbers_becomes_json_only_where_their_types_are_kept() {
    let mut schema = schema(r#"{"_id": "INT", "x": "INT"}"#);
    let mut unplaced = seen(&[(2, doc! {"x": "text"}, "x")]);
    unplaced.held(TableId(0), ColumnId(1), 99);
    let evolution = evolve(&schema, &unplaced, &RULES()).unwrap();
    assert_eq!((evolution.widened.len(), &evolution.schema), (0, &schema));
    assert_eq!(left(&evolution), [("x", 2, LeftBecause::NeedsLoad { to: ScalarType::Json })]);
    schema.dialect = Dialect::Gizer { exact_types: true };
    let evolution = evolve(&schema, &unplaced, &RULES()).unwrap();
    assert_eq!(evolution.widened.first().map(|widened| widened.to), Some(ScalarType::Json));
}

#[test]
fn a_pinned_type_stays() {
    let fields = |pinned| format!(r#"{{"_id": "INT", "x": {{"$type": "INT", "$pinned": {pinned}}}, "l": ["INT"]}}"#);
    let unplaced = || seen(&[(2, doc! {"x": 0.5}, "x"), (2, doc! {"l": [0.5]}, "l")]);
    let evolution = evolve(&schema(&fields(true)), &unplaced(), &RULES()).unwrap();
    assert_eq!(evolution.widened.iter().map(|widened| widened.path.as_str()).collect::<Vec<_>>(), ["l"]);
    assert_eq!(left(&evolution), [("x", 2, LeftBecause::Pinned)]);
    assert_eq!(evolve(&schema(&fields(false)), &unplaced(), &RULES()).unwrap().widened.len(), 2);
}

#[test]
fn widening_alone_gives_nothing_a_place() {
    let schema = schema(r#"{"_id": "INT", "x": "INT"}"#);
    let unplaced = seen(&[(2, doc! {"x": 0.5}, "x"), (5, doc! {"y": 1}, "y")]);
    let evolution = evolve(&schema, &unplaced, &EvolveRules { adopts: false, ..RULES() }).unwrap();
    assert_eq!((adopted(&evolution), left(&evolution)), (vec![], vec![]));
    assert_eq!(evolution.widened.len(), 1);
}

#[test]
fn elements_entries_and_ids_widen() {
    let map = |of: &str| format!(r#"{{"$as": "map", "$values": "{of}"}}"#);
    let fields = |id, of| {
        format!(r#"{{"_id": "{id}", "l": ["{of}"], "m": {}, "g": [{{"$as": "table", "$items": "{of}"}}]}}"#, map(of))
    };
    let seen = seen(&[
        (2, doc! {"_id": "x"}, "_id"),
        (2, doc! {"l": [0.5]}, "l"),
        (2, doc! {"m": {"": 0.5}}, "m"),
        (2, doc! {"g": [[0.5]]}, "g.item"),
    ]);
    let evolution = grows(&fields("INT", "INT"), &seen, &fields("KEY", "DOUBLE"));
    let widened: Vec<_> = evolution.widened.iter().map(|widened| widened.path.as_str()).collect();
    assert_eq!(widened, ["_id", "g.item", "l", "m{}"]);
}

/// A key has no room for more positions.
#[test]
fn an_array_below_as_many_as_a_key_has_room_for_becomes_json() {
    let below = |arrays: usize| {
        let fields = (0..arrays).fold(r#"{"n": "INT"}"#.to_owned(), |inside, _| format!(r#"{{"a": [{inside}]}}"#));
        let part = (0..arrays).fold(doc! {"x": [1]}, |inside, _| doc! {"a": [inside]});
        let path = format!("{}x", "a.".repeat(arrays));
        let first = schema(&fields.replacen('{', r#"{"_id": "INT", "#, 1));
        evolve(&first, &seen(&[(2, part, &path)]), &RULES()).unwrap().adopted[0].chosen
    };
    assert_eq!((below(30), below(31)), ("ARRAY", "JSON"));
}

/// What is not known by its name is reported as one, and known fields are as they were.
#[test]
fn names_without_end_in_a_known_document_stay() {
    let mut unplaced = Unplaced::default();
    for i in 0..3_000 {
        add(&mut unplaced, 1, &doc! {"d": {format!("name {i}"): 1}}, &[&format!("d.name {i}")]);
    }
    let fields = r#"{"_id": "INT", "d": {"n": "INT"}}"#;
    let evolution = grows(fields, &unplaced, fields);
    assert_eq!(left(&evolution), [("d", 3_000, LeftBecause::TooManyNames)]);
}
