//! What somebody has found different is made equal by whoever follows, and counted.

use bson::{Document, doc};
use bytes::Bytes;
use gizer_flatten::Flattener;
use gizer_pg::rows::Keys;
use gizer_pg::state::{self, RepairKey};
use gizer_pg::{Target, connect};
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, file};
use integration_tests::rig::{Signal, Version, wait_until};
use serde_json::{Value, json};

use super::fail_points::FAIL_POINTS;
use super::judge::judge_rebuilt;
use super::scenario::{judge, told};
use super::world::{FOLLOW, LIMIT, SYNC, World};

fn posts() -> Vec<Document> {
    (1..=5).map(|n| doc! { "_id": n, "title": format!("post {n}"), "tags": ["a", "b"] }).collect()
}

/// Loaded, and followed once, so that its tables stand at a position of the stream.
async fn followed() -> World<'static> {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    judge(&world).await.unwrap();
    world
}

/// A round; gives what it reports.
async fn round(world: &World<'_>) -> Value {
    let finished = world.run(&["sync", "--format", "json"]).await.expect_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

async fn sql(world: &World<'_>, sql: &str) {
    world.client().await.batch_execute(sql).await.unwrap();
}

/// Queues the keys that these ids have, with the ids unless told that no `_id` has these keys.
async fn queue(world: &World<'_>, collection: &str, ids: impl IntoIterator<Item = i32>, with_ids: bool) {
    let layout = Layout::new(&file::parse(collection, &world.schema_text(collection)).unwrap()).unwrap();
    let flattener = Flattener::new(&layout);
    let repair = |id: i32| {
        let id = doc! { "_id": id }.to_vec().unwrap();
        let mut keys = Keys::new(&layout);
        keys.insert(&flattener.key_of(RawDoc::new(&id).unwrap()).unwrap()).unwrap();
        RepairKey { key: keys.field(0).to_vec(), id: with_ids.then(|| Bytes::from(id)) }
    };
    let repairs: Vec<RepairKey> = ids.into_iter().map(repair).collect();
    let target = Target::parse(&world.postgres.uri(&world.target), "public").unwrap();
    let session = connect(&target).await.unwrap();
    state::queue_repairs(&session, collection, "found by hand", &repairs).await.unwrap();
}

const COUNTED: &str = "SELECT collection, event, reason, count FROM gizer_history ORDER BY 1, 2, 3";

/// Rows that are wrong in all ways, and their keys queued: documents 1 to 3, and two that no `_id` has.
async fn spoil(world: &World<'_>) {
    for (collection, tags) in [("posts", "post_tags"), ("drafts", "draft_tags")] {
        let spoil = format!(
            "UPDATE {collection} SET title = 'wrong' WHERE id = 1; DELETE FROM {tags} WHERE {collection}_id = 1 AND idx = 2; \
             DELETE FROM {collection} WHERE id = 2; UPDATE {tags} SET idx = 9 WHERE {collection}_id = 3 AND idx = 1; \
             INSERT INTO {collection} (id, title) VALUES (1001, 'left over'); \
             INSERT INTO {tags} ({collection}_id, idx) VALUES (1001, 1), (1002, 1)"
        );
        sql(world, &spoil).await;
        queue(world, collection, 1..4, true).await;
        queue(world, collection, 1001..1003, false).await;
    }
}

#[tokio::test]
async fn a_round_repairs_all_that_waits() {
    let world = followed().await;
    spoil(&world).await;
    judge(&world).await.unwrap_err();
    let report = round(&world).await;
    judge(&world).await.unwrap();
    assert_eq!((&report["repaired"], &report["exact"]), (&json!(10), &json!(true)), "{report}");
    let each = |collection: &str| json!({ "collection": collection, "event": "repair", "reason": "found by hand", "count": 5 });
    assert_eq!(json!(world.rows(COUNTED).await), json!([each("drafts"), each("posts")]));
    assert_eq!(world.rows("SELECT 1 FROM gizer_repair").await.len(), 0);
    // Nothing is left to do, and nothing is done.
    let report = round(&world).await;
    assert_eq!((&report["repaired"], &report["batches"]), (&json!(0), &json!(0)), "{report}");
    // A key whose _id is another document's by now, or nobody's, has no rows afterwards.
    sql(&world, "INSERT INTO posts (id, title) VALUES (1003, 'left over')").await;
    queue(&world, "posts", [1003], true).await;
    assert_eq!(round(&world).await["repaired"], json!(1));
    judge(&world).await.unwrap();
    let status = world.run(&["status", "--format", "json"]).await.expect_code(0).stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    let told = status["repairs"].as_array().unwrap().iter();
    let told: Vec<_> = told.map(|row| (row["collection"].as_str().unwrap(), row["count"].as_u64().unwrap())).collect();
    assert_eq!(told, [("drafts", 5), ("posts", 6)], "{status}");
}

#[tokio::test]
async fn who_stays_on_repairs_while_nothing_comes_and_while_all_the_time_something_does() {
    let world = followed().await;
    let running = world.spawn(FOLLOW);
    spoil(&world).await;
    wait_until("what waits to be repaired", LIMIT, async || judge(&world).await.is_ok()).await.unwrap();
    let posts = world.mongo().collection::<Document>("posts");
    spoil(&world).await;
    let mut written = 100;
    wait_until("what waits to be repaired beside writes", LIMIT, async || {
        written += 1;
        posts.insert_one(doc! { "_id": written, "title": "beside", "tags": [] }).await.unwrap();
        world.rows("SELECT 1 FROM gizer_repair").await.is_empty()
    })
    .await
    .unwrap();
    running.signal(Signal::Terminate).unwrap();
    running.wait().await.unwrap().expect_code(143);
    world.sync().await;
    judge(&world).await.unwrap();
}

/// Nothing else is in the batch, so that death loses it or does not.
#[tokio::test]
async fn a_repair_waits_or_is_done_after_death_at_any_step() {
    let world = followed().await;
    for point in FAIL_POINTS {
        spoil(&world).await;
        let died = world.gizer.spawn_with(SYNC, &[("GIZER_FAIL_POINT", point)]).unwrap().wait().await.unwrap();
        assert!(died.signal().is_some(), "{point} was not come by: {died:?}");
        let waiting = world.rows("SELECT 1 FROM gizer_repair").await.len();
        let done = judge(&world).await.is_ok();
        let committed = ["sync.after_commit", "sync.between_batches"].contains(&point);
        assert_eq!((waiting, done), if committed { (0, true) } else { (10, false) }, "{point}");
        world.sync().await;
        judge(&world).await.unwrap();
    }
    let repaired = "SELECT sum(count)::int AS count FROM gizer_history WHERE event = 'repair'";
    assert_eq!(world.rows(repaired).await[0]["count"], json!(10 * FAIL_POINTS.len()), "each once");
}

/// A table that somebody has replaced is loaded anew rather than repaired row by row.
#[tokio::test]
async fn more_repairs_than_allowed_are_a_load() {
    let world = followed().await;
    sql(&world, "UPDATE posts SET title = 'wrong'; UPDATE drafts SET title = 'wrong' WHERE id < 4").await;
    queue(&world, "posts", 1..5, true).await;
    queue(&world, "drafts", 1..4, true).await;
    let args = ["sync", "--verify-max-repairs", "3", "--format", "json"];
    let report: Value = serde_json::from_str(&world.run(&args).await.expect_code(0).stdout).unwrap();
    judge(&world).await.unwrap();
    let events = report["events"].to_string();
    assert!(events.contains("posts: 4 documents to repair in one run, with at most 3 allowed"), "{events}");
    assert!(events.contains("posts: reloaded, 5 documents"), "{events}");
    let reason = "more documents had to be repaired in one run than [verify] max_repairs allows";
    let expected = json!([
        { "collection": "drafts", "event": "repair", "reason": "found by hand", "count": 3 },
        { "collection": "posts", "event": "reload", "reason": reason, "count": 1 },
    ]);
    assert_eq!(json!(world.rows(COUNTED).await), expected);
    assert_eq!(world.rows("SELECT 1 FROM gizer_repair").await.len(), 0);
}

/// Documents as they were before the position that its tables stand at would only go back in time.
#[tokio::test]
async fn what_stands_at_a_later_time_waits() {
    let world = followed().await;
    sql(&world, "UPDATE posts SET title = 'wrong'; UPDATE drafts SET title = 'wrong'").await;
    queue(&world, "posts", 1..6, true).await;
    queue(&world, "drafts", 1..6, true).await;
    let later = "UPDATE gizer_collection SET joined = false, captured = ( \
                     SELECT jsonb_object_agg(key, split_part(value, '.', 1)::int + 1000 || '.' || split_part(value, '.', 2)) \
                     FROM gizer_stream, jsonb_each_text(position)) WHERE collection = 'posts'";
    sql(&world, later).await;
    assert_eq!(round(&world).await["repaired"], json!(5));
    judge_rebuilt(&world, "drafts").await.unwrap();
    let waiting = "SELECT collection, count(*) FROM gizer_repair GROUP BY collection";
    assert_eq!(json!(world.rows(waiting).await), json!([{ "collection": "posts", "count": 5 }]));
    // It has come to the stream's position.
    world.sync().await;
    judge(&world).await.unwrap();
}

/// What waits for a collection that is gone goes with its rows.
#[tokio::test]
async fn what_waits_goes_with_a_collection_that_is_dropped() {
    let world = followed().await;
    world.mongo().run_command(doc! { "drop": "posts" }).await.unwrap();
    queue(&world, "posts", 1..4, true).await;
    world.sync().await;
    judge(&world).await.unwrap();
    assert_eq!(world.rows("SELECT 1 FROM gizer_repair").await.len(), 0);
    assert_eq!(json!(world.rows(COUNTED).await), json!([]));
    // And what is queued of it later has no documents.
    queue(&world, "posts", 1..4, true).await;
    assert_eq!(round(&world).await["repaired"], json!(3));
    judge(&world).await.unwrap();
}

/// Spoils the titles of posts that are written, as `spoil` says; counts the rows by a sequence, which no rollback takes back.
async fn with_trigger(spoil: &str) -> World<'static> {
    let world = followed().await;
    let trigger = format!(
        "CREATE SEQUENCE written; CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {spoil} RETURN NEW; END $$; \
         CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION spoil()"
    );
    sql(&world, &trigger).await;
    world
}

