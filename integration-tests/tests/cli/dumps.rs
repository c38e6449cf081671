//! What mongodump has written, as a source: no MongoDB server, and no `[mongo]` settings.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bson::{Document, doc};
use flate2::Compression;
use flate2::read::GzEncoder;
use integration_tests::rig::{Gizer, Signal, Version, wait_until};
use serde_json::{Value, json};

use super::compared::assert_same_tables;
use super::every_value::odd_values;
use super::place::{Place, assert_says, numbered};
use super::rejects::peak_memory;

fn bytes_of(documents: &[Document]) -> Vec<u8> {
    documents.iter().flat_map(|document| document.to_vec().unwrap()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut compressed).unwrap();
    compressed
}

/// gizer that knows PostgreSQL alone, with a dump in the folder `dump/shop`.
fn without_mongo(place: &Place, files: &[(&str, Vec<u8>)]) -> Gizer {
    let config = format!("[postgres]\nuri = {}\nschema = \"dumped\"\n", json!(place.postgres_uri));
    let gizer = Gizer::with_config(&config).unwrap();
    let folder = gizer.folder().join("dump/shop");
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
    gizer
}

async fn place() -> Place {
    let place = Place::shared(Version::V6_0).await;
    place.postgres.batch_execute("CREATE SCHEMA dumped").await.unwrap();
    place
}

fn odd_documents() -> Vec<Document> {
    let document = |(i, value)| doc! {"_id": i32::try_from(i).unwrap(), "any": value, "list": [{"n": 1}]};
    odd_values().into_iter().enumerate().map(document).collect()
}

