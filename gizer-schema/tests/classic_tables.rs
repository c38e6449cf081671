//! Every case of the classic tool: schema in, tables and columns out, in order.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use gizer_schema::{ColumnSource, Layout, file};
use serde_json::Value;

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/../testdata/classic/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect(&path);
    serde_json::from_str(&text).expect(&path)
}

fn check(case: &Value) {
    let name = format!("{} {}", case["case"], case["collection"]);
    let schema = file::parse(case["collection"].as_str().unwrap(), &case["schema"].to_string()).unwrap();
    let layout = Layout::new(&schema).unwrap();

    let mut made: Vec<&str> = layout.tables.iter().map(|t| t.name.as_str()).collect();
    made.sort_unstable();
    let mut expected: Vec<&str> = case["tables"].as_object().unwrap().keys().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(made, expected, "tables of {name}");

    for table in &layout.tables {
        let expected = &case["tables"][&table.name]["columns"];
        let made: Value = table
            .columns
            .iter()
            .map(|c| serde_json::json!({"name": c.name, "pg_type": c.ty.pg_name(), "schema_type": c.ty.schema_name()}))
            .collect();
        assert_eq!(&made, expected, "columns of {} in {name}", table.name);
        // The classic index set `ia` holds what identifies a row.
        let mut key: Vec<&str> = table.key_columns().map(|c| c.name.as_str()).collect();
        key.sort_unstable();
        assert_eq!(serde_json::json!(key), case["tables"][&table.name]["index_columns"]["ia"], "key of {}", table.name);
    }
}

#[test]
fn mapping_cases() {
    let cases = cases("mapping.json");
    assert!(cases.len() >= 14);
    cases.iter().for_each(check);
}

#[test]
fn schema_only_cases() {
    let cases = cases("schema-only.json");
    assert!(cases.len() >= 3);
    cases.iter().for_each(check);
}

#[test]
fn names_that_are_taken_or_too_long_are_hashed_and_stay() {
    let text = format!(
        r#"{{"_id": "INT", "id": "STRING", "a": {{"b": "INT"}}, "a_b": "INT", "{}": "INT",
            "l": [{{"idx": "INT", "posts_id": "INT", "x": "INT"}}], "x": {{"y": ["INT"]}}, "x_y": ["INT"]}}"#,
        "n".repeat(70)
    );
    let layout = Layout::new(&file::parse("posts", &text).unwrap()).unwrap();
    let names: Vec<Vec<&str>> =
        layout.tables.iter().map(|t| t.columns.iter().map(|c| c.name.as_str()).collect()).collect();
    let root = &names[0];
    assert!(root.contains(&"id") && root.contains(&"a_b"), "{root:?}");
    assert!(root.iter().any(|n| n.starts_with("a_b_")) && root.iter().any(|n| n.starts_with("id_")), "{root:?}");
    assert!(root.iter().all(|n| n.len() <= 63), "{root:?}");
    // The key is the field `_id`, whatever else is called `id`.
    assert_eq!(layout.tables[0].columns[layout.tables[0].key.0].name, "id");
    let list = &names[1];
    assert_eq!(list.last(), Some(&"idx"));
    assert_eq!(list.iter().filter(|n| **n == "posts_id").count(), 1);
    assert_eq!(layout.tables[1].columns[layout.tables[1].key.0].name, "posts_id");
    assert_eq!(layout.tables[1].columns[layout.tables[1].key.0].source, ColumnSource::RootKey);
    let tables: Vec<&str> = layout.tables.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(tables[..3], ["posts", "post_l", "post_x_y"]);
    assert!(tables[3].starts_with("post_x_y_"), "{tables:?}");
}

#[test]
fn schemas_without_a_usable_key_are_refused() {
    for (text, expected) in [
        (r#"{"a": "INT"}"#, "neither a field _id nor a field id"),
        (r#"{"_id": {"a": "INT"}}"#, "posts._id is a document"),
        (r#"{"_id": ["INT"]}"#, "posts._id is an array"),
    ] {
        let error = Layout::new(&file::parse("posts", text).unwrap()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn more_columns_than_postgresql_takes_are_refused() {
    let fields: Vec<String> = (0..1600).map(|i| format!("\"f{i}\": \"INT\"")).collect();
    let text = format!("{{\"_id\": \"INT\", {}}}", fields.join(","));
    let error = Layout::new(&file::parse("wide", &text).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "table wide would have 1601 columns: PostgreSQL takes at most 1600");
}

/// PostgreSQL has columns of these names in every table.
#[test]
fn names_of_system_columns_are_hashed() {
    let text = r#"{"_id": "INT", "xmin": "INT", "box": {"ctid": "INT"}, "l": [{"tableoid": "INT"}]}"#;
    let layout = Layout::new(&file::parse("posts", text).unwrap()).unwrap();
    let names: Vec<&str> = layout.tables.iter().flat_map(|t| t.columns.iter().map(|c| c.name.as_str())).collect();
    assert!(names.iter().any(|name| name.starts_with("xmin_")) && names.contains(&"box_ctid"), "{names:?}");
    assert!(!names.contains(&"xmin") && !names.contains(&"tableoid"), "{names:?}");
}

#[test]
fn a_path_too_deep_for_a_key_is_refused() {
    let nested = |depth: usize| {
        format!("{{\"_id\": \"INT\", \"a\": {}\"INT\"{}}}", "[{\"a\":".repeat(depth), "}]".repeat(depth))
    };
    assert!(Layout::new(&file::parse("deep", &nested(31)).unwrap()).is_ok());
    let error = Layout::new(&file::parse("deep", &nested(32)).unwrap()).unwrap_err().to_string();
    assert!(error.contains("is 32 arrays or maps deep: expected at most 31"), "{error}");
}

/// Two collections whose long names begin alike still have tables of their own.
#[test]
fn hashed_names_of_two_collections_differ() {
    let name_of = |year: &str| {
        let collection = format!("{}_{year}", "archive_of_everything_".repeat(3));
        let layout = Layout::new(&file::parse(&collection, r#"{"_id": "INT", "items": ["INT"]}"#).unwrap()).unwrap();
        layout.tables[1].name.clone()
    };
    assert_ne!(name_of("2023"), name_of("2024"));
}
