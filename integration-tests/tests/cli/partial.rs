//! Several collections, of which some cannot be loaded: the others are.

use bson::doc;
use integration_tests::rig::Version;
use serde_json::{Value, json};

use super::place::{Place, assert_says, numbered};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|each| each["name"].as_str().unwrap()).collect()
}

/// A place with two good collections and one for every way in which one can be unusable.
async fn mixed() -> Place {
    let place = Place::shared(Version::V6_0).await;
    for name in ["alpha", "foreign", "rejected", "typo", "zeta"] {
        place.insert(name, numbered(5)).await;
        place.schema_file(&format!("{name}.json"), r#"{"_id": "INT", "text": "STRING"}"#);
    }
    place.schema_file("typo.json", "{\n\"_id\": \"NUMBER\"}");
    place.schema_file("rejected.json", r#"{"_id": "BOOLEAN"}"#);
    place.schema_file("ghost.json", r#"{"_id": "INT"}"#);
    place.schema_file("clash.json", r#"{"_id": "INT", "a_b": ["INT"]}"#);
    place.schema_file("clash_a.json", r#"{"_id": "INT", "b": ["INT"]}"#);
    place.postgres.batch_execute("CREATE TABLE foreign_key (x INT); CREATE TABLE \"foreign\" (y INT)").await.unwrap();
    place
}

const FAILING: [&str; 6] = ["typo", "clash", "clash_a", "foreign", "ghost", "rejected"];

#[tokio::test]
async fn a_load_goes_on_with_the_other_collections() {
    let place = mixed().await;
    let loaded = place.gizer(&["load", "--format", "json"]).await;
    // The code is the first failure's: that of a schema file.
    assert_says(&loaded, 2, &["gizer: typo: ", "typo.json: line 2", "gizer: ghost: ", "gizer: foreign: ", "help:"]);
    let report: Value = serde_json::from_str(&loaded.stdout).expect("one object");
    assert_eq!(names(&report["collections"]), ["alpha", "zeta"]);
    assert_eq!(names(&report["failed"]), FAILING);
    for failed in report["failed"].as_array().unwrap() {
        assert!(!failed["message"].as_str().unwrap().is_empty(), "{failed}");
    }
    assert_eq!(report["error"]["exit_code"], 2);
    assert!(report["error"]["message"].as_str().unwrap().contains("ghost"), "{report}");
    for table in ["alpha", "zeta"] {
        assert_eq!(place.number(&format!("SELECT count(*) FROM {table}")).await, 5);
    }
    let run = place.rows("SELECT error, reason, recs_count, time_end IS NOT NULL AS ended FROM qmetlstatus").await;
    assert_eq!(run.len(), 1, "{run:?}");
    assert_eq!((&run[0]["error"], &run[0]["ended"]), (&json!(false), &json!(true)), "two are live: no load is due");
    assert_eq!(run[0]["recs_count"], 10);
    assert!(run[0]["reason"].as_str().unwrap().contains("foreign: "), "{run:?}");
}

#[tokio::test]
async fn people_are_told_of_each_collection() {
    let place = mixed().await;
    let loaded = place.gizer(&["load", "zeta", "ghost", "alpha", "nofile"]).await;
    assert_says(&loaded, 2, &["gizer: ghost: ", "gizer: nofile: nofile has no schema file", "schema infer nofile"]);
    assert!(loaded.stdout.contains("alpha") && loaded.stdout.contains("zeta"), "{}", loaded.stdout);
    // Where the first failure is another, so is the code.
    assert_says(&place.gizer(&["load", "alpha", "foreign", "ghost"]).await, 1, &["gizer: ghost: "]);
}

/// What `infer` writes, `load` takes.
#[tokio::test]
async fn infer_writes_no_file_that_load_refuses() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("compound", [doc! {"_id": {"a": 1, "b": 2}}]).await;
    place.insert("clash", [doc! {"_id": 1, "a_b": [1]}]).await;
    place.insert("clash_a", [doc! {"_id": 1, "b": [1]}]).await;
    place.insert("posts", numbered(3)).await;
    place.insert("posts_pkey", [doc! {"_id": 1}]).await;
    place.insert("unnamed", [doc! {"_id": 1, "": 1, "_": 2}]).await;
    // Two bytes of the name take six in the name of its file.
    let long = format!("x{}", ".x".repeat(100));
    place.insert(&long, numbered(1)).await;

    let inferred = place.gizer(&["schema", "infer", "--classic", "--format", "json"]).await.expect_code(0);
    let report: Value = serde_json::from_str(&inferred.stdout).unwrap();
    assert_eq!(names(&report["collections"]), ["clash", "posts", "unnamed"]);
    assert_eq!(names(&report["skipped"]), ["clash_a", "compound", "posts_pkey", &long]);
    let reasons: Vec<&str> =
        report["skipped"].as_array().unwrap().iter().map(|each| each["reason"].as_str().unwrap()).collect();
    assert!(reasons[0].contains("clash and clash_a both need the table clash_a_b"), "{reasons:?}");
    assert!(reasons[1].contains("_id is a document in the schema"), "{reasons:?}");
    assert!(reasons[2].contains("posts and posts_pkey both need the table posts_pkey"), "{reasons:?}");
    assert!(reasons[3].contains("too long for a schema file"), "{reasons:?}");
    let files = std::fs::read_dir(place.gizer.folder().join("schemas")).unwrap().count();
    assert_eq!(files, 3);
    place.gizer(&["load"]).await.expect_code(0);

    for (name, says) in
        [("compound", "_id is a document"), ("clash_a", "both need the table"), (&*long, "without --classic")]
    {
        assert_says(
            &place.gizer(&["schema", "infer", "--classic", name]).await,
            2,
            &[&format!("gizer: {name}: "), says],
        );
    }
    // One that was named and fails does not keep the other from its file.
    place.insert("tags", numbered(1)).await;
    let both = place.gizer(&["schema", "infer", "--classic", "compound", "nowhere", "tags"]).await;
    assert_says(&both, 2, &["gizer: compound: ", "gizer: nowhere: "]);
    assert!(place.gizer.folder().join("schemas/tags.json").is_file());
}

#[tokio::test]
async fn a_database_of_which_nothing_can_be_copied_is_an_error() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("compound", [doc! {"_id": {"a": 1, "b": 2}}]).await;
    assert_says(
        &place.gizer(&["schema", "infer", "--classic"]).await,
        2,
        &["skipped compound: ", "none of the collections"],
    );
}

/// The classic tool encodes nothing in the names of its files.
#[tokio::test]
async fn files_of_the_classic_tool_are_found() {
    let place = Place::shared(Version::V6_0).await;
    for name in ["we.b", "größe"] {
        place.insert(name, numbered(4)).await;
        place.schema_file(&format!("{name}.json"), r#"{"_id": "INT", "text": "STRING"}"#);
    }
    place.gizer(&["load"]).await.expect_code(0);
    place.gizer(&["load", "we.b"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM \"we.b\"").await, 4);
    assert_eq!(place.number("SELECT count(*) FROM \"größe\"").await, 4);
    let there = place.gizer(&["schema", "infer"]).await.expect_code(0);
    assert!(there.stderr.contains("we.b.json already exists"), "{}", there.stderr);
    place.gizer(&["schema", "infer", "--force"]).await.expect_code(0);
    let folder = std::fs::read_dir(place.gizer.folder().join("schemas")).unwrap();
    assert_eq!(folder.count(), 2, "a file was written beside the one that is there");
}
