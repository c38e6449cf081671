//! `gizer extract` and `gizer copy`: collections into text files, and those into tables.

use std::fs;
use std::path::PathBuf;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use integration_tests::rig::{Finished, Gizer, Mongod, Version, shared_mongod, shared_postgres};
use serde_json::{Value, json};

use super::compared::assert_same_tables;
use super::every_value::odd_values;
use super::place::{Place, assert_says, numbered, rows_by_table};

/// What COPY's text format, or the classic tool, could take for something else.
const ODD_TEXTS: [&str; 14] = [
    "\\N",
    "\\\\N",
    "\\\\\\N",
    "\\.",
    "\\",
    "a\tb",
    "\r",
    "\n",
    "a\r\nb",
    "\"quoted\"",
    "",
    "NULL",
    "a\0b",
    "\u{1F600} ü\u{2028}",
];

fn odd_documents() -> Vec<Document> {
    let texts = ODD_TEXTS.iter().enumerate().map(|(i, text)| {
        doc! {"_id": i32::try_from(i).unwrap(), "text": *text, "words": [*text, "x"], "parts": [{"text": *text}, {}]}
    });
    let values = odd_values().into_iter().enumerate().map(|(i, value)| {
        let name = format!("f{i}");
        doc! {"_id": i32::try_from(100 + i).unwrap(), name: value.clone(), "any": value}
    });
    let doubles = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e308, 5e-324, 0.1];
    let doubles = doubles.into_iter().enumerate().map(|(i, number)| {
        // As PostgreSQL's time ends: 4714-11-24 BC and 294276-12-31.
        let at = [-210_866_803_200_000, 9_224_318_015_999_999, 253_402_300_800_000, -62_135_596_800_001, 0];
        doc! {"_id": i32::try_from(1000 + i).unwrap(), "double": number, "at": DateTime::from_millis(at[i % at.len()])}
    });
    texts.chain(values).chain(doubles).collect()
}

/// A place whose PostgreSQL reads times in another way than the files are written.
async fn far_away() -> Place {
    let place = Place::shared(Version::V6_0).await;
    let settings = "DO $$ BEGIN \
        EXECUTE format('ALTER DATABASE %I SET timezone TO ''Asia/Kathmandu''', current_database()); \
        EXECUTE format('ALTER DATABASE %I SET datestyle TO ''SQL, DMY''', current_database()); END $$; \
        CREATE SCHEMA copied";
    place.postgres.batch_execute(settings).await.unwrap();
    place
}

fn folder(place: &Place) -> PathBuf {
    place.gizer.folder().join("out")
}

async fn copy(place: &Place, args: &[&str]) -> Finished {
    place.gizer(&[&["copy", "--csv-path", "out"], args].concat()).await
}

#[tokio::test]
async fn what_is_extracted_and_copied_equals_what_is_loaded() {
    for dialect in [&[][..], &["--classic"]] {
        let place = far_away().await;
        place.insert("posts", odd_documents()).await;
        place.gizer(&[&["schema", "infer"], dialect].concat()).await.expect_code(0);
        place.gizer(&["load"]).await.expect_code(0);
        let extracted = place.gizer(&["extract", "--csv-path", "out", "--format", "json"]).await.expect_code(0);
        let copied = copy(&place, &["--postgres-schema", "copied", "--format", "json"]).await.expect_code(0);
        assert_same_tables(&place, "public", "copied").await;
        let [extracted, copied] = [extracted, copied]
            .map(|said| serde_json::from_str::<Value>(&said.stdout).unwrap()["collections"][0].clone());
        let count = odd_documents().len();
        for report in [&extracted, &copied] {
            assert_eq!(
                (&report["read"], &report["loaded"], &report["rejected"]),
                (&count.into(), &count.into(), &0.into())
            );
            assert_eq!(rows_by_table(report), rows_by_table(&extracted));
        }
        let state = place.rows("SELECT state, captured IS NOT NULL AS captured, collection_uuid IS NOT NULL AS uuid, namespace FROM copied.gizer_collection").await;
        let namespace = format!("{}.posts", place.mongo.name());
        assert_eq!(state, [json!({"state": "following", "captured": true, "uuid": true, "namespace": namespace})]);
    }
}

