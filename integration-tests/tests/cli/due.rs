//! `gizer run` and `gizer plan`: what is due, done or told.

use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{Gizer, Mongod, Signal, Version, shared_postgres, unique_name, wait_until};
use serde_json::{Value, json};

use super::place::{Place, assert_says, numbered};

const LIMIT: Duration = Duration::from_secs(60);

async fn json_of(place: &Place, args: &[&str], code: i32) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
    let finished = place.gizer(&args).await.expect_code(code);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// What was done, by the names of the steps.
async fn run(place: &Place, args: &[&str], code: i32) -> (Vec<String>, Value) {
    let all: Vec<&str> = ["run"].iter().chain(args).copied().collect();
    let object = json_of(place, &all, code).await;
    assert_eq!(object["exit_code"], code);
    let steps = object["steps"].as_array().unwrap();
    let name = |step: &Value| step.as_object().unwrap().keys().next().unwrap().clone();
    (steps.iter().map(name).collect(), object)
}

/// What a plan says is due, by collection.
async fn plan(place: &Place, args: &[&str], code: i32) -> (Vec<(String, String)>, Value) {
    let all: Vec<&str> = ["plan"].iter().chain(args).copied().collect();
    let object = json_of(place, &all, code).await;
    let text = |step: &Value, name: &str| step[name].as_str().unwrap().to_owned();
    let steps = object["steps"].as_array().unwrap();
    (steps.iter().map(|step| (text(step, "collection"), text(step, "due"))).collect(), object)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, due)| ((*name).to_owned(), (*due).to_owned())).collect()
}

async fn count(place: &Place, table: &str) -> i64 {
    place.number(&format!("SELECT count(*) FROM {table}")).await
}

#[tokio::test]
async fn from_nothing_to_up_to_date_and_then_only_what_has_changed() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(50)).await;
    place.insert("posts", numbered(5)).await;
    assert_eq!(plan(&place, &[], 0).await.0, pairs(&[("orders", "infer"), ("posts", "infer")]));
    let tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer%' OR relname = 'qmetlstatus'";
    assert_eq!(place.number(tables).await, 0, "a plan has made a table");

    assert_eq!(run(&place, &[], 0).await.0, ["infer", "load", "sync"]);
    assert_eq!((count(&place, "orders").await, count(&place, "post_list").await), (50, 10));
    assert_eq!(plan(&place, &[], 0).await.0, pairs(&[("orders", "sync"), ("posts", "sync")]));

    place.insert("orders", [doc! { "_id": 1_000, "text": "new", "list": [] }]).await;
    let (steps, object) = run(&place, &[], 0).await;
    assert_eq!(steps, ["sync"]);
    assert_eq!(object["steps"][0]["sync"]["changes"]["inserts"], 1);
    assert_eq!(count(&place, "orders").await, 51);
    // All of the database is expected: one that comes later is taken up.
    place.insert("drafts", numbered(3)).await;
    let (due, _) = plan(&place, &[], 0).await;
    assert_eq!(due, pairs(&[("drafts", "infer"), ("orders", "sync"), ("posts", "sync")]));
    let (steps, _) = run(&place, &[], 0).await;
    assert_eq!(steps, ["infer", "load", "sync"]);
    assert_eq!(count(&place, "drafts").await, 3);
}

/// Where schema files were there before, they are the choice.
#[tokio::test]
async fn what_has_no_schema_file_is_inferred_where_that_is_wanted() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(5)).await;
    place.insert("drafts", numbered(3)).await;
    place.gizer(&["schema", "infer", "orders"]).await.expect_code(0);
    assert_eq!(run(&place, &[], 0).await.0, ["load", "sync"]);
    let (due, object) = plan(&place, &[], 0).await;
    assert_eq!(due, pairs(&[("drafts", "none"), ("orders", "sync")]));
    assert_eq!(object["steps"][0]["why"], "it has no schema file");
    let (steps, _) = run(&place, &["--schemas-infer", "missing"], 0).await;
    assert_eq!(steps, ["infer", "load", "sync"]);
    assert_eq!(count(&place, "drafts").await, 3);
}

#[tokio::test]
async fn nothing_is_inferred_where_that_is_not_allowed() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(5)).await;
    assert!(run(&place, &["--schemas-infer", "never"], 0).await.0.is_empty());
    assert!(!place.gizer.folder().join("schemas").exists());
    let refused = place.gizer(&["run", "--schemas-infer", "sometimes"]).await;
    assert_says(&refused, 2, &["expected none-yet, missing or never", "sometimes"]);
}

