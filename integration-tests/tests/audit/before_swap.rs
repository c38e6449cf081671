//! A load is compared with the documents before it is swapped in: `gizer load --verify`.

use std::cell::Cell;
use std::time::Duration;

use bson::{Bson, Document, doc};
use integration_tests::rig::{Finished, Version, shared_mongod, shared_postgres};
use integration_tests::traffic::{COLLECTIONS, Traffic};
use serde_json::{Value, json};

use super::audit::verify;
use super::collections::{Collection, collections, fill, judge};
use super::judge::{judge_by_oracle, judge_traffic};
use super::seeds::seeds;
use super::world::World;

/// Every table that gizer fills from now on has this trigger; its function does as told.
async fn spoil(world: &World<'_>, trigger: &str, body: &str) {
    let sql = format!(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $spoil$ BEGIN {body} END $spoil$; \
         CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $watch$ DECLARE made text; BEGIN \
             FOR made IN SELECT object_identity FROM pg_event_trigger_ddl_commands() \
                         WHERE command_tag = 'CREATE TABLE' AND object_identity LIKE '%gizer_new%' LOOP \
                 EXECUTE format('CREATE TRIGGER spoil {trigger} EXECUTE FUNCTION public.spoil()', made); \
             END LOOP; END $watch$; \
         CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION watch()"
    );
    world.client().await.batch_execute(&sql).await.unwrap();
}

async fn no_more_spoiling(world: &World<'_>) {
    let sql = "DROP EVENT TRIGGER watch; DROP FUNCTION watch(); DROP FUNCTION spoil() CASCADE";
    world.client().await.batch_execute(sql).await.unwrap();
}

const EACH_ROW: &str = "BEFORE INSERT ON %s FOR EACH ROW";
const EACH_STATEMENT: &str = "AFTER INSERT ON %s FOR EACH STATEMENT";

/// Posts with a title and two tags each, loaded.
async fn posts(count: i32) -> World<'static> {
    let world = World::new([shared_mongod(Version::V6_0).await.unwrap()], shared_postgres().await.unwrap()).await;
    world.schema_file("posts", r#"{"_id": "INT", "title": "STRING", "tags": ["STRING"]}"#);
    let post = |n| doc! { "_id": n, "title": format!("a title {n}"), "tags": ["a", "b"] };
    let documents: Vec<Document> = (0..count).map(post).collect();
    world.mongo().collection("posts").insert_many(documents).await.unwrap();
    world.run(&["load", "--verify", "full"]).await.expect_code(0);
    world
}

/// All rows, and which load they are of.
async fn live(world: &World<'_>) -> Vec<Value> {
    let mut rows = world.rows("SELECT * FROM posts ORDER BY id").await;
    rows.extend(world.rows("SELECT * FROM post_tags ORDER BY posts_id, idx").await);
    rows.extend(world.rows("SELECT live_epoch, state FROM gizer_collection").await);
    rows
}

/// Ended with code 4; the message names this, and no value.
async fn refused(world: &World<'_>, args: &[&str], words: &[&str]) -> Finished {
    let before = live(world).await;
    let finished = world.run(args).await.expect_code(4);
    for word in words.iter().chain(&["nothing is swapped in", "help:"]) {
        assert!(finished.stderr.contains(word), "{word:?} is not in {}", finished.stderr);
    }
    for value in ["a title", "spoiled"] {
        assert!(!finished.stderr.contains(value) && !finished.stdout.contains(value), "{finished:?}");
    }
    assert_eq!(live(world).await, before, "the live tables are as they were");
    finished
}

#[tokio::test]
async fn one_wrong_value_among_the_rows_of_a_load() {
    let world = posts(300).await;
    let body = "IF to_jsonb(NEW) ->> 'title' = 'a title 217' THEN NEW.title := 'spoiled'; END IF; RETURN NEW;";
    spoil(&world, EACH_ROW, body).await;
    let words = ["posts: 1 document differs", "posts, key 217: title differs"];
    refused(&world, &["load", "--verify", "full"], &words).await;
    // A sample of few documents is all of them.
    refused(&world, &["-vv", "load"], &words).await;
    refused(&world, &["load", "--together", "--verify", "full"], &words).await;
    let run = world.rows("SELECT error, reason FROM qmetlstatus ORDER BY time_start DESC LIMIT 1").await;
    assert!(run[0]["reason"].as_str().unwrap().contains("title differs"), "{run:?}");

    world.run(&["load", "--verify", "off"]).await.expect_code(0);
    let title = world.rows("SELECT title FROM posts WHERE id = 217").await;
    assert_eq!(json!(title), json!([{ "title": "spoiled" }]));
    no_more_spoiling(&world).await;
    world.run(&["load", "--verify", "full"]).await.expect_code(0);
    judge_by_oracle(&world, "posts").await.unwrap();
}

