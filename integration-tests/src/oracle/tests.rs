//! The oracle finds every kind of difference: tables made by hand, with one fault at a time put in by hand.

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use futures::stream;
use tokio_postgres::Client;

use super::{Error, Oracle, Report};
use crate::rig::{shared_postgres, unique_name};

const SCHEMA_FILE: &str = r#"{
    "_id": {"oid": "STRING", "bsontype": "INT"}, "at": "TIMESTAMP", "n": "DOUBLE", "ok": "BOOLEAN", "grid": [["INT"]],
    "items": [{"sku": "STRING", "tags": ["STRING"]}]
}"#;

const TABLES: &str = r#"
    CREATE TABLE orders (at timestamptz, id_bsontype int, id_oid text, n float8, ok boolean);
    CREATE TABLE order_grid (grid jsonb, orders_id_oid text, idx bigint);
    CREATE TABLE order_items (orders_id_oid text, sku text, idx bigint);
    CREATE TABLE order_item_tags (orders_id_oid text, tags text, orders_items_idx bigint, idx bigint);
    INSERT INTO orders VALUES
        ('1969-12-31 23:59:59.999+00', 7, '010101010101010101010101', 1.5, NULL),
        (NULL, 7, '020202020202020202020202', '-0', false);
    INSERT INTO order_grid VALUES ('[{"$numberInt": "1"}]', '020202020202020202020202', 1);
    INSERT INTO order_items VALUES ('010101010101010101010101', 'a', 1), ('010101010101010101010101', NULL, 2);
    INSERT INTO order_item_tags VALUES
        ('010101010101010101010101', 'x', 1, 1), ('010101010101010101010101', 'y', 1, 2),
        ('010101010101010101010101', 'NULL', 2, 1);
"#;

fn documents() -> Vec<Document> {
    let id = |byte| ObjectId::from_bytes([byte; 12]);
    vec![
        doc! {
            "_id": id(1), "at": DateTime::from_millis(-1), "n": 1.5, "unknown": 1,
            "items": [{ "sku": "a", "tags": ["x", "y"] }, { "sku": 5, "tags": ["NULL"] }],
        },
        doc! { "_id": id(2), "n": -0.0, "ok": false, "items": [], "grid": [[1]] },
        doc! { "_id": "not an ObjectId", "n": 1.0 },
    ]
}

/// A schema of its own with the tables in it, to which `fault` was done.
async fn tables_with(client: &Client, fault: &str) -> Result<String, tokio_postgres::Error> {
    let schema = unique_name("oracle");
    let create = format!("CREATE SCHEMA {schema}; SET search_path TO {schema}; {TABLES}; {fault}");
    client.batch_execute(&create).await?;
    Ok(schema)
}

async fn judge(client: &mut Client, fault: &str, documents: Vec<Document>) -> Result<Report, Error> {
    let schema = tables_with(client, fault).await?;
    let documents = stream::iter(documents.into_iter().map(Ok));
    Oracle::new("orders", SCHEMA_FILE, &schema)?.compare(documents, client).await
}

async fn client() -> Client {
    let postgres = shared_postgres().await.unwrap();
    let database = postgres.create_database().await.unwrap();
    postgres.client(&database).await.unwrap()
}

