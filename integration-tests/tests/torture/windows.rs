//! gizer stopped for longer than MongoDB keeps a time readable.

use bson::{Document, doc};
use bytes::Bytes;
use gizer_flatten::change::ClusterTime;
use gizer_oplog::{Cluster, LookUp, MongoError, MongoSettings, ReadAt, SecretUri, WantedId, WatchedCollection};
use integration_tests::rig::{Mongod, Version, shared_postgres, wait_until};
use serde_json::{Value, json};

use super::ddl::{insert, rename, run};
use super::scenario::{judge, load};
use super::world::{LIMIT, World};

fn posts() -> Vec<Document> {
    (1..=5).map(|n| doc! { "_id": n, "title": format!("post {n}"), "tags": ["a", "b"] }).collect()
}

/// A server that forgets a time after a second.
async fn forgetful(version: Version) -> Mongod {
    let window = match version {
        Version::V4_4 => "maxTargetSnapshotHistoryWindowInSeconds",
        _ => "minSnapshotHistoryWindowInSeconds",
    };
    Mongod::builder(version).set_parameter(window, "1").start().await.unwrap()
}

/// Waits until nothing can be read any more as it was when it was last followed, and for as long as whoever writes now.
async fn wait_until_out_of_reach(world: &World<'_>) {
    let newest = world.mongo().run_command(doc! { "hello": 1 }).await.unwrap();
    let now = newest.get_document("$clusterTime").unwrap().get_timestamp("clusterTime").unwrap();
    let at = ClusterTime { seconds: now.time, increment: now.increment };
    let uris = world.shards.iter().map(|shard| SecretUri::parse(&shard.uri()).unwrap()).collect();
    let settings = MongoSettings { uris, database: world.mongo().name().into(), oplogs: Vec::new() };
    let cluster = Cluster::connect(settings).await.unwrap();
    let oplogs = cluster.oplogs().await.unwrap();
    world.mongo().collection("bystander").insert_one(doc! {}).await.unwrap();
    let collection = cluster.collection("bystander").await.unwrap();
    let uuids = cluster.uuids(&collection, &oplogs);
    let watched = WatchedCollection { namespace: cluster.namespace("bystander"), uuids };
    let mut look_up = cluster.look_up(&oplogs);
    wait_until("a time to be out of reach", LIMIT, async || {
        // It is written to, so that time goes on.
        world.mongo().collection("bystander").insert_one(doc! {}).await.unwrap();
        let id = Bytes::from(doc! { "_id": "beside" }.to_vec().unwrap());
        let wanted = WantedId { id, first: None, last: None };
        let read = async {
            look_up.begin(&watched, vec![wanted], ReadAt::Exactly(at)).await?;
            while look_up.next().await?.is_some() {}
            Ok::<(), MongoError>(())
        };
        matches!(read.await, Err(MongoError::TimeOutOfReach { .. }))
    })
    .await
    .unwrap();
}

/// One round, which must end well; gives what it reports.
async fn reported(world: &World<'_>) -> Value {
    let finished = world.run(&["sync", "--format", "json"]).await.expect_code(0);
    // What was loaded anew is reported before it.
    let reports = serde_json::Deserializer::from_str(&finished.stdout).into_iter::<Value>();
    reports.last().unwrap().unwrap()
}

async fn update(world: &World<'_>, n: i32, title: &str) {
    for collection in ["posts", "drafts"] {
        let change = doc! { "$set": { "title": title }, "$push": { "tags": title } };
        let options = doc! { "q": { "_id": n }, "u": change, "upsert": true };
        run(world, doc! { "update": collection, "updates": [options] }).await;
    }
}

/// A round that has to catch up, and is exact in the end.
async fn caught_up(world: &World<'_>) {
    let report = reported(world).await;
    assert!(report["catching_up"].as_u64().unwrap() > 0, "{report}");
    judge(world).await.unwrap();
    // Where the server wrote a no-op beside a read, that read was ahead of the round's end.
    if report["exact"] != json!(true) {
        assert_eq!(reported(world).await["exact"], json!(true));
    }
    let report = reported(world).await;
    assert_eq!((&report["exact"], &report["catching_up"]), (&json!(true), &json!(0)), "{report}");
    judge(world).await.unwrap();
}

