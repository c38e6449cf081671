//! Loads that end well.

use bson::{Bson, doc};
use integration_tests::rig::Version;
use serde_json::{Value, json};

use super::place::{Place, numbered, rows_by_table};

#[tokio::test]
async fn infer_load_and_status_on_every_version() {
    for version in Version::ALL {
        let place = Place::shared(version).await;
        place.insert("posts", numbered(3000)).await;
        place.mongo.create_collection("empty").await.unwrap();
        place.mongo.create_collection("view").view_on("posts").pipeline([]).await.unwrap();

        let nothing = place.gizer(&["status"]).await.expect_code(0);
        assert!(nothing.stdout.contains("nothing has been loaded yet"), "{}", nothing.stdout);
        let inferred = place.gizer(&["schema", "infer", "--classic"]).await.expect_code(0);
        assert!(inferred.stdout.contains("posts: 3,000 documents"), "{}", inferred.stdout);
        assert!(inferred.stderr.contains("skipped view: a view"), "{}", inferred.stderr);
        assert!(inferred.stderr.contains("skipped empty: no document was seen"), "{}", inferred.stderr);
        place.schema_file("empty.json", r#"{"_id": {"oid": "STRING", "bsontype": "INT"}}"#);

        let loaded = place.gizer(&["load", "--format", "json"]).await.expect_code(0);
        let report: Value = serde_json::from_str(&loaded.stdout).unwrap();
        let posts = &report["collections"][1];
        assert_eq!(posts["name"], "posts");
        let counts: Vec<&Value> = ["read", "loaded", "rejected", "filtered"].iter().map(|key| &posts[key]).collect();
        assert_eq!(counts, [3000, 3000, 0, 0]);
        assert_eq!(rows_by_table(posts), [("posts".to_owned(), 3000), ("post_list".to_owned(), 6000)]);
        assert!(posts["tables"][0]["bytes"].as_u64().unwrap() > 100_000, "{posts}");
        assert_eq!(rows_by_table(&report["collections"][0]), [("empty".to_owned(), 0)]);

        assert_eq!(place.number("SELECT count(*) FROM posts").await, 3000);
        let row = place.rows("SELECT * FROM post_list WHERE posts_id = 7 AND idx = 2").await;
        assert_eq!(row, [json!({"list": 8, "posts_id": 7, "idx": 2})]);
        let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer_new%'";
        assert_eq!(place.number(left).await, 0, "staging tables are left over");

        let run = place.rows("SELECT status, comment, error, recs_count, reason, time_end >= time_start AS ended, ts FROM qmetlstatus").await;
        assert_eq!(run.len(), 1);
        assert_eq!((&run[0]["status"], &run[0]["comment"]), (&json!(0), &json!("init load")));
        assert_eq!(
            (&run[0]["error"], &run[0]["ended"], &run[0]["recs_count"]),
            (&json!(false), &json!(true), &json!(3000))
        );
        assert!(run[0]["ts"].as_str().unwrap().starts_with("Timestamp("), "{run:?}");

        let status = place.gizer(&["status", "--format", "json"]).await.expect_code(0);
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status["collections"][1]["state"], "following");
        assert_eq!(status["collections"][1]["ledger"]["loaded"], 3000);
        assert_eq!(status["stream"]["position"]["rs0"]["term"], 1);
    }
}

