//! Copies under a prefix, and of a part: beside the tables that are followed, which they leave alone.

use std::ffi::OsString;

use bson::doc;
use integration_tests::rig::{Mongod, Version, shared_mongod, shared_postgres};
use serde_json::{Value, json};

use super::interruptions::{ORDERS, held_with, loaded_once};
use super::place::{Place, assert_says, numbered};

/// Two collections that are loaded and could be followed.
async fn followed() -> Place {
    let place = Place::shared(Version::V6_0).await;
    for collection in ["orders", "posts"] {
        place.insert(collection, numbered(5)).await;
    }
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    place
}

/// Everything that tells whether the tables of the collections themselves, or what is known of them, have changed.
async fn of_the_followed(place: &Place) -> Vec<Value> {
    let sql = "\
        SELECT to_jsonb(c) AS one FROM gizer_collection c WHERE position('$' IN collection) = 0 \
        UNION ALL SELECT to_jsonb(position) FROM gizer_stream \
        UNION ALL SELECT jsonb_build_array(relname, oid::bigint, obj_description(oid)) FROM pg_class \
                  WHERE relkind = 'r' AND relname IN ('orders', 'order_list', 'posts', 'post_list') \
        UNION ALL SELECT to_jsonb(o) FROM orders o ORDER BY 1";
    place.rows(sql).await
}

fn spool(place: &Place) -> Vec<(OsString, Vec<u8>)> {
    let files = std::fs::read_dir(place.gizer.folder().join("spool")).unwrap();
    files.map(|file| file.unwrap()).map(|file| (file.file_name(), std::fs::read(file.path()).unwrap())).collect()
}

/// What is known of a copy.
async fn copy(place: &Place, collection: &str) -> Value {
    let sql = format!(
        "SELECT state, live, captured, reason, array_to_string(tables, ' ') AS tables FROM gizer_collection \
         WHERE collection = '{collection}'"
    );
    place.rows(&sql).await.pop().unwrap_or_default()
}

/// Tables that a load has made for a while only.
const IN_BETWEEN: &str = "SELECT count(*) FROM pg_class WHERE relname ~ '^gizer_(new|old)'";

#[tokio::test]
async fn a_copy_beside_followed_tables_leaves_them_alone() {
    let place = followed().await;
    let (before, spooled) = (of_the_followed(&place).await, spool(&place));
    place.insert("orders", [doc! {"_id": 77}]).await;
    place.gizer(&["load", "--prefix", "new_"]).await.expect_code(0);
    let joined = "SELECT count(*) FROM new_orders o JOIN new_order_list l ON l.orders_id = o.id";
    assert_eq!(place.number(joined).await, 10);
    assert_eq!(place.number("SELECT count(*) FROM new_orders").await, 6);
    assert_eq!(place.number("SELECT count(*) FROM new_posts").await, 5);
    let reason = "it was loaded with --prefix, next to the tables that are followed";
    let tables = "new_orders new_order_list";
    let expected = json!({"state": "copy", "live": true, "captured": null, "reason": reason, "tables": tables});
    assert_eq!(copy(&place, "new_$orders").await, expected);
    assert_eq!(of_the_followed(&place).await, before);
    assert_eq!(spool(&place), spooled, "nobody needs the log of a copy");

    let status = place.gizer(&["status"]).await.expect_code(0).stdout;
    let lines: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    for expected in [["new_$orders", "copy", "new_orders"], ["orders", "following", "orders"]] {
        assert!(lines.iter().any(|line| line.starts_with(&expected)), "{expected:?} is not in:\n{status}");
    }
    assert!(status.contains(&format!("new_$orders: {reason}\n")), "{status}");
    let one = place.gizer(&["status", "new_$orders", "--format", "json"]).await.expect_code(0);
    let one: Value = serde_json::from_str(&one.stdout).unwrap();
    assert_eq!(one["collections"].as_array().unwrap().len(), 1);
    assert_eq!((&one["collections"][0]["state"], &one["collections"][0]["reason"]), (&json!("copy"), &json!(reason)));
}

#[tokio::test]
async fn a_copy_that_is_loaded_again_is_swapped() {
    let place = followed().await;
    place.gizer(&["load", "--prefix", "new_"]).await.expect_code(0);
    place.postgres.batch_execute("CREATE VIEW mine AS SELECT count(*) AS orders FROM new_orders").await.unwrap();
    let before = of_the_followed(&place).await;
    let oid = "SELECT 'new_orders'::regclass::oid::bigint";
    let first = place.number(oid).await;
    place.insert("orders", [doc! {"_id": 77}]).await;
    place.gizer(&["load", "--prefix", "new_", "--together"]).await.expect_code(0);
    assert_ne!(place.number(oid).await, first);
    assert_eq!(place.number("SELECT orders FROM mine").await, 6);
    assert_eq!(place.number(IN_BETWEEN).await, 0);
    assert_eq!(of_the_followed(&place).await, before);
}

#[tokio::test]
async fn a_copy_that_is_killed_goes_on_whatever_the_followed_tables_do() {
    let place = loaded_once(shared_mongod(Version::V5_0).await.unwrap(), shared_postgres().await.unwrap()).await;
    let (running, holder) = held_with(&place, &["--prefix", "new_"]).await;
    running.kill().await.unwrap();
    drop(holder);
    assert_eq!(place.number("SELECT count(*) FROM orders").await, 1);
    place.gizer(&["load"]).await.expect_code(0);
    let followed = "SELECT to_jsonb(c) AS one FROM gizer_collection c WHERE collection = 'orders'";
    let before = place.rows(followed).await;

    let finished = place.gizer(&["load", "--prefix", "new_"]).await.expect_code(0);
    assert!(finished.stderr.contains("orders: resuming after"), "{}", finished.stderr);
    for table in ["new_orders", "orders"] {
        let count = place.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(count, i64::try_from(ORDERS).unwrap(), "{table}");
    }
    assert_eq!(copy(&place, "new_$orders").await["state"], "copy");
    assert_eq!(place.rows(followed).await, before);
    assert_eq!(place.number(IN_BETWEEN).await, 0);
}