/// What is wrong in the tables of a load that was refused is in no later load.
#[tokio::test]
async fn what_was_refused_is_not_taken_up() {
    let world = posts(30).await;
    let body = "IF to_jsonb(NEW) ->> 'title' = 'a title 7' THEN NEW.title := 'spoiled'; END IF; RETURN NEW;";
    spoil(&world, EACH_ROW, body).await;
    refused(&world, &["load", "--verify", "full"], &["key 7"]).await;
    no_more_spoiling(&world).await;
    let loaded = world.run(&["load", "--verify", "off"]).await.expect_code(0);
    assert!(!loaded.stderr.contains("resuming"), "{}", loaded.stderr);
    judge_by_oracle(&world, "posts").await.unwrap();
}

#[tokio::test]
async fn a_row_that_is_lost_and_one_that_is_there_in_addition() {
    let world = posts(50).await;
    let lost = "EXECUTE format('DELETE FROM %s t WHERE to_jsonb(t) @> %L', TG_RELID::regclass, '{\"posts_id\": 9, \"idx\": 2}'); \
                RETURN NULL;";
    spoil(&world, EACH_STATEMENT, lost).await;
    refused(&world, &["load", "--verify", "full"], &["post_tags, key 9, position 2: the row is missing"]).await;
    no_more_spoiling(&world).await;
    let added = "IF TG_RELID::regclass::text LIKE '%post_tags' AND pg_trigger_depth() = 1 THEN \
                 EXECUTE format('INSERT INTO %s (posts_id, idx, tags) VALUES (777, 1, %L)', TG_RELID::regclass, 'spoiled'); \
                 END IF; RETURN NULL;";
    spoil(&world, EACH_STATEMENT, added).await;
    refused(&world, &["load", "--verify", "full"], &["post_tags, key 777, position 1: the row is left over"]).await;
    no_more_spoiling(&world).await;
}

#[tokio::test]
async fn a_sample_finds_what_is_wrong_everywhere() {
    let world = posts(9_000).await;
    spoil(&world, EACH_ROW, "IF to_jsonb(NEW) ? 'title' THEN NEW.title := 'spoiled'; END IF; RETURN NEW;").await;
    let said = refused(&world, &["load", "--verify", "sample"], &["title differs"]).await;
    assert!(said.stderr.contains("posts: 2,000 documents differ"), "{}", said.stderr);
    no_more_spoiling(&world).await;
    world.run(&["load"]).await.expect_code(0);
}

