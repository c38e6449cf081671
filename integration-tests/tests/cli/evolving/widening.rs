//! Columns whose values outgrow their type: tables are filled from their own rows next to the live
//! ones, and swapped in.

use std::time::Instant;

use bson::{Bson, DateTime, Document, doc};
use integration_tests::rig::{Finished, Version, wait_until};
use serde_json::{Value, json};

use super::killed::killed_at;
use super::{LIMIT, client, is_equal, is_equal_to_a_load, schema_text, versions};
use crate::place::{Place, assert_says};

/// Documents that are loaded: more than the first chunk has.
const DOCUMENTS: i32 = 450;

fn old(n: i32) -> Document {
    doc! {
        "_id": n, "small": n, "half": n, "price": n, "code": format!("c{n}"), "flag": n % 2 == 0,
        "at": { "low": n }, "counts": [n, n + 1], "lines": [{ "qty": n, "notes": ["x"] }], "tags": ["a"],
    }
}

/// A value of another type in each of the fields, so that every column of `orders` widens but
/// `_id`, and that of two arrays.
fn outgrown(n: i32) -> Document {
    let decimal = |text: String| Bson::Decimal128(text.parse().unwrap());
    doc! {
        "_id": n, "small": (1i64 << 40) + i64::from(n), "half": 0.5, "price": decimal(format!("{n}.50")), "code": n,
        "flag": "yes", "at": { "low": 0.25 }, "counts": [n, 1i64 << 40], "lines": [{ "qty": 0.5, "notes": ["y"] }],
        "tags": ["b"],
    }
}

async fn loaded() -> Place {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", (0..DOCUMENTS).map(old)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    place
}

/// With documents that outgrow their columns.
async fn with_strays() -> Place {
    let place = loaded().await;
    place.insert("orders", (1_000..1_020).map(outgrown)).await;
    place.gizer(&["sync"]).await.expect_code(0);
    place
}

async fn types(place: &Place) -> Value {
    let sql = "SELECT jsonb_object_agg(attrelid::regclass || '.' || attname, atttypid::regtype) AS types FROM pg_attribute \
               WHERE attrelid IN ('orders'::regclass, 'order_counts'::regclass, 'order_lines'::regclass) AND attnum > 0 \
                   AND attname IN ('small', 'half', 'price', 'code', 'flag', 'at_low', 'counts', 'qty')";
    place.rows(sql).await[0]["types"].clone()
}

fn widened_types() -> Value {
    json!({
        "orders.small": "bigint", "orders.half": "double precision", "orders.price": "numeric", "orders.code": "jsonb",
        "orders.flag": "jsonb", "orders.at_low": "double precision", "order_counts.counts": "bigint",
        "order_lines.qty": "double precision",
    })
}

async fn strays(place: &Place) -> i64 {
    let tables = ["orders", "order_counts", "order_lines", "order_tags", "order_line_notes"];
    let counts = tables.map(|table| format!("(SELECT count(*) FROM {table} WHERE _extra IS NOT NULL)"));
    place.number(&format!("SELECT {}", counts.join(" + "))).await
}

fn says(finished: &Finished, words: &[&str]) {
    let said = format!("{}{}", finished.stdout, finished.stderr);
    words.iter().for_each(|word| assert!(said.contains(word), "{word:?} is not in:\n{said}"));
}

async fn file_of(place: &Place, table: &str) -> i64 {
    place.number(&format!("SELECT pg_relation_filenode('{table}')::int8")).await
}

