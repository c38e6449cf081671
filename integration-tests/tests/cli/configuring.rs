//! Classic INI files against real servers, and what `gizer config` tells of the configuration.

use std::os::unix::fs::PermissionsExt;

use bson::{Document, doc};
use integration_tests::rig::{
    Gizer, Mongod, POSTGRES_PASSWORD, POSTGRES_USER, ReplicaSet, Version, shared_mongod, shared_postgres,
};
use serde_json::Value;

use super::place::assert_says;

/// What would be cut, joined or misread in a connection string if it were not encoded.
const PASSWORD: &str = "hunter2:/?#[]@%41;\\";

fn psql(port: u16, database: &str) -> String {
    format!(
        "[psql]\npsql-host = 127.0.0.1\npsql-port = {port}\npsql-dbname = {database}\npsql-user = {POSTGRES_USER}\n\
         psql-pass = {POSTGRES_PASSWORD}\npsql-schema-name = public\n"
    )
}

fn mongo(section: &str, port: u16, database: &str, login: &str) -> String {
    format!("[{section}]\n{section}-host: 127.0.0.1\n{section}-port: {port}\n{section}-dbname: {database}\n{login}\n")
}

#[tokio::test]
async fn a_classic_file_loads_and_follows_with_its_passwords() {
    let mongod = Mongod::builder(Version::V6_0).auth("me@home", PASSWORD).start().await.unwrap();
    let postgres = shared_postgres().await.unwrap();
    let database = postgres.create_database().await.unwrap();
    let login = |section: &str| {
        let password = PASSWORD.replace('%', "%%");
        format!("{section}-user = me@home\n{section}-pass = {password}\n{section}-params = authSource=admin")
    };
    let oplog = "mongo-oplog-shard1-rs1";
    let ini = "[misc]\nschemas-dir = schemas\nlogs-dir = /var/log\n".to_owned()
        + &psql(postgres.port(), &database)
        + &mongo("mongo", mongod.port(), "shop", &login("mongo"))
        + &mongo(oplog, mongod.port(), "local", &login(oplog));
    let gizer = Gizer::with_config(&ini).unwrap();
    let orders = mongod.client().await.unwrap().database("shop").collection::<Document>("orders");
    orders.insert_one(doc! {"_id": 1, "n": 1}).await.unwrap();
    let ignored = "ignored, because gizer does not need it: [misc] logs-dir";
    assert_says(&gizer.run(["schema", "infer"]).await.unwrap(), 0, &[ignored]);
    assert!(gizer.folder().join("schemas/orders.json").is_file());
    assert_says(&gizer.run(["load"]).await.unwrap(), 0, &[]);
    orders.insert_one(doc! {"_id": 2, "n": 1}).await.unwrap();
    assert_says(&gizer.run(["sync"]).await.unwrap(), 0, &[]);
    let client = postgres.client(&database).await.unwrap();
    let count: i64 = client.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0);
    assert_eq!(count, 2);
    let state = "SELECT ts FROM qmetlstatus ORDER BY time_start DESC LIMIT 1";
    let ts: String = client.query_one(state, &[]).await.unwrap().get(0);
    assert!(ts.starts_with("Timestamp("), "{ts}");

    // Converted, it does the same.
    let converted = gizer.run(["config", "convert", "gizer.toml", "--output", "new.toml"]).await.unwrap();
    assert_says(&converted, 0, &["new.toml is written"]);
    let new = gizer.folder().join("new.toml");
    assert_eq!(std::fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
    let again = gizer.run(["config", "convert", "gizer.toml", "--output", "new.toml"]).await.unwrap();
    assert_says(&again, 2, &["new.toml is there already"]);
    let toml = std::fs::read_to_string(&new).unwrap();
    assert!(toml.contains("# from [psql] psql-host, psql-port"), "{toml}");
    std::fs::write(gizer.config_path(), toml).unwrap();
    orders.insert_one(doc! {"_id": 3, "n": 1}).await.unwrap();
    let synced = gizer.run(["sync"]).await.unwrap();
    assert_says(&synced, 0, &[]);
    assert!(!synced.stderr.contains("ignored"), "{synced:?}");
    let count: i64 = client.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0);
    assert_eq!(count, 3);
}

#[tokio::test]
async fn members_of_a_replica_set_are_one_oplog() {
    let set = ReplicaSet::start(Version::V6_0, 3).await.unwrap();
    let postgres = shared_postgres().await.unwrap();
    let database = postgres.create_database().await.unwrap();
    let hosts: Vec<String> = set.members().iter().map(Mongod::host).collect();
    let members = set.members().iter().enumerate();
    let oplogs: String =
        members.map(|(n, member)| mongo(&format!("mongo-oplog-rs{n}"), member.port(), "local", "")).collect();
    let source = format!("[mongo]\nmongo-host = {}\nmongo-dbname = shop\n", hosts.join(","));
    let gizer = Gizer::with_config(&(psql(postgres.port(), &database) + &source + &oplogs)).unwrap();
    let started = gizer.run(["etlstatus", "start"]).await.unwrap().expect_code(0);
    assert_eq!(started.stdout.matches("Timestamp(").count(), 1, "{started:?}");
    let shown = gizer.run(["config", "get", "oplog", "uri"]).await.unwrap().expect_code(0);
    assert_eq!(shown.stdout, format!("mongo-oplog=mongodb://{}/\n", hosts.join(",")));
}

