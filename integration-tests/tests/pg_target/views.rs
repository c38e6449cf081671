//! Views on live tables are there after a load as they were before, or it is said beforehand why they cannot be.

use bson::doc;
use gizer_pg::load::{KeySettings, Load, RangeSink, SwapSettings, survey};
use gizer_pg::state::Ledger;
use gizer_pg::{PgError, connect};
use gizer_schema::Layout;
use integration_tests::rig::{unique_name, wait_until};

use crate::scene::{LIMIT, Scene, encode, followable, layout, quick, request};

const POSTS: &str = r#"{"_id": "INT", "n": "INT", "title": "STRING", "l": [{"g": "INT"}]}"#;

/// Everything that is known of the views of a database, in the order of their names.
const SHAPE: &str = "\
    SELECT concat_ws(' | ', c.oid::regclass, pg_get_userbyid(c.relowner), c.reloptions, pg_get_viewdef(c.oid), \
               (SELECT string_agg(acl::text, ' ' ORDER BY acl::text) FROM unnest(coalesce(c.relacl, acldefault('r', c.relowner))) AS acl), obj_description(c.oid), \
               (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation, \
                    a.attacl, pg_get_expr(def.adbin, def.adrelid), col_description(c.oid, a.attnum)), ', ' ORDER BY a.attnum) \
                FROM pg_attribute a LEFT JOIN pg_attrdef def ON def.adrelid = a.attrelid AND def.adnum = a.attnum \
                WHERE a.attrelid = c.oid AND a.attnum > 0)) \
    FROM pg_class c WHERE c.relkind = 'v' AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema') \
    ORDER BY 1";

/// A database with posts in it, on which `sql` has been run.
async fn scene_with(posts: &Layout, sql: &str) -> Scene {
    let scene = Scene::prepared().await;
    scene.load(posts, &[doc! {"_id": 1, "n": 1, "title": "one", "l": [{"g": 1}]}]).await.unwrap();
    scene.sql(sql).await;
    scene
}

#[tokio::test]
async fn views_are_there_after_a_load_with_all_that_belongs_to_them() {
    let posts = layout("posts", POSTS);
    let (owner, reader, shut_out) = (unique_name("owner"), unique_name("reader"), unique_name("shut_out"));
    let scene = scene_with(
        &posts,
        &format!(
            "CREATE ROLE {owner}; CREATE ROLE {reader}; CREATE ROLE {shut_out}; GRANT ALL ON SCHEMA public TO {owner}; \
             CREATE SCHEMA \"Re.ports\"; GRANT ALL ON SCHEMA \"Re.ports\" TO {owner}; \
             CREATE TABLE \"Re.ports\".other (n INT, label TEXT); INSERT INTO \"Re.ports\".other VALUES (1, 'x'); \
             GRANT SELECT ON \"Re.ports\".other TO {owner}; \
             CREATE SEQUENCE \"Re.ports\".numbers; \
             CREATE VIEW mine AS SELECT * FROM posts; \
             CREATE VIEW \"Re.ports\".\"odd \"\" view. It's\" (\"Id\", \"a \"\" b\", \"c.d\") WITH (security_barrier) AS \
                 SELECT m.id, m.title, o.label || E' \\\\ it''s' FROM mine m JOIN \"Re.ports\".other o USING (n); \
             CREATE VIEW a_first AS SELECT o.*, l.g FROM \"Re.ports\".\"odd \"\" view. It's\" o JOIN post_l l ON l.posts_id = o.\"Id\"; \
             CREATE VIEW grouped AS SELECT p.*, count(l.g) AS g, 0.1::float4 AS f FROM posts p \
                 LEFT JOIN post_l l ON l.posts_id = p.id GROUP BY p.id; \
             CREATE VIEW checked AS SELECT id, n FROM posts WHERE n > 0 WITH CASCADED CHECK OPTION; \
             CREATE VIEW without_columns AS SELECT FROM posts; \
             CREATE VIEW rows AS SELECT p, ARRAY[l] AS ls FROM posts p JOIN post_l l ON l.posts_id = p.id; \
             CREATE VIEW of_rows AS SELECT (r.p).title, r.ls[1].g FROM rows r; \
             CREATE VIEW columns_renamed AS SELECT p.b FROM posts p (a, b, c) JOIN post_l q (b, x, y) USING (b); \
             ALTER VIEW checked ALTER COLUMN n SET DEFAULT nextval('\"Re.ports\".numbers') + 10; \
             COMMENT ON VIEW mine IS 'it''s \\ mine'; COMMENT ON COLUMN \"Re.ports\".\"odd \"\" view. It's\".\"a \"\" b\" IS 'a'; \
             ALTER VIEW \"Re.ports\".\"odd \"\" view. It's\" OWNER TO {owner}; GRANT SELECT ON mine TO {owner}; \
             GRANT SELECT ON mine TO {reader} WITH GRANT OPTION; GRANT UPDATE (n) ON checked TO {reader}; \
             GRANT SELECT (\"Id\") ON \"Re.ports\".\"odd \"\" view. It's\" TO {reader} WITH GRANT OPTION; \
             GRANT SELECT ON a_first TO PUBLIC; \
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {shut_out}"
        ),
    )
    .await;
    let before = scene.texts(SHAPE).await;
    assert_eq!(before.len(), 9, "{before:#?}");
    let found = survey(&scene.session().await, &posts).await.unwrap().views();
    assert_eq!(found.len(), 9, "{found:?}");
    for id in 2..4 {
        let swapped = scene.load(&posts, &[doc! {"_id": id, "n": 1, "title": "t", "l": [{"g": 1}]}]).await.unwrap();
        assert_eq!(scene.texts(SHAPE).await, before);
        assert_eq!(swapped.views, found);
        assert_eq!(scene.texts("SELECT \"Id\" FROM a_first").await, [id.to_string()], "they read the new tables");
    }
    assert_eq!(scene.texts("SELECT title FROM of_rows").await, ["t"]);
    let error = scene.client().await.batch_execute("INSERT INTO checked (id, n) VALUES (7, -1)").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "44000", "the check option is at work");
    scene.sql("INSERT INTO checked (id) VALUES (7)").await;
    assert_eq!(scene.text("SELECT n FROM checked WHERE id = 7").await, "11", "so is the default");
}

