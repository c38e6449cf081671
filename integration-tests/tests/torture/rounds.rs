//! What a round makes of what it cannot apply, or not yet.

use bson::{Document, Timestamp, doc};
use integration_tests::rig::{Mongod, Signal, Version, shared_mongod, shared_postgres, wait_until};
use mongodb::ClientSession;
use serde_json::{Value, json};

use super::ddl::insert;
use super::judge::{judge_by_oracle, judge_rebuilt, judge_with_rejects};
use super::scenario::{judge, load, told};
use super::world::{FOLLOW, LIMIT, SYNC, World};

fn posts() -> Vec<Document> {
    (1..=5).map(|n| doc! { "_id": n, "title": format!("post {n}"), "tags": ["a", "b"] }).collect()
}

/// A round; gives what it reports.
async fn round(world: &World<'_>) -> Value {
    let finished = world.run(&["sync", "--format", "json"]).await.expect_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

async fn update(world: &World<'_>, n: i32, title: &str) {
    for collection in ["posts", "drafts"] {
        let posts = world.mongo().collection::<Document>(collection);
        posts.update_one(doc! { "_id": n }, doc! { "$set": { "title": title } }).await.unwrap();
    }
}

/// A transaction that is prepared, as a router does it with those of several shards, and not decided.
async fn prepare(world: &World<'_>, id: i32) -> (ClientSession, Timestamp) {
    let client = world.mongo().client();
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    for collection in ["posts", "drafts"] {
        let posts = world.mongo().collection::<Document>(collection);
        posts.insert_one(doc! { "_id": id, "title": "prepared", "tags": ["p"] }).session(&mut session).await.unwrap();
        let change = doc! { "$set": { "title": format!("by {id}") } };
        posts.update_one(doc! { "_id": id % 10 }, change).session(&mut session).await.unwrap();
    }
    let prepare = doc! { "prepareTransaction": 1, "writeConcern": { "w": "majority" } };
    let prepared = client.database("admin").run_command(prepare).session(&mut session).await.unwrap();
    let time = prepared.get_timestamp("prepareTimestamp").unwrap();
    (session, time)
}

/// The titles of documents that a prepared transaction and a later write have touched.
async fn titles(world: &World<'_>) -> Value {
    let sql = "SELECT p.id, p.title, d.title = p.title AS same FROM posts p JOIN drafts d USING (id) \
               WHERE p.id IN (1, 2, 5) OR p.id > 10 ORDER BY 1";
    json!(world.rows(sql).await)
}

/// A round ends where it stands, and the next one after the decision has it all.
#[tokio::test]
async fn a_prepared_transaction_is_left_for_later() {
    for version in [Version::V4_4, Version::V6_0] {
        let mongod = Mongod::builder(version).set_parameter("enableTestCommands", "1").start().await.unwrap();
        let world = World::new([&mongod], shared_postgres().await.unwrap()).await;
        load(&world, &posts()).await;
        world.sync().await;
        update(&world, 5, "before").await;
        let (mut committed, time) = prepare(&world, 11).await;
        let (mut aborted, _) = prepare(&world, 12).await;
        update(&world, 3, "beside").await;
        for _ in 0..2 {
            let report = round(&world).await;
            // What it says it has reached lies before what is not decided.
            let position = report["positions"]["rs0"].as_str().unwrap();
            let seconds: u64 = position[10..].split(',').next().unwrap().parse().unwrap();
            assert!(seconds <= u64::from(time.time), "{report}: {time:?}");
            assert_eq!(
                titles(&world).await,
                json!([
                    { "id": 1, "title": "post 1", "same": true }, { "id": 2, "title": "post 2", "same": true },
                    { "id": 5, "title": "before", "same": true },
                ]),
                "MongoDB {version}"
            );
        }
        // Whoever stays on hears a signal all the same.
        let follower = world.spawn(FOLLOW);
        update(&world, 4, "beside").await;
        wait_until("the run to begin", LIMIT, async || {
            let open = "SELECT count(*) FROM qmetlstatus WHERE time_end IS NULL";
            world.client().await.query_one(open, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await
        .unwrap();
        follower.signal(Signal::Terminate).unwrap();
        follower.wait().await.unwrap().expect_code(143);
        // A load sees what is committed, and what is decided later is followed from there.
        world.run(&["load", "posts"]).await.expect_code(0);
        aborted.abort_transaction().await.unwrap();
        world.sync().await;
        let commit = doc! { "commitTransaction": 1, "commitTimestamp": time };
        world.mongo().client().database("admin").run_command(commit).session(&mut committed).await.unwrap();
        assert_eq!(round(&world).await["exact"], json!(true));
        judge(&world).await.unwrap();
        assert_eq!(titles(&world).await[0]["title"], json!("by 11"));
    }
}

/// Nothing is applied by another schema than that of the tables, and nothing is lost.
#[tokio::test]
async fn another_schema_file_is_told() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    let schema = world.schema_text("posts");
    let mut changed: Value = serde_json::from_str(&schema).unwrap();
    changed["added"] = json!("STRING");
    world.schema_file("posts", &changed.to_string());
    update(&world, 1, "meanwhile").await;
    insert(&world, "posts", 10..13).await;
    let before = world.rows("SELECT * FROM posts ORDER BY id").await;
    for _ in 0..2 {
        let told = world.run(SYNC).await.expect_code(3);
        assert!(told.stderr.contains("the schema file of posts has changed since"), "{}", told.stderr);
        assert!(told.stderr.contains("restore the old schema file"), "{}", told.stderr);
        assert_eq!(world.rows("SELECT * FROM posts ORDER BY id").await, before);
        // The other one goes on.
        judge_rebuilt(&world, "drafts").await.unwrap();
    }
    world.schema_file("posts", &schema);
    world.sync().await;
    judge(&world).await.unwrap();

    // A load by the other one is the other remedy.
    world.schema_file("posts", &changed.to_string());
    update(&world, 2, "later").await;
    world.run(SYNC).await.expect_code(3);
    world.run(&["load", "posts"]).await.expect_code(0);
    world.sync().await;
    judge(&world).await.unwrap();
}

/// Documents that have no key are kept aside, each once, and hold up nothing.
#[tokio::test]
async fn documents_without_a_key_are_kept_aside() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    let posts = world.mongo().collection::<Document>("posts");
    let by_update = doc! { "q": { "_id": "by upsert" }, "u": { "$set": { "title": "x" } }, "upsert": true };
    world.mongo().run_command(doc! { "update": "posts", "updates": [by_update] }).await.unwrap();
    posts.insert_one(doc! { "_id": "by insert", "title": "y", "tags": ["z"] }).await.unwrap();
    update(&world, 1, "beside").await;
    let report = round(&world).await;
    assert_eq!((&report["rejected"], &report["exact"]), (&json!(2), &json!(true)), "{report}");
    let kept = "SELECT id, count(*) FROM gizer_reject WHERE collection = 'posts' GROUP BY id ORDER BY id";
    let each_once = json!([{ "id": "\"by insert\"", "count": 1 }, { "id": "\"by upsert\"", "count": 1 }]);
    assert_eq!(json!(world.rows(kept).await), each_once);
    assert_eq!(judge_with_rejects(&world, "posts").await, Ok(2));
    judge_rebuilt(&world, "drafts").await.unwrap();

    // Changed again, in several rounds.
    for n in 0..2 {
        posts.update_many(doc! {}, doc! { "$set": { "title": format!("all {n}") } }).await.unwrap();
        assert_eq!(round(&world).await["rejected"], json!(2));
        assert_eq!(json!(world.rows(kept).await), each_once);
        assert_eq!(judge_with_rejects(&world, "posts").await, Ok(2));
    }
    let stored = world.client().await.query("SELECT document FROM gizer_reject ORDER BY id", &[]).await.unwrap();
    let stored = Document::from_reader(stored[0].get::<_, &[u8]>(0)).unwrap();
    assert_eq!(stored, doc! { "_id": "by insert", "title": "all 1", "tags": ["z"] });
    let status = world.run(&["status", "posts", "--format", "json"]).await.expect_code(0).stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["collections"][0]["rejected"], json!(2), "{status}");

    // What is gone is not lacking any more.
    posts.delete_one(doc! { "_id": "by insert" }).await.unwrap();
    posts.delete_one(doc! { "_id": 2 }).await.unwrap();
    round(&world).await;
    assert_eq!(judge_with_rejects(&world, "posts").await, Ok(1));
    assert_eq!(json!(world.rows(kept).await), json!([{ "id": "\"by upsert\"", "count": 1 }]));
    posts.drop().await.unwrap();
    round(&world).await;
    assert_eq!(json!(world.rows(kept).await), json!([]));
}

#[tokio::test]
async fn a_round_that_loads_a_collection_anew_gives_one_report() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    let fresh = [doc! { "_id": 7, "title": "fresh", "tags": ["a"] }];
    world.mongo().collection::<Document>("fresh").insert_many(fresh).await.unwrap();
    let admin = world.mongo().client().database("admin");
    let (from, to) = (format!("{}.fresh", world.mongo().name()), format!("{}.posts", world.mongo().name()));
    admin.run_command(doc! { "renameCollection": from, "to": to, "dropTarget": true }).await.unwrap();
    let report = round(&world).await;
    let events = report["events"].to_string();
    assert!(events.contains("posts: reloaded, 1 document"), "{report}");
    judge_by_oracle(&world, "posts").await.unwrap();
}

/// A database in a natural language has capitals among small letters: what is followed must be the same in either order.
#[tokio::test]
async fn collections_may_sort_otherwise_in_the_database_than_by_bytes() {
    let mongod = shared_mongod(Version::V6_0).await.unwrap();
    let world = World::new([mongod], shared_postgres().await.unwrap()).await;
    let sorted =
        "SELECT string_agg(name, ' ' ORDER BY name) AS names FROM (VALUES ('Orders'), ('address')) AS n (name)";
    assert_eq!(world.rows(sorted).await, [json!({ "names": "address Orders" })], "the rig's collation");
    for collection in ["Orders", "address"] {
        world.schema_file(collection, r#"{"_id": "INT", "title": "STRING", "tags": ["STRING"]}"#);
        world.mongo().collection(collection).insert_many(posts()).await.unwrap();
    }
    world.run(&["load"]).await.expect_code(0);
    for collection in ["Orders", "address"] {
        insert(&world, collection, 10..13).await;
    }
    world.sync().await;
    for collection in ["Orders", "address"] {
        judge_by_oracle(&world, collection).await.unwrap();
    }
}
