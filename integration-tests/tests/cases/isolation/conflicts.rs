//! A constraint that the end of a batch satisfies never fails it (S1).

use bson::{Document, doc};
use serde_json::json;

use super::place::Place;

fn people(ids: std::ops::RangeInclusive<i32>) -> Vec<Document> {
    ids.map(|id| doc! { "_id": id, "email": format!("e{id}"), "n": 0, "tags": ["x", "y"] }).collect()
}

async fn unique() -> Place {
    let place = Place::new(people(1..=9)).await;
    place.sql("CREATE UNIQUE INDEX a_email ON a (email)").await;
    place
}

/// Nothing was refused.
async fn taken(place: &Place) {
    taken_unjudged(place).await;
    place.judge().await;
}

/// The same of tables that have columns of people's, which are no matter for the judge.
async fn taken_unjudged(place: &Place) {
    place.write_others(100..103).await;
    let report = place.sync().await;
    assert_eq!((&report["rejected"], &report["exact"]), (&json!(0), &json!(true)), "{report}");
    assert_eq!(place.rejected().await, json!([]));
}

#[tokio::test]
async fn s1_values_that_swap_or_go_round_or_are_given_up_are_taken() {
    let place = unique().await;
    for (id, email) in
        [(1, "swap"), (2, "e1"), (1, "e2"), (3, "chain"), (5, "e3"), (4, "e5"), (3, "e4"), (7, "x"), (6, "e7")]
    {
        place.set(id, doc! { "email": email }).await;
    }
    place.delete(8).await;
    place.insert(doc! { "_id": 80, "email": "e8", "n": 0, "tags": [] }).await;
    place.set(9, doc! { "email": "e6" }).await;
    taken(&place).await;
}

#[tokio::test]
async fn s1_people_s_own_columns_keep_their_values() {
    let place = unique().await;
    place
        .sql(
            "ALTER TABLE a ADD note text DEFAULT 'none', ADD serial int GENERATED ALWAYS AS IDENTITY, \
                 ADD twice text GENERATED ALWAYS AS (email || email) STORED; \
             ALTER TABLE a_tags ADD note text; \
             UPDATE a SET note = 'of ' || id; UPDATE a_tags SET note = a_id || '.' || idx",
        )
        .await;
    let before = place.rows("SELECT id, note, serial FROM a ORDER BY id").await;
    let tags = place.rows("SELECT * FROM a_tags ORDER BY a_id, idx").await;
    for (id, email) in [(1, "swap"), (2, "e1"), (1, "e2")] {
        place.set(id, doc! { "email": email }).await;
    }
    taken_unjudged(&place).await;
    assert_eq!(place.rows("SELECT id, note, serial FROM a ORDER BY id").await, before);
    assert_eq!(place.rows("SELECT * FROM a_tags ORDER BY a_id, idx").await, tags);
    assert_eq!(place.rows("SELECT twice FROM a WHERE id = 1").await, json!([{ "twice": "e2e2" }]));
    place.sql("ALTER TABLE a DROP note, DROP serial, DROP twice; ALTER TABLE a_tags DROP note").await;
    place.judge().await;
}

/// What takes a value is in an earlier part than what gives it up: documents are applied in parts of a sixteenth of the memory, and
/// of a reply of the server at least.
#[tokio::test]
async fn s1_a_conflict_between_parts_of_a_batch_is_none() {
    let mut documents = people(1..=20);
    documents.iter_mut().for_each(|document| drop(document.insert("long", "x".repeat(1_200_000))));
    let place = Place::with_config(documents, "[run]\nmemory = \"32MiB\"\n").await;
    place
        .sql("CREATE UNIQUE INDEX a_email ON a (email); ALTER TABLE a ADD note text; UPDATE a SET note = 'of ' || id")
        .await;
    place.set(1, doc! { "email": "away" }).await;
    for id in 2..=20 {
        place.set(id, doc! { "email": format!("e{}", id - 1) }).await;
    }
    place.set(1, doc! { "email": "e20" }).await;
    taken_unjudged(&place).await;
    let kept = "SELECT count(*) FROM a WHERE note = 'of ' || id";
    assert_eq!(place.rows(kept).await, json!([{ "count": 20 }]));
    place.sql("ALTER TABLE a DROP note").await;
    place.judge().await;
}

#[tokio::test]
async fn s1_deferred_constraints_are_looked_at_before_the_commit() {
    let place = Place::new(people(1..=4)).await;
    place.sql("ALTER TABLE a ADD CONSTRAINT one UNIQUE (email) DEFERRABLE INITIALLY DEFERRED").await;
    for (id, email) in [(1, "swap"), (2, "e1"), (1, "e2")] {
        place.set(id, doc! { "email": email }).await;
    }
    taken(&place).await;
    // And of two that have one value at the end, one is rejected.
    place.set(3, doc! { "email": "e4" }).await;
    place.write_others(200..203).await;
    let report = place.sync().await;
    assert_eq!(report["rejected"], json!(1), "{report}");
    assert_eq!(place.rejected().await.as_array().unwrap().len(), 1);
    place.judge().await;
}

/// The other half of a conflict goes, and nobody touches what was rejected.
#[tokio::test]
async fn s4_a_document_whose_conflict_is_gone_comes_by_itself() {
    let place = unique().await;
    place.set(3, doc! { "email": "e4" }).await;
    assert_eq!(place.sync().await["rejected"], json!(1));
    place.judge().await;
    assert_eq!(place.rejected().await, json!([{ "id": "{\"$numberInt\":\"3\"}", "sqlstate": "23505" }]));
    // Nothing has changed: it stays, and is not counted again.
    assert_eq!(place.sync().await["rejected"], json!(0));
    assert_eq!(place.rows("SELECT attempts FROM gizer_reject").await, json!([{ "attempts": 2 }]));
    place.delete(4).await;
    let report = place.sync().await;
    assert_eq!(report["no_longer_rejected"], json!(1), "{report}");
    assert_eq!(place.rejected().await, json!([]));
    place.judge().await;
}

/// Rows that others point at cannot be replaced.
#[tokio::test]
async fn s1_foreign_keys_of_people_s_lose_nothing() {
    let place = unique().await;
    place
        .sql(
            "CREATE TABLE mine (of int REFERENCES a (id) ON DELETE CASCADE); INSERT INTO mine VALUES (1), (2); \
             ALTER TABLE a_tags ADD FOREIGN KEY (a_id) REFERENCES a (id) ON DELETE CASCADE",
        )
        .await;
    for (id, email) in [(1, "swap"), (2, "e1"), (1, "e2"), (5, "swap"), (6, "e5"), (5, "e6")] {
        place.set(id, doc! { "email": email }).await;
    }
    place.write_others(100..103).await;
    place.sync_with_code(7).await;
    place.judge_one("b").await;
    assert_eq!(place.rows("SELECT count(*) FROM mine").await, json!([{ "count": 2 }]));
    assert_eq!(place.rows("SELECT count(*) FROM a_tags").await, json!([{ "count": 18 }]));
    place.sql("DROP TABLE mine").await;
    place.sync().await;
    place.judge().await;
}
