//! What people have added to live tables outlives a load, or is named before it.

use bson::doc;
use gizer_pg::PgError;
use gizer_pg::load::{KeySettings, Load, RangeSink, survey};
use gizer_pg::state::Ledger;

use crate::scene::{Scene, encode, followable, layout, quick, request};

const POSTS: &str = r#"{"_id": "INT", "n": "INT", "title": "STRING", "l": [{"g": "INT"}]}"#;

/// Indexes and constraints of the live tables, with their comments.
const SHAPE: &str = "\
    SELECT indexdef || coalesce(' -- ' || obj_description(format('%I.%I', schemaname, indexname)::regclass), '') \
    FROM pg_indexes WHERE tablename IN ('posts', 'post_l') \
    UNION ALL \
    SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint')) \
    FROM pg_constraint WHERE conrelid IN ('posts'::regclass, 'post_l'::regclass) \
    UNION ALL SELECT 'left behind ' || relname FROM pg_class WHERE relname LIKE 'gizer\\_new\\_%' ORDER BY 1";

#[tokio::test]
async fn indexes_and_constraints_are_there_after_a_load() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    let documents = |from: i32| (from..from + 3).map(|id| doc! {"_id": id, "n": id, "title": "T", "l": [{"g": 1}]});
    scene.load(&posts, &documents(1).collect::<Vec<_>>()).await.unwrap();
    let long = "x".repeat(63);
    scene
        .sql(&format!(
            "CREATE INDEX ON posts (n); \
             CREATE UNIQUE INDEX \"odd \"\" ON name\" ON posts (n DESC NULLS LAST) INCLUDE (title) WITH (fillfactor = 70) \
                 WHERE n > 0 AND title <> ' ON public.posts '; \
             COMMENT ON INDEX \"odd \"\" ON name\" IS 'it''s mine'; \
             CREATE INDEX {long} ON post_l USING hash (abs(g)); \
             CREATE INDEX post_l_lower ON posts (lower(title) text_pattern_ops, n); \
             ALTER TABLE posts ADD CONSTRAINT one_n UNIQUE (n) DEFERRABLE; \
             COMMENT ON CONSTRAINT one_n ON posts IS 'once'; \
             ALTER TABLE posts ADD CHECK (n < 100); ALTER TABLE post_l ADD CONSTRAINT posts_n_check CHECK (g > 0) NOT VALID; \
             ALTER TABLE posts ADD EXCLUDE USING btree (title WITH =) WHERE (n < 0)"
        ))
        .await;
    let before = scene.texts(SHAPE).await;
    assert_eq!(before.len(), 8 + 6, "{before:#?}");
    let carried = survey(&scene.session().await, &posts).await.unwrap().carried_over();
    assert!(carried.contains(&"unique index odd \" ON name".to_owned()) && carried.len() == 8, "{carried:?}");
    for from in [10, 20] {
        scene.load(&posts, &documents(from).collect::<Vec<_>>()).await.unwrap();
        assert_eq!(scene.texts(SHAPE).await, before);
        assert_eq!(scene.text("SELECT min(id) FROM posts").await, from.to_string());
    }
    let error = scene.client().await.batch_execute("INSERT INTO posts (id, n) VALUES (77, 20)").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "23505", "they are at work");
}

#[tokio::test]
async fn indexes_on_tables_of_the_classic_tool_are_there_after_a_load() {
    let scene = Scene::prepared().await;
    scene
        .sql(
            "CREATE TABLE posts (id INTEGER PRIMARY KEY, n INTEGER, title TEXT); CREATE INDEX mine ON posts (n); \
             COMMENT ON COLUMN posts.n IS 'how many'; CREATE TABLE post_l (posts_id INTEGER, idx BIGINT, g INTEGER)",
        )
        .await;
    scene.load(&layout("posts", POSTS), &[]).await.unwrap();
    let indexes = scene.texts("SELECT indexname FROM pg_indexes WHERE tablename = 'posts' ORDER BY 1").await;
    assert_eq!(indexes, ["mine", "posts_pkey"], "the primary key is gizer's own");
    assert_eq!(scene.text("SELECT col_description('posts'::regclass, 2)").await, "how many");
}

