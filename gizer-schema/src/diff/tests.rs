use super::*;
use crate::file;

fn classic(fields: &str) -> Schema {
    file::parse("posts", fields).unwrap()
}

fn gizer(fields: &str) -> Schema {
    file::parse("posts", &format!("{{\"$gizer\": 1, \"fields\": {fields}}}")).unwrap()
}

fn diff(old: &Schema, new: &Schema) -> SchemaDiff {
    SchemaDiff::between(old, new).unwrap()
}

/// Each path and what is said of it, as text.
fn paths(diff: &SchemaDiff) -> Vec<String> {
    let line = |change: &PathChange| match &change.kind {
        PathChangeKind::Added(said) => format!("+ {} {said}", change.path),
        PathChangeKind::Removed(said) => format!("- {} {said}", change.path),
        PathChangeKind::Changed(from, to) => format!("~ {} {from} → {to}", change.path),
        PathChangeKind::Named(from, to) => format!("= {} {from:?} → {to:?}", change.path),
    };
    diff.paths.iter().map(line).collect()
}

fn tables(diff: &SchemaDiff) -> Vec<String> {
    let mut lines = Vec::new();
    for change in &diff.tables {
        match change {
            TableChange::Made(table) => lines.push(format!("+ {}", table.name)),
            TableChange::Dropped(table) => lines.push(format!("- {}", table.name)),
            TableChange::Changed { old, new, columns, key } => {
                lines.push(format!("~ {} → {}{}", old.name, new.name, if *key { " key" } else { "" }));
                lines.extend(columns.iter().map(|column| match column {
                    ColumnChange::Added(column) => format!("  + {} {}", column.name, column.sql_type),
                    ColumnChange::Removed(column) => format!("  - {} {}", column.name, column.sql_type),
                    ColumnChange::Changed(old, new) => {
                        format!("  ~ {} {} → {} {}", old.name, old.sql_type, new.name, new.sql_type)
                    }
                }));
            }
        }
    }
    lines
}

#[test]
fn paths_and_tables_are_told() {
    let old = gizer(
        r#"{"_id": "OBJECTID", "a": "INT", "gone": "STRING", "meta": {"x": "INT"}, "tags": ["STRING"],
            "comments": [{"body": "STRING", "likes": "INT"}], "list": {"$as": "array", "$type": "INT"}}"#,
    );
    let new = gizer(
        r#"{"_id": "OBJECTID", "a": "BIGINT", "new": {"y": "INT"}, "meta": {"$as": "json"},
            "comments": [{"body": {"$type": "STRING", "$name": "text"}, "likes": "DOUBLE"}],
            "list": {"$as": "array", "$type": "BIGINT"}, "tags": {"$as": "ignore"}}"#,
    );
    let diff = diff(&old, &new);
    let expected = [
        "~ a INT → BIGINT",
        "= comments[].body None → Some(\"text\")",
        "~ comments[].likes INT → DOUBLE",
        "- gone STRING",
        "~ list array of INT → array of BIGINT",
        "~ meta columns → json",
        "+ new columns",
        "~ tags table → ignore",
    ];
    assert_eq!(paths(&diff), expected);
    let expected = [
        "~ posts → posts",
        "  ~ a integer → a bigint",
        "  ~ list integer[] → list bigint[]",
        "  + meta jsonb",
        "  + new_y integer",
        "  - gone text",
        "  - meta_x integer",
        "~ post_comments → post_comments",
        "  ~ likes integer → likes double precision",
        "  ~ body text → text text",
        "- post_tags",
    ];
    assert_eq!(tables(&diff), expected);
    assert!(diff.load_due() && !diff.is_empty());
}