#[tokio::test]
async fn columns_widen_from_their_own_rows() {
    let place = with_strays().await;
    place.insert("orders", (2_000..2_010).map(|n| doc! { "_id": n, "coupon": "c" })).await;
    place.gizer(&["sync"]).await.expect_code(0);
    assert_eq!(strays(&place).await, 70);
    let people = "CREATE VIEW tags AS SELECT o.id, t.tags FROM orders o JOIN order_tags t ON t.orders_id = o.id; \
                  CREATE INDEX by_small ON orders (small); COMMENT ON COLUMN orders.half IS 'a half'; \
                  ALTER TABLE orders SET (fillfactor = 90)";
    place.postgres.batch_execute(people).await.unwrap();
    let (tags, notes) = (file_of(&place, "order_tags").await, file_of(&place, "order_line_notes").await);

    let dry = place.gizer(&["schema", "evolve", "--dry-run"]).await.expect_code(0);
    says(&dry, &["1 field and 8 wider columns", "\"small\" BIGINT", "DROP TABLE", "orders.code: STRING becomes JSON"]);
    assert!(!dry.stdout.contains("order_tags"), "{dry:?}");
    let evolved = place.gizer(&["schema", "evolve"]).await.expect_code(0);
    says(&evolved, &["grown by 1 field (version 1)", "grown by 8 wider columns (version 2)"]);

    assert_eq!(types(&place).await, widened_types());
    assert_eq!(strays(&place).await, 0);
    let kept = (file_of(&place, "order_tags").await, file_of(&place, "order_line_notes").await);
    assert_eq!(kept, (tags, notes), "tables without such a column stay as they are");
    assert_eq!(place.number("SELECT count(*) FROM tags").await, i64::from(DOCUMENTS) + 20);
    let around = "SELECT count(*) FROM pg_class c WHERE relname = 'orders' AND reloptions = '{fillfactor=90}' \
                  AND EXISTS (SELECT FROM pg_indexes WHERE indexname = 'by_small' AND tablename = 'orders') \
                  AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND col_description(c.oid, attnum) = 'a half')";
    assert_eq!(place.number(around).await, 1);
    assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer\\_new%'").await, 0);
    is_equal(&place).await;

    // It is followed by the new layout.
    place.insert("orders", (3_000..3_005).map(outgrown)).await;
    let orders = place.mongo.collection::<Document>("orders");
    orders.update_one(doc! { "_id": 3 }, doc! { "$set": { "small": 1i64 << 50, "lines.0.qty": 0.125 } }).await.unwrap();
    place.gizer(&["sync"]).await.expect_code(0);
    assert_eq!((strays(&place).await, place.number("SELECT small FROM orders WHERE id = 3").await), (0, 1 << 50));
    let status = place.gizer(&["status"]).await.expect_code(0);
    assert!(status.stdout.contains("at.low, code, counts, 5 more"), "{status:?}");
    is_equal_to_a_load(&place, "orders").await;
}

/// One version after the other, each killed and resumed by another command.
async fn killed_in_rounds(point: &str) {
    let place = loaded().await;
    let orders = place.mongo.collection::<Document>("orders");
    let rounds: [(&str, Bson, &[&str]); 3] = [
        ("small", (1i64 << 40).into(), &["sync"]),
        ("half", 0.5.into(), &["run"]),
        ("code", 5.into(), &["schema", "evolve"]),
    ];
    for (round, (field, value, next)) in rounds.into_iter().enumerate() {
        orders.update_many(doc! { "_id": { "$lt": 12 } }, doc! { "$set": { field: value } }).await.unwrap();
        place.gizer(&["sync"]).await.expect_code(0);
        killed_at(&place, point).await;
        let done = point == "evolve.after_finish";
        assert_eq!(
            versions(&place).await[round],
            json!({ "version": round + 1, "done": done, "failed": null }),
            "{point}"
        );
        let before = schema_text(&place, "orders");
        orders
            .update_many(doc! { "_id": { "$gt": 440 } }, doc! { "$set": { "half": 0.25, "flag": true } })
            .await
            .unwrap();
        orders.delete_one(doc! { "_id": 20 + round as i32 }).await.unwrap();
        place.insert("orders", [old(5_000 + round as i32)]).await;
        place.gizer(next).await.expect_code(0);
        assert_ne!(schema_text(&place, "orders"), before, "{point}, {next:?}");
        assert!(versions(&place).await[round]["done"] == true, "{point}, {next:?}");
        place.gizer(&["sync"]).await.expect_code(0);
        is_equal(&place).await;
        assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer\\_new%'").await, 0);
    }
    is_equal_to_a_load(&place, "orders").await;
}

#[tokio::test]
async fn killed_with_empty_staging_tables() {
    killed_in_rounds("evolve.after_begin").await;
}

#[tokio::test]
async fn killed_while_rows_are_copied() {
    killed_in_rounds("evolve.in_chunk").await;
}

#[tokio::test]
async fn killed_between_chunks_of_copied_rows() {
    killed_in_rounds("evolve.after_chunk").await;
}

#[tokio::test]
async fn killed_before_the_swap() {
    killed_in_rounds("evolve.before_swap").await;
}

#[tokio::test]
async fn killed_when_the_tables_are_swapped_in() {
    killed_in_rounds("evolve.after_finish").await;
}

/// The staging tables that a killed run has left may be gone.
#[tokio::test]
async fn it_starts_over_without_its_staging_tables() {
    let place = with_strays().await;
    killed_at(&place, "evolve.after_chunk").await;
    place.postgres.batch_execute("DROP TABLE gizer_new_orders").await.unwrap();
    place.gizer(&["sync"]).await.expect_code(0);
    assert_eq!(types(&place).await, widened_types());
    is_equal(&place).await;
}

