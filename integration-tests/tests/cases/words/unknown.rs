//! Values and documents without a place are told while following, as in a load.

use bson::{Document, doc};
use integration_tests::rig::Version;
use serde_json::{Value, json};

use crate::place::Place;

/// A collection of one document whose schema has `a`, loaded.
async fn notes(schema: &str) -> Place {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file("notes.json", schema);
    place.insert("notes", [doc! {"_id": 1, "a": 1}]).await;
    place.gizer(&["load"]).await.expect_code(0);
    place
}

const OWN: &str = r#"{"$gizer": 1, "collection": "notes", "fields": {"_id": "INT", "a": "INT"}}"#;
const CLASSIC: &str = r#"{"_id": "INT", "a": "INT"}"#;

async fn json(place: &Place, args: &[&str]) -> Value {
    let args = [args, &["--format", "json"]].concat();
    serde_json::from_str(&place.gizer(&args).await.stdout).unwrap()
}

/// Rows of the state: path, type, expected type, values, documents.
async fn kept(place: &Place) -> Vec<(String, String, Option<String>, i64, i64)> {
    let sql = "SELECT path, came, expected, count, documents FROM gizer_unfit ORDER BY path COLLATE \"C\", came";
    let rows = place.postgres.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect()
}

fn row(
    path: &str,
    came: &str,
    expected: Option<&str>,
    count: i64,
    documents: i64,
) -> (String, String, Option<String>, i64, i64) {
    (path.to_owned(), came.to_owned(), expected.map(str::to_owned), count, documents)
}

