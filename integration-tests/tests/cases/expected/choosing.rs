//! Which collections are expected, and how each of them stands.

use std::collections::BTreeMap;

use bson::doc;
use integration_tests::rig::Version;
use serde_json::Value;

use crate::place::{Place, assert_says, numbered};

async fn json_of(place: &Place, args: &[&str], code: i32) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
    let finished = place.gizer(&args).await.expect_code(code);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// How the expected collections stand, as a list of objects says.
fn standings(list: &Value) -> BTreeMap<String, String> {
    let text = |each: &Value, key: &str| each[key].as_str().unwrap_or("none").to_owned();
    list.as_array().unwrap().iter().map(|each| (text(each, "collection"), text(each, "standing"))).collect()
}

fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, standing)| ((*name).to_owned(), (*standing).to_owned())).collect()
}

#[tokio::test]
async fn o1_schema_files_of_people_are_the_choice() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(5)).await;
    place.insert("drafts", numbered(5)).await;
    place.schema_file("orders.json", r#"{"_id": "INT", "text": "STRING"}"#);
    place.gizer(&["run"]).await.expect_code(0);
    let status = json_of(&place, &["status"], 0).await;
    assert_eq!(standings(&status["expected"]), of(&[("orders", "followed")]));
    // One that is added later joins them.
    place.schema_file("drafts.json", r#"{"_id": "INT", "text": "STRING"}"#);
    let planned = json_of(&place, &["plan"], 0).await;
    assert_eq!(standings(&planned["steps"]), of(&[("drafts", "load due"), ("orders", "followed")]));
    place.gizer(&["run"]).await.expect_code(0);
    let status = json_of(&place, &["status"], 0).await;
    assert_eq!(standings(&status["expected"]), of(&[("drafts", "followed"), ("orders", "followed")]));
}

#[tokio::test]
async fn o1_what_is_excluded_is_left_alone_and_shown() {
    let place = Place::shared(Version::V6_0).await;
    for name in ["orders", "posts", "tmp_1", "Tmp_2"] {
        place.insert(name, numbered(3)).await;
    }
    let exclude = ["--schemas-exclude", "tmp_?", "--schemas-exclude", "[p-q]osts"];
    let with = |args: &[&'static str]| -> Vec<&'static str> { args.iter().copied().chain(exclude).collect() };
    let planned = json_of(&place, &with(&["plan"]), 0).await;
    let excluded = of(&[("Tmp_2", "waiting"), ("orders", "waiting"), ("posts", "excluded"), ("tmp_1", "excluded")]);
    assert_eq!(standings(&planned["steps"]), excluded, "upper and lower case are not the same");
    place.gizer(&with(&["run"])).await.expect_code(0);
    let status = json_of(&place, &with(&["status"]), 0).await;
    let now = of(&[("Tmp_2", "followed"), ("orders", "followed"), ("posts", "excluded"), ("tmp_1", "excluded")]);
    assert_eq!(standings(&status["expected"]), now);
    let text = place.gizer(&with(&["status"])).await.expect_code(0).stdout;
    assert!(text.contains("excluded"), "{text}");

    // Without the patterns all of the database is expected, and taken up.
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM posts").await, 3);
    // One that was followed is left as it is, and what it has missed meanwhile is loaded when it is wanted again.
    place.insert("posts", [doc! { "_id": 100 }]).await;
    place.gizer(&with(&["run"])).await.expect_code(0);
    place.insert("posts", [doc! { "_id": 101 }]).await;
    place.gizer(&with(&["run"])).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM posts").await, 3);
    let status = json_of(&place, &with(&["status", "--check", "--min-headroom", "0s"]), 0).await;
    assert_eq!(standings(&status["expected"])["posts"], "excluded");
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM posts").await, 5);

    // Whoever follows without `run` leaves it, too, and the others are followed on.
    for name in ["orders", "posts"] {
        place.insert(name, [doc! { "_id": 200 }]).await;
    }
    let told = place.gizer(&with(&["sync"])).await.expect_code(0).stderr;
    assert!(told.contains("posts: excluded"), "{told}");
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 4);
    assert_eq!(place.number("SELECT count(*) FROM posts").await, 5);
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM posts").await, 6);

    let included = json_of(&place, &["plan", "--schemas-include", "o*"], 0).await;
    assert_eq!(standings(&included["steps"])["posts"], "excluded");
    let wrong = place.gizer(&["plan", "--schemas-include", "o[a"]).await;
    assert_says(&wrong, 2, &["--schemas-include", "o[a", "character"]);
}

/// One that cannot be loaded does not keep the others from it, is named each time until it can, and then is no more.
#[tokio::test]
async fn o1_exit_code_7_says_that_not_all_is_there() {
    let place = Place::shared(Version::V6_0).await;
    for name in ["orders", "posts"] {
        place.insert(name, numbered(3)).await;
    }
    place.postgres.batch_execute("CREATE TABLE posts (mine int)").await.unwrap();
    for _ in 0..2 {
        let finished = place.gizer(&["run"]).await;
        assert_says(
            &finished,
            7,
            &["1 of 2 collections are not copied", "  posts: failing since", "gizer did not make it"],
        );
    }
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 3);
    place.insert("orders", [doc! { "_id": 100 }]).await;
    assert_says(&place.gizer(&["sync"]).await, 7, &["posts: failing since"]);
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 4);
    assert_says(&place.gizer(&["verify"]).await, 7, &["posts: failing since"]);
    let check = place.gizer(&["status", "--check", "--min-headroom", "0s"]).await.expect_code(6);
    assert!(check.stdout.contains("warning: posts: failing since"), "{check:?}");
    let run = json_of(&place, &["run"], 7).await;
    assert_eq!((&run["missing"][0]["collection"], &run["exit_code"]), (&"posts".into(), &7.into()));
    assert!(run["missing"][0]["reason"].as_str().unwrap().contains("gizer did not make it"), "{run}");

    place.postgres.batch_execute("DROP TABLE posts").await.unwrap();
    place.gizer(&["run"]).await.expect_code(0);
    place.gizer(&["status", "--check", "--min-headroom", "0s"]).await.expect_code(0);
    place.gizer(&["verify"]).await.expect_code(0);
}