#[tokio::test]
async fn a_dump_is_loaded_as_the_collection_itself() {
    let place = place().await;
    let (posts, odd) = (numbered(3000).collect::<Vec<_>>(), odd_documents());
    place.insert("posts", posts.clone()).await;
    place.insert("we:b", odd.clone()).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);

    let files = [
        ("posts.bson.gz", gzip(&bytes_of(&posts))),
        ("posts.metadata.json.gz", gzip(br#"{"options": {}, "type": "collection", "collectionName": "posts"}"#)),
        ("we%3Ab.bson", bytes_of(&odd)),
        ("system.views.bson", bytes_of(&[doc! {"_id": "shop.view"}])),
        ("view.metadata.json", br#"{"options": {"viewOn": "posts"}, "type": "view"}"#.to_vec()),
        ("weather.metadata.json", br#"{"options": {}, "type": "timeseries"}"#.to_vec()),
    ];
    let gizer = without_mongo(&place, &files);
    let nothing = gizer.run(["load", "--dump", "dump/shop"]).await.unwrap();
    assert_says(&nothing, 2, &["no collection of the dump dump/shop has a schema file", "infer --dump dump/shop"]);
    let inferred = gizer.run(["schema", "infer", "--dump", "dump/shop"]).await.unwrap().expect_code(0);
    assert!(inferred.stdout.contains("posts: 3,000 documents"), "{}", inferred.stdout);
    for skipped in ["skipped view: a view", "skipped weather: a time-series", "skipped system.views: a system"] {
        assert!(inferred.stderr.contains(skipped), "{}", inferred.stderr);
    }
    for name in ["posts.json", "we:b.json"] {
        let schema = |gizer: &Gizer| fs::read_to_string(gizer.folder().join("schemas").join(name)).unwrap();
        assert_eq!(schema(&gizer), schema(&place.gizer), "{name}");
    }
    let loaded = gizer.run(["load", "--dump", "dump/shop", "--format", "json"]).await.unwrap().expect_code(0);
    assert_same_tables(&place, "public", "dumped").await;
    let report: Value = serde_json::from_str(&loaded.stdout).unwrap();
    assert_eq!((&report["collections"][0]["read"], &report["collections"][0]["loaded"]), (&json!(3000), &json!(3000)));
    let states = place.rows("SELECT state, reason, namespace FROM dumped.gizer_collection").await;
    assert_eq!(states.len(), 2);
    for state in states {
        assert_eq!((&state["state"], &state["namespace"]), (&json!("copy"), &Value::Null));
        assert!(state["reason"].as_str().unwrap().contains("a dump"), "{state}");
    }
    // A single file; and by way of text files, without any server.
    gizer.run(["load", "--dump", "dump/shop/posts.bson.gz"]).await.unwrap().expect_code(0);
    let bare = Gizer::with_config("").unwrap();
    let at = |name: &str| gizer.folder().join(name).to_str().unwrap().to_owned();
    let (dump, schemas, out) = (at("dump/shop"), at("schemas"), at("out"));
    let extract = ["extract", "--dump", &dump, "--schemas-dir", &schemas, "--csv-path", &out];
    bare.run(extract).await.unwrap().expect_code(0);
    gizer.run(["copy", "--csv-path", "out"]).await.unwrap().expect_code(0);
    assert_same_tables(&place, "public", "dumped").await;
}

#[tokio::test]
async fn dumps_that_are_cut_or_something_else_are_told() {
    let place = place().await;
    let documents: Vec<Document> = numbered(2000).collect();
    let whole = bytes_of(&documents);
    let gizer = without_mongo(&place, &[("posts.bson", whole.clone()), ("tags.bson", whole.clone())]);
    let load = async || gizer.run(["load", "--dump", "dump/shop"]).await.unwrap();
    gizer.run(["schema", "infer", "--dump", "dump/shop"]).await.unwrap().expect_code(0);
    load().await.expect_code(0);

    let path = gizer.folder().join("dump/shop/posts.bson");
    let last = whole.len() - documents[1999].to_vec().unwrap().len();
    let garbage = [&whole[..last], b"and so on, and so on"].concat();
    let cases = [
        (whole[..whole.len() - 7].to_vec(), format!("posts.bson is broken at byte {last}: expected a whole document")),
        (garbage, format!("posts.bson is broken at byte {last}: expected a document of 5 bytes to 16 MiB")),
    ];
    for (bytes, says) in cases {
        fs::write(&path, bytes).unwrap();
        assert_says(&load().await, 1, &[&says, "help: copy or dump the file again"]);
        assert_says(
            &gizer.run(["extract", "--dump", "dump/shop", "--csv-path", "out", "--force"]).await.unwrap(),
            1,
            &[&says],
        );
        assert_eq!(place.number("SELECT count(*) FROM dumped.posts").await, 2000, "the live table is as it was");
        assert_eq!(place.number("SELECT count(*) FROM dumped.tags").await, 2000, "and the other is loaded");
    }
    fs::remove_file(&path).unwrap();
    let compressed = gzip(&whole);
    fs::write(path.with_extension("bson.gz"), &compressed[..compressed.len() - 4]).unwrap();
    assert_says(&load().await, 1, &["posts.bson.gz is broken at byte", "the file ends before"]);
    let infer = gizer.run(["schema", "infer", "--dump", "dump/shop", "posts", "--force"]).await.unwrap();
    assert_says(&infer, 1, &["posts.bson.gz is broken at byte"]);
}

#[tokio::test]
async fn what_a_dump_cannot_give_is_refused() {
    let place = place().await;
    let gizer = without_mongo(&place, &[("posts.bson", bytes_of(&numbered(3).collect::<Vec<_>>()))]);
    gizer.run(["schema", "infer", "--dump", "dump/shop"]).await.unwrap().expect_code(0);
    let cases: [(&[&str], &str); 7] = [
        (&["load", "--filter", "{}"], "--filter cannot be used with --dump"),
        (&["extract", "--csv-path", "out", "--filter", "{}"], "--filter cannot be used with --dump"),
        (&["schema", "infer", "--force", "--filter", "{}"], "--filter cannot be used with --dump"),
        (&["schema", "infer", "--force", "--newest", "3"], "--newest cannot be used with --dump"),
        (&["schema", "infer", "--force", "--sample", "3"], "--sample cannot be used with --dump"),
        (&["load", "post"], "post has no schema file"),
        (
            &["schema", "infer", "post"],
            "expected a collection \"post\" in the dump dump/shop, found none; did you mean \"posts\"?",
        ),
    ];
    for (args, says) in cases {
        let said = gizer.run([args, &["--dump", "dump/shop"]].concat()).await.unwrap();
        assert_says(&said, 2, &[says]);
    }
    assert_says(
        &gizer.run(["load", "--dump", "dump"]).await.unwrap(),
        2,
        &["but the folders shop", "help: name a file"],
    );
    let without: &Path = &gizer.folder().join("none.bson");
    let said = gizer.run(["load", "--dump", without.to_str().unwrap()]).await.unwrap();
    assert_says(&said, 2, &["expected a dump at", "No such file"]);
}

#[tokio::test]
async fn memory_is_bounded_whatever_the_size_of_a_dump() {
    let gizer = Gizer::with_config("").unwrap();
    let text = "x".repeat(1000);
    let documents: Vec<Document> = (0..80_000).map(|n| doc! {"_id": n, "text": &text}).collect();
    fs::write(gizer.folder().join("posts.bson.gz"), gzip(&bytes_of(&documents))).unwrap();
    fs::create_dir(gizer.folder().join("schemas")).unwrap();
    fs::write(gizer.folder().join("schemas/posts.json"), r#"{"_id": "INT", "text": "STRING"}"#).unwrap();
    let args = ["extract", "--dump", "posts.bson.gz", "--csv-path", "out", "--run-memory", "32MiB"];
    let mut running = gizer.spawn(args).unwrap();
    let mut peak = 0;
    wait_until("the extract to end", Duration::from_secs(60), async || {
        peak = peak.max(peak_memory(&running).unwrap_or_default());
        !running.is_running().unwrap()
    })
    .await
    .unwrap();
    running.wait().await.unwrap().expect_code(0);
    let size = fs::metadata(gizer.folder().join("out/posts/00000")).unwrap().len();
    assert!(size > 80_000_000, "{size}");
    // The program itself and its threads take some of it.
    assert!(peak > 0 && peak < 32 + 32, "{peak} MiB for a budget of 32 MiB");
}

/// A pipe that nobody writes to is a dump that never ends: an extract of it is interrupted, or killed, half-way.
#[tokio::test]
async fn an_extract_that_was_interrupted_leaves_a_mark() {
    let place = place().await;
    let gizer = without_mongo(&place, &[]);
    let pipe = gizer.folder().join("dump/shop/posts.bson");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::create_dir(gizer.folder().join("schemas")).unwrap();
    fs::write(gizer.folder().join("schemas/posts.json"), r#"{"_id": "INT"}"#).unwrap();
    let mark = gizer.folder().join("out/gizer-extract.incomplete");
    for signal in [Signal::Interrupt, Signal::Kill] {
        let running = gizer.spawn(["extract", "--dump", "dump/shop", "--csv-path", "out", "--force"]).unwrap();
        let folder = gizer.folder().join("out/posts");
        wait_until("the table's folder", Duration::from_secs(10), async || folder.is_dir()).await.unwrap();
        running.signal(signal).unwrap();
        let ended = running.wait().await.unwrap();
        match signal {
            Signal::Interrupt => assert_says(&ended, 130, &["interrupted by SIGINT"]),
            _ => assert_eq!(ended.signal(), Some(9)),
        }
        assert!(mark.is_file());
        assert_says(&gizer.run(["copy", "--csv-path", "out"]).await.unwrap(), 1, &["out is incomplete"]);
    }
    fs::remove_file(&pipe).unwrap();
    fs::write(&pipe, bytes_of(&[doc! {"_id": 1}])).unwrap();
    gizer.run(["extract", "--dump", "dump/shop", "--csv-path", "out", "--force"]).await.unwrap().expect_code(0);
    gizer.run(["copy", "--csv-path", "out"]).await.unwrap().expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM dumped.posts").await, 1);
}