/// The schema file is another one; a position is in the oplog no more; one is of another history, which only reading it shows.
#[tokio::test]
async fn whatever_makes_a_load_due_is_mended_by_one() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(20)).await;
    run(&place, &[], 0).await;

    place.schema_file("orders.json", r#"{"_id": "INT", "text": "STRING"}"#);
    let (due, object) = plan(&place, &[], 0).await;
    assert_eq!(due, pairs(&[("orders", "load")]));
    assert!(object["steps"][0]["why"].as_str().unwrap().contains("schema file"), "{object}");
    let table = |name: &str, change: &str| json!({"name": name, "change": change});
    assert_eq!(object["loads"][0]["tables"], json!([table("orders", "replaced"), table("order_list", "dropped")]));
    let (steps, _) = run(&place, &[], 0).await;
    assert_eq!(steps, ["load", "sync"]);
    assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname = 'order_list'").await, 0);

    let moved = |part: &str, to: &str| {
        format!(
            "UPDATE gizer_stream SET position = \
                 (SELECT jsonb_object_agg(key, regexp_replace(value, '{part}', '{to}')) FROM jsonb_each_text(position))"
        )
    };
    place.postgres.batch_execute(&moved("^[0-9]+", "1000")).await.unwrap();
    let (due, object) = plan(&place, &[], 0).await;
    assert_eq!(due, pairs(&[("orders", "resync")]));
    assert!(object["steps"][0]["why"].as_str().unwrap().contains("no longer reaches back"), "{object}");
    let weighed = &object["lost_positions"][0];
    assert_eq!((&weighed["chosen"], &weighed["differing"]), (&json!("resync"), &json!(0)), "{weighed}");
    assert!(weighed["resync_seconds"].as_f64() < weighed["load"]["seconds_most"].as_f64(), "{weighed}");
    let warned = json_of(&place, &["status", "--check"], 6).await;
    assert!(warned["warnings"][0].as_str().unwrap().contains("a load is due"), "{warned}");
    assert_eq!(run(&place, &[], 0).await.0, ["resync", "sync"]);

    place.postgres.batch_execute(&moved(":.*", ":800000000000004d")).await.unwrap();
    assert_eq!(plan(&place, &[], 0).await.0, pairs(&[("orders", "sync")]));
    place.insert("orders", [doc! { "_id": 1_000, "text": "new" }]).await;
    assert_eq!(run(&place, &[], 0).await.0, ["sync", "resync", "sync"]);
    assert_eq!(count(&place, "orders").await, 21);
    assert_eq!(run(&place, &[], 0).await.0, ["sync"]);
}

/// Moves the stream's position to a time that no oplog reaches back to.
async fn lose_the_position(place: &Place) {
    let long_ago = "UPDATE gizer_stream SET position = \
        (SELECT jsonb_object_agg(key, regexp_replace(value, '^[0-9]+', '1000')) FROM jsonb_each_text(position))";
    place.postgres.batch_execute(long_ago).await.unwrap();
}

#[tokio::test]
async fn a_person_says_what_is_done_about_a_lost_position() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(20)).await;
    run(&place, &[], 0).await;
    for (policy, step) in [("load", "load"), ("resync", "resync")] {
        lose_the_position(&place).await;
        let chosen = ["--run-lost-position", policy];
        let (due, object) = plan(&place, &chosen, 0).await;
        assert_eq!(due, pairs(&[("orders", step)]), "{object}");
        assert_eq!(object["lost_positions"][0]["chosen"], step, "{object}");
        assert_eq!(run(&place, &chosen, 0).await.0, [step, "sync"]);
    }

    lose_the_position(&place).await;
    place.insert("posts", numbered(3)).await;
    place.gizer(&["schema", "infer", "posts"]).await.expect_code(0);
    let stop = ["--run-lost-position", "stop"];
    assert_eq!(plan(&place, &stop, 0).await.0, pairs(&[("orders", "stop"), ("posts", "load")]));
    for _ in 0..2 {
        let (_, object) = run(&place, &stop, 3).await;
        let missing = &object["missing"][0];
        assert_eq!((&missing["collection"], &missing["standing"]), (&json!("orders"), &json!("load due")), "{object}");
        assert_eq!(count(&place, "posts").await, 3, "the others are copied");
    }
    let said = place.gizer(&["run", "--run-lost-position", "stop"]).await.expect_code(3).stderr;
    assert!(said.contains("no longer reaches back") && said.contains("gizer resync orders"), "{said}");
    place.gizer(&["resync", "orders"]).await.expect_code(0);
    assert_eq!(run(&place, &stop, 0).await.0, ["sync"]);
}

