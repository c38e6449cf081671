//! Scenarios, a file each: what is loaded, what is written then, and what must come of it.
//!
//! | key | meaning |
//! |---|---|
//! | `behaviour` | what the scenario shows, for people |
//! | `schema` | fields of the schema file before the load; without it they are inferred |
//! | `documents` | what is loaded, in Extended JSON |
//! | `rounds` | `commands` for MongoDB, then `sync` and `schema evolve` with these `arguments` |
//! | `fields` | of the schema file after the round |
//! | `tables` | all tables after the round: their columns, and then their rows in any order |
//!
//! After each round an audit finds nothing. After the last one a load by the schema file gives the
//! same tables.
//! `GIZER_SCENARIO=scalar` runs the files alone whose names have that in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use bson::{Bson, Document};
use futures::{FutureExt, StreamExt, stream};
use integration_tests::rig::Version;
use serde_json::{Value, json};

use super::{catalog, is_equal, is_equal_to_a_load, schema_text};
use crate::place::Place;

/// The collection of each scenario.
const COLLECTION: &str = "orders";

/// Scenarios at a time.
const AT_ONCE: usize = 4;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/evolving/scenarios");
    let wanted = std::env::var("GIZER_SCENARIO").unwrap_or_default();
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| name_of(file).contains(&wanted));
    files.sort();
    files
}

fn name_of(file: &Path) -> String {
    file.file_stem().unwrap().to_string_lossy().into_owned()
}

/// Extended JSON as BSON.
fn document(json: &Value) -> Document {
    match serde_json::from_value(json.clone()).unwrap() {
        Bson::Document(document) => document,
        other => panic!("expected a document, found {other}"),
    }
}

fn array<'v>(json: &'v Value, key: &str) -> &'v [Value] {
    json[key].as_array().unwrap_or_else(|| panic!("expected an array at {key}, found {}", json[key]))
}

async fn play(file: &Path) {
    let scenario: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let place = Place::shared(Version::V6_0).await;
    place.insert(COLLECTION, array(&scenario, "documents").iter().map(document)).await;
    match scenario.get("schema") {
        Some(fields) => {
            let text = json!({ "$gizer": 1, "collection": COLLECTION, "fields": fields }).to_string();
            place.schema_file(&format!("{COLLECTION}.json"), &text);
        }
        None => drop(place.gizer(&["schema", "infer"]).await.expect_code(0)),
    }
    place.gizer(&["load"]).await.expect_code(0);
    for (number, round) in (1..).zip(array(&scenario, "rounds")) {
        for command in array(round, "commands") {
            let reply = place.mongo.run_command(document(command)).await.unwrap();
            assert!(!reply.contains_key("writeErrors"), "round {number}: {command}: {reply}");
        }
        place.gizer(&["sync"]).await.expect_code(0);
        let arguments = round.get("arguments").and_then(Value::as_array).into_iter().flatten();
        let arguments: Vec<&str> = arguments.map(|argument| argument.as_str().unwrap()).collect();
        place.gizer(&[&["schema", "evolve"], &arguments[..]].concat()).await.expect_code(0);
        has_fields(&place, &round["fields"], number);
        has_rows(&place, &round["tables"], number).await;
        is_equal(&place).await;
    }
    is_equal_to_a_load(&place, COLLECTION).await;
}

/// Checks the schema file.
fn has_fields(place: &Place, expected: &Value, round: i32) {
    let file: Value = serde_json::from_str(&schema_text(place, COLLECTION)).unwrap();
    let fields = without_seen(file["fields"].clone());
    assert_eq!(&fields, expected, "round {round}: the schema file has {fields:#}");
}

/// Without what inference has seen, which is for people. A field with a type alone is that type.
fn without_seen(json: Value) -> Value {
    match json {
        Value::Object(mut fields) => {
            fields.remove("$seen");
            match fields.remove("$type") {
                Some(ty) if fields.is_empty() => ty,
                Some(ty) => fields.into_iter().chain([("$type".to_owned(), ty)]).collect(),
                None => fields.into_iter().map(|(name, field)| (name, without_seen(field))).collect(),
            }
        }
        Value::Array(elements) => elements.into_iter().map(without_seen).collect(),
        scalar => scalar,
    }
}

/// Checks all tables: their names, the names of their columns, and their rows.
async fn has_rows(place: &Place, expected: &Value, round: i32) {
    let tables: BTreeMap<String, BTreeSet<String>> = catalog(place)
        .await
        .iter()
        .map(|table| {
            let columns = table["columns"].as_object().unwrap().keys().cloned().collect();
            (table["relname"].as_str().unwrap().to_owned(), columns)
        })
        .collect();
    let expected = expected.as_object().unwrap();
    let names: BTreeSet<&String> = expected.keys().collect();
    assert!(tables.keys().eq(names), "round {round}: the tables are {tables:#?}");
    for (table, rows) in expected {
        let [columns, rows @ ..] = rows.as_array().unwrap().as_slice() else { panic!("{table} has no columns") };
        let columns: Vec<String> = serde_json::from_value(columns.clone()).unwrap();
        let names: BTreeSet<String> = columns.iter().cloned().collect();
        assert_eq!(tables[table], names, "round {round}: the columns of {table}");
        let quoted: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
        let sql = format!("SELECT jsonb_build_array({}) AS row FROM \"{table}\"", quoted.join(", "));
        let mut stored: Vec<Value> = place.rows(&sql).await.into_iter().map(|mut row| row["row"].take()).collect();
        for row in rows {
            let at = stored.iter().position(|other| other == row);
            let at = at.unwrap_or_else(|| panic!("round {round}: {table} has no row {row}: {columns:?}, {stored:#?}"));
            stored.remove(at);
        }
        assert!(stored.is_empty(), "round {round}: {table} has more rows: {columns:?}, {stored:#?}");
    }
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "the files that fail have to be known")]
async fn scenarios_end_as_their_files_say() {
    let files = files();
    assert!(!files.is_empty(), "no file has GIZER_SCENARIO in its name");
    // Most of the time goes by with waiting.
    let played =
        stream::iter(&files).map(async |file| (file, AssertUnwindSafe(play(file)).catch_unwind().await.is_ok()));
    let mut played = played.buffer_unordered(AT_ONCE);
    let mut failed = Vec::new();
    while let Some((file, is_well)) = played.next().await {
        if !is_well {
            println!("failed: {}", file.display());
            failed.push(name_of(file));
        }
    }
    assert!(failed.is_empty(), "these scenarios failed, see above: {failed:?}");
}