#[tokio::test]
async fn a_load_takes_the_place_of_unfinished_widening() {
    let place = with_strays().await;
    killed_at(&place, "evolve.before_swap").await;
    place.gizer(&["load", "--verify", "full"]).await.expect_code(0);
    assert_eq!((versions(&place).await.len(), types(&place).await["orders.small"].clone()), (0, json!("integer")));
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    assert_eq!(types(&place).await, widened_types());
    is_equal(&place).await;
}

/// `run` does it, too, once it has counted such values; the other collections are followed.
#[tokio::test]
async fn run_widens_columns_by_itself() {
    let place = loaded().await;
    place.insert("orders", (1_000..1_020).map(outgrown)).await;
    let ran = place.gizer(&["run"]).await.expect_code(0);
    assert!(ran.stdout.contains("8 wider columns"), "{ran:?}");
    assert_eq!(types(&place).await, widened_types());
    is_equal(&place).await;
}

/// 12.00 fits a column of integers as 12, and is shown with its zeros once the column is `DECIMAL`.
#[tokio::test]
async fn zeros_at_the_end_of_decimals_are_read_again() {
    let place = loaded().await;
    let orders = place.mongo.collection::<Document>("orders");
    let price = |text: &str| doc! { "$set": { "price": Bson::Decimal128(text.parse().unwrap()) } };
    orders.update_many(doc! { "_id": { "$lt": 15 } }, price("12.00")).await.unwrap();
    orders.update_many(doc! { "_id": { "$gte": 15, "$lt": 30 } }, price("12.50")).await.unwrap();
    place.gizer(&["sync"]).await.expect_code(0);
    let evolved = place.gizer(&["schema", "evolve"]).await.expect_code(0);
    assert!(evolved.stderr.contains("a column has become DECIMAL"), "{evolved:?}");
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE price::text = '12.00'").await, 15);
    is_equal(&place).await;
    // Killed before that, it is done by whoever looks at schemas next.
    orders
        .update_many(
            doc! { "_id": { "$lt": 30 } },
            doc! { "$set": { "small": Bson::Decimal128("7.0".parse().unwrap()) } },
        )
        .await
        .unwrap();
    orders
        .update_many(
            doc! { "_id": { "$gte": 30, "$lt": 45 } },
            doc! { "$set": { "small": Bson::Decimal128("7.5".parse().unwrap()) } },
        )
        .await
        .unwrap();
    place.gizer(&["sync"]).await.expect_code(0);
    killed_at(&place, "evolve.after_finish").await;
    assert_eq!(place.gizer(&["verify"]).await.code(), Some(4));
    place.gizer(&["run"]).await.expect_code(0);
    is_equal(&place).await;
    is_equal_to_a_load(&place, "orders").await;
}

/// JSON has the types of numbers, which a column has not: MongoDB alone knows them.
#[tokio::test]
async fn a_column_of_numbers_becomes_json_by_a_load_alone() {
    let place = loaded().await;
    let orders = place.mongo.collection::<Document>("orders");
    orders.update_many(doc! { "_id": { "$lt": 30 } }, doc! { "$set": { "small": "few" } }).await.unwrap();
    place.gizer(&["sync"]).await.expect_code(0);
    let evolved = place.gizer(&["schema", "evolve"]).await.expect_code(0);
    says(&evolved, &["no column to widen", "the column would be JSON, by a load only"]);
    assert_eq!(versions(&place).await.len(), 0);
    is_equal(&place).await;
}

