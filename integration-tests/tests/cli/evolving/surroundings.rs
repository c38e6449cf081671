//! What people have made around the tables is there afterwards.

use bson::{Document, doc};
use integration_tests::rig::{Gizer, unique_name};
use serde_json::Value;

use super::{grown_by, is_equal, versions};
use crate::place::Place;

fn grown(n: i32) -> Document {
    doc! { "_id": n, "name": "new", "coupon": "c", "tags": ["x"], "items": [{ "sku": "b", "price": n, "serials": ["s"] }] }
}

/// Views, indexes, constraints, grants and comments, without those of new columns and tables.
async fn surroundings(place: &Place) -> Vec<Value> {
    let sql = "SELECT c.relname, c.relkind, pg_get_userbyid(c.relowner) AS owner, c.relacl::text, obj_description(c.oid) AS comment, \
                   c.reloptions, pg_get_viewdef(c.oid) AS view, \
                   (SELECT jsonb_agg(pg_get_indexdef(indexrelid) ORDER BY 1) FROM pg_index WHERE indrelid = c.oid) AS indexes, \
                   (SELECT jsonb_agg(pg_get_constraintdef(k.oid) ORDER BY conname) FROM pg_constraint k WHERE conrelid = c.oid) AS constraints, \
                   (SELECT jsonb_agg(jsonb_build_array(attname, attacl::text, attstattarget, col_description(c.oid, attnum)) ORDER BY attnum) \
                    FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND attname IN ('id', 'name', 'sku', 'idx')) AS columns \
               FROM pg_class c WHERE c.relkind IN ('r', 'v') AND c.relname IN ('orders', 'order_items', 'names', 'skus') ORDER BY 1";
    place.rows(sql).await
}

#[tokio::test]
async fn what_people_made_survives_and_new_tables_are_like_the_root() {
    let place = grown_by((100..120).map(grown)).await;
    let (owner, reader, column_reader) = (unique_name("owner"), unique_name("reader"), unique_name("column_reader"));
    let sql = format!(
        "CREATE ROLE {owner}; CREATE ROLE {reader}; CREATE ROLE {column_reader}; GRANT ALL ON SCHEMA public TO {owner}; \
         CREATE VIEW names AS SELECT * FROM orders; CREATE VIEW skus AS SELECT i.sku, n.name FROM order_items i JOIN names n ON n.id = i.orders_id; \
         CREATE INDEX by_name ON orders (name) WHERE name <> ''; CREATE INDEX by_extra ON orders USING gin (_extra); \
         ALTER TABLE orders ADD CONSTRAINT named CHECK (name <> 'nobody'); ALTER TABLE orders ALTER name SET STATISTICS 7; \
         COMMENT ON TABLE orders IS 'it''s mine'; COMMENT ON COLUMN orders.name IS 'who'; COMMENT ON VIEW names IS 'all'; \
         ALTER TABLE orders OWNER TO {owner}; ALTER TABLE order_items OWNER TO {owner}; \
         GRANT SELECT ON orders, order_items, names TO {reader}; GRANT SELECT (name) ON orders TO {column_reader}"
    );
    place.postgres.batch_execute(&sql).await.unwrap();
    let before = surroundings(&place).await;
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    assert_eq!(surroundings(&place).await, before);
    assert_eq!(place.number("SELECT count(*) FROM skus").await, 50);
    let like_root = format!(
        "SELECT count(*) FROM pg_class WHERE relname IN ('order_tags', 'order_item_serials') AND relkind = 'r' \
         AND pg_get_userbyid(relowner) = '{owner}' AND has_table_privilege('{reader}', oid, 'SELECT') \
         AND NOT has_table_privilege('{reader}', oid, 'INSERT') AND NOT has_any_column_privilege('{column_reader}', oid, 'SELECT')"
    );
    assert_eq!(place.number(&like_root).await, 2);
    is_equal(&place).await;
}

/// As docs/security.md has it: the role owns the tables that it makes, and nothing else.
#[tokio::test]
async fn the_rights_of_a_load_are_enough() {
    let place = Place::shared(integration_tests::rig::Version::V6_0).await;
    let role = unique_name("gizer");
    let database = place.rows("SELECT current_database() AS name").await[0]["name"].as_str().unwrap().to_owned();
    let sql = format!(
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC; \
         CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}; \
         CREATE SCHEMA shop; GRANT USAGE, CREATE ON SCHEMA shop TO {role}"
    );
    place.postgres.batch_execute(&sql).await.unwrap();
    let postgres = integration_tests::rig::shared_postgres().await.unwrap();
    let mongod = integration_tests::rig::shared_mongod(integration_tests::rig::Version::V6_0).await.unwrap();
    let gizer = Gizer::new(&mongod.uri(), place.mongo.name(), &postgres.uri_as(&role, "p", &database), "shop").unwrap();
    let place = Place { gizer, ..place };
    place.insert("orders", (0..30).map(|n| doc! { "_id": n, "name": "old", "items": [{ "sku": "a" }] })).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    place.insert("orders", (100..120).map(grown)).await;
    place.gizer(&["sync"]).await.expect_code(0);
    place.gizer(&["schema", "evolve"]).await.expect_code(0);
    place.postgres.batch_execute("SET search_path = shop").await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM order_tags").await, 20);
    assert_eq!(versions(&place).await.len(), 1);
    is_equal(&place).await;
}