#[tokio::test]
async fn a_part_under_a_prefix() {
    let place = followed().await;
    let before = of_the_followed(&place).await;
    let part = |filter: &'static str| ["load", "orders", "--prefix", "few ", "--filter", filter];
    place.gizer(&part(r#"{"_id": {"$lt": 2}}"#)).await.expect_code(0);
    let ids = r#"SELECT string_agg(id::text, ' ' ORDER BY id) AS ids FROM "few orders""#;
    assert_eq!(place.rows(ids).await, [json!({"ids": "0 1"})]);
    let reason = copy(&place, "few $orders").await["reason"].take();
    assert!(reason.as_str().unwrap().contains("--filter"), "{reason}");

    // One that did not come to its end is of no use to the load of another part.
    place.insert("orders", [doc! {"_id": "unfit"}]).await;
    assert_says(&place.gizer(&part(r#"{"text": {"$ne": "number 0"}}"#)).await, 1, &["documents of orders rejected"]);
    assert_eq!(place.rows(ids).await, [json!({"ids": "0 1"})]);
    let other = place.gizer(&part(r#"{"_id": {"$gt": 2}}"#)).await.expect_code(0);
    assert!(
        other.stderr.contains("what is to be loaded") && other.stderr.contains("starting over"),
        "{}",
        other.stderr
    );
    assert_eq!(place.rows(ids).await, [json!({"ids": "3 4"})]);
    assert_eq!(of_the_followed(&place).await, before);
}

#[tokio::test]
async fn a_standalone_server_can_be_copied() {
    let mongod = Mongod::builder(Version::V4_4).standalone().start().await.unwrap();
    let place = Place::on(&mongod, shared_postgres().await.unwrap()).await;
    place.insert("posts", numbered(5)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    assert_says(&place.gizer(&["load"]).await, 1, &["standalone", "--replSet"]);
    for (args, collection, documents) in
        [(["load", "--prefix", "new_"], "new_$posts", 5), (["load", "--filter", r#"{"_id": {"$lt": 2}}"#], "posts", 2)]
    {
        place.gizer(&args).await.expect_code(0);
        assert_eq!(copy(&place, collection).await["state"], "copy");
        let table = collection.replace('$', "");
        assert_eq!(place.number(&format!("SELECT count(*) FROM {table}")).await, documents);
    }
    assert!(!place.gizer.folder().join("spool").exists());
}

#[tokio::test]
async fn a_prefix_that_does_not_fit_is_told() {
    let place = followed().await;
    let before = of_the_followed(&place).await;
    // Just long enough for `posts`, but not for its list.
    let long = "x".repeat(63 - "posts".len());
    let said = place.gizer(&["load", "posts", "--prefix", &long]).await;
    assert_says(&said, 2, &[&format!("{long}post_list"), "67 bytes: expected at most 63", "choose a shorter prefix"]);
    assert_says(&place.gizer(&["load", "--prefix", ""]).await, 2, &["the prefix \"\"", "choose a prefix"]);
    let names = "SELECT count(*) FROM gizer_collection WHERE position('$' IN collection) > 0";
    assert_eq!(place.number(names).await, 0);

    // One collection that cannot have it does not keep the other from it.
    place.insert("a_collection_of_a_longer_name", [doc! {"_id": 1}]).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    let long = "x".repeat(63 - "order_list".len());
    let said = place.gizer(&["load", "--prefix", &long, "a_collection_of_a_longer_name", "orders"]).await;
    assert_says(&said, 2, &["gizer: a_collection_of_a_longer_name: with its prefix", "choose a shorter prefix"]);
    assert_eq!(place.number(&format!("SELECT count(*) FROM {long}orders")).await, 5);
    assert_eq!(of_the_followed(&place).await, before);
}

/// Neither the tables of other collections nor gizer's own.
#[tokio::test]
async fn a_prefix_takes_no_table_from_others() {
    let place = followed().await;
    for name in ["new_orders", "collection"] {
        place.insert(name, [doc! {"_id": 1}]).await;
    }
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load", "new_orders"]).await.expect_code(0);
    let before = of_the_followed(&place).await;
    for (prefix, collection, taken) in [
        ("new_", "orders", "that of a table of the collection new_orders"),
        ("gizer_", "collection", "kept for gizer's own state"),
        ("gizer_new_", "orders", "kept for tables that are being loaded"),
    ] {
        let said = place.gizer(&["load", collection, "--prefix", prefix]).await;
        assert_says(&said, 2, &[&format!("gizer: {collection}: "), taken, "choose another prefix"]);
    }
    place.postgres.batch_execute("CREATE TABLE theirs_orders (x INT)").await.unwrap();
    let said = place.gizer(&["load", "orders", "--prefix", "theirs_"]).await;
    assert_says(&said, 1, &["theirs_orders", "choose another prefix"]);
    assert_eq!(place.number("SELECT count(*) FROM theirs_orders").await, 0);
    assert_eq!(of_the_followed(&place).await, before);
    assert_eq!(place.number("SELECT count(*) FROM new_orders").await, 1);
}
