//! Tables that the classic tool has loaded: a resync takes them over, or leaves them as they are.

use bson::oid::ObjectId;
use bson::{Document, doc};
use integration_tests::rig::{Finished, Version, shared_mongod, shared_postgres};
use serde_json::{Value, json};

use super::{expect_nothing_left, number, resynced};
use crate::judge::{judge_against_fresh_load, judge_by_oracle};
use crate::world::World;

/// Everything by which tables of gizer are more than those of the classic tool: keys, marks, and the order of text.
const CLASSIC: &str = r#"
    DO $$
    DECLARE it record;
    BEGIN
        FOR it IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                  AND (relname LIKE 'gizer\_%' OR relname = 'qmetlstatus') LOOP
            EXECUTE format('DROP TABLE %I CASCADE', it.relname);
        END LOOP;
        FOR it IN SELECT conname, conrelid::regclass::text AS tab FROM pg_constraint
                  WHERE contype = 'p' AND connamespace = 'public'::regnamespace LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', it.tab, it.conname);
        END LOOP;
        FOR it IN SELECT attname, attrelid::regclass::text AS tab, attnotnull,
                         atttypid = 'text'::regtype AS is_text, col_description(attrelid, attnum) IS NOT NULL AS said
                  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND attnum > 0 AND NOT attisdropped
        LOOP
            EXECUTE format('COMMENT ON TABLE %s IS NULL', it.tab);
            IF it.said THEN EXECUTE format('COMMENT ON COLUMN %s.%I IS NULL', it.tab, it.attname); END IF;
            IF it.attnotnull THEN
                EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', it.tab, it.attname);
            END IF;
            IF it.is_text THEN
                EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE text COLLATE "default"', it.tab, it.attname);
            END IF;
        END LOOP;
    END $$;
    ALTER TABLE posts SET (autovacuum_enabled = false)"#;

/// Everything about the tables that a refused resync must leave as it is.
const AS_THEY_ARE: &str = "\
    SELECT c.relname::text AS name, obj_description(c.oid, 'pg_class') AS said, c.relkind::text AS kind, \
           (SELECT array_agg(format('%s %s %s %s', attname, format_type(atttypid, atttypmod), attnotnull, collname) \
                             ORDER BY attnum) \
            FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = attcollation \
            WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns \
    FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') \
    AND relname LIKE 'post%' ORDER BY 1";

/// The keys of all tables, with the collations of their columns.
const KEYS: &str = "\
    SELECT c.relname::text AS name, i.indisvalid AS valid, \
           (SELECT array_agg(format('%s %s', attname, coalesce(l.collname, '-')) ORDER BY k.at) \
            FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (num, at) \
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num \
            LEFT JOIN pg_collation l ON l.oid = a.attcollation) AS columns \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
    WHERE i.indisprimary AND c.relname IN ('posts', 'post_items', 'post_item_parts') ORDER BY 1";

fn id(n: u32) -> ObjectId {
    let mut bytes = [0x5a; 12];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

fn posts() -> Vec<Document> {
    let part = |n: u32| doc! { "code": format!("part {n}"), "weight": f64::from(n) };
    (0..50)
        .map(|n| {
            doc! {
                "_id": id(n), "title": format!("post {n}"), "n": n,
                "items": [{ "sku": "A", "parts": [part(n), part(n + 1)] }, { "sku": "B", "parts": [] }],
            }
        })
        .collect()
}

/// Loaded by the classic tool, and changed since in the source.
async fn world(version: Version) -> World<'static> {
    let world = World::new([shared_mongod(version).await.unwrap()], shared_postgres().await.unwrap()).await;
    world.mongo().collection::<Document>("posts").insert_many(posts()).await.unwrap();
    world.run(&["schema", "infer", "posts", "--classic"]).await.expect_code(0);
    world.run(&["load"]).await.expect_code(0);
    world.client().await.batch_execute(CLASSIC).await.unwrap();
    change(&world).await;
    world
}

async fn change(world: &World<'_>) {
    let posts = world.mongo().collection::<Document>("posts");
    posts.update_many(doc! { "n": { "$lt": 5 } }, doc! { "$set": { "title": "changed" } }).await.unwrap();
    posts.delete_one(doc! { "_id": id(7) }).await.unwrap();
    posts.insert_one(doc! { "_id": id(900), "title": "new", "items": [{ "sku": "new" }] }).await.unwrap();
    posts.update_one(doc! { "_id": id(9) }, doc! { "$set": { "items.0.parts": [] } }).await.unwrap();
}

#[tokio::test]
async fn tables_of_the_classic_tool_are_taken_over() {
    for version in [Version::V4_4] {
        let world = world(version).await;
        let told = world.run(&["resync"]).await.expect_code(2);
        assert!(told.stderr.contains("name the collection"), "{}", told.stderr);
        let oids = "SELECT 'posts'::regclass::oid::text AS posts, 'post_item_parts'::regclass::oid::text AS parts";
        let before = world.rows(oids).await;
        let report = resynced(&world, &["posts"]).await;
        assert_eq!(number(&report, 0, "different"), 6, "{report}");
        assert_eq!(number(&report, 0, "only_in_mongodb"), 1, "{report}");
        assert_eq!(number(&report, 0, "only_in_postgresql"), 1, "{report}");
        judge_by_oracle(&world, "posts").await.unwrap();
        assert_eq!(world.rows(oids).await, before);
        let keys = json!(world.rows(KEYS).await);
        assert_eq!(keys.as_array().unwrap().len(), 3, "{keys}");
        for key in keys.as_array().unwrap() {
            assert_eq!(key["valid"], true, "{keys}");
            assert_eq!(key["columns"][0].as_str().unwrap().split_once(' ').unwrap().1, "C", "{keys}");
        }
        let posts = world.mongo().collection::<Document>("posts");
        posts.update_many(doc! {}, doc! { "$push": { "items": { "sku": "late" } } }).await.unwrap();
        posts.delete_one(doc! { "_id": id(11) }).await.unwrap();
        world.sync().await;
        judge_by_oracle(&world, "posts").await.unwrap();
        world.run(&["verify"]).await.expect_code(0);
        judge_against_fresh_load(&world).await.unwrap();
        expect_nothing_left(&world).await;
        // What a load makes of them afterwards.
        world.run(&["load", "posts"]).await.expect_code(0);
        judge_by_oracle(&world, "posts").await.unwrap();
    }
}