#[tokio::test]
async fn equal_sides_are_found_equal() {
    let report = judge(&mut client().await, "", documents()).await.unwrap().expect_equal();
    assert_eq!((report.documents, report.rejected, report.expected_rows()), (3, 1, 8));
    let counts: Vec<_> = report.tables.iter().map(|t| (t.name.as_str(), t.expected, t.stored)).collect();
    // As the schema file names them.
    let expected = [("orders", 2, 2), ("order_grid", 1, 1), ("order_items", 2, 2), ("order_item_tags", 3, 3)];
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn every_kind_of_fault_is_found() {
    let cases: [(&str, &[&str]); 23] = [
        // A changed value.
        (
            "UPDATE order_items SET sku = 'a ' WHERE idx = 1",
            &[r#"order_items [orders_id_oid = "010101010101010101010101", idx = 1] sku: expected "a", stored "a ""#],
        ),
        ("UPDATE orders SET n = 1.5000000000000002 WHERE n = 1.5", &["n: expected 1.5, stored 1.5000000000000002"]),
        ("UPDATE orders SET n = 0 WHERE n = 0", &["n: expected -0.0, stored 0.0"]),
        ("UPDATE orders SET n = 'NaN' WHERE n = 0", &["n: expected -0.0, stored NaN"]),
        ("UPDATE orders SET at = at + interval '1 us'", &["at: expected -1000 µs since 1970, stored -999 µs"]),
        ("UPDATE orders SET id_bsontype = 2 WHERE n = 0", &["id_bsontype: expected 7, stored 2"]),
        (r#"UPDATE order_grid SET grid = '[{"$numberLong": "1"}]'"#, &["$numberInt"]),
        // NULL where there is a value, and the other way round.
        ("UPDATE orders SET ok = NULL", &["ok: expected false, stored NULL"]),
        ("UPDATE orders SET ok = false", &["ok: expected NULL, stored false"]),
        ("UPDATE order_item_tags SET tags = NULL WHERE tags = 'NULL'", &[r#"tags: expected "NULL", stored NULL"#]),
        // A row too few.
        ("DELETE FROM order_item_tags WHERE tags = 'y'", &["orders_items_idx = 1, idx = 2]: no such row"]),
        ("DELETE FROM orders WHERE n = 0", &[r#"orders [id_oid = "020202020202020202020202"]: no such row"#]),
        // A row too many: of a known document, of an unknown one, of none, and the same row twice.
        (
            "INSERT INTO order_items SELECT orders_id_oid, sku, 3 FROM order_items WHERE idx = 1",
            &[r#"order_items [orders_id_oid = "010101010101010101010101", idx = 3]: a row too many"#],
        ),
        ("INSERT INTO order_items VALUES ('0303', 'a', 1)", &[r#"[orders_id_oid = "0303", idx = 1]: a row too many"#]),
        ("INSERT INTO orders (ok) VALUES (true)", &["orders [id_oid = NULL]: a row too many"]),
        ("INSERT INTO orders SELECT * FROM orders WHERE n = 0", &[r#"202"]: a row too many"#]),
        // Positions: swapped, from 0, of another item.
        (
            "UPDATE order_item_tags SET idx = 3 - idx WHERE orders_items_idx = 1",
            &[r#"tags: expected "y", stored "x""#, r#"tags: expected "x", stored "y""#],
        ),
        ("UPDATE order_grid SET idx = idx - 1", &["idx = 0]: a row too many", "idx = 1]: no such row"]),
        (
            "UPDATE order_item_tags SET orders_items_idx = 2, idx = 2 WHERE tags = 'y'",
            &["orders_items_idx = 2, idx = 2]: a row too many", "orders_items_idx = 1, idx = 2]: no such row"],
        ),
        // Another document's row.
        (
            "UPDATE order_grid SET orders_id_oid = '010101010101010101010101'",
            &[r#"101", idx = 1]: a row too many"#, r#"202", idx = 1]: no such row"#],
        ),
        // Columns.
        ("ALTER TABLE orders ALTER n TYPE numeric", &["orders: expected columns at timestamp with time zone, id_"]),
        ("ALTER TABLE order_items DROP sku, ADD sku text", &["stored orders_id_oid text, idx bigint, sku text"]),
        ("DROP TABLE order_grid", &["order_grid: no such table"]),
    ];
    let mut client = client().await;
    for (fault, differences) in cases {
        let report = judge(&mut client, fault, documents()).await.unwrap();
        assert_eq!(report.difference_count, differences.len() as u64, "{fault}: {report}");
        for (difference, expected) in report.differences.iter().zip(differences) {
            assert!(difference.to_string().contains(expected), "{fault}: {report}");
        }
    }
}

#[tokio::test]
async fn a_changed_document_is_found_too() {
    let mut client = client().await;
    let report = judge(&mut client, "", Vec::new()).await.unwrap();
    assert_eq!(report.difference_count, 8, "all rows are too many: {report}");
    let report =
        judge(&mut client, "TRUNCATE orders, order_items, order_item_tags, order_grid", documents()).await.unwrap();
    assert_eq!(report.difference_count, 8, "all rows are missing: {report}");
    let mut without_sku = documents();
    without_sku[0].insert("items", vec![doc! { "tags": ["x", "y"] }, doc! { "tags": ["NULL"] }]);
    let report = judge(&mut client, "", without_sku).await.unwrap();
    assert_eq!(report.differences.len(), 1, "{report}");
}

#[tokio::test]
async fn two_documents_with_one_key_are_refused() {
    let mut client = client().await;
    for between in [0, 1_500] {
        let others = (0..between).map(|number| {
            let mut bytes = [9; 12];
            bytes[..4].copy_from_slice(&u32::to_be_bytes(number));
            doc! { "_id": ObjectId::from_bytes(bytes) }
        });
        let twice = [vec![documents().swap_remove(0)], others.collect(), documents()].concat();
        let refused = judge(&mut client, "", twice).await;
        assert!(
            matches!(refused, Err(Error::SameKey { ref key, .. }) if key == "010101010101010101010101"),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn more_documents_than_fit_a_chunk_are_all_compared() {
    let many: Vec<Document> = (0..2_500).map(|number| doc! { "_id": number, "a": vec![number; 3] }).collect();
    let mut client = client().await;
    let schema = unique_name("oracle");
    let create = format!(
        "CREATE SCHEMA {schema}; SET search_path TO {schema};
         CREATE TABLE n (id int); CREATE TABLE n_a (a int, n_id int, idx bigint);
         INSERT INTO n SELECT generate_series(0, 2499);
         INSERT INTO n_a SELECT id, id, i FROM n, generate_series(1, 3) i"
    );
    client.batch_execute(&create).await.unwrap();
    let oracle = Oracle::new("n", r#"{"_id": "INT", "a": ["INT"]}"#, &schema).unwrap();
    let documents = || stream::iter(many.clone().into_iter().map(Ok));
    let report = oracle.compare(documents(), &mut client).await.unwrap().expect_equal();
    assert_eq!((report.documents, report.expected_rows()), (2_500, 10_000));

    client.batch_execute("DELETE FROM n_a WHERE n_id % 100 = 7; UPDATE n SET id = -1 WHERE id = 2499").await.unwrap();
    let report = oracle.compare(documents(), &mut client).await.unwrap();
    assert_eq!(report.difference_count, 25 * 3 + 2, "{report}");
}
