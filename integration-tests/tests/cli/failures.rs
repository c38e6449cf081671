//! Bad input and bad servers: a clear error, the right exit code, and nothing lost.

use std::time::{Duration, Instant};

use bson::doc;
use integration_tests::rig::{Gizer, Mongod, Version, shared_mongod, shared_postgres};

use super::place::{Place, assert_says, numbered};

#[tokio::test]
async fn servers_that_cannot_be_reached_are_named_within_ten_seconds() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file("posts.json", r#"{"_id": "INT"}"#);
    let started = Instant::now();
    let none = place.gizer(&["--mongo-uri", "mongodb://me:hunter2@127.0.0.1:9/", "load"]).await;
    assert_says(&none, 1, &["could not reach MongoDB at 127.0.0.1:9", "help:"]);
    let none = place.gizer(&["--postgres-uri", "postgresql://me:hunter2@127.0.0.1:9/app", "load"]).await;
    assert_says(&none, 1, &["cannot reach PostgreSQL at 127.0.0.1:9/app", "help:"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// A port on which somebody accepts connections and never answers, for as long as the listener is kept.
async fn black_hole() -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let accepting = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    (host, accepting)
}

#[tokio::test]
async fn servers_that_never_answer_are_named_within_ten_seconds() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file("posts.json", r#"{"_id": "INT"}"#);
    let (host, accepting) = black_hole().await;
    let mongo = format!("mongodb://me:hunter2@{host}/");
    let postgres = format!("postgresql://me:hunter2@{host}/app");
    let cases = [
        (["--mongo-uri", &mongo, "load"].to_vec(), format!("could not reach MongoDB at {host}")),
        (["--mongo-uri", &mongo, "schema", "infer"].to_vec(), format!("could not reach MongoDB at {host}")),
        (["--postgres-uri", &postgres, "load"].to_vec(), format!("cannot reach PostgreSQL at {host}/app")),
        (["--postgres-uri", &postgres, "status"].to_vec(), format!("cannot reach PostgreSQL at {host}/app")),
    ];
    let runs = cases.iter().map(async |(args, says)| {
        let started = Instant::now();
        let said = place.gizer(args).await;
        assert_says(&said, 1, &[says, "help:"]);
        assert!(started.elapsed() < Duration::from_secs(11), "{args:?} took {:?}", started.elapsed());
    });
    futures::future::join_all(runs).await;
    accepting.abort();
}

#[tokio::test]
async fn logins_that_are_refused_are_told_without_the_password() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file("posts.json", r#"{"_id": "INT"}"#);
    let uri = place.postgres_uri.replace(integration_tests::rig::POSTGRES_PASSWORD, "hunter2");
    assert_says(&place.gizer(&["--postgres-uri", &uri, "load"]).await, 1, &["refused to log in", "password"]);
    let unknown = place.postgres_uri.rsplit_once('/').unwrap().0.to_owned() + "/nowhere";
    assert_says(&place.gizer(&["--postgres-uri", &unknown, "status"]).await, 2, &["database nowhere does not exist"]);
    let schema = place.gizer(&["--postgres-schema", "no\"where", "status"]).await;
    assert_says(&schema, 2, &["schema no\"where does not exist", "CREATE SCHEMA \"no\"\"where\""]);
}

#[tokio::test]
async fn rights_that_are_missing_are_named() {
    let mongod = Mongod::builder(Version::V6_0).auth("root", "hunter2").start().await.unwrap();
    let postgres = shared_postgres().await.unwrap();
    let place = Place::on(&mongod, postgres).await;
    place.insert("posts", numbered(5)).await;
    let users =
        [("nobody", bson::Array::new()), ("reader", vec![doc! {"role": "read", "db": place.mongo.name()}.into()])];
    let admin = mongod.client().await.unwrap().database("admin");
    for (user, roles) in users {
        admin.run_command(doc! {"createUser": user, "pwd": "hunter2", "roles": roles}).await.unwrap();
    }
    place.schema_file("posts.json", r#"{"_id": "INT"}"#);
    let as_user = |user: &str| mongod.uri_as(user, "hunter2");
    assert_says(&place.gizer(&["--mongo-uri", &as_user("stranger"), "load"]).await, 1, &["authSource"]);
    assert_says(
        &place.gizer(&["--mongo-uri", &as_user("nobody"), "schema", "infer", "--force"]).await,
        1,
        &["help: grant"],
    );
    let no_oplog = place.gizer(&["--mongo-uri", &as_user("reader"), "load"]).await;
    assert_says(&no_oplog, 1, &["local", "help: grant the user"]);

    place.postgres.batch_execute("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN PASSWORD 'hunter2'").await.unwrap();
    let database = place.postgres_uri.rsplit_once('/').unwrap().1;
    let poor = postgres.uri_as("poor", "hunter2", database);
    assert_says(&place.gizer(&["--postgres-uri", &poor, "load"]).await, 1, &["poor has no rights", "GRANT"]);
    place.postgres.batch_execute("DROP ROLE poor").await.unwrap();
}

#[tokio::test]
async fn a_standalone_mongod_can_be_inferred_from_but_not_loaded() {
    let mongod = Mongod::builder(Version::V4_4).standalone().start().await.unwrap();
    let place = Place::on(&mongod, shared_postgres().await.unwrap()).await;
    place.insert("posts", numbered(5)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    assert_says(&place.gizer(&["load"]).await, 1, &["standalone", "--replSet"]);
}

#[tokio::test]
async fn names_that_do_not_exist_are_told_with_near_ones() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(1)).await;
    let infer = place.gizer(&["schema", "infer", "ordes"]).await;
    assert_says(&infer, 2, &["\"ordes\"", "did you mean \"orders\"?"]);
    assert_says(&place.gizer(&["--mongo-database", "nope", "schema", "infer"]).await, 2, &["\"nope\""]);
    assert_says(&place.gizer(&["load", "orders"]).await, 2, &["schemas", "gizer schema infer"]);
    place.schema_file("ghost.json", r#"{"_id": "INT"}"#);
    assert_says(
        &place.gizer(&["load", "orders"]).await,
        2,
        &["orders has no schema file", "gizer schema infer orders"],
    );
    assert_says(&place.gizer(&["load"]).await, 2, &["\"ghost\""]);
    assert_says(&place.gizer(&["status", "orders"]).await, 1, &["nothing is known of the collection orders"]);
}

#[tokio::test]
async fn files_that_are_wrong_are_told_with_the_line() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", numbered(1)).await;
    for (text, words) in [
        ("{\n \"_id\": \"NUMBER\"}", ["posts.json: line 2, column", "unknown type \"NUMBER\": expected one of STRING"]),
        ("{\n \"_id\": \"INT\",\n}", ["posts.json: line 3, column 1", "trailing comma"]),
        ("{\"text\": \"STRING\"}", ["posts.json", "neither a field _id nor a field id"]),
    ] {
        place.schema_file("posts.json", text);
        assert_says(&place.gizer(&["load"]).await, 2, &words);
    }
    let file = place.gizer.folder().join("schemas/posts.json");
    assert_says(&place.gizer(&["schema", "infer", "posts"]).await, 2, &["posts.json already exists", "--force"]);
    place.gizer(&["schema", "infer", "--force"]).await.expect_code(0);
    assert!(std::fs::read_to_string(file).unwrap().contains("\"text\": \"STRING\""));

    let broken = Gizer::with_config("[mongo]\nuri = \"mongodb://u:hunter2@h\"\ndatabse = \"x\"\n").unwrap();
    let said = broken.run(["status"]).await.unwrap();
    assert_says(&said, 2, &["gizer.toml: line 3, column 1", "unknown field `databse`"]);
    let empty = Gizer::with_config("").unwrap();
    assert_says(&empty.run(["status"]).await.unwrap(), 2, &["postgres.uri is not set", "GIZER_POSTGRES_URI"]);
    let unknown = empty.run(["lood"]).await.unwrap();
    assert_says(&unknown, 2, &["lood", "load"]);
    let odd = Gizer::with_config("").unwrap().env("GIZER_LOAD_WORKERS", "many");
    assert_says(&odd.run(["status"]).await.unwrap(), 2, &["GIZER_LOAD_WORKERS: expected a number from 1 to 64"]);
}

/// Two collections that want one table are told before anything is read.
#[tokio::test]
async fn collections_that_want_one_table_are_told() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file("a.json", r#"{"_id": "INT", "b_c": ["INT"]}"#);
    place.schema_file("a_b.json", r#"{"_id": "INT", "c": ["INT"]}"#);
    assert_says(&place.gizer(&["schema", "ddl"]).await, 2, &["a and a_b both need the table a_b_c"]);
}

/// Machines get the failure as JSON too.
#[tokio::test]
async fn a_failure_is_one_json_object() {
    let place = Place::shared(Version::V6_0).await;
    let _ = shared_mongod(Version::V6_0).await.unwrap();
    let failed = place.gizer(&["load", "--format", "json"]).await.expect_code(2);
    let report: serde_json::Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(report["error"]["exit_code"], 2);
    assert!(report["error"]["message"].as_str().unwrap().contains("schemas"), "{report}");
}