#[test]
fn renamed_tables_are_the_same_tables() {
    let old = gizer(r#"{"_id": "INT", "l": [{"x": "INT", "m": ["INT"]}]}"#);
    let new = gizer(r#"{"_id": "INT", "l": {"$name": "lines", "$items": {"x": "INT", "m": ["INT"]}}}"#);
    let diff = diff(&old, &new);
    assert_eq!(paths(&diff), ["= l None → Some(\"lines\")"]);
    assert_eq!(tables(&diff), ["~ post_l → lines"]);
}

#[test]
fn the_dialect_and_the_key_are_told() {
    let old = classic(r#"{"_id": {"oid": "STRING", "bsontype": "INT"}, "n": "INT"}"#);
    let new = gizer(r#"{"_id": "OBJECTID", "n": "INT"}"#);
    let across = diff(&old, &new);
    assert_eq!(across.dialect, Some((Dialect::Classic, Dialect::NEW)));
    assert_eq!(paths(&across), [""; 0], "an ObjectId both times");
    let expected =
        ["~ posts → posts key", "  + id text", "  + _extra jsonb", "  - id_bsontype integer", "  - id_oid text"];
    assert_eq!(tables(&across), expected);
    let exact = Schema { dialect: Dialect::Gizer { exact_types: true }, ..new.clone() };
    let exact = diff(&new, &exact);
    assert!(exact.tables.is_empty() && exact.load_due() && !exact.is_empty());
    // `id` is no primary key.
    let keys = diff(&classic(r#"{"id": "INT"}"#), &classic(r#"{"_id": "INT"}"#));
    assert_eq!(tables(&keys), ["~ posts → posts key", "  ~ id integer → id integer"]);
    // The same PostgreSQL type for something else.
    let means = diff(&new, &gizer(r#"{"_id": "STRING", "n": "INT"}"#));
    assert_eq!(tables(&means), ["~ posts → posts", "  ~ id text → id text"]);
}

#[test]
fn what_is_kept_elsewhere_makes_a_load_due_and_what_people_note_does_not() {
    let old = gizer(r#"{"_id": "INT"}"#);
    let ignored = diff(&old, &gizer(r#"{"_id": "INT", "d": {"x": {"$as": "ignore"}}}"#));
    assert!(ignored.tables.is_empty() && ignored.load_due(), "{ignored:?}");
    let empty = diff(&old, &gizer(r#"{"_id": "INT", "d": {}}"#));
    assert_eq!(paths(&empty), ["+ d columns"]);
    assert!(!empty.load_due() && !empty.is_empty());
    let seen = diff(&old, &gizer(r#"{"_id": {"$type": "INT", "$seen": {"INT": 5}}}"#));
    assert!(seen.is_empty() && !seen.load_due());
    let classic_ignored = diff(&classic(r#"{"_id": "INT"}"#), &classic(r#"{"_id": "INT", "d": {}}"#));
    assert!(!classic_ignored.load_due());
}

/// A field of one name takes the column of another one.
#[test]
fn a_column_that_holds_something_else_is_told() {
    let diff = diff(&gizer(r#"{"_id": "INT", "a_b": "INT"}"#), &gizer(r#"{"_id": "INT", "a": {"b": "INT"}}"#));
    let [TableChange::Changed { columns, .. }] = diff.tables.as_slice() else { panic!("{diff:?}") };
    let [ColumnChange::Changed(old, new)] = columns.as_slice() else { panic!("{columns:?}") };
    assert_eq!((old.holds.as_deref(), new.holds.as_deref()), (Some("a_b"), Some("a.b")));
}

/// Tables that are there, without comments, are compared by their names.
#[test]
fn what_nobody_knows_is_no_difference() {
    let schema = gizer(r#"{"_id": "INT", "l": [{"x": "INT"}]}"#);
    let expected = shapes(&Layout::new(&schema).unwrap());
    let mut found = expected.clone();
    for table in &mut found {
        table.path = None;
        for column in &mut table.columns {
            (column.holds, column.schema_type) = (None, None);
        }
    }
    assert_eq!(compare_tables(&found, &expected), []);
    found[1].key.clear();
    found[1].columns[0].sql_type = "bigint".to_owned();
    let changes = compare_tables(&found, &expected);
    assert!(
        matches!(&changes[..], [TableChange::Changed { columns, key: true, .. }] if columns.len() == 1),
        "{changes:?}"
    );
}

#[test]
fn arrays_in_arrays_have_paths() {
    let old = gizer(r#"{"_id": "INT", "m": [["INT"]]}"#);
    let table = diff(&old, &gizer(r#"{"_id": "INT", "m": [{"$as": "table", "$items": "INT"}]}"#));
    assert_eq!(paths(&table), ["~ m[] array as json → table"]);
    let inner = diff(&old, &gizer(r#"{"_id": "INT", "m": [["STRING"]]}"#));
    assert_eq!(paths(&inner), ["~ m[][] INT → STRING"]);
    assert!(!inner.load_due(), "it is JSON before and after");
}