#[tokio::test]
async fn views_on_tables_of_the_classic_tool_outlive_the_first_load() {
    let scene = Scene::prepared().await;
    // The key will compare by another collation, which CREATE OR REPLACE VIEW would not allow.
    scene
        .sql(
            "CREATE TABLE posts (title TEXT, id_oid TEXT, id_bsontype INTEGER); \
             CREATE VIEW mine AS SELECT id_oid, upper(title) AS title FROM posts; CREATE VIEW yours AS SELECT id_oid FROM mine",
        )
        .await;
    let posts = layout("posts", r#"{"_id": {"oid": "STRING", "bsontype": "INT"}, "title": "STRING"}"#);
    scene.load(&posts, &[doc! {"_id": bson::oid::ObjectId::from_bytes([7; 12]), "title": "t"}]).await.unwrap();
    assert_eq!(scene.texts("SELECT title FROM mine WHERE id_oid IN (SELECT id_oid FROM yours)").await, ["T"]);
}

#[tokio::test]
async fn views_use_what_new_tables_still_have() {
    let posts = layout("posts", POSTS);
    let scene =
        scene_with(&posts, "CREATE VIEW mine AS SELECT id, n FROM posts; CREATE VIEW v AS SELECT n FROM mine").await;
    let wider = layout("posts", r#"{"_id": "INT", "a": "INT", "n": "INT", "m": ["INT"]}"#);
    scene.load(&wider, &[doc! {"_id": 1, "a": 5, "n": 7}]).await.unwrap();
    assert_eq!(scene.texts("SELECT n FROM v").await, ["7"]);
}

/// What a load that begins says once `sql` has been run on loaded posts, `{reader}` standing for a role of that name.
async fn refused(next: &str, sql: &str) -> String {
    let posts = layout("posts", POSTS);
    let scene = scene_with(&posts, sql).await;
    let next = layout("posts", next);
    let session = scene.session().await;
    let error = Load::begin(&session, request(&next, followable(1))).await.map(drop).unwrap_err();
    assert!(matches!(&error, PgError::Dependents { .. }), "{sql}: {error:?}");
    assert!(error.remedy().is_some(), "{error:?}");
    let surveyed = survey(&session, &next).await.map(drop).unwrap_err();
    assert_eq!(surveyed.to_string(), error.to_string(), "the survey says the same");
    error.to_string()
}

#[tokio::test]
async fn views_that_cannot_be_made_again_are_refused_by_name() {
    let function = "CREATE FUNCTION f() RETURNS TRIGGER LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'";
    let cases = [
        ("CREATE MATERIALIZED VIEW m AS SELECT n FROM posts".to_owned(), "because of materialized view public.m"),
        (
            "CREATE VIEW v AS SELECT n FROM posts; CREATE MATERIALIZED VIEW m AS SELECT n FROM v".to_owned(),
            "because of materialized view public.m",
        ),
        (
            format!("CREATE VIEW v AS SELECT n FROM posts; {function}; CREATE TRIGGER t INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION f()"),
            "because of trigger t on view public.v",
        ),
        (
            "CREATE VIEW v AS SELECT n FROM posts; CREATE RULE r AS ON DELETE TO v DO INSTEAD NOTHING".to_owned(),
            "because of rule r on view public.v",
        ),
        (
            "CREATE TABLE x (n INT); CREATE RULE r AS ON DELETE TO x DO INSTEAD DELETE FROM posts WHERE posts.n = OLD.n".to_owned(),
            "because of rule r on table public.x",
        ),
        (
            "CREATE VIEW v AS SELECT n FROM posts; CREATE FUNCTION f() RETURNS BIGINT BEGIN ATOMIC SELECT count(*) FROM v; END"
                .to_owned(),
            "because of function public.f()",
        ),
        (
            "CREATE FUNCTION f() RETURNS BIGINT BEGIN ATOMIC SELECT count(*) FROM posts; END".to_owned(),
            "because of function public.f()",
        ),
        (
            "CREATE VIEW v AS SELECT n FROM posts; CREATE TABLE x (a v)".to_owned(),
            "because of column a of table public.x, which uses the row type",
        ),
        (
            "CREATE TABLE x (a posts[])".to_owned(),
            "because of column a of table public.x, which uses the row type",
        ),
        (
            "CREATE FUNCTION f(p posts) RETURNS INT LANGUAGE sql AS 'SELECT p.n'; CREATE VIEW v AS SELECT f(p) FROM posts p".to_owned(),
            "because of function public.f(public.posts), which uses the row type",
        ),
        (
            "CREATE VIEW v AS SELECT n FROM posts; CREATE VIEW w AS SELECT n FROM v; CREATE OR REPLACE VIEW v AS SELECT w.n FROM w, posts"
                .to_owned(),
            "below which views go in a circle",
        ),
        (
            "CREATE EXTENSION btree_gist; CREATE VIEW v AS SELECT n FROM posts; ALTER EXTENSION btree_gist ADD VIEW v".to_owned(),
            "because of view public.v, which belongs to the extension btree_gist",
        ),
    ];
    for (sql, why) in cases {
        let said = refused(POSTS, &sql).await;
        assert!(said.contains(why), "{sql}: {said}");
    }
}

#[tokio::test]
async fn views_on_what_the_new_tables_no_longer_have_are_refused_by_name() {
    let next = r#"{"_id": "INT", "a": "INT", "n": "BIGINT", "m": ["INT"]}"#;
    let cases = [
        (
            "CREATE VIEW v AS SELECT lower(title) FROM posts",
            "view public.v, which uses the column title of public.posts, and that is no longer in the schema",
        ),
        (
            "CREATE VIEW v AS SELECT id FROM posts WHERE n > 1",
            "view public.v, which uses the column n of public.posts, and that is integer and will be bigint",
        ),
        (
            "CREATE VIEW \"V\" AS SELECT count(*) FROM post_l",
            "view public.\"V\", which uses public.post_l, and that is no longer in the schema",
        ),
        (
            "CREATE VIEW v AS SELECT to_jsonb(p) FROM posts p",
            "view public.v, which takes whole rows, and the columns of public.posts change",
        ),
        (
            "CREATE VIEW v AS SELECT x FROM posts p (x, y)",
            "view public.v, which gives columns other names by their position, and the columns of public.posts change",
        ),
    ];
    for (sql, why) in cases {
        let said = refused(next, sql).await;
        assert!(said.contains(why), "{sql}: {said}");
    }
}

#[tokio::test]
async fn a_temporary_view_is_refused() {
    let posts = layout("posts", POSTS);
    let scene = scene_with(&posts, "").await;
    let client = scene.client().await;
    client.batch_execute("CREATE TEMP VIEW v AS SELECT n FROM public.posts").await.unwrap();
    let error = scene.load(&posts, &[]).await.unwrap_err().to_string();
    assert!(error.contains(".v, which is temporary"), "{error}");
}

#[tokio::test]
async fn views_of_others_are_refused_with_the_right_that_is_missing() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let (loader, other) = (unique_name("loader"), unique_name("other"));
    let target = scene.role(&loader).await;
    scene
        .sql(&format!(
            "GRANT ALL ON SCHEMA public TO {loader}; CREATE ROLE {other}; CREATE SCHEMA theirs; \
             GRANT USAGE ON SCHEMA theirs TO {loader}; \
             GRANT ALL ON gizer_collection, gizer_history, gizer_range, gizer_reject, gizer_repair, gizer_stream, \
                 gizer_resync, gizer_schema_history, gizer_unfit, qmetlstatus TO {loader}"
        ))
        .await;
    scene.load(&posts, &[]).await.unwrap();
    scene
        .sql(&format!(
            "ALTER TABLE posts OWNER TO {loader}; ALTER TABLE post_l OWNER TO {loader}; \
             CREATE VIEW theirs.v AS SELECT n FROM posts; ALTER VIEW theirs.v OWNER TO {other}"
        ))
        .await;
    let session = connect(&target).await.unwrap();
    for missing in [
        format!("GRANT {other} TO {loader}"),
        format!("GRANT USAGE, CREATE ON SCHEMA theirs TO {loader}"),
        format!("GRANT USAGE, CREATE ON SCHEMA theirs TO {other}"),
    ] {
        let error = survey(&session, &posts).await.map(drop).unwrap_err().to_string();
        assert!(error.contains("view theirs.v, ") && error.contains(&format!("(remedy: {missing})")), "{error}");
        scene.sql(&missing).await;
    }
    let load = Load::begin(&session, request(&posts, followable(1))).await.unwrap();
    load.build_keys(&[], KeySettings::default()).await.unwrap();
    let swapped = load.swap(&quick(), &Ledger::default(), None).await.unwrap();
    assert_eq!(swapped.views, [r#""theirs"."v""#]);
    let owner = scene.text("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'v'").await;
    assert_eq!(owner, other);
}

#[tokio::test]
async fn views_that_come_change_and_go_during_a_load() {
    let posts = layout("posts", POSTS);
    let scene =
        scene_with(&posts, "CREATE VIEW going AS SELECT n FROM posts; CREATE VIEW changing AS SELECT n FROM posts")
            .await;
    let session = scene.session().await;
    let load = Load::begin(&session, request(&posts, followable(1))).await.unwrap();
    let mut sink = load.sink(scene.session().await).unwrap();
    sink.write(encode(&posts, &[doc! {"_id": 9, "n": 9}])).await.unwrap();
    load.build_keys(&[], KeySettings::default()).await.unwrap();
    scene
        .sql(
            "DROP VIEW going; CREATE OR REPLACE VIEW changing AS SELECT n * 2 AS n FROM posts; \
             CREATE VIEW coming AS SELECT n + 1 AS n FROM changing; CREATE MATERIALIZED VIEW m AS SELECT n FROM coming",
        )
        .await;
    let error = load.swap(&quick(), &Ledger::default(), None).await.unwrap_err().to_string();
    assert!(error.contains("because of materialized view public.m"), "{error}");
    assert_eq!(scene.texts("SELECT n FROM coming").await, ["3"], "all is as it was");
    scene.sql("DROP MATERIALIZED VIEW m").await;
    let swapped = load.swap(&quick(), &Ledger::default(), None).await.unwrap();
    assert_eq!(swapped.views, [r#""public"."changing""#, r#""public"."coming""#]);
    assert_eq!(scene.texts("SELECT n FROM coming").await, ["19"]);
}

#[tokio::test]
async fn a_view_that_the_new_tables_do_not_allow_is_named_before_the_load() {
    // Once post_l has a title too, nobody knows any more which one the join means.
    let next =
        layout("posts", r#"{"_id": "INT", "n": "INT", "title": "STRING", "l": [{"g": "INT", "title": "STRING"}]}"#);
    let posts = layout("posts", POSTS);
    let view = "CREATE VIEW joined AS SELECT o.x FROM posts p JOIN post_l l ON l.posts_id = p.id JOIN reports.other o USING (title)";
    let sql = format!(
        "CREATE SCHEMA reports; CREATE TABLE reports.other (title TEXT, x INT); {view}; \
         CREATE VIEW reports.upon AS SELECT x FROM joined; CREATE VIEW upon AS SELECT x FROM reports.upon"
    );
    let scene = scene_with(&posts, &sql).await;
    let session = scene.session().await;
    let error = Load::begin(&session, request(&next, followable(1))).await.map(drop).unwrap_err();
    let PgError::NotCarriedOver { object, said, .. } = &error else { panic!("{error:?}") };
    assert_eq!(object, r#"view "public"."joined""#, "{error}");
    assert!(said.message.contains("title"), "{error}");
    // A load that begins before the view is there learns of it at the swap, and loses nothing.
    scene.sql("DROP VIEW joined CASCADE").await;
    let load = Load::begin(&session, request(&next, followable(1))).await.unwrap();
    load.build_keys(&[], KeySettings::default()).await.unwrap();
    scene.sql(view).await;
    let before = scene.texts(SHAPE).await;
    let error = load.swap(&quick(), &Ledger::default(), None).await.unwrap_err();
    assert!(matches!(&error, PgError::NotCarriedOver { .. }), "{error:?}");
    assert_eq!(scene.texts(SHAPE).await, before);
    assert_eq!(scene.texts("SELECT id FROM posts").await, ["1"]);
}

#[tokio::test]
async fn a_view_that_comes_while_the_swap_waits_for_its_locks_is_made_again_too() {
    let posts = layout("posts", POSTS);
    let sql = "CREATE TABLE other (n INT); CREATE VIEW v AS SELECT p.n FROM posts p LEFT JOIN other USING (n)";
    let scene = scene_with(&posts, sql).await;
    let session = scene.session().await;
    let load = Load::begin(&session, request(&posts, followable(1))).await.unwrap();
    let mut sink = load.sink(scene.session().await).unwrap();
    sink.write(encode(&posts, &[doc! {"_id": 9, "n": 9}])).await.unwrap();
    load.build_keys(&[], KeySettings::default()).await.unwrap();
    // What a view reads beside the live tables is none of the swap's business: it is read all the while.
    let (reader, of_other) = (scene.client().await, scene.client().await);
    of_other.batch_execute("BEGIN; SELECT count(*) FROM other").await.unwrap();
    reader.batch_execute("BEGIN; SELECT count(*) FROM v").await.unwrap();
    let patient = SwapSettings { lock_timeout: LIMIT, ..quick() };
    let ledger = Ledger::default();
    let meanwhile = async {
        let client = scene.client().await;
        let waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'v'::regclass";
        let waiting = async || !client.query(waits, &[]).await.unwrap().is_empty();
        wait_until("the swap to wait for the view", LIMIT, waiting).await.unwrap();
        client.batch_execute("CREATE VIEW w AS SELECT n + 1 AS n FROM posts").await.unwrap();
        reader.batch_execute("COMMIT").await.unwrap();
    };
    let (swapped, ()) = tokio::join!(load.swap(&patient, &ledger, None), meanwhile);
    let swapped = swapped.unwrap();
    assert_eq!((swapped.gave_way, swapped.views.len()), (0, 2), "{swapped:?}");
    assert_eq!(scene.texts("SELECT n FROM w UNION ALL SELECT n FROM v").await, ["10", "9"]);
}

#[tokio::test]
async fn whoever_keeps_a_view_locked_is_named() {
    let posts = layout("posts", POSTS);
    let scene = scene_with(&posts, "CREATE VIEW v AS SELECT n FROM posts").await;
    let session = scene.session().await;
    let load = Load::begin(&session, request(&posts, followable(1))).await.unwrap();
    load.build_keys(&[], KeySettings::default()).await.unwrap();
    let other = scene.client().await;
    other.batch_execute("BEGIN; COMMENT ON VIEW v IS 'not yet'").await.unwrap();
    let short = SwapSettings { limit: std::time::Duration::from_millis(500), ..quick() };
    let error = load.swap(&short, &Ledger::default(), None).await.unwrap_err();
    let PgError::TablesBusy { blockers, .. } = &error else { panic!("{error:?}") };
    assert!(blockers.iter().any(|blocker| blocker.contains("idle in transaction")), "{error}");
    other.batch_execute("COMMIT").await.unwrap();
    load.swap(&quick(), &Ledger::default(), None).await.unwrap();
    assert_eq!(scene.text("SELECT obj_description('v'::regclass)").await, "not yet");
}

#[tokio::test]
async fn a_view_that_another_swap_recreates_meanwhile_is_still_one_of_ours() {
    let posts = layout("posts", POSTS);
    let view = "CREATE VIEW mine AS SELECT id FROM posts";
    let scene = scene_with(&posts, view).await;
    let (session, other) = (scene.session().await, scene.client().await);
    let recreate = format!("BEGIN; DROP VIEW mine; {view}; COMMIT");
    for _ in 0..100 {
        let (surveyed, recreated) = tokio::join!(survey(&session, &posts), other.batch_execute(&recreate));
        recreated.unwrap();
        assert_eq!(surveyed.unwrap().views(), ["\"public\".\"mine\""]);
    }
}