async fn insert(world: &World<'_>, ids: std::ops::Range<i32>) {
    for collection in ["posts", "drafts"] {
        let documents = ids.clone().map(|id| doc! { "_id": id, "title": "a title", "tags": ["a"] });
        world.mongo().collection::<Document>(collection).insert_many(documents).await.unwrap();
    }
}

#[tokio::test]
async fn rows_that_are_spoiled_now_and_then_are_written_a_second_time() {
    let spoil = "IF nextval('public.written') % 100 = 0 THEN NEW.title := 'spoiled'; END IF;";
    let world = with_trigger(spoil).await;
    insert(&world, 100..750).await;
    let report = round(&world).await;
    judge(&world).await.unwrap();
    assert_eq!(report["repaired"], json!(6), "{report}");
    let reason = "rows were not as they had been written";
    let expected = json!([{ "collection": "posts", "event": "repair", "reason": reason, "count": 6 }]);
    assert_eq!(json!(world.rows(COUNTED).await), expected);
    let status = world.run(&["status"]).await.expect_code(0).stdout;
    assert!(status.contains("documents repaired") && status.contains(reason), "{status}");
}

#[tokio::test]
async fn rows_that_are_spoiled_always_are_told_and_their_collection_stays_as_it_is() {
    let world = with_trigger("NEW.title := 'spoiled';").await;
    insert(&world, 100..103).await;
    let before = world.rows("SELECT * FROM posts ORDER BY id").await;
    for args in [&["sync"][..], &["sync", "--show-values"]] {
        let finished = world.run(args).await.expect_code(4);
        let (shown, named) = ("title differs: \"a title\" in the document, \"spoiled\" in the table", finished.stderr);
        assert!(named.contains("posts, key 10") && named.contains("title differs"), "{named}");
        let wanted = args.len() > 1;
        assert_eq!((named.contains(shown), named.contains("spoiled")), (wanted, wanted), "{named}");
        assert_eq!(world.rows("SELECT * FROM posts ORDER BY id").await, before);
        judge_rebuilt(&world, "drafts").await.unwrap();
        assert_eq!(json!(world.rows(COUNTED).await), json!([]));
    }
    sql(&world, "DROP TRIGGER spoil ON posts").await;
    world.sync().await;
    judge(&world).await.unwrap();
}