#[tokio::test]
async fn what_the_new_tables_have_no_room_for_is_refused_by_name() {
    let cases = [
        ("CREATE INDEX mine ON posts (n, title)", "posts", "index mine, whose column n is no longer in the schema"),
        ("CREATE INDEX mine ON posts ((n + 1))", "posts", "index mine, whose column n is no longer"),
        ("CREATE INDEX mine ON posts (title) WHERE n > 0", "posts", "index mine, whose column n is no longer"),
        (
            "ALTER TABLE posts ADD CONSTRAINT mine CHECK (n > 0)",
            "posts",
            "constraint mine, whose column n is no longer",
        ),
        ("ALTER TABLE posts ADD CONSTRAINT mine UNIQUE (n)", "posts", "constraint mine, whose column n is no longer"),
        ("CREATE INDEX mine ON post_l (g)", "post_l", "index mine, whose table is no longer in the schema"),
        ("ALTER TABLE post_l ADD mine INT", "post_l", "column mine"),
        ("CREATE INDEX post_m_pkey ON posts (title)", "posts", "index post_m_pkey, whose name a key of gizer needs"),
    ];
    for (sql, name, why) in cases {
        let scene = Scene::new().await;
        scene.load(&layout("posts", POSTS), &[]).await.unwrap();
        scene.sql(sql).await;
        let next = layout("posts", r#"{"_id": "INT", "title": "STRING", "m": ["INT"]}"#);
        let error = scene.load(&next, &[]).await.map(drop).unwrap_err();
        let PgError::Dependents { table, dependents, .. } = &error else { panic!("{sql}: {error:?}") };
        assert!(table == name && dependents.iter().any(|each| each.contains(why)), "{sql}: {error}");
        assert_eq!(scene.text("SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer\\_new\\_%'").await, "0");
    }
}

#[tokio::test]
async fn an_index_that_does_not_fit_the_new_columns_is_refused_before_the_load() {
    let scene = Scene::new().await;
    scene.load(&layout("posts", POSTS), &[]).await.unwrap();
    scene.sql("CREATE INDEX mine ON posts (lower(title))").await;
    let next = layout("posts", r#"{"_id": "INT", "title": "INT"}"#);
    let session = scene.session().await;
    let error = Load::begin(&session, request(&next, followable(1))).await.map(drop).unwrap_err();
    assert!(matches!(&error, PgError::NotCarriedOver { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("index mine of public.posts cannot be made") && message.contains("lower"), "{message}");
    assert!(error.remedy().unwrap().contains("drop it"), "{error:?}");
}

#[tokio::test]
async fn rows_that_break_a_unique_index_stop_the_load_and_name_it() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[doc! {"_id": 1, "n": 1}]).await.unwrap();
    scene.sql("CREATE UNIQUE INDEX mine ON posts (n)").await;
    let error = scene.load(&posts, &[doc! {"_id": 2, "n": 4711}, doc! {"_id": 3, "n": 4711}]).await.unwrap_err();
    let PgError::NotCarriedOver { object, .. } = &error else { panic!("{error:?}") };
    assert_eq!((object.as_str(), error.sqlstate()), ("unique index mine", Some("23505")));
    assert!(!format!("{error} {error:?}").contains("4711"), "{error:?}");
    assert_eq!(scene.texts("SELECT id FROM posts").await, ["1"], "the live tables are as they were");
}

#[tokio::test]
async fn comments_and_storage_parameters_stay() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[]).await.unwrap();
    scene
        .sql(
            "ALTER TABLE posts SET (fillfactor = 80, autovacuum_enabled = false, toast.autovacuum_enabled = false); \
             COMMENT ON TABLE posts IS 'mine'; COMMENT ON COLUMN posts.n IS 'it''s how many'; COMMENT ON COLUMN post_l.g IS NULL",
        )
        .await;
    let shape = "SELECT concat_ws(' ', c.reloptions::text, t.reloptions::text, \
                     (SELECT string_agg(col_description(c.oid, a), ', ') FROM generate_series(1, 3) AS a)) \
                 FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid \
                 WHERE c.relname IN ('posts', 'post_l') ORDER BY c.relname DESC";
    for _ in 0..2 {
        scene.load(&posts, &[]).await.unwrap();
        let expected = [
            "{fillfactor=80,autovacuum_enabled=false} {autovacuum_enabled=false} _id, it's how many, title",
            // A comment that was taken away is gizer's again.
            "l[].g, _id, position in l[]",
        ];
        assert_eq!(scene.texts(shape).await, expected);
    }
}

#[tokio::test]
async fn indexes_that_come_and_go_during_a_load() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[]).await.unwrap();
    scene.sql("CREATE INDEX going ON posts (n); ALTER TABLE post_l ADD CONSTRAINT going CHECK (g > 0)").await;
    let session = scene.session().await;
    let load = Load::begin(&session, request(&posts, followable(1))).await.unwrap();
    let mut sink = load.sink(scene.session().await).unwrap();
    sink.write(encode(&posts, &[doc! {"_id": 1, "n": 1}])).await.unwrap();
    scene.sql("CREATE INDEX during_the_fill ON posts (title)").await;
    load.build_keys(&[], KeySettings::default()).await.unwrap();
    scene.sql("DROP INDEX going; ALTER TABLE post_l DROP CONSTRAINT going; CREATE INDEX late ON posts (title)").await;
    let error = load.swap(&quick(), &Ledger::default(), None).await.unwrap_err();
    let PgError::Dependents { dependents, .. } = &error else { panic!("{error:?}") };
    assert_eq!(dependents, &["index late, which was made or changed while the load was running"]);
    scene.sql("DROP INDEX late").await;
    load.swap(&quick(), &Ledger::default(), None).await.unwrap();
    let names = "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND tablename LIKE 'post%' \
                 UNION ALL SELECT conname FROM pg_constraint WHERE conname = 'going' ORDER BY 1";
    assert_eq!(scene.texts(names).await, ["during_the_fill", "post_l_pkey", "posts_pkey"]);
}

#[tokio::test]
async fn keys_that_an_older_version_made_are_known_as_such() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[]).await.unwrap();
    scene
        .sql(
            "COMMENT ON INDEX posts_pkey IS NULL; COMMENT ON INDEX post_l_pkey IS NULL; \
             UPDATE gizer_collection SET as_left = NULL",
        )
        .await;
    assert_eq!(survey(&scene.session().await, &posts).await.unwrap().carried_over(), [""; 0]);
    // Another key takes its place, and the columns of the old one are gone.
    scene.load(&layout("posts", r#"{"_id": {"oid": "STRING", "bsontype": "INT"}}"#), &[]).await.unwrap();
}
