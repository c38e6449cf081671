//! Schemas that grow, through real servers: fields that came after the load get columns in place.

mod equal_to_load;
mod flipping;
mod following;
mod killed;
mod left_alone;
mod names;
mod others;
mod refused;
mod scenarios;
mod surroundings;
mod widening;
mod widening_ids;

use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::Version;
use serde_json::{Value, json};

use super::place::Place;

const LIMIT: Duration = Duration::from_secs(60);

/// Orders of a first shape, loaded and followed, and then some of a later one, which are in `_extra`.
async fn orders() -> Place {
    let place = Place::shared(Version::V6_0).await;
    let old = |n: i32| doc! { "_id": n, "name": format!("o{n}"), "items": [{ "sku": "a", "n": n }, { "sku": "b" }] };
    place.insert("orders", (0..50).map(old)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load", "--verify", "full"]).await.expect_code(0);
    place.gizer(&["sync"]).await.expect_code(0);
    place.insert("orders", (100..120).map(grown)).await;
    place
}

/// A column, a nested document, an array of scalars, one of documents, one in the elements of another, and a map.
fn grown(n: i32) -> Document {
    let counts: Document = (0..30).map(|k| (format!("2026-11-{:02}", (n + k) % 30 + 1), k.into())).collect();
    doc! {
        "_id": n, "name": format!("o{n}"), "coupon": format!("c{n}"), "ship": { "city": "Rome", "geo": { "lat": 1.5 } },
        "tags": ["x", "y"], "notes": [{ "text": "hi", "by": n }], "clicks": counts,
        "items": [{ "sku": "a", "n": n, "price": n * 2, "serials": ["s1", "s2"] }],
    }
}

async fn is_equal(place: &Place) {
    let verified = place.gizer(&["verify"]).await;
    assert_eq!(verified.code(), Some(0), "{verified:?}");
}

/// The only collection is loaded, and documents with new fields have come.
async fn grown_by(documents: impl IntoIterator<Item = Document>) -> Place {
    let place = Place::shared(Version::V6_0).await;
    place
        .insert("orders", (0..30).map(|n| doc! { "_id": n, "name": format!("o{n}"), "items": [{ "sku": "a" }] }))
        .await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    place.insert("orders", documents).await;
    place.gizer(&["sync"]).await.expect_code(0);
    place
}

/// Documents with one new field.
fn with_coupons(count: i32) -> impl Iterator<Item = Document> {
    (100..100 + count).map(|n| doc! { "_id": n, "name": "new", "coupon": format!("c{n}") })
}

/// Tables, columns, keys and comments, by name.
async fn catalog(place: &Place) -> Vec<Value> {
    let sql = "SELECT c.relname, pg_get_userbyid(c.relowner) AS owner, obj_description(c.oid) AS comment, \
                   (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.conrelid = c.oid AND contype = 'p') AS key, \
                   (SELECT jsonb_object_agg(a.attname, jsonb_build_array(a.atttypid::regtype, a.attnotnull, \
                        col_description(c.oid, a.attnum))) \
                    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns \
               FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' \
                   AND c.relname NOT LIKE 'gizer\\_%' AND c.relname <> 'qmetlstatus' ORDER BY c.relname";
    place.rows(sql).await
}

/// Keeps a copy of all tables, to compare with; gives their catalog.
async fn keep(place: &Place) -> Vec<Value> {
    place.postgres.batch_execute("DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept").await.unwrap();
    let catalog = catalog(place).await;
    for table in table_names(&catalog) {
        let copy = format!("CREATE TABLE kept.{table} AS TABLE public.{table}");
        place.postgres.batch_execute(&copy).await.unwrap();
    }
    catalog
}

/// Checks that all tables are as they were kept. Columns are compared by name, and numbers of one value are equal.
async fn is_as_kept(place: &Place, kept: &[Value]) {
    let now = catalog(place).await;
    assert_eq!(now, kept);
    for table in table_names(kept) {
        for (one, other) in [("kept", "public"), ("public", "kept")] {
            let more = format!(
                "SELECT to_jsonb(\"?row\") AS row FROM {one}.{table} AS \"?row\" EXCEPT ALL SELECT to_jsonb(\"?row\") FROM {other}.{table} AS \"?row\" LIMIT 3"
            );
            let more = place.rows(&more).await;
            assert!(more.is_empty(), "{table}: in {one} and not in {other}: {more:#?}");
        }
    }
}

fn table_names(catalog: &[Value]) -> Vec<String> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    catalog.iter().map(|table| quoted(table["relname"].as_str().unwrap())).collect()
}

/// Checks that a load by the schema file, which it leaves as it is, gives these very tables.
async fn is_equal_to_a_load(place: &Place, collection: &str) {
    let kept = keep(place).await;
    let file = schema_text(place, collection);
    place.gizer(&["load", "--verify", "full"]).await.expect_code(0);
    assert_eq!(schema_text(place, collection), file);
    is_as_kept(place, &kept).await;
}

fn schema_text(place: &Place, collection: &str) -> String {
    std::fs::read_to_string(place.gizer.folder().join(format!("schemas/{collection}.json"))).unwrap()
}

