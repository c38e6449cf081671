//! S5, S6: tables and state tables that somebody has changed.

use bson::doc;

use super::{rows, two_collections};
use crate::place::assert_says;

#[tokio::test]
async fn s5_tables_that_somebody_has_changed_are_loaded_again() {
    let place = two_collections().await;
    let changes = [
        "DROP TABLE order_list",
        "DROP TABLE orders",
        "ALTER TABLE orders ALTER COLUMN text TYPE integer USING 0",
        "ALTER TABLE orders RENAME COLUMN text TO words",
        "ALTER TABLE orders DROP COLUMN text",
        "ALTER TABLE orders DROP COLUMN _extra",
    ];
    for (n, change) in (100..).zip(changes) {
        place.postgres.batch_execute(change).await.unwrap();
        for collection in ["orders", "posts"] {
            place.insert(collection, [doc! { "_id": n, "text": "new", "list": [1] }]).await;
        }
        // Not by `sync`, which never loads by itself; but it names it, and the others go on.
        assert_says(&place.gizer(&["sync"]).await, 7, &["orders", "its tables were changed"]);
        let expected = i64::from(n) - 100 + 6;
        assert_eq!(rows(&place, "posts").await, expected, "{change}");
        place.gizer(&["run"]).await.expect_code(0);
        assert_eq!(rows(&place, "orders").await, expected, "{change}");
        place.gizer(&["verify"]).await.expect_code(0);
    }
    // And `run` by itself.
    place.postgres.batch_execute("DROP TABLE order_list").await.unwrap();
    place.gizer(&["run"]).await.expect_code(0);
    place.gizer(&["verify"]).await.expect_code(0);
}

#[tokio::test]
async fn s6_a_lost_position_is_told_and_mended_by_a_load() {
    let place = two_collections().await;
    place.postgres.batch_execute("DELETE FROM gizer_stream").await.unwrap();
    place.insert("orders", [doc! { "_id": 100 }]).await;
    place.gizer(&["status"]).await.expect_code(0);
    let plan = place.gizer(&["plan"]).await.expect_code(0);
    assert!(plan.stdout.contains("its position in the oplog was lost"), "{plan:?}");
    assert_says(&place.gizer(&["sync"]).await, 3, &["position in the oplog was lost", "gizer load"]);
    assert_says(&place.gizer(&["verify"]).await, 3, &["gizer load"]);
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(rows(&place, "orders").await, 6);
    place.gizer(&["verify"]).await.expect_code(0);
}

#[tokio::test]
async fn s6_lost_state_of_collections_is_made_again() {
    let place = two_collections().await;
    for (n, lose) in (100..).zip([
        "TRUNCATE gizer_collection",
        "DROP TABLE gizer_collection",
        "DROP TABLE gizer_expected",
        "DROP TABLE gizer_collection, gizer_stream, gizer_expected, gizer_range, gizer_reject",
    ]) {
        place.insert("orders", [doc! { "_id": n, "text": "new", "list": [1] }]).await;
        place.postgres.batch_execute(lose).await.unwrap();
        place.gizer(&["status"]).await.expect_code(0);
        place.gizer(&["plan"]).await.expect_code(0);
        if lose.contains("gizer_collection") {
            assert_says(&place.gizer(&["sync"]).await, 3, &["gizer load"]);
            place.gizer(&["load"]).await.expect_code(0);
        }
        place.gizer(&["run"]).await.expect_code(0);
        assert_eq!(rows(&place, "orders").await, i64::from(n) - 100 + 6, "{lose}");
        place.gizer(&["verify"]).await.expect_code(0);
    }
}