/// One whose position is lost, and that nobody has resynced or loaded, stays behind alone.
#[tokio::test]
async fn whose_position_stays_lost_keeps_nobody_from_being_followed() {
    let diverged = "UPDATE gizer_stream SET position = \
        (SELECT jsonb_object_agg(key, regexp_replace(value, ':.*', ':800000000000004d')) FROM jsonb_each_text(position))";
    for (is_diverged, why) in [(false, "no longer reaches back to its position"), (true, "has diverged")] {
        let place = Place::shared(Version::V6_0).await;
        place.insert("orders", numbered(3)).await;
        place.insert("posts", numbered(3)).await;
        run(&place, &[], 0).await;
        match is_diverged {
            true => place.postgres.batch_execute(diverged).await.unwrap(),
            false => lose_the_position(&place).await,
        }
        place.insert("posts", [doc! { "_id": 1_000, "text": "new" }]).await;
        // Where nobody's position is held, it may be another server: nothing is marked.
        place.gizer(&["sync"]).await.expect_code(3);
        let marked = "SELECT count(*) FROM gizer_collection WHERE state = 'load due'";
        assert_eq!(place.number(marked).await, 0);

        place.gizer(&["resync", "posts"]).await.expect_code(0);
        place.insert("posts", [doc! { "_id": 1_001, "text": "newer" }]).await;
        let synced = place.gizer(&["sync"]).await.expect_code(3);
        assert!(synced.stderr.contains("orders: ") && synced.stderr.contains(why), "{}", synced.stderr);
        assert!(synced.stderr.contains("gizer resync orders"), "{}", synced.stderr);
        assert_eq!(count(&place, "posts").await, 5, "{why}");
        assert_eq!(run(&place, &[], 0).await.0, ["resync", "sync"]);
    }
}

#[tokio::test]
async fn what_cannot_be_weighed_keeps_nobody_from_a_plan() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(3)).await;
    place.insert("posts", numbered(3)).await;
    run(&place, &[], 0).await;
    place.mongo.collection::<Document>("orders").drop().await.unwrap();
    place.mongo.run_command(doc! { "create": "orders", "viewOn": "posts", "pipeline": [] }).await.unwrap();
    lose_the_position(&place).await;
    let planned = place.gizer(&["plan", "--format", "json"]).await;
    let object: Value = serde_json::from_str(&planned.stdout).unwrap_or_else(|error| panic!("{error}: {planned:?}"));
    assert_eq!(object["lost_positions"].as_array().unwrap().len(), 1, "{object}");
    assert_eq!(object["steps"][1]["due"], "resync", "{object}");
}