async fn ddl_out_of_reach(version: Version) {
    let mongod = forgetful(version).await;
    let world = World::new([&mongod], shared_postgres().await.unwrap()).await;
    load(&world, &posts()).await;
    assert_eq!(reported(&world).await["exact"], json!(true));

    // Dropped and made again.
    update(&world, 1, "before").await;
    run(&world, doc! { "drop": "posts" }).await;
    insert(&world, "posts", 3..6).await;
    update(&world, 4, "after").await;
    run(&world, doc! { "create": "unheard_of" }).await;
    insert(&world, "unheard_of", 1..5).await;
    rename(&world, "unheard_of", "heard_of").await;
    wait_until_out_of_reach(&world).await;
    update(&world, 5, "now").await;
    caught_up(&world).await;
    let count = "SELECT count(*) AS posts, (SELECT count(*) FROM post_tags) AS tags FROM posts";
    // Number 1 went with the collection.
    assert_eq!(json!(world.rows(count).await), json!([{ "posts": 3, "tags": 5 }]));

    // Renamed away and back, with another one in its place for a while.
    update(&world, 3, "before").await;
    rename(&world, "posts", "aside").await;
    insert(&world, "posts", 70..72).await;
    run(&world, doc! { "drop": "posts" }).await;
    insert(&world, "aside", 80..82).await;
    update(&world, 2, "between").await;
    run(&world, doc! { "drop": "posts" }).await;
    rename(&world, "aside", "posts").await;
    update(&world, 3, "after").await;
    wait_until_out_of_reach(&world).await;
    caught_up(&world).await;

    // Gone.
    update(&world, 3, "last").await;
    rename(&world, "drafts", "old_drafts").await;
    run(&world, doc! { "drop": "posts" }).await;
    wait_until_out_of_reach(&world).await;
    caught_up(&world).await;
    assert_eq!(json!(world.rows(count).await), json!([{ "posts": 0, "tags": 0 }]));
}

#[tokio::test]
async fn ddl_out_of_reach_on_4_4() {
    ddl_out_of_reach(Version::V4_4).await;
}

#[tokio::test]
async fn ddl_out_of_reach_on_5_0() {
    ddl_out_of_reach(Version::V5_0).await;
}

#[tokio::test]
async fn ddl_out_of_reach_on_6_0() {
    ddl_out_of_reach(Version::V6_0).await;
}

async fn status(world: &World<'_>) -> (String, Value) {
    let text = world.run(&["status"]).await.expect_code(0).stdout;
    let json = world.run(&["status", "--format", "json"]).await.expect_code(0).stdout;
    (text, serde_json::from_str::<Value>(&json).unwrap()["stream"].clone())
}

/// `gizer status` says whether the tables are exact, and if not from when on.
#[tokio::test]
async fn status_says_when_it_is_catching_up() {
    let mongod = forgetful(Version::V6_0).await;
    let world = World::new([&mongod], shared_postgres().await.unwrap()).await;
    load(&world, &posts()).await;
    update(&world, 1, "exact").await;
    assert_eq!(reported(&world).await["exact"], json!(true));
    let (text, stream) = status(&world).await;
    assert!(text.contains("up to date as of rs0 20") && !text.contains("catching up"), "{text}");
    assert_eq!((&stream["applied"], &stream["ahead"]), (&json!(true), &Value::Null), "{stream}");
    assert_eq!(stream["exact_at"], stream["position"], "{stream}");
    let exact_at = stream["exact_at"].clone();

    update(&world, 2, "late").await;
    // A batch ends before it.
    run(&world, doc! { "drop": "posts" }).await;
    insert(&world, "posts", 3..6).await;
    wait_until_out_of_reach(&world).await;
    let fail = [("GIZER_FAIL_POINT", "sync.after_commit")];
    let died = world.gizer.spawn_with(["sync"], &fail).unwrap().wait().await.unwrap();
    assert!(died.signal().is_some(), "{died:?}");
    let (text, stream) = status(&world).await;
    let ahead = stream["ahead"].as_str().unwrap_or_else(|| panic!("{stream}"));
    assert!(text.contains("catching up: changes are applied up to rs0 20"), "{text}");
    let seconds = ahead.trim_start_matches("Timestamp(").split(',').next().unwrap();
    let ahead = bson::DateTime::from_millis(1_000 * seconds.parse::<i64>().unwrap()).try_to_rfc3339_string().unwrap();
    assert!(text.contains(&format!("exact from {ahead} on; last exact at rs0")), "{text}");
    assert_eq!(stream["exact_at"], exact_at, "{stream}");
    assert_ne!(stream["position"], exact_at, "{stream}");
    // What was touched before the drop cannot be read any more. It is left as it is, and not taken for deleted.
    let kept = "SELECT count(*) FROM posts WHERE id = 2 AND title = 'post 2'";
    assert_eq!(json!(world.rows(kept).await), json!([{ "count": 1 }]));

    assert_eq!(reported(&world).await["exact"], json!(true));
    judge(&world).await.unwrap();
    let (text, stream) = status(&world).await;
    assert!(text.contains("up to date as of rs0 20") && !text.contains("catching up"), "{text}");
    assert_eq!((&stream["ahead"], &stream["exact_at"]), (&Value::Null, &stream["position"]), "{stream}");
}