/// With a part, or nothing, read back the tables are exact, and nobody has seen it.
#[tokio::test]
async fn verified_up_to_moves_only_where_all_was_read_back() {
    let world = followed().await;
    let status = async || -> Value {
        let status = world.run(&["status", "--format", "json"]).await.expect_code(0).stdout;
        serde_json::from_str(&status).unwrap()
    };
    let before = status().await;
    assert!(before["verified_up_to"].is_object(), "{before}");
    assert_eq!(before["verified_up_to"], before["stream"]["exact_at"]);
    for mode in ["off", "sample"] {
        world
            .mongo()
            .collection("posts")
            .insert_one(doc! { "_id": mode.len() as i32 + 100, "tags": [] })
            .await
            .unwrap();
        world.run(&["sync", "--verify-mode", mode]).await.expect_code(0);
        let after = status().await;
        assert_eq!(after["verified_up_to"], before["verified_up_to"], "{mode}");
        assert_ne!(after["stream"]["exact_at"], before["stream"]["exact_at"], "{mode}");
    }
    world.mongo().collection("posts").insert_one(doc! { "_id": 200, "tags": [] }).await.unwrap();
    world.sync().await;
    let after = status().await;
    assert_eq!(after["verified_up_to"], after["stream"]["exact_at"]);
    assert!(world.run(&["status"]).await.expect_code(0).stdout.contains("\nverified up to rs0 20"));
    judge(&world).await.unwrap();
}
