//! A load is swapped in while a batch that was read before it is under way.

use bson::{Document, doc};
use integration_tests::rig::{Version, wait_until};
use mongodb::options::WriteConcern;
use serde_json::json;

use super::judge::judge_by_oracle;
use super::scenario::told;
use super::world::{LIMIT, SYNC, World};

/// The newest entry of the log, as `gizer_collection.captured` has it.
async fn newest(world: &World<'_>) -> String {
    let log = world.mongo().client().database("local").collection::<Document>("oplog.rs");
    let entry = log.find_one(doc! {}).sort(doc! { "$natural": -1 }).await.unwrap().unwrap();
    let (ts, term) = (entry.get_timestamp("ts").unwrap(), entry.get_i64("t").unwrap());
    let shard: Vec<String> = world.reached().await.into_keys().collect();
    json!({ shard[0].clone(): format!("{}.{}:8{term:015x}", ts.time, ts.increment) }).to_string()
}

/// Its documents are older than those of the load, whose position says that nothing of them is left to apply.
#[tokio::test]
async fn a_batch_does_not_go_into_the_tables_of_a_later_load() {
    let before: Vec<Document> = (1..=3).map(|n| doc! { "_id": n, "title": "before", "tags": ["a"] }).collect();
    let world = told(Version::V6_0, &before).await;
    world.sync().await;
    let posts = world.mongo().collection::<Document>("posts");
    let change = async |title: &str| {
        let update = posts.update_one(doc! { "_id": 1 }, doc! { "$set": { "title": title } });
        update.write_concern(WriteConcern::majority()).await.unwrap();
    };
    change("earlier").await;
    // In a transaction the statistics stand still.
    let (watch, mut load) = (world.client().await, world.client().await);
    let load = load.transaction().await.unwrap();
    load.batch_execute("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut round = world.spawn(SYNC);
    let waits = "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'gizer'";
    wait_until("the batch to come to the tables", LIMIT, async || {
        assert!(round.is_running().unwrap(), "{}", round.stderr());
        watch.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await
    .unwrap();

    // What a swap does, of a load that has read the document as it is now.
    change("later").await;
    let swap = format!(
        "UPDATE posts SET title = 'later' WHERE id = 1; \
         UPDATE gizer_collection SET load_epoch = load_epoch + 1, live_epoch = load_epoch + 1, joined = false, \
             captured = '{at}', exact_at = '{at}' WHERE collection = 'posts'",
        at = newest(&world).await
    );
    load.batch_execute(&swap).await.unwrap();
    load.commit().await.unwrap();
    round.wait().await.unwrap().expect_code(0);
    judge_by_oracle(&world, "posts").await.unwrap();
    world.sync().await;
    judge_by_oracle(&world, "posts").await.unwrap();
}