/// Refused with these words and nothing done.
async fn refused(world: &World<'_>, why: &str) -> Finished {
    let shown = async || -> (Vec<Value>, Vec<Value>) {
        (world.rows(AS_THEY_ARE).await, world.rows("SELECT p FROM posts p ORDER BY to_jsonb(p)::text").await)
    };
    let before = shown().await;
    let refused = world.run(&["resync", "posts"]).await;
    assert_ne!(refused.code(), Some(0), "{why}: {refused:?}");
    assert!(refused.stderr.contains(why), "{why}: {}", refused.stderr);
    let after = shown().await;
    assert_eq!(after.0, before.0, "{why}: the tables are not as they were: {}", refused.stderr);
    assert_eq!(after.1, before.1, "{why}: the rows are not as they were: {}", refused.stderr);
    refused
}

#[tokio::test]
async fn tables_that_cannot_be_taken_over_are_left_alone() {
    let spoilt = [
        ("INSERT INTO posts SELECT * FROM posts LIMIT 1", "several rows of posts have one key"),
        // The last table: those before it are as they should be.
        (
            "INSERT INTO post_item_parts SELECT * FROM post_item_parts LIMIT 1",
            "several rows of post_item_parts have one key",
        ),
        ("INSERT INTO posts (title) VALUES ('of nobody')", "rows of posts have no key"),
        ("INSERT INTO post_items (sku) VALUES ('of nobody')", "rows of post_items have no key"),
        ("ALTER TABLE posts DROP COLUMN title", "column title"),
        ("ALTER TABLE post_item_parts DROP COLUMN weight", "column weight"),
        ("ALTER TABLE posts ALTER COLUMN n TYPE bigint", "column n"),
        ("DROP TABLE post_item_parts", "table post_item_parts is missing"),
        ("CREATE VIEW mine AS SELECT id_oid FROM posts", "a view of somebody's shows a text key"),
        ("ALTER TABLE posts ADD PRIMARY KEY (id_oid, n)", "posts has another primary key"),
    ];
    let world = world(Version::V6_0).await;
    for (spoil, why) in spoilt {
        let save = "CREATE SCHEMA IF NOT EXISTS kept; \
                    DROP TABLE IF EXISTS kept.posts, kept.post_items, kept.post_item_parts; \
                    CREATE TABLE kept.posts AS TABLE posts; CREATE TABLE kept.post_items AS TABLE post_items; \
                    CREATE TABLE kept.post_item_parts AS TABLE post_item_parts";
        world.client().await.batch_execute(save).await.unwrap();
        world.client().await.batch_execute(spoil).await.unwrap();
        let told = refused(&world, why).await;
        if spoil.contains("COLUMN") || spoil.contains("DROP") {
            assert!(told.stderr.contains("load"), "{}", told.stderr);
        }
        let back = "DROP TABLE IF EXISTS posts, post_items, post_item_parts CASCADE; \
                    ALTER TABLE kept.posts SET SCHEMA public; ALTER TABLE kept.post_items SET SCHEMA public; \
                    ALTER TABLE kept.post_item_parts SET SCHEMA public";
        world.client().await.batch_execute(back).await.unwrap();
    }
    resynced(&world, &["posts"]).await;
    judge_by_oracle(&world, "posts").await.unwrap();
    world.sync().await;
    expect_nothing_left(&world).await;
}

/// It dies while it makes keys: what is there by then is taken by the next one.
#[tokio::test]
async fn an_index_that_is_half_built_is_in_nobodys_way() {
    let world = world(Version::V5_0).await;
    let mut other = world.client().await;
    // An index that is built concurrently waits for all that may see rows of before.
    let reading = other.transaction().await.unwrap();
    reading.query("SELECT FROM posts LIMIT 1", &[]).await.unwrap();
    let begin = world.client().await;
    begin.batch_execute("BEGIN; LOCK TABLE post_items IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    let mut running = world.spawn(&["resync", "posts"]);
    let watch = world.client().await;
    let waits = "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'gizer'";
    integration_tests::rig::wait_until("the resync to wait", crate::world::LIMIT, async || {
        assert!(running.is_running().unwrap(), "{}", running.stderr());
        watch.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await
    .unwrap();
    running.kill().await.unwrap();
    reading.rollback().await.unwrap();
    begin.batch_execute("ROLLBACK").await.unwrap();
    change_again(&world).await;
    resynced(&world, &["posts"]).await;
    judge_by_oracle(&world, "posts").await.unwrap();
    world.sync().await;
    judge_by_oracle(&world, "posts").await.unwrap();
    let keys = world.rows(KEYS).await;
    assert_eq!(keys.len(), 3, "{keys:?}");
    let left = "SELECT relname::text AS name FROM pg_class WHERE relname LIKE 'gizer%new%'";
    assert_eq!(world.rows(left).await, Vec::<Value>::new());
}

async fn change_again(world: &World<'_>) {
    let posts = world.mongo().collection::<Document>("posts");
    posts.update_many(doc! { "n": { "$gt": 40 } }, doc! { "$unset": { "title": 1 } }).await.unwrap();
}
