//! What each command prints for people, as in the files of `printed/`.

use std::path::{Path, PathBuf};

use bson::{Document, doc};
use integration_tests::printed::expect_printed;
use integration_tests::rig::{Finished, Mongod, Version, shared_postgres};

use super::place::Place;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cli/printed/{name}.txt"))
}

/// Both streams, as somebody at a terminal sees them, but for the order between them.
fn both(args: &[&str], finished: &Finished) -> String {
    let code = finished.code().unwrap();
    format!("$ gizer {}\n{}{}# exit code {code}\n\n", args.join(" "), finished.stdout, finished.stderr)
}

/// Runs commands one after the other, and compares all that they print.
async fn session(place: &Place, name: &str, lines: &[&str]) {
    let mut text = String::new();
    for line in lines {
        let args: Vec<&str> = line.split(' ').collect();
        text.push_str(&both(&args, &place.gizer(&args).await));
    }
    // The names of databases are unique.
    let text = text.replace(place.mongo.name(), "shop");
    expect_printed(&text, &file(name));
}

async fn shop(mongod: &Mongod) -> Place {
    let place = Place::on(mongod, shared_postgres().await.unwrap()).await;
    let order = |n: i32| -> Document {
        let lines: Vec<Document> =
            (0..n % 3).map(|line| doc! { "sku": format!("sku-{line}"), "quantity": line }).collect();
        doc! { "_id": n, "customer": { "name": format!("customer {n}"), "vip": n == 1 }, "total": f64::from(n) * 1.5, "lines": lines }
    };
    place.insert("orders", (1..=12).map(order)).await;
    place.insert("posts", (1..=3).map(|n| doc! { "_id": n, "title": format!("post {n}"), "tags": ["a", "b"] })).await;
    place
}

#[tokio::test]
async fn a_first_day() {
    // A server of its own: what others write would shift the headroom, and split the batches.
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let place = shop(&mongod).await;
    session(
        &place,
        "first_day",
        &[
            "status",
            "schema infer",
            "schema tables",
            "schema evolve",
            "schema ddl posts",
            "schema diagram posts",
            "load",
            "sync",
            "verify",
            "status",
            "etlstatus needed",
        ],
    )
    .await;
    place.insert("orders", [doc! { "_id": 99, "total": "much", "lines": "none" }]).await;
    place.insert("posts", [doc! { "_id": 98, "title": 7 }]).await;
    session(
        &place,
        "next_day",
        &[
            "run",
            "status --check --min-headroom 0s",
            "schema diff --live",
            "schema diff posts --live",
            "load posts",
            "status posts --runs 1",
            "resync",
            "resync nothing",
        ],
    )
    .await;
}

/// Without the oplogs and what is to be considered: how young a log is in a test, and what its servers are set to, is theirs.
#[tokio::test]
async fn plans() {
    // A server of its own: what others write would shift the headroom, and split the batches.
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let place = shop(&mongod).await;
    let mut text = String::new();
    let plan = async |args: &[&str]| {
        let finished = place.gizer(args).await.expect_code(0);
        let (steps, _) = finished.stdout.split_once("\noplogs\n").unwrap();
        both(args, &Finished { stdout: steps.to_owned() + "…\n", ..finished.clone() })
    };
    text.push_str(&plan(&["plan"]).await);
    place.gizer(&["schema", "infer", "orders"]).await.expect_code(0);
    text.push_str(&plan(&["plan"]).await);
    place.gizer(&["run"]).await.expect_code(0);
    text.push_str(&plan(&["plan"]).await);
    text.push_str(&plan(&["plan", "--load-only"]).await);
    let long_ago = "UPDATE gizer_stream SET position = '{\"rs0\": \"1000.1:8000000000000001\"}'";
    place.postgres.batch_execute(long_ago).await.unwrap();
    text.push_str(&plan(&["plan"]).await);
    text.push_str(&plan(&["plan", "--run-lost-position", "stop"]).await);
    expect_printed(&text, &file("plans"));
}

#[tokio::test]
async fn text_files() {
    // A server of its own: what others write would shift the headroom, and split the batches.
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let place = shop(&mongod).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    session(
        &place,
        "text_files",
        &["extract --csv-path out", "copy --csv-path out", "status", "extract --csv-path out"],
    )
    .await;
}

#[tokio::test]
async fn schema_files() {
    // A server of its own: what others write would shift the headroom, and split the batches.
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let place = shop(&mongod).await;
    place.gizer(&["schema", "infer", "--classic"]).await.expect_code(0);
    place.schema_file("report.txt", "'wrong value (STRING) for posts.title(INT)': 3\n");
    place.schema_file("other.json", r#"{"_id": "BIGINT", "title": "INT"}"#);
    session(
        &place,
        "schema_files",
        &[
            "schema infer",
            "schema infer posts",
            "schema merge schemas/posts.json schemas/other.json",
            "schema patch schemas/posts.json schemas/report.txt",
            "schema diff schemas/posts.json schemas/other.json",
            "load ghosts",
        ],
    )
    .await;
}

/// Of every command, as a file of its own.
#[tokio::test]
async fn the_help_of_every_command() {
    let place = Place::shared(Version::V6_0).await;
    let commands = [
        "",
        "run",
        "plan",
        "schema infer",
        "schema ddl",
        "schema tables",
        "schema merge",
        "schema patch",
        "schema diff",
        "schema diagram",
        "schema json-schema",
        "load",
        "extract",
        "copy",
        "sync",
        "verify",
        "resync",
        "status",
        "etlstatus needed",
        "etlstatus start",
        "etlstatus finish",
        "config show",
        "config get",
        "config convert",
        "completions",
        "man",
    ];
    let mut text = String::new();
    for command in commands {
        let args: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).chain(["-h"]).collect();
        text.push_str(&both(&args, &place.gizer(&args).await.expect_code(0)));
    }
    expect_printed(&text, &file("help"));
}
