//! What stands in the way is told before the first row is loaded.

use gizer_pg::load::{Origin, survey};
use gizer_pg::{ErrorKind, NameOwner, PgError, connect};
use integration_tests::rig::unique_name;

use crate::scene::{Scene, layout};

const POSTS: &str = r#"{"_id": {"oid": "STRING", "bsontype": "INT"}, "n": "INT", "d": "DOUBLE", "at": "TIMESTAMP",
    "l": [{"big": "BIGINT", "f": "BOOLEAN", "t": "TINYINT"}]}"#;

/// What the classic tool made of this schema, in another order and with `_extra`.
const CLASSIC: &str = "\
    CREATE TABLE posts (n INTEGER, id_oid TEXT, d FLOAT8, at TIMESTAMP WITH TIME ZONE, id_bsontype INTEGER, _extra JSONB); \
    CREATE TABLE post_l (big BIGINT, f BOOLEAN, idx BIGINT, posts_id_oid TEXT, t SMALLINT); \
    INSERT INTO posts (n) VALUES (7); CREATE INDEX ON posts (n)";

#[tokio::test]
async fn tables_of_the_classic_tool_are_taken_over() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.sql(CLASSIC).await;
    let found = survey(&scene.session().await, &posts).await.unwrap();
    let found: Vec<(&str, Origin)> = found.live.iter().map(|table| (table.name.as_str(), table.origin)).collect();
    assert_eq!(found, [("post_l", Origin::Classic), ("posts", Origin::Classic)]);
    scene.load(&posts, &[]).await.unwrap();
    assert_eq!(scene.text("SELECT count(*) FROM posts").await, "0");
    let found = survey(&scene.session().await, &posts).await.unwrap();
    assert!(found.live.iter().all(|table| table.origin == Origin::Gizer && table.in_layout), "{found:?}");
}

/// What the survey says once `sql` has run, after a load if so wished.
async fn refused(loaded: bool, sql: &str) -> PgError {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    if loaded {
        scene.load(&posts, &[]).await.unwrap();
    }
    scene.sql(sql).await;
    let session = scene.session().await;
    let error = survey(&session, &posts).await.map(drop).unwrap_err();
    let at_load = scene.load(&posts, &[]).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), at_load.to_string(), "a load is told the same");
    assert_eq!(scene.text("SELECT to_regclass('public.gizer_new_posts') IS NULL").await, "t", "nothing was begun");
    error
}

#[tokio::test]
async fn what_gizer_did_not_make_is_left_alone() {
    let cases = [
        ("CREATE TABLE posts (a INT)", "posts", "column at is missing"),
        (&CLASSIC.replace("n INTEGER", "n BIGINT"), "posts", "column n is bigint, expected integer"),
        (&CLASSIC.replace("t SMALLINT", "t SMALLINT, mine TEXT"), "post_l", "column mine is not expected"),
        ("CREATE VIEW post_l AS SELECT 1 AS a", "post_l", "found a view"),
        ("CREATE MATERIALIZED VIEW posts AS SELECT 1 AS a", "posts", "found a materialized view"),
        ("CREATE SEQUENCE posts", "posts", "found a sequence"),
        ("CREATE TABLE posts_pkey (a INT)", "posts_pkey", "a key of the collection posts needs this name"),
        ("CREATE TABLE x (a INT); CREATE INDEX post_l_pkey ON x (a)", "post_l_pkey", "an index of public.x has it"),
        ("CREATE TABLE gizer_new_posts (a INT)", "gizer_new_posts", "room for a staging table"),
        (
            "CREATE TABLE post_l (a INT); COMMENT ON TABLE post_l IS 'gizer: others.l[]'",
            "post_l",
            "a table of another collection",
        ),
        (
            "CREATE TABLE x (a INT); CREATE INDEX gizer_new_posts_pkey ON x (a)",
            "gizer_new_posts_pkey",
            "room for a staging",
        ),
    ];
    for (sql, name, why) in cases {
        let scene_error =
            if name.starts_with("gizer_new_posts") { refused_at_load(sql).await } else { refused(false, sql).await };
        let PgError::ForeignTable { table, why: came, .. } = &scene_error else { panic!("{sql}: {scene_error:?}") };
        assert!(table == name && came.contains(why), "{sql}: {scene_error}");
        assert!(scene_error.remedy().unwrap().contains(name), "{scene_error:?}");
    }
}

/// A staging table's name concerns loads only.
async fn refused_at_load(sql: &str) -> PgError {
    let scene = Scene::prepared().await;
    scene.sql(sql).await;
    scene.load(&layout("posts", POSTS), &[]).await.map(drop).unwrap_err()
}

/// A collection, the name that it cannot have, and whose it is.
async fn name_taken(scene: &Scene, collection: &str, name: &str, owner: NameOwner) {
    let wanted = layout(collection, r#"{"_id": "INT", "l": ["INT"]}"#);
    let error = survey(&scene.session().await, &wanted).await.map(drop).unwrap_err();
    let PgError::NameTaken { name: came, owner: of, .. } = &error else { panic!("{collection}: {error:?}") };
    assert_eq!((came.as_str(), of), (name, &owner), "{error}");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(collection), "{error}");
    assert!(!error.remedy().unwrap().contains("drop"), "{error:?}");
    let at_load = scene.load(&wanted, &[]).await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), at_load.to_string(), "a load is told the same");
}