/// Documents that have no rows because they were kept aside, by gizer or by PostgreSQL, are no differences.
#[tokio::test]
async fn documents_that_are_kept_aside() {
    const COLUMNS: usize = 1_100;
    let world = World::new([shared_mongod(Version::V6_0).await.unwrap()], shared_postgres().await.unwrap()).await;
    let fields: Vec<String> = (0..COLUMNS).map(|n| format!(r#""f{n:04}": "DOUBLE""#)).collect();
    world.schema_file("wide", &format!(r#"{{"_id": "INT", "list": ["INT"], {}}}"#, fields.join(", ")));
    let document = |id: i32| {
        let mut document = doc! { "_id": id, "list": [id, id] };
        // More than a page has room for.
        let columns = if id % 50 == 20 { COLUMNS } else { 3 };
        document.extend((0..columns).map(|n| (format!("f{n:04}"), Bson::Double(n as f64))));
        document
    };
    let odd = ["text", "more"].map(|id| doc! { "_id": id, "list": [1] });
    let documents: Vec<Document> = (0..200).map(document).chain(odd).collect();
    world.mongo().collection("wide").insert_many(documents).await.unwrap();
    for args in [&["load"][..], &["load", "--together"]] {
        let args = [args, &["--verify", "full", "--max-rejects", "6"]].concat();
        world.run(&args).await.expect_code(0);
        let kept = world.rows("SELECT count(*) FROM gizer_reject").await;
        assert_eq!(json!(kept), json!([{ "count": 6 }]));
        let report = verify(&world, &[], 0).await;
        assert_eq!(["documents", "equal", "rejected"].map(|name| report.count("wide", name)), [202, 196, 6]);
    }
    // One that goes on where the limit has stopped it.
    world.run(&["load", "--verify", "full"]).await.expect_code(1);
    world.run(&["load", "--verify", "full", "--max-rejects", "6"]).await.expect_code(0);
}

/// Nobody writes to these.
const STILL: [&str; 4] = ["mixed", "collated", "empties", "compound"];

async fn write(world: &World<'_>, traffic: Traffic, done: &Cell<bool>) -> usize {
    let mut pace = tokio::time::interval(Duration::from_millis(8));
    let mut count = 0;
    for step in traffic {
        if done.get() {
            break;
        }
        pace.tick().await;
        step.run(world.mongo()).await.unwrap_or_else(|error| panic!("{error}: {step:?}"));
        count += 1;
    }
    count
}

/// Changes under a collation, and of ids of mixed types: an `_id` that is found under another form of it.
async fn write_to_others(world: &World<'_>, others: &[&Collection], done: &Cell<bool>) {
    let mut round = 0;
    while !done.get() {
        for collection in others {
            let documents = world.mongo().collection::<Document>(collection.name);
            for (n, document) in collection.documents.iter().enumerate().filter(|(n, _)| n % 5 == round % 5) {
                let id = match &document["_id"] {
                    Bson::String(id) if collection.collation => id.to_lowercase().into(),
                    id => id.clone(),
                };
                let change = doc! { "$set": { "name": format!("round {round}"), "tags": [n as i32, "x"] } };
                documents.update_one(doc! { "_id": id }, change).await.unwrap();
            }
        }
        round += 1;
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
}

async fn beside_writes(version: Version, seed: u64) {
    println!("MongoDB {version}: GIZER_AUDIT_SEED={seed}");
    let world = World::new([shared_mongod(version).await.unwrap()], shared_postgres().await.unwrap()).await;
    let traffic = Traffic::new(seed);
    for collection in COLLECTIONS {
        world.schema_file(collection.name, &collection.schema_file());
        world.mongo().collection(collection.name).insert_many(traffic.documents(collection)).await.unwrap();
    }
    let mut still: Vec<Collection> = collections(seed, 60);
    still.retain(|collection| STILL.contains(&collection.name));
    assert_eq!(still.len(), STILL.len());
    fill(&world, &still).await;
    let others: Vec<&Collection> = still.iter().filter(|collection| !collection.documents.is_empty()).collect();
    let done = Cell::new(false);
    let loads = async {
        for args in [&["load"][..], &["load", "--together"]] {
            let loaded = world.run(&[args, &["--verify", "full", "--format", "json"]].concat()).await.expect_code(0);
            let report: Value = serde_json::from_str(&loaded.stdout).unwrap();
            assert_eq!(report["collections"].as_array().unwrap().len(), 7, "{report}");
        }
        done.set(true);
    };
    let (steps, (), ()) = tokio::join!(write(&world, traffic, &done), write_to_others(&world, &others, &done), loads);
    println!("  {steps} steps of traffic");
    world.sync().await;
    judge_traffic(&world).await.unwrap();
    judge(&world, &still).await.unwrap();
    verify(&world, &[], 0).await.expect_nothing();
}

async fn seeds_of(version: Version, count: u64) {
    for seed in seeds(version, count) {
        beside_writes(version, seed).await;
    }
}

#[tokio::test]
async fn a_load_beside_writes_is_equal_on_4_4() {
    seeds_of(Version::V4_4, 1).await;
}

#[tokio::test]
async fn a_load_beside_writes_is_equal_on_5_0() {
    // In long runs: between 4.4 and 6.0 it does nothing that neither of them does.
    seeds_of(Version::V5_0, 0).await;
}

#[tokio::test]
async fn a_load_beside_writes_is_equal_on_6_0() {
    seeds_of(Version::V6_0, 1).await;
}
