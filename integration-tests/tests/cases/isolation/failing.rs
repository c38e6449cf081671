//! A collection whose tables cannot be written is set apart, at its own position, until they can.

use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{Signal, wait_until};
use serde_json::json;

use super::place::Place;

pub(super) const LIMIT: Duration = Duration::from_secs(60);

fn documents(ids: std::ops::RangeInclusive<i32>) -> Vec<Document> {
    ids.map(|id| doc! { "_id": id, "s": format!("s{id}"), "n": 5, "tags": ["x", "y"] }).collect()
}

/// Every write is refused, for a reason that is not a document's.
const REFUSE: &str = "CREATE FUNCTION public.broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                          PERFORM 1 FROM public.not_there; RETURN NEW; END $$; \
                      CREATE TRIGGER broken BEFORE INSERT OR UPDATE OR DELETE ON a FOR EACH ROW EXECUTE FUNCTION broken()";

const HEAL: &str = "DROP TRIGGER broken ON a; DROP FUNCTION broken";

const STANDING: &str =
    "SELECT joined, obstacle FROM gizer_collection JOIN gizer_expected USING (collection) WHERE collection = 'a'";

async fn write(place: &Place, round: i32) {
    place.set(1 + round, doc! { "s": format!("round {round}") }).await;
    place.delete(10 + round).await;
    place.insert(doc! { "_id": 100 + round, "s": "new", "n": 1, "tags": ["z"] }).await;
    place.write_others(100 + 10 * round..110 + 10 * round).await;
}

#[tokio::test]
async fn s4_a_collection_that_fails_stays_where_it_is_and_catches_up() {
    let place = Place::new(documents(1..=20)).await;
    place.sql(REFUSE).await;
    let before = place.rows("SELECT * FROM a ORDER BY id").await;
    for round in 0..3 {
        write(&place, round).await;
        let report = place.sync_with_code(7).await;
        let failing = report["failing"].as_object().unwrap();
        assert_eq!(failing.keys().collect::<Vec<_>>(), ["a"], "{report}");
        assert!(failing["a"]["message"].as_str().unwrap().contains("42P01"), "{report}");
        assert_eq!(place.rows("SELECT * FROM a ORDER BY id").await, before);
        place.judge_one("b").await;
        assert_eq!(place.rows(STANDING).await, json!([{ "joined": false, "obstacle": "failing" }]));
    }
    place.sql(HEAL).await;
    let report = place.sync().await;
    assert_eq!(report["exact"], json!(true), "{report}");
    assert_eq!(place.rows(STANDING).await, json!([{ "joined": true, "obstacle": null }]));
    place.judge().await;
}

/// It dies at each step of the commit that sets a collection apart, and of the one in which that comes back.
#[tokio::test]
async fn s4_a_collection_is_set_apart_or_not_after_death_at_any_step() {
    let place = Place::new(documents(1..=20)).await;
    for (round, point) in
        (0..).zip(["sync.after_write", "sync.before_commit", "sync.after_commit", "sync.between_batches"])
    {
        for trouble in [REFUSE, HEAL] {
            place.sql(trouble).await;
            write(&place, round + if trouble == HEAL { 4 } else { 0 }).await;
            let died = place.gizer.spawn_with(["sync"], &[("GIZER_FAIL_POINT", point)]).unwrap().wait().await.unwrap();
            assert!(died.signal().is_some(), "{point} was not come by: {died:?}");
            place.sync_with_code(if trouble == HEAL { 0 } else { 7 }).await;
            place.judge_one("b").await;
        }
        place.judge().await;
    }
}

#[tokio::test]
async fn s4_who_stays_on_tries_a_failing_collection_again() {
    let place = Place::new(documents(1..=20)).await;
    place.sql(REFUSE).await;
    let running = place.gizer.spawn(["sync", "--follow"]).unwrap();
    write(&place, 0).await;
    running.wait_for_output("a: PostgreSQL at").await.unwrap();
    write(&place, 1).await;
    wait_until("the other collection to go on", LIMIT, async || {
        place.rows("SELECT count(*) FROM b").await == json!([{ "count": 23 }])
    })
    .await
    .unwrap();
    place.sql(HEAL).await;
    place.sql("UPDATE gizer_expected SET next_try = now()").await;
    running.wait_for_output("a: followed again").await.unwrap();
    running.signal(Signal::Terminate).unwrap();
    running.wait().await.unwrap().expect_code(143);
    place.sync().await;
    place.judge().await;
}