#[tokio::test]
async fn where_most_differs_or_nothing_can_be_replaced_run_chooses_accordingly() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(300)).await;
    run(&place, &[], 0).await;
    let orders = place.mongo.collection::<Document>("orders");
    orders.update_many(doc! {}, doc! { "$set": { "text": "all" } }).await.unwrap();
    lose_the_position(&place).await;
    let (due, object) = plan(&place, &[], 0).await;
    assert_eq!(due, pairs(&[("orders", "load")]));
    let weighed = &object["lost_positions"][0];
    assert!(weighed["why"].as_str().unwrap().contains("takes less time"), "{weighed}");

    // All differs, and still a load is not possible.
    place.postgres.batch_execute("CREATE PUBLICATION mine FOR TABLE orders").await.unwrap();
    let (due, object) = plan(&place, &[], 0).await;
    assert_eq!(due, pairs(&[("orders", "resync")]));
    let why = object["lost_positions"][0]["cannot_be_replaced"].as_str().unwrap();
    assert!(why.contains("publication mine"), "{why}");
    let refused = place.gizer(&["load", "orders"]).await.expect_code(1).stderr;
    assert!(refused.contains("publication mine") && refused.contains("gizer resync orders"), "{refused}");
    assert_eq!(run(&place, &[], 0).await.0, ["resync", "sync"]);
    let text = place.number("SELECT count(*) FROM orders WHERE text = 'all'").await;
    assert_eq!(text, 300);
    let kept = place.number("SELECT count(*) FROM pg_publication_tables WHERE pubname = 'mine'").await;
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn what_cannot_be_done_does_not_keep_the_rest_from_it() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(5)).await;
    run(&place, &[], 0).await;
    place.schema_file("ghosts.json", r#"{"_id": "INT"}"#);
    place.schema_file("broken.json", r#"{"text": "STRING"}"#);
    place.insert("broken", numbered(1)).await;
    place.insert("orders", [doc! { "_id": 1_000 }]).await;
    let (due, object) = plan(&place, &[], 1).await;
    assert_eq!(due, pairs(&[("broken", "impossible"), ("ghosts", "impossible"), ("orders", "sync")]));
    assert!(object["in_the_way"][1]["message"].as_str().unwrap().contains("no such collection"), "{object}");
    let (steps, object) = run(&place, &[], 7).await;
    assert_eq!(steps, ["refused", "sync"]);
    let missing = object["missing"].as_array().unwrap();
    let missing: Vec<&Value> = missing.iter().map(|each| &each["collection"]).collect();
    assert_eq!(missing, ["broken", "ghosts"]);
    assert_eq!(count(&place, "orders").await, 6);
}

#[tokio::test]
async fn a_daily_load_follows_nothing_and_leaves_copies_alone() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(5)).await;
    place.insert("posts", numbered(5)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load", "posts", "--filter", r#"{"_id": {"$lt": 2}}"#]).await.expect_code(0);
    for _ in 0..2 {
        assert_eq!(plan(&place, &["--load-only"], 0).await.0, pairs(&[("orders", "load"), ("posts", "none")]));
        assert_eq!(run(&place, &["--load-only"], 0).await.0, ["load"]);
        assert_eq!((count(&place, "orders").await, count(&place, "posts").await), (5, 2));
    }
    assert_eq!(plan(&place, &[], 0).await.0, pairs(&[("orders", "sync"), ("posts", "none")]));
}

#[tokio::test]
async fn it_stays_on_and_keeps_others_from_it() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(5)).await;
    let following = place.gizer.spawn(["run", "--follow"]).unwrap();
    let loaded = async || {
        let there = place.number("SELECT count(*) FROM pg_class WHERE relname = 'orders'").await == 1;
        there && count(&place, "orders").await == 5
    };
    wait_until("the load", LIMIT, async || loaded().await).await.unwrap();
    assert_says(&place.gizer(&["run"]).await, 5, &["doing what is due", "locked by another run"]);
    place.insert("orders", [doc! { "_id": 1_000 }]).await;
    wait_until("the change", LIMIT, async || count(&place, "orders").await == 6).await.unwrap();
    following.signal(Signal::Terminate).unwrap();
    following.wait().await.unwrap().expect_code(143);
    assert_eq!(run(&place, &[], 0).await.0, ["sync"]);
}

/// A server that is being restarted when a service starts is no reason for it to end.
#[tokio::test]
async fn where_it_stays_on_it_waits_for_servers_that_are_not_there_yet() {
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let place = Place::on(&mongod, shared_postgres().await.unwrap()).await;
    place.insert("orders", numbered(5)).await;
    mongod.kill().unwrap();
    let following = place.gizer.spawn(["run", "--follow"]).unwrap();
    following.wait_for_output("retrying in").await.unwrap();
    mongod.restart().await.unwrap();
    let there = async || {
        place.number("SELECT count(*) FROM pg_class WHERE relname = 'orders'").await == 1
            && count(&place, "orders").await == 5
    };
    wait_until("the load", LIMIT, there).await.unwrap();
    following.signal(Signal::Interrupt).unwrap();
    following.wait().await.unwrap().expect_code(130);
}