#[tokio::test]
async fn names_of_gizers_own_are_not_to_be_had() {
    let scene = Scene::prepared().await;
    for name in
        ["qmetlstatus", "gizer_collection", "gizer_stream", "gizer_reject", "gizer_collection_pkey", "gizer_spool"]
    {
        name_taken(&scene, name, name, NameOwner::State).await;
    }
    name_taken(&scene, "gizer_new_posts", "gizer_new_posts", NameOwner::Staging).await;
    let array = layout("gizer", r#"{"_id": "INT", "new_posts": ["INT"]}"#);
    let error = survey(&scene.session().await, &array).await.map(drop).unwrap_err();
    assert!(matches!(&error, PgError::NameTaken { owner: NameOwner::Staging, .. }), "{error:?}");

    // An index on a state table is in nobody's way.
    scene.sql("CREATE INDEX mine ON gizer_reject (collection)").await;
    scene.load(&layout("posts", r#"{"_id": "INT"}"#), &[]).await.unwrap();
}

#[tokio::test]
async fn names_of_another_collection_are_not_to_be_had() {
    let scene = Scene::prepared().await;
    let simple = r#"{"_id": "INT"}"#;
    scene.load(&layout("post_l", simple), &[]).await.unwrap();
    let of = |collection: &str| NameOwner::Table { collection: collection.to_owned() };
    name_taken(&scene, "posts", "post_l", of("post_l")).await;
    let key = NameOwner::Index { collection: "post_l".to_owned() };
    name_taken(&scene, "post_l_pkey", "post_l_pkey", key).await;
    // The other way round: a key that would need the name of another collection's table.
    scene.load(&layout("authors_pkey", simple), &[]).await.unwrap();
    name_taken(&scene, "authors", "authors_pkey", of("authors_pkey")).await;
}

#[tokio::test]
async fn what_hangs_on_the_tables_is_named() {
    let cases = [
        ("CREATE MATERIALIZED VIEW mine AS SELECT idx FROM post_l", "post_l", "materialized view public.mine"),
        ("CREATE TABLE mine (a TEXT REFERENCES posts)", "posts", "constraint mine_a_fkey on table public.mine"),
        (
            "CREATE TABLE mine (a TEXT PRIMARY KEY); ALTER TABLE post_l ADD FOREIGN KEY (posts_id_oid) REFERENCES mine",
            "post_l",
            "constraint post_l_posts_id_oid_fkey on table public.post_l",
        ),
        ("CREATE TABLE mine () INHERITS (posts)", "posts", "table public.mine"),
        (
            "CREATE TRIGGER mine BEFORE UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "posts",
            "trigger mine on table public.posts",
        ),
        ("CREATE POLICY mine ON posts USING (true)", "posts", "policy mine on table public.posts"),
        ("ALTER TABLE posts ENABLE ROW LEVEL SECURITY", "posts", "row level security"),
        ("CREATE RULE mine AS ON DELETE TO posts DO INSTEAD NOTHING", "posts", "rule mine"),
        ("CREATE PUBLICATION mine FOR TABLE posts", "posts", "in publication mine"),
        ("ALTER TABLE post_l ADD mine TEXT; COMMENT ON COLUMN post_l.mine IS 'a note'", "post_l", "column mine"),
        ("ALTER TABLE posts ALTER n SET DEFAULT 7", "posts", "column n, which is integer DEFAULT 7"),
        ("ALTER TABLE posts ALTER n SET STATISTICS 500", "posts", "statistics target of column n"),
        ("CREATE STATISTICS mine ON n, d FROM posts", "posts", "extended statistics mine"),
        ("ALTER TABLE posts REPLICA IDENTITY FULL", "posts", "replica identity"),
        ("CLUSTER post_l USING post_l_pkey", "post_l", "CLUSTER mark on index post_l_pkey"),
        ("ALTER TABLE post_l SET UNLOGGED", "post_l", "that it is unlogged"),
        ("ALTER TABLE posts ADD twice INTEGER GENERATED ALWAYS AS (n * 2) STORED", "posts", "generated column twice"),
        (
            "CREATE INDEX mine ON posts (n); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass",
            "posts",
            "invalid index mine",
        ),
    ];
    for (sql, name, dependent) in cases {
        let error = refused(true, sql).await;
        let PgError::Dependents { table, dependents, .. } = &error else { panic!("{sql}: {error:?}") };
        assert!(table == name && dependents.iter().any(|d| d.contains(dependent)), "{sql}: {error}");
    }
}

#[tokio::test]
async fn what_comes_to_hang_on_the_tables_while_the_load_is_under_way_stops_the_swap() {
    use crate::scene::{followable, quick, request};
    use gizer_pg::load::{KeySettings, Load};

    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[]).await.unwrap();
    let session = scene.session().await;
    let load = Load::begin(&session, request(&posts, followable(1))).await.unwrap();
    load.build_keys(&[], KeySettings::default()).await.unwrap();
    scene.sql("CREATE MATERIALIZED VIEW mine AS SELECT n FROM posts").await;
    let error = load.swap(&quick(), &Default::default(), None).await.unwrap_err();
    assert!(matches!(&error, PgError::Dependents { .. }), "{error:?}");
    // Once it is gone the same load can be swapped in after all.
    scene.sql("DROP MATERIALIZED VIEW mine").await;
    load.swap(&quick(), &Default::default(), None).await.unwrap();
}

#[tokio::test]
async fn only_its_owner_may_replace_a_table() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[]).await.unwrap();
    let name = unique_name("loader");
    let target = scene.role(&name).await;
    scene
        .sql(&format!(
            "GRANT ALL ON SCHEMA public TO {name}; \
             GRANT ALL ON gizer_collection, gizer_stream, gizer_reject, qmetlstatus TO {name}"
        ))
        .await;
    let session = connect(&target).await.unwrap();
    let error = survey(&session, &posts).await.map(drop).unwrap_err();
    assert!(matches!(&error, PgError::NoRights { .. }), "{error:?}");
    assert!(
        error.remedy().unwrap().contains(&format!(r#"ALTER TABLE "public"."post_l" OWNER TO "{name}""#)),
        "{error}"
    );
}