#[tokio::test]
async fn s4_more_documents_refused_than_allowed_are_the_collection_s_trouble() {
    let place = Place::with_config(documents(1..=20), "[follow]\nmax_rejects = 3\n").await;
    place.sql("ALTER TABLE a ADD CONSTRAINT small CHECK (n < 10)").await;
    let before = place.rows("SELECT * FROM a ORDER BY id").await;
    for id in 3..8 {
        place.set(id, doc! { "n": 11 }).await;
    }
    place.write_others(100..103).await;
    let report = place.sync_with_code(7).await;
    let message = report["failing"]["a"]["message"].as_str().unwrap();
    assert!(message.contains("[follow] max_rejects") && message.contains("\"small\""), "{message}");
    assert_eq!(place.rows("SELECT * FROM a ORDER BY id").await, before);
    assert_eq!(place.rejected().await, json!([]));
    place.judge_one("b").await;
    let report = place.run(&["sync", "--follow-max-rejects", "5", "--format", "json"]).await.expect_code(0);
    assert!(report.stdout.contains("\"rejected\": 5") || report.stdout.contains("\"rejected\":5"), "{}", report.stdout);
    place.judge().await;
}

/// A table that was dropped by hand is a load of its collection.
#[tokio::test]
async fn s4_tables_that_are_not_as_they_were_loaded_are_loaded_again() {
    let place = Place::new(documents(1..=20)).await;
    for change in ["DROP TABLE a_tags", "ALTER TABLE a DROP COLUMN s"] {
        place.sql(change).await;
        place.set(1, doc! { "s": change, "tags": [change] }).await;
        place.write_others(100..103).await;
        place.sync_with_code(7).await;
        place.judge_one("b").await;
        place.run(&["run"]).await.expect_code(0);
        place.judge().await;
        place.mongo.collection::<Document>("b").delete_many(doc! { "_id": { "$gte": 100 } }).await.unwrap();
    }
}

#[tokio::test]
async fn s4_a_schema_file_that_has_changed_is_its_collection_s_trouble() {
    let place = Place::new(documents(1..=20)).await;
    let file = place.gizer.folder().join("schemas/a.json");
    let text = std::fs::read_to_string(&file).unwrap();
    for wrong in ["{\"_id\": \"INT\"}", "no schema"] {
        std::fs::write(&file, wrong).unwrap();
        place.set(1, doc! { "s": wrong }).await;
        place.write_others(100..103).await;
        let code = if wrong == "no schema" { 2 } else { 3 };
        let report = place.sync_with_code(code).await;
        assert!(report["failing"]["a"]["remedy"].is_string() || code == 2, "{report}");
        place.judge_one("b").await;
        place.mongo.collection::<Document>("b").delete_many(doc! { "_id": { "$gte": 100 } }).await.unwrap();
    }
    std::fs::write(&file, text).unwrap();
    place.sync().await;
    assert_eq!(place.rows(STANDING).await, json!([{ "joined": true, "obstacle": null }]));
    place.judge().await;
}

/// The log no longer has what happened since it failed.
#[tokio::test]
async fn s4_a_collection_that_failed_too_long_is_due_for_a_load() {
    let place = Place::new(documents(1..=20)).await;
    place.sql(REFUSE).await;
    write(&place, 0).await;
    place.sync_with_code(7).await;
    let long_ago = "UPDATE gizer_collection SET captured = (SELECT jsonb_object_agg(key, '1000.' || split_part(value, '.', 2)) \
                        FROM jsonb_each_text(captured)) WHERE collection = 'a'";
    place.sql(long_ago).await;
    place.write_others(200..203).await;
    let report = place.sync_with_code(3).await;
    assert!(report["failing"]["a"]["message"].as_str().unwrap().contains("no longer reaches back"), "{report}");
    place.judge_one("b").await;
    let state = "SELECT state FROM gizer_collection WHERE collection = 'a'";
    assert_eq!(place.rows(state).await, json!([{ "state": "load due" }]));
    place.sql(HEAL).await;
    place.run(&["load", "a"]).await.expect_code(0);
    place.sync().await;
    place.judge().await;
}