/// Two replica sets stand in for shards. One of them is idle, and only its no-ops say how late it is there.
#[tokio::test]
async fn shards_are_looked_at_one_by_one() {
    let shard = async |name: &str| {
        Mongod::builder(Version::V6_0)
            .repl_set_name(name)
            .set_parameter("periodicNoopIntervalSecs", "1")
            .start()
            .await
            .unwrap()
    };
    let (a, b) = tokio::join!(shard("a"), shard("b"));
    let postgres = shared_postgres().await.unwrap();
    let database = postgres.create_database().await.unwrap();
    let config = format!(
        "[mongo]\nuri = {:?}\ndatabase = \"shop\"\n[postgres]\nuri = {:?}\n",
        [a.uri(), b.uri()],
        postgres.uri(&database)
    );
    let place = Place {
        mongo: a.client().await.unwrap().database("shop"),
        postgres: postgres.client(&database).await.unwrap(),
        postgres_uri: postgres.uri(&database),
        gizer: Gizer::with_config(&config).unwrap(),
    };
    place.insert("orders", numbered(5)).await;
    let other = b.client().await.unwrap().database("shop").collection::<Document>("orders");
    other.insert_many(numbered(9).skip(5)).await.unwrap();
    assert_eq!(run(&place, &[], 0).await.0, ["infer", "load", "sync"]);
    assert_eq!(count(&place, "orders").await, 9);
    other.insert_one(doc! { "_id": 1_000 }).await.unwrap();
    run(&place, &[], 0).await;
    assert_eq!(count(&place, "orders").await, 10);
    let status = json_of(&place, &["status", "--check", "--min-headroom", "0s"], 0).await;
    let shards: Vec<&str> =
        status["oplogs"].as_array().unwrap().iter().map(|shard| shard["shard"].as_str().unwrap()).collect();
    assert_eq!(shards, ["a", "b"]);
    let (due, object) = plan(&place, &[], 0).await;
    assert_eq!((due, object["oplogs"].as_array().unwrap().len()), (pairs(&[("orders", "sync")]), 2));
}

/// Rows and bytes within a factor of two of what it then is; the second estimate by how long the first load took.
#[tokio::test]
async fn a_plan_tells_about_what_a_load_takes() {
    let place = Place::shared(Version::V6_0).await;
    let order = |n: i32| -> Document {
        let lines: Vec<Document> = (0..n % 7).map(|line| doc! { "sku": format!("sku-{line:08}"), "n": line }).collect();
        doc! { "_id": n, "customer": format!("customer number {n}"), "paid": n % 3 == 0, "total": f64::from(n), "lines": lines }
    };
    place.insert("orders", (0..20_000).map(order)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    let (_, object) = plan(&place, &[], 0).await;
    let estimate = object["loads"][0]["estimate"].clone();
    assert_eq!((&object["loads"][0]["documents"], &estimate["as_last_time"]), (&json!(20_000), &json!(false)));
    run(&place, &[], 0).await;
    let rows = count(&place, "orders").await + count(&place, "order_lines").await;
    let bytes =
        place.number("SELECT (pg_total_relation_size('orders') + pg_total_relation_size('order_lines'))::int8").await;
    for (told, is) in [(&estimate["rows"], rows), (&estimate["disk_bytes"], bytes)] {
        let factor = told.as_f64().unwrap() / is as f64;
        assert!((0.5..2.0).contains(&factor), "{told} was told, and it is {is}");
    }
    let again = plan(&place, &["--load-only"], 0).await.1["loads"][0]["estimate"].clone();
    assert_eq!(again["as_last_time"], true, "{again}");
    assert_eq!(again["seconds_least"], again["seconds_most"]);
    assert!(again["seconds_most"].as_f64().unwrap() > 0.0, "{again}");
}

/// A role that may only read is told which rights `run` needs, and leaves nothing behind.
#[tokio::test]
async fn reading_is_enough_for_a_plan() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(20)).await;
    run(&place, &[], 0).await;
    place.insert("posts", numbered(5)).await;
    place.schema_file("posts.json", r#"{"_id": "INT", "text": "STRING"}"#);
    place.schema_file("orders.json", r#"{"_id": "INT", "text": "STRING"}"#);
    let role = unique_name("watcher");
    let make = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'watching'; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
         GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    );
    place.postgres.batch_execute(&make).await.unwrap();
    let (_, at) = place.postgres_uri.split_once('@').unwrap();
    let uri = format!("postgresql://{role}:watching@{at}");
    let before = place.rows("SELECT relname FROM pg_class ORDER BY oid").await;
    let finished = place.gizer(&["plan", "--postgres-uri", &uri]).await;
    let grant = format!(r#"GRANT USAGE, CREATE ON SCHEMA "public" TO "{role}""#);
    let owner = format!(r#"ALTER TABLE "public"."orders" OWNER TO "{role}""#);
    let finished = finished.expect_code(1);
    for words in ["problems", "posts", "never loaded", &grant, &owner] {
        assert!(finished.stdout.contains(words), "{words} is not in:\n{}", finished.stdout);
    }
    assert_eq!(place.rows("SELECT relname FROM pg_class ORDER BY oid").await, before);
    // It says what run would do to the tables, and run with that role does nothing.
    assert_says(&place.gizer(&["run", "--postgres-uri", &uri]).await, 1, &["GRANT"]);
    assert_eq!(place.rows("SELECT relname FROM pg_class ORDER BY oid").await, before);
}