#[tokio::test]
async fn o7_what_the_schema_lacks_is_told_while_following() {
    let place = notes(OWN).await;
    let textfile = place.gizer.folder().join("gizer.prom");
    let setting = format!("[metrics]\ntextfile = {:?}\n", textfile.display().to_string());
    let config = place.gizer.folder().join("gizer.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + &setting).unwrap();
    assert_eq!(kept(&place).await, []);

    place.insert("notes", [doc! {"_id": 2, "a": "x", "newf": 1, "o": {"q": 1}}]).await;
    let synced = place.gizer(&["sync"]).await.expect_code(0);
    for line in [
        "notes.a: 1 value is STRING, expected INT; kept in _extra",
        "unknown field notes.newf (INT): 1 time, kept in _extra",
        "unknown field notes.o (DOCUMENT): 1 time, kept in _extra",
    ] {
        assert_eq!(synced.stderr.lines().filter(|said| *said == line).count(), 1, "{line}\n{}", synced.stderr);
    }
    let metrics = std::fs::read_to_string(&textfile).unwrap();
    assert!(metrics.contains("gizer_unknown_values_total{collection=\"notes\"} 2\n"), "{metrics}");
    assert!(metrics.contains("gizer_unfit_values_total{collection=\"notes\"} 1\n"), "{metrics}");

    place.insert("notes", [doc! {"_id": 3, "newf": 1_i64}, doc! {"_id": 4, "newf": 5}]).await;
    let synced = json(&place, &["sync"]).await;
    let told = json!([{
        "name": "notes", "rejects": [], "mismatches": [], "unknown_fields_beyond": 0,
        "unknown_fields": [{"path": "newf", "count": 2, "types": {"BIGINT": 1, "INT": 1}}],
    }]);
    assert_eq!(synced["collections"], told, "{synced:#}");
    let expected = [
        row("a", "STRING", Some("INT"), 1, 1),
        row("newf", "BIGINT", None, 1, 1),
        row("newf", "INT", None, 2, 2),
        row("o", "DOCUMENT", None, 1, 1),
    ];
    assert_eq!(kept(&place).await, expected);

    // Nothing has come since, and it is told until it is resolved.
    place.gizer(&["sync"]).await.expect_code(0);
    let status = json(&place, &["status"]).await;
    let unfit = status["collections"][0]["unfit"].as_array().unwrap();
    assert_eq!(unfit.len(), 4, "{unfit:?}");
    assert_eq!((&unfit[0]["path"], &unfit[0]["count"]), (&json!("newf"), &json!(2)), "the most frequent first");
    assert!(unfit[0]["first_at"].as_str().unwrap().ends_with('Z'));
    let text = place.gizer(&["status"]).await.expect_code(0).stdout;
    assert!(text.contains("without a place in the schema, since the last load"), "{text}");
    assert!(text.lines().any(|line| line.contains("newf") && line.contains("unknown field")), "{text}");
    let plan = place.gizer(&["plan"]).await.expect_code(0).stdout;
    assert!(plan.contains("5 values came without a place in the schema: newf (INT), "), "{plan}");

    // The next load tells its own.
    place.gizer(&["load"]).await.expect_code(0);
    assert_eq!(kept(&place).await, []);
    let plan = place.gizer(&["plan"]).await.expect_code(0).stdout;
    assert!(!plan.contains("without a place"), "{plan}");
}

#[tokio::test]
async fn o7_a_classic_schema_keeps_the_classic_words() {
    let place = notes(CLASSIC).await;
    place.insert("notes", [doc! {"_id": 2, "a": "x", "newf": 1}]).await;
    let synced = place.gizer(&["sync"]).await.expect_code(0);
    for line in ["wrong value (STRING) for notes.a(INT): 1 time", "unknown field notes.newf: 1 time, not loaded"] {
        assert!(synced.stderr.lines().any(|said| said == line), "{line}\n{}", synced.stderr);
    }
}

#[tokio::test]
async fn o7_names_that_are_data_do_not_fill_the_state() {
    let place = notes(OWN).await;
    let mut document: Document = (0..1_200).map(|n| (format!("f{n:04}"), bson::Bson::Int32(n))).collect();
    document.insert("x".repeat(1_500), 1);
    document.insert("_id", 2);
    place.insert("notes", [document.clone()]).await;
    let synced = place.gizer(&["sync"]).await.expect_code(0);
    assert!(synced.stderr.lines().filter(|line| line.contains("unknown field")).count() == 10, "{}", synced.stderr);
    assert!(synced.stderr.contains("… and 1191 more such lines about notes"), "{}", synced.stderr);
    let sums = "SELECT count(*) FILTER (WHERE came <> ''), sum(count)::int8, (sum(count) FILTER (WHERE came = ''))::int8 FROM gizer_unfit";
    let read = async || {
        let row = place.postgres.query_one(sums, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2))
    };
    assert_eq!(read().await, (1_000, 1_201, 201));
    document.insert("_id", 3);
    place.insert("notes", [document]).await;
    place.gizer(&["sync"]).await.expect_code(0);
    assert_eq!(read().await, (1_000, 2_402, 402));
    let status = place.gizer(&["status"]).await.expect_code(0).stdout;
    assert!(status.contains("… and 991 more; --format json has all"), "{status}");
}

#[tokio::test]
async fn o5_rejected_documents_are_told_by_collection_and_reason() {
    let place = notes(OWN).await;
    place.insert("notes", [doc! {"_id": 1_i64 << 31, "a": 1}, doc! {"_id": "x"}, doc! {"_id": "y"}]).await;
    let synced = place.gizer(&["sync"]).await.expect_code(0);
    for line in [
        "notes: 1 document rejected: _id is BIGINT: expected INT",
        "notes: 2 documents rejected: _id is STRING: expected INT",
    ] {
        assert!(synced.stderr.lines().any(|said| said == line), "{line}\n{}", synced.stderr);
    }
    place.insert("notes", [doc! {"_id": "z"}]).await;
    let synced = json(&place, &["sync"]).await;
    let told = json!([{"reason": "_id is STRING: expected INT", "documents": 1, "example_id": "\"z\""}]);
    assert_eq!(synced["collections"][0]["rejects"], told, "{synced:#}");

    let status = json(&place, &["status"]).await;
    let told = json!([
        {"reason": "_id is STRING: expected INT", "documents": 3}, {"reason": "_id is BIGINT: expected INT", "documents": 1},
    ]);
    assert_eq!(status["collections"][0]["reject_reasons"], told, "{status:#}");
    let text = place.gizer(&["status"]).await.expect_code(0).stdout;
    assert!(text.contains("documents rejected\n") && text.contains("_id is BIGINT: expected INT"), "{text}");
}