/// The second load swaps in what the source has by then, also where the schema has lost a table.
#[tokio::test]
async fn a_second_load_takes_the_place_of_the_first() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", numbered(10)).await;
    place.gizer(&["schema", "infer", "--classic"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    place
        .postgres
        .batch_execute("CREATE ROLE reader_of_posts; GRANT SELECT ON posts TO reader_of_posts")
        .await
        .unwrap();

    place.mongo.collection::<bson::Document>("posts").delete_many(doc! {"_id": {"$gte": 4}}).await.unwrap();
    place.schema_file("posts.json", r#"{"_id": "INT", "text": "STRING"}"#);
    let loaded = place.gizer(&["load", "posts"]).await.expect_code(0);
    assert!(loaded.stderr.contains("dropped, no longer in the schema: post_list"), "{}", loaded.stderr);
    assert!(loaded.stderr.contains("unknown field posts.list: 4 times"), "{}", loaded.stderr);
    assert_eq!(place.number("SELECT count(*) FROM posts").await, 4);
    assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname = 'post_list'").await, 0);
    let kept = "SELECT has_table_privilege('reader_of_posts', 'posts', 'SELECT')::int::bigint";
    assert_eq!(place.number(kept).await, 1, "a reader has lost its rights by the swap");
    place.postgres.batch_execute("DROP OWNED BY reader_of_posts; DROP ROLE reader_of_posts").await.unwrap();
}

#[tokio::test]
async fn rejected_documents_are_kept_aside_and_stop_the_swap_unless_allowed() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", numbered(10)).await;
    place.gizer(&["schema", "infer", "--classic"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    place.insert("posts", [doc! {"_id": "odd", "text": "x"}, doc! {"_id": Bson::Null}]).await;

    let refused = place.gizer(&["load"]).await.expect_code(1);
    assert!(refused.stderr.contains("more than 0 documents of posts rejected"), "{}", refused.stderr);
    assert_eq!(place.number("SELECT count(*) FROM posts").await, 10, "the live table is as it was");
    let run = place.rows("SELECT error, reason FROM qmetlstatus ORDER BY time_start DESC LIMIT 1").await;
    assert_eq!(run[0]["error"], json!(false), "the live tables are still good: no load is due");
    assert!(run[0]["reason"].as_str().unwrap().contains("rejected"), "{run:?}");

    let loaded = place.gizer(&["load", "--max-rejects", "2", "--format", "json"]).await.expect_code(0);
    let report: Value = serde_json::from_str(&loaded.stdout).unwrap();
    let posts = &report["collections"][0];
    assert_eq!((&posts["read"], &posts["loaded"], &posts["rejected"]), (&json!(12), &json!(10), &json!(2)));
    let rejects = place.rows("SELECT collection, id, reason FROM gizer_reject ORDER BY id").await;
    assert_eq!(rejects.len(), 2, "{rejects:?}");
    assert_eq!(rejects[0], json!({"collection": "posts", "id": "\"odd\"", "reason": "_id is STRING: expected BIGINT"}));
    assert_eq!(rejects[1]["reason"], "no _id: expected BIGINT");
}

/// A schema that knows only `id` can be loaded, and is marked as a copy that cannot be followed.
#[tokio::test]
async fn a_schema_without_underscore_id_is_loaded_as_a_copy() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("guests", [doc! {"id": 11, "comment": "hello"}, doc! {"id": 11}, doc! {"comment": "no id"}]).await;
    place.schema_file("guests.json", r#"{"id": "INT", "comment": "STRING"}"#);
    place.gizer(&["load"]).await.expect_code(0);
    let rows = place.rows("SELECT comment, id FROM guests ORDER BY id, comment").await;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0], json!({"comment": "hello", "id": 11}));
    let state = place.rows("SELECT state, reason FROM gizer_collection").await;
    assert_eq!(state[0]["state"], "copy");
    assert!(state[0]["reason"].as_str().unwrap().contains("no _id"), "{state:?}");
}

/// A table of the classic tool is taken over; one of somebody else is not touched.
#[tokio::test]
async fn tables_of_others_are_safe() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", [doc! {"_id": 1, "text": "new"}]).await;
    place.insert("people", [doc! {"_id": 1}]).await;
    place.schema_file("posts.json", r#"{"_id": "INT", "text": "STRING"}"#);
    let classic = "CREATE TABLE posts (id INTEGER, text TEXT); INSERT INTO posts VALUES (9, 'old');";
    let foreign = "CREATE TABLE people (name TEXT); INSERT INTO people VALUES ('Ann')";
    place.postgres.batch_execute(&format!("{classic} {foreign}")).await.unwrap();
    place.gizer(&["load", "posts"]).await.expect_code(0);
    assert_eq!(place.rows("SELECT * FROM posts").await, [json!({"id": 1, "text": "new"})]);

    place.schema_file("people.json", r#"{"_id": "INT"}"#);
    let refused = place.gizer(&["load", "people"]).await.expect_code(1);
    assert!(refused.stderr.contains("public.people cannot be replaced"), "{}", refused.stderr);
    assert_eq!(place.rows("SELECT * FROM people").await, [json!({"name": "Ann"})]);
}

#[tokio::test]
async fn ddl_makes_the_tables_that_a_load_makes() {
    for (dialect, columns) in [(&["--classic"][..], 5), (&[], 7)] {
        let place = Place::shared(Version::V6_0).await;
        place.insert("posts", numbered(3)).await;
        place.gizer(&[&["schema", "infer"], dialect].concat()).await.expect_code(0);
        place.gizer(&["load"]).await.expect_code(0);
        let loaded = place.rows(&describe("public")).await;
        place.postgres.batch_execute("CREATE SCHEMA other").await.unwrap();
        let ddl = place.gizer(&["schema", "ddl", "--postgres-schema", "other"]).await.expect_code(0);
        place.postgres.batch_execute(&ddl.stdout).await.unwrap();
        assert_eq!(place.rows(&describe("other")).await, loaded);
        assert_eq!(loaded.len(), columns);
    }
}

/// Everything of the tables in a schema that DDL can say.
fn describe(schema: &str) -> String {
    format!(
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull, a.attnum, \
                co.collname, col_description(c.oid, a.attnum) AS comment, obj_description(c.oid) AS table_comment, \
                (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.conrelid = c.oid AND contype = 'p') \
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
         LEFT JOIN pg_collation co ON co.oid = a.attcollation \
         WHERE c.relnamespace = '{schema}'::regnamespace AND c.relname IN ('posts', 'post_list') ORDER BY 1, 5"
    )
}

/// A later field never renames an old column, and what it brings is in a column of its own.
#[tokio::test]
async fn names_stay_when_a_schema_is_inferred_again() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", [doc! {"_id": 1, "a_b": "old", "x": 1}]).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    // Both would be named first: `_x` and `a.b` come before `x` and `a_b`.
    place.insert("posts", [doc! {"_id": 2, "_x": 5, "a": {"b": "new"}, "a_b": "old", "x": 2}]).await;
    place.gizer(&["schema", "infer", "--force"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    let rows = place.rows("SELECT id, a_b, x FROM posts ORDER BY id").await;
    assert_eq!(rows, [json!({"id": 1, "a_b": "old", "x": 1}), json!({"id": 2, "a_b": "old", "x": 2})]);
}

/// `schema merge`, `patch` and `tables`, as the classic tool had them.
#[tokio::test]
async fn schema_files_are_merged_patched_and_listed() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", [doc! {"_id": 1, "title": "x", "l": [1]}]).await;
    place.schema_file("posts.json", r#"{"_id": "INT", "title": "TINYINT", "l": ["TINYINT"]}"#);
    place.schema_file("other.js", r#"{"_id": "INT", "l": ["INT"], "new": "INT"}"#);
    let (posts, other) = ("schemas/posts.json", "schemas/other.js");
    let merged = place.gizer(&["schema", "merge", posts, other]).await.expect_code(0);
    assert_eq!(merged.stdout, "l: TINYINT → INT\n");
    let loaded = place.gizer(&["load", "posts", "--format", "json"]).await.expect_code(0);
    std::fs::write(place.gizer.folder().join("report.json"), loaded.stdout).unwrap();
    let patched = place.gizer(&["schema", "patch", posts, "report.json"]).await.expect_code(0);
    assert_eq!(patched.stdout, "title: TINYINT → STRING\n");
    place.gizer(&["load", "posts"]).await.expect_code(0);
    assert_eq!(place.rows("SELECT * FROM posts").await, [json!({"id": 1, "title": "x"})]);
    let tables = place.gizer(&["schema", "tables", "posts", "--delimiter", ","]).await.expect_code(0);
    assert_eq!(tables.stdout, "posts,post_l\n");
}

/// For the impatient: the newest, some by chance, those that match.
#[tokio::test]
async fn a_schema_can_be_inferred_from_a_part() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", numbered(500)).await;
    place.insert("posts", [doc! {"_id": 1000, "newest": true}]).await;
    let cases: [(&[&str], &str, bool); 4] = [
        (&["--newest", "1"], "1 document", true),
        (&["--sample", "50"], "50 documents", false),
        (&["--filter", r#"{"_id": {"$gte": {"$numberInt": "1000"}}}"#], "1 document", true),
        (&["--newest", "7", "--filter", r#"{"_id": {"$lt": 100}}"#], "7 documents", false),
    ];
    for (part, documents, has_newest) in cases {
        let inferred = place.gizer(&[&["schema", "infer", "posts", "--force"], part].concat()).await.expect_code(0);
        assert!(inferred.stdout.contains(&format!("posts: {documents} →")), "{part:?}: {}", inferred.stdout);
        let file = std::fs::read_to_string(place.gizer.folder().join("schemas/posts.json")).unwrap();
        // By chance the sample may have it too.
        assert!(file.contains("\"newest\"") == has_newest || part[0] == "--sample", "{part:?}: {file}");
    }
    let none = place.gizer(&["schema", "infer", "posts", "--force", "--sample", "0"]).await.expect_code(1);
    assert!(none.stderr.contains("no document was seen"), "{}", none.stderr);
    let both = place.gizer(&["schema", "infer", "posts", "--newest", "1", "--sample", "1"]).await.expect_code(2);
    assert!(both.stderr.contains("cannot be used with"), "{}", both.stderr);
    let wrong = place.gizer(&["schema", "infer", "posts", "--filter", "{x"]).await.expect_code(2);
    assert!(wrong.stderr.contains("expected a query such as"), "{}", wrong.stderr);
}

/// The classic tool's schemas without documents: real tables with the columns of the case file, in their order.
#[tokio::test]
async fn classic_schemas_make_the_classic_tables() {
    let path = format!("{}/../testdata/classic/schema-only.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in &cases {
        let place = Place::shared(Version::V6_0).await;
        let collection = case["collection"].as_str().unwrap();
        place.mongo.create_collection(collection).await.unwrap();
        place.schema_file(&format!("{collection}.json"), &case["schema"].to_string());
        place.gizer(&["load"]).await.expect_code(0);
        for (table, expected) in case["tables"].as_object().unwrap() {
            let columns = place
                .rows(&format!(
                    "SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute \
                     WHERE attrelid = '\"{table}\"'::regclass AND attnum > 0 ORDER BY attnum"
                ))
                .await;
            let expected: Vec<Value> = expected["columns"]
                .as_array()
                .unwrap()
                .iter()
                .map(|column| {
                    let ty = column["pg_type"].as_str().unwrap().to_lowercase();
                    json!({"name": column["name"], "type": ty})
                })
                .collect();
            assert_eq!(columns, expected, "{table}");
        }
    }
    assert_eq!(cases.len(), 3);
}