#[tokio::test]
async fn a_classic_server_that_refuses_does_not_tell_the_password() {
    let (mongod, postgres) = (shared_mongod(Version::V6_0).await.unwrap(), shared_postgres().await.unwrap());
    let login = "mongo-user = me\nmongo-pass = hunter2";
    let wrong = psql(postgres.port(), "postgres").replace(POSTGRES_PASSWORD, "hunter2");
    let gizer = Gizer::with_config(&(wrong + &mongo("mongo", mongod.port(), "shop", login))).unwrap();
    assert_says(&gizer.run(["status", "-vv"]).await.unwrap(), 1, &["password"]);
    assert_says(&gizer.run(["schema", "infer", "-vv"]).await.unwrap(), 1, &["127.0.0.1"]);
    let odd = Gizer::with_config("[psql]\npsql-hots = hunter2\n").unwrap();
    let said = odd.run(["status", "--format", "json"]).await.unwrap();
    assert_says(&said, 2, &["line 2", "unknown key", "did you mean psql-host?"]);
}

const TOML: &str = "[mongo]\nuri = [\"mongodb://me:hunter2@h\", \"mongodb://i\"]\n\n[postgres]\nuri = \"postgresql://me:hunter2@h/app\"\n\
    [run]\nmemory = \"64MiB\"\n[[oplog]]\nname = \"a\"\nuri = \"mongodb://me:hunter2@h\"\n";

#[tokio::test]
async fn what_is_in_force_is_shown_with_its_origin_and_without_passwords() {
    let gizer = Gizer::with_config(TOML)
        .unwrap()
        .env("GIZER_LOAD_WORKERS", "3")
        .env("GIZER_CACHE_URI", "postgresql://u:hunter2@c");
    let show = ["config", "show", "--postgres-schema", "copy"];
    let text = gizer.run(show).await.unwrap();
    let expected =
        ["mongodb://me:***@h", "gizer.toml:2", "a=mongodb://me:***@h", "GIZER_LOAD_WORKERS", "--postgres-schema"];
    assert_says(&text, 0, &[]);
    for each in expected {
        assert!(text.stdout.contains(each), "{each}\n{}", text.stdout);
    }
    let json = gizer.run(show.into_iter().chain(["--format", "json"])).await.unwrap();
    assert_says(&json, 0, &[]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let setting = |section: &str, key: &str| {
        let settings = json["settings"].as_array().unwrap();
        settings.iter().find(|each| each["section"] == section && each["key"] == key).unwrap().clone()
    };
    assert_eq!(setting("mongo", "uri")["value"], serde_json::json!(["mongodb://me:***@h", "mongodb://i"]));
    assert_eq!(setting("mongo", "uri")["from"]["line"], 2);
    assert_eq!(
        (setting("run", "memory")["value"].clone(), setting("run", "memory")["from"]["line"].clone()),
        ("64MiB".into(), 7.into())
    );
    assert_eq!(
        setting("load", "workers")["from"],
        serde_json::json!({"kind": "environment", "name": "GIZER_LOAD_WORKERS"})
    );
    assert_eq!(setting("cache", "uri")["value"], "postgresql://u:***@c");
    assert_eq!(setting("postgres", "schema")["from"]["name"], "--postgres-schema");
    assert_eq!(setting("oplog", "uri")["from"]["line"], 8);
    assert_eq!(setting("mongo", "database")["value"], Value::Null);
    assert_eq!(setting("load", "swap_timeout")["from"]["kind"], "default");
}

#[tokio::test]
async fn one_value_is_printed_and_secrets_only_when_asked_for() {
    let gizer = Gizer::with_config(TOML).unwrap();
    let get = async |gizer: &Gizer, args: &[&str]| gizer.run(["config", "get"].iter().chain(args)).await.unwrap();
    assert_eq!(get(&gizer, &["postgres", "schema"]).await.expect_code(0).stdout, "public\n");
    assert_eq!(get(&gizer, &["load", "spool-limit"]).await.expect_code(0).stdout, "1GiB\n");
    let refused = get(&gizer, &["postgres", "uri"]).await;
    assert_says(&refused, 2, &["holds a secret", "--show-secret"]);
    assert_eq!(refused.stdout, "");
    let told = get(&gizer, &["postgres", "uri", "--show-secret"]).await.expect_code(0);
    assert_eq!(told.stdout, "postgresql://me:hunter2@h/app\n");
    assert_says(&get(&gizer, &["cache", "uri"]).await, 1, &["cache.uri is not set"]);
    assert_says(&get(&gizer, &["postgres", "shema"]).await, 2, &["no setting", "gizer config get postgres schema"]);

    let ini = "[misc]\nlogs-dir = /var/log\n".to_owned() + &psql(5432, "app");
    let classic = Gizer::with_config(&ini).unwrap().env("GIZER_POSTGRES_SCHEMA", "other");
    assert_eq!(get(&classic, &["psql", "psql-host"]).await.expect_code(0).stdout, "127.0.0.1\n");
    let ignored = get(&classic, &["misc", "logs-dir"]).await.expect_code(0);
    assert_eq!((ignored.stdout.as_str(), ignored.stderr.as_str()), ("/var/log\n", ""));
    assert_eq!(get(&classic, &["postgres", "schema"]).await.expect_code(0).stdout, "other\n");
    assert_says(&get(&classic, &["psql", "psql-pass"]).await, 2, &["--show-secret"]);
    let told = get(&classic, &["psql", "psql-pass", "--show-secret"]).await.expect_code(0);
    assert_eq!(told.stdout, format!("{POSTGRES_PASSWORD}\n"));
    assert_says(&get(&classic, &["psql", "psql-hots"]).await, 2, &["psql psql-host"]);
}