/// Somebody else who is connected.
async fn client(place: &Place) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&place.postgres_uri, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Versions, as a person may ask for them.
async fn versions(place: &Place) -> Vec<Value> {
    let sql = "SELECT version, finished_at IS NOT NULL AS done, failed FROM gizer_schema_history ORDER BY collection, version";
    place.rows(sql).await
}

async fn counts(place: &Place) -> Value {
    let sql = "SELECT (SELECT count(coupon) FROM orders) AS coupons, (SELECT count(ship_geo_lat) FROM orders) AS lats, \
               (SELECT count(*) FROM order_tags) AS tags, (SELECT count(*) FROM order_notes) AS notes, \
               (SELECT count(price) FROM order_items) AS prices, (SELECT count(*) FROM order_item_serials) AS serials, \
               (SELECT count(*) FROM order_clicks) AS clicks, \
               (SELECT count(*) FROM orders WHERE _extra IS NOT NULL) AS extra";
    place.rows(sql).await[0].clone()
}

#[tokio::test]
async fn new_fields_get_columns_and_tables_from_the_rows_that_hold_them() {
    let place = orders().await;
    place.gizer(&["sync"]).await.expect_code(0);
    place.postgres.batch_execute("CREATE VIEW names AS SELECT id, name FROM orders").await.unwrap();
    let dry = place.gizer(&["schema", "evolve", "--dry-run"]).await.expect_code(0);
    assert!(dry.stdout.contains("ALTER TABLE") && dry.stdout.contains("\"coupon\" TEXT"), "{dry:?}");
    assert!(dry.stdout.contains("CREATE TABLE") && dry.stdout.contains("order_clicks"), "{dry:?}");
    let before = place.rows("SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass").await;
    let evolved = place.gizer(&["schema", "evolve", "--format", "json"]).await.expect_code(0);
    let report: Value = serde_json::from_str(&evolved.stdout).unwrap();
    assert_eq!(report["collections"][0]["version"], 1, "{report}");
    assert_eq!(report["collections"][0]["documents"], 20, "{report}");
    assert!(
        before.len() < place.rows("SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass").await.len()
    );
    let expected = json!({
        "coupons": 20, "lats": 20, "tags": 40, "notes": 20, "prices": 20, "serials": 40, "clicks": 600, "extra": 0
    });
    assert_eq!(counts(&place).await, expected);
    is_equal(&place).await;
    // Followed by the new layout, with what came meanwhile.
    place.insert("orders", (200..205).map(grown)).await;
    let orders = place.mongo.collection::<Document>("orders");
    orders.update_one(doc! { "_id": 100 }, doc! { "$set": { "coupon": "new", "clicks.2026-11-01": 7 } }).await.unwrap();
    orders.update_one(doc! { "_id": 101 }, doc! { "$set": { "coupon": 5 } }).await.unwrap();
    place.gizer(&["sync"]).await.expect_code(0);
    let expected = json!({
        "coupons": 24, "lats": 25, "tags": 50, "notes": 25, "prices": 25, "serials": 50, "clicks": 750, "extra": 1
    });
    assert_eq!(counts(&place).await, expected);
    is_equal(&place).await;
    assert_eq!(place.number("SELECT count(*) FROM names").await, 75);
    // Nothing more to adopt, and a load by the new schema gives the same tables.
    let again = place.gizer(&["schema", "evolve", "--format", "json"]).await.expect_code(0);
    assert!(again.stdout.contains("\"version\": null"), "{again:?}");
    place.gizer(&["load", "--verify", "full"]).await.expect_code(0);
    assert_eq!(counts(&place).await, expected);
}

#[tokio::test]
async fn run_lets_schemas_grow_by_itself() {
    let place = orders().await;
    let ran = place.gizer(&["run"]).await.expect_code(0);
    assert!(ran.stdout.contains("its schema has grown by"), "{ran:?}");
    assert_eq!(counts(&place).await["coupons"], 20);
    is_equal(&place).await;
    let status = place.gizer(&["status"]).await.expect_code(0);
    assert!(status.stdout.contains("schemas that have grown"), "{status:?}");
}

#[tokio::test]
async fn what_is_asked_about_is_shown_and_left() {
    let place = orders().await;
    place.gizer(&["run", "--schemas-evolve", "ask"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE _extra IS NOT NULL").await, 20);
    for command in ["status", "plan"] {
        let shown = place.gizer(&[command, "--schemas-evolve", "ask"]).await;
        assert!(shown.stdout.contains("gizer schema evolve orders --dry-run"), "{command}: {shown:?}");
    }
}

#[tokio::test]
async fn rows_that_gizer_did_not_write_are_counted() {
    let place = orders().await;
    place.gizer(&["sync"]).await.expect_code(0);
    place.postgres.batch_execute("UPDATE orders SET _extra = '[1]' WHERE id = 1").await.unwrap();
    let dry = place.gizer(&["schema", "evolve", "--dry-run", "--format", "json"]).await.expect_code(0);
    let report: Value = serde_json::from_str(&dry.stdout).unwrap();
    assert_eq!(report["collections"][0]["unreadable_rows"], 1, "{report}");
    assert!(report["collections"][0]["adopted"].as_array().is_some_and(|adopted| adopted.len() == 7), "{report}");
    let dry = place.gizer(&["schema", "evolve", "--dry-run"]).await.expect_code(0);
    assert!(dry.stderr.contains("gizer verify"), "{dry:?}");
}