/// It can be pinned at any time: the tables are those of the schema file as before.
#[tokio::test]
async fn a_pinned_type_stays_and_needs_no_load() {
    let place = with_strays().await;
    let pin = r#""small": { "$type": "INT", "$pinned": true }"#;
    let pinned = schema_text(&place, "orders").replacen(r#""small": "INT""#, pin, 1);
    place.schema_file("orders.json", &pinned);
    place.gizer(&["sync"]).await.expect_code(0);
    let evolved = place.gizer(&["schema", "evolve"]).await.expect_code(0);
    says(&evolved, &["grown by 7 wider columns"]);
    assert!(schema_text(&place, "orders").contains(pin));
    let again = place.gizer(&["schema", "evolve"]).await.expect_code(0);
    says(&again, &["orders.small: stays in _extra, in 20 documents: the type is pinned in the schema file"]);
    assert_eq!((types(&place).await["orders.small"].clone(), strays(&place).await), (json!("integer"), 20));
    is_equal(&place).await;
    is_equal_to_a_load(&place, "orders").await;
}

/// What has come in the way since is reported, and the collection is followed again.
#[tokio::test]
async fn a_view_that_came_after_a_kill_ends_it() {
    for keeps_staging in [true, false] {
        let place = with_strays().await;
        killed_at(&place, "evolve.after_chunk").await;
        if !keeps_staging {
            place.postgres.batch_execute("DROP TABLE gizer_new_orders").await.unwrap();
        }
        let view = "CREATE VIEW codes AS SELECT id, code || '!' AS code FROM orders";
        place.postgres.batch_execute(view).await.unwrap();
        place.insert("orders", [old(7_000)]).await;
        let synced = place.gizer(&["sync"]).await;
        let words = ["could not grow, and is as it was", "view public.codes", "$pinned"];
        words.iter().for_each(|word| assert!(synced.stderr.contains(word), "{word:?}: {synced:?}"));
        assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer\\_new%'").await, 0);
        let all = versions(&place).await;
        assert!(all.len() == 1 && all[0]["done"] == true && !all[0]["failed"].is_null(), "{all:?}");
        place.gizer(&["sync"]).await.expect_code(0);
        assert_eq!(place.number("SELECT count(*) FROM orders WHERE id = 7000").await, 1);
        is_equal(&place).await;
    }
}

/// What hangs on the type of a column is refused by name before anything is done, and the
/// collection is followed.
#[tokio::test]
async fn a_view_on_the_column_keeps_it_as_it_is() {
    let place = with_strays().await;
    place.postgres.batch_execute("CREATE VIEW codes AS SELECT id, code || '!' AS code FROM orders").await.unwrap();
    for _ in 0..2 {
        let refused = place.gizer(&["schema", "evolve"]).await;
        assert_says(&refused, 1, &["view public.codes", "that is text and will be jsonb"]);
    }
    assert_eq!(versions(&place).await.len(), 0);
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(types(&place).await["orders.code"], "text");
    place.insert("orders", [old(7_000)]).await;
    place.gizer(&["sync"]).await.expect_code(0);
    is_equal(&place).await;
    place.postgres.batch_execute("DROP VIEW codes").await.unwrap();
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    assert_eq!(types(&place).await, widened_types());
    is_equal(&place).await;
}

/// A reader who does not go away keeps the swap from it, and nobody else from anything: it is given
/// up, and tried again.
#[tokio::test]
async fn a_reader_that_stays_keeps_the_old_tables() {
    let place = with_strays().await;
    let reader = client(&place).await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM orders").await.unwrap();
    let busy = place.gizer(&["schema", "evolve", "--load-swap-timeout", "1"]).await;
    assert_says(&busy, 1, &["orders"]);
    assert_eq!((versions(&place).await.len(), types(&place).await["orders.small"].clone()), (0, json!("integer")));
    place.insert("orders", [old(7_000)]).await;
    place.gizer(&["sync"]).await.expect_code(0);
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE id = 7000").await, 1);
    reader.batch_execute("COMMIT").await.unwrap();
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    assert_eq!(types(&place).await, widened_types());
    is_equal(&place).await;
}

/// Readers wait for no longer than a swap takes, and never see a table without its rows.
#[tokio::test]
async fn readers_see_all_rows_all_the_time() {
    let place = with_strays().await;
    let all = i64::from(DOCUMENTS) + 20;
    let reader = client(&place).await;
    let running = place.gizer.spawn(["schema", "evolve"]).unwrap();
    let (mut longest, mut reads) = (std::time::Duration::ZERO, 0);
    wait_until("the version to be finished", LIMIT, async || {
        let began = Instant::now();
        let counted: i64 = reader.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0);
        longest = longest.max(began.elapsed());
        reads += 1;
        assert_eq!(counted, all);
        let done = "SELECT count(*) FROM gizer_schema_history WHERE finished_at IS NOT NULL";
        reader.query_one(done, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) == 1)
    })
    .await
    .unwrap();
    running.wait().await.unwrap().expect_code(0);
    assert!(reads > 1 && longest < LIMIT / 6, "{reads} reads, the longest took {longest:?}");
    is_equal(&place).await;
    // Times are of no interest here, only that there is one more type that nothing else widens.
    place.insert("orders", [doc! { "_id": 9_000, "flag": DateTime::now() }]).await;
    place.gizer(&["sync"]).await.expect_code(0);
    is_equal(&place).await;
}