/// Byte for byte what the classic tool wrote; and no `[postgres]` is needed.
#[tokio::test]
async fn the_files_are_those_of_the_classic_tool() {
    let mongod = shared_mongod(Version::V6_0).await.unwrap();
    let place = Place::shared(Version::V6_0).await;
    let id = ObjectId::from_bytes([0x56, 0xb8, 0xda, 0x59, 0xf9, 0xfc, 0xee, 0x1b, 0, 0, 0, 7]);
    let at = DateTime::from_millis(1_454_960_732_501);
    place
        .insert(
            "posts",
            [
                doc! {"_id": id, "title": "a\\b\t\"c\"\r\n", "flag": true, "at": at, "n": 5, "l": ["x", Bson::Null]},
                doc! {
                    "_id": ObjectId::from_bytes([0xFF; 12]), "title": "", "flag": false, "l": []
                },
            ],
        )
        .await;
    let config = format!("[mongo]\nuri = {}\ndatabase = {}\n", json!(mongod.uri()), json!(place.mongo.name()));
    let gizer = Gizer::with_config(&config).unwrap();
    let schemas = gizer.folder().join("schemas");
    fs::create_dir(&schemas).unwrap();
    let schema = r#"{"_id": {"oid": "STRING", "bsontype": "INT"}, "title": "STRING", "flag": "BOOLEAN",
        "at": "TIMESTAMP", "n": "INT", "l": ["STRING"], "none": [{"x": "INT"}]}"#;
    fs::write(schemas.join("posts.json"), schema).unwrap();
    let nowhere = gizer.run(["extract", "--csv-path", "out", "--stats-file", "no/such/stats"]).await.unwrap();
    assert_says(&nowhere, 2, &["cannot write no/such/stats: expected a file in a folder that is there"]);
    let args = ["extract", "--csv-path", "out", "--ddl-file", "out/ddl.sql", "--stats-file", "stats"];
    gizer.run(args).await.unwrap().expect_code(0);

    let read = |name: &str| fs::read_to_string(gizer.folder().join(name)).unwrap();
    let posts = "2016-02-08 19:45:32.501000\tTrue\t7\t56b8da59f9fcee1b00000007\t5\ta\\\\b\\\t\\\"c\\\"\\\r\\\n\r\n\
                 \\\\N\tFalse\t7\tffffffffffffffffffffffff\t\\\\N\t\r\n";
    assert_eq!(read("out/posts/00000"), posts);
    let list = "x\t56b8da59f9fcee1b00000007\t1\r\n\\\\N\t56b8da59f9fcee1b00000007\t2\r\n";
    assert_eq!(read("out/post_l/00000"), list);
    assert_eq!(read("stats"), "posts 2\npost_l 2\npost_none 0\n");
    assert_eq!(fs::read_dir(gizer.folder().join("out/post_none")).unwrap().count(), 0);
    let ddl = gizer.run(["schema", "ddl"]).await.unwrap().expect_code(0).stdout;
    assert_eq!(read("out/ddl.sql"), ddl);
    place.postgres.batch_execute(&ddl).await.unwrap();

    let manifest: Value = serde_json::from_str(&read("out/gizer-extract.json")).unwrap();
    let table = json!({"name": "post_l", "rows": 2, "bytes": list.len(), "files": [
        {"name": "00000", "rows": 2, "bytes": list.len()}]});
    assert_eq!(manifest["collections"][0]["tables"][1], table);
    assert_eq!(manifest["collections"][0]["namespace"], format!("{}.posts", place.mongo.name()));
    assert!(manifest["collections"][0]["captured"]["rs0"].is_string(), "{manifest}");
    let mut left: Vec<_> = fs::read_dir(gizer.folder().join("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort_unstable();
    assert_eq!(left, ["ddl.sql", "gizer-extract.json", "post_l", "post_none", "posts"]);

    // What the extract has made it may replace, the DDL file in the folder too.
    assert_says(&gizer.run(args).await.unwrap(), 2, &["expected an empty folder", "--force"]);
    gizer.run([&args[..], &["--force"]].concat()).await.unwrap().expect_code(0);
    fs::write(gizer.folder().join("out/letter"), "dear").unwrap();
    assert_says(&gizer.run([&args[..], &["--force"]].concat()).await.unwrap(), 2, &["found letter in it"]);
}

/// A folder as the classic tool left it: no manifest, several files, the text `\N` as NULL.
#[tokio::test]
async fn a_folder_of_the_classic_tool_is_copied_and_marked() {
    let place = far_away().await;
    let write = |name: &str, text: &str| {
        let path = folder(&place).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("posts/00000", "2016-02-08 19:45:32.501000\tTrue\t1\ta\\\r\\\nb\\\t\\\"\r\n");
    write("posts/00001", "\\\\N\tFalse\t2\t\r\n");
    write("posts/00002", "\\\\N\t\\\\N\t3\t\\\\N\r\n");
    write("post_l/00000", "x\t1\t1\r\n");
    write("stats", "posts 3\npost_l 1\n");
    let schema =
        r#"{"_id": "INT", "at": "TIMESTAMP", "flag": "BOOLEAN", "text": "STRING", "l": ["STRING"], "m": ["INT"]}"#;
    place.schema_file("posts.json", schema);
    let copied = copy(&place, &[]).await.expect_code(0);
    assert!(copied.stderr.contains("its files may be incomplete"), "{}", copied.stderr);
    let rows = place.rows("SELECT at AT TIME ZONE 'UTC' AS at, flag, id, text FROM posts ORDER BY id").await;
    let expected = [
        json!({"at": "2016-02-08T19:45:32.501", "flag": true, "id": 1, "text": "a\r\nb\t\""}),
        json!({"at": null, "flag": false, "id": 2, "text": ""}),
        json!({"at": null, "flag": null, "id": 3, "text": null}),
    ];
    assert_eq!(rows, expected);
    assert_eq!(place.rows("SELECT * FROM post_l").await, [json!({"l": "x", "posts_id": 1, "idx": 1})]);
    let state = place.rows("SELECT state, reason FROM gizer_collection").await;
    assert_eq!(state[0]["state"], "copy");
    assert!(state[0]["reason"].as_str().unwrap().contains("incomplete"), "{state:?}");

    // What PostgreSQL refuses is told with file and line, without what stands there; the live tables stay.
    let cases = [
        (
            "\\\\N\tTrue\t4\tx\r\n\\\\N\tTrue\thunter2\tx\r\n",
            "posts/00001, line 2: a value is not of its column's type",
        ),
        ("\\\\N\tTrue\t4\tx\r\n\\\\N\tTrue\r\n", "posts/00001, line 2: it has not as many values"),
        ("hunter2\tTrue\t4\tx\r\n", "posts/00001, line 1: a value is not of its column's type"),
        ("\\\\N\tTrue\t99999999999\tx\r\n", "posts/00001, line 1: a value is beyond"),
        ("\\\\N\tTrue\t\\\\N\tx\r\n", "posts/00001, line 1: there is NULL"),
    ];
    for (text, says) in cases {
        write("posts/00001", text);
        assert_says(&copy(&place, &[]).await, 1, &[says, "help:"]);
        assert_eq!(
            place.rows("SELECT at AT TIME ZONE 'UTC' AS at, flag, id, text FROM posts ORDER BY id").await,
            expected
        );
    }
    fs::remove_dir_all(folder(&place).join("posts")).unwrap();
    assert_says(&copy(&place, &[]).await, 1, &["posts", "No such file"]);
}

#[tokio::test]
async fn what_is_not_whole_is_refused() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", numbered(300)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    assert_says(&copy(&place, &[]).await, 1, &["cannot read out"]);
    place.gizer(&["extract", "--csv-path", "out"]).await.expect_code(0);
    let out = folder(&place);
    let (file, manifest) = (out.join("posts/00000"), out.join("gizer-extract.json"));
    let (text, whole) = (fs::read_to_string(&file).unwrap(), fs::read_to_string(&manifest).unwrap());

    fs::write(&file, &text[..text.len() - 2]).unwrap();
    assert_says(&copy(&place, &[]).await, 1, &["posts/00000 is not as it was extracted: expected", "bytes"]);
    // As many bytes, and a row less: only PostgreSQL sees it.
    fs::write(&file, text.replacen("\r\n", "xx", 1)).unwrap();
    assert_says(&copy(&place, &[]).await, 1, &["posts/00000"]);
    fs::write(&file, &text).unwrap();
    fs::write(&manifest, whole.replacen("\"rows\": 300", "\"rows\": 299", 2)).unwrap();
    assert_says(&copy(&place, &[]).await, 1, &["posts/00000 is not as it was extracted: expected 299 rows, found 300"]);
    fs::write(&manifest, &whole).unwrap();
    let marker = out.join("gizer-extract.incomplete");
    fs::write(&marker, "{}").unwrap();
    assert_says(&copy(&place, &[]).await, 1, &["out is incomplete", "--force"]);
    fs::remove_file(&marker).unwrap();
    assert_says(&copy(&place, &["--prefix", "x_"]).await, 2, &["was extracted without --prefix"]);
    assert_says(&copy(&place, &["orders"]).await, 2, &["orders has no schema file"]);
    place.schema_file("orders.json", r#"{"_id": "INT"}"#);
    assert_says(&copy(&place, &["orders"]).await, 2, &["orders was not extracted into out"]);
    let schema = fs::read_to_string(place.gizer.folder().join("schemas/posts.json")).unwrap();
    place.schema_file("posts.json", r#"{"_id": "INT", "text": "STRING", "list": ["INT"]}"#);
    assert_says(&copy(&place, &[]).await, 2, &["the schema file of posts is not that of the extract"]);
    assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname = 'posts'").await, 0);
    place.schema_file("posts.json", &schema);
    copy(&place, &[]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM posts").await, 300);
}

/// Rejected documents are kept beside the files, and where a load would put them once they are copied.
#[tokio::test]
async fn rejected_documents_go_with_the_files() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", numbered(10)).await;
    place.insert("posts", [doc! {"_id": "odd"}, doc! {"_id": Bson::Null, "text": "x".repeat(1000)}]).await;
    place.schema_file("posts.json", r#"{"_id": "INT", "text": "STRING"}"#);
    let extract = ["extract", "--csv-path", "out"];
    let refused = place.gizer(&extract).await;
    assert_says(
        &refused,
        1,
        &["more than 0 documents of posts rejected", ": expected INT", "marked as incomplete", "help:"],
    );
    assert_says(&copy(&place, &[]).await, 1, &["out is incomplete"]);
    assert_says(&place.gizer(&extract).await, 2, &["expected an empty folder"]);

    let allowed = [&extract[..], &["--force", "--max-rejects", "2"]].concat();
    let extracted = place.gizer(&allowed).await.expect_code(0);
    assert!(extracted.stderr.contains("2 documents rejected, kept in out/gizer-rejected"), "{}", extracted.stderr);
    let mut kept = fs::File::open(folder(&place).join("gizer-rejected/posts.bson")).unwrap();
    let kept: Vec<Document> = (0..2).map(|_| Document::from_reader(&mut kept).unwrap()).collect();
    assert!(kept.contains(&doc! {"_id": "odd"}), "{kept:?}");
    copy(&place, &[]).await.expect_code(0);
    let rejects = place.rows("SELECT collection, id, reason FROM gizer_reject ORDER BY id").await;
    assert_eq!(rejects.len(), 2);
    assert_eq!(rejects[0], json!({"collection": "posts", "id": "\"odd\"", "reason": "_id is STRING: expected INT"}));
    let ledger = place.rows("SELECT ledger FROM gizer_collection").await;
    assert!(ledger[0].to_string().contains("rejected"), "{ledger:?}");
    fs::write(folder(&place).join("gizer-rejected/posts.jsonl"), "{\"id\": \"1\", \"reason\": \"x\"}\n").unwrap();
    assert_says(&copy(&place, &[]).await, 1, &["posts.jsonl"]);
}

#[tokio::test]
async fn parts_and_copies_beside_the_collection_cannot_be_followed() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", numbered(20)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    let extract = ["extract", "--csv-path", "out", "--prefix", "old_", "--filter", r#"{"_id": {"$lt": 5}}"#];
    place.gizer(&extract).await.expect_code(0);
    assert!(folder(&place).join("old_posts/00000").is_file());
    assert_says(&copy(&place, &[]).await, 2, &["with --prefix old_"]);
    copy(&place, &["--prefix", "old_"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM posts").await, 20);
    assert_eq!(place.number("SELECT count(*) FROM old_posts").await, 5);
    assert_eq!(place.number("SELECT count(*) FROM old_post_list").await, 10);
    let states = place.rows("SELECT collection, state, reason FROM gizer_collection ORDER BY state").await;
    assert_eq!((&states[0]["state"], &states[1]["state"]), (&json!("copy"), &json!("following")));
    assert!(states[0]["reason"].as_str().unwrap().contains("--filter"), "{states:?}");
}

/// An extract needs no oplog; without one its tables are copies.
#[tokio::test]
async fn a_standalone_mongod_can_be_extracted_from() {
    let mongod = Mongod::builder(Version::V4_4).standalone().start().await.unwrap();
    let place = Place::on(&mongod, shared_postgres().await.unwrap()).await;
    place.insert("posts", numbered(5)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    let extracted = place.gizer(&["extract", "--csv-path", "out"]).await.expect_code(0);
    assert!(extracted.stderr.contains("posts: cannot be followed later: "), "{}", extracted.stderr);
    copy(&place, &[]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM posts").await, 5);
    let states = place.rows("SELECT state, reason FROM gizer_collection").await;
    assert_eq!(states[0]["state"], "copy");
    assert!(states[0]["reason"].as_str().unwrap().contains("without a position"), "{states:?}");
    let none = place.gizer(&["extract", "tags", "--csv-path", "other"]).await;
    assert_says(&none, 2, &["tags has no schema file"]);
    place.schema_file("tags.json", r#"{"_id": "INT"}"#);
    assert_says(&place.gizer(&["extract", "--csv-path", "other"]).await, 2, &["expected a collection \"tags\""]);
    assert!(!place.gizer.folder().join("other").exists(), "nothing is written before all collections are known");
}
