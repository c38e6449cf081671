//! The swap: readers never see half a load, and never an error.

use std::time::Duration;

use bson::{Document, doc};
use gizer_pg::PgError;
use gizer_pg::load::{KeySettings, Load, LoadSource, RangeSink, SwapSettings};
use gizer_pg::state::{CollectionState, Ledger, read_status};
use gizer_schema::Layout;
use integration_tests::rig::{unique_name, wait_until};

use crate::readers::Readers;
use crate::scene::{LIMIT, Scene, encode, followable, layout, positions, quick, request};

const POSTS: &str = r#"{"_id": "INT", "g": "INT", "l": [{"g": "INT"}]}"#;
const PARENTS: i64 = 50;
const CHILDREN: i64 = 20;

fn generation(g: i32) -> Vec<Document> {
    let children: Vec<Document> = (0..CHILDREN).map(|_| doc! {"g": g}).collect();
    (0..PARENTS).map(|id| doc! {"_id": id as i32, "g": g, "l": children.clone()}).collect()
}

/// Ways to read parents and children in one statement: how many there are, and the generations of both.
const READS: [&str; 3] = [
    "SELECT count(*), min(p.g), max(p.g), min(c.g), max(c.g) \
     FROM public.posts p JOIN public.post_l c ON c.posts_id = p.id",
    "SELECT count(*), min(pg), max(pg), min(cg), max(cg) FROM public.joined",
    "SELECT count(*), min(u.pg), max(u.pg), min(c.g), max(c.g) \
     FROM reports.upon u JOIN public.post_l c ON c.posts_id = u.id AND c.idx = u.idx",
];

const VIEWS: &str = "\
    CREATE SCHEMA reports; \
    CREATE VIEW joined AS SELECT p.id, c.idx, p.g AS pg, c.g AS cg FROM posts p JOIN post_l c ON c.posts_id = p.id; \
    CREATE VIEW reports.upon AS SELECT j.id, j.idx, j.pg FROM joined j JOIN posts p ON p.id = j.id AND p.g = j.pg";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_half_a_load() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &generation(1)).await.unwrap();
    scene.sql(VIEWS).await;
    let readers = Readers::start(&scene, &READS, PARENTS * CHILDREN).await;
    for g in 2..10 {
        let swapped = scene.load(&posts, &generation(g)).await.unwrap();
        assert_eq!(swapped.views.len(), 2);
        readers.have_seen(g).await;
    }
    assert!(readers.stop().await >= 800, "they read all the while");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_swap_gets_through_between_readers_that_lock_the_other_way_round() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &generation(1)).await.unwrap();
    let child_first = "SELECT count(*), min(p.g), max(p.g), min(c.g), max(c.g) \
                       FROM public.post_l c JOIN public.posts p ON c.posts_id = p.id";
    let readers = Readers::start(&scene, &[child_first; 4], PARENTS * CHILDREN).await;
    for g in 2..8 {
        scene.load(&posts, &generation(g)).await.unwrap();
        readers.have_seen(g).await;
    }
    readers.stop().await;
}

/// A load that is ready to be swapped in.
async fn ready<'a>(scene: &Scene, session: &'a gizer_pg::Session, posts: &'a Layout, g: i32) -> Load<'a> {
    let load = Load::begin(session, request(posts, followable(1))).await.unwrap();
    let mut sink = load.sink(scene.session().await).unwrap();
    sink.write(encode(posts, &generation(g))).await.unwrap();
    load.build_keys(&[&scene.session().await, &scene.session().await], KeySettings::default()).await.unwrap();
    load
}

#[tokio::test]
async fn the_swap_gives_way_to_a_long_reader_and_comes_again() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &generation(1)).await.unwrap();
    let session = scene.session().await;
    let load = ready(&scene, &session, &posts, 2).await;

    let reader = scene.client().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM public.post_l").await.unwrap();
    let short = SwapSettings { limit: Duration::from_millis(700), ..quick() };
    let error = load.swap(&short, &Ledger::default(), None).await.unwrap_err();
    let PgError::TablesBusy { waited, blockers, .. } = &error else { panic!("{error:?}") };
    assert!(*waited >= Duration::from_millis(200) && *waited < Duration::from_secs(5), "{error:?}");
    assert!(blockers.iter().any(|blocker| blocker.contains("idle in transaction")), "{error}");
    assert_eq!(scene.text("SELECT max(g) FROM public.posts").await, "1", "the live tables are as they were");
    let staging = "SELECT count(*) FROM public.gizer_new_posts";
    assert_eq!(scene.text(staging).await, PARENTS.to_string(), "the new tables stay");

    let waiting = async {
        let swapped = load.swap(&quick(), &Ledger::default(), None).await.unwrap();
        assert!(swapped.gave_way >= 1, "{swapped:?}");
    };
    let letting_go = async {
        // While the swap waits, others read on without waiting for long.
        let client = scene.client().await;
        let waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND \
                     database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        wait_until("the swap to wait", LIMIT, async || !client.query(waits, &[]).await.unwrap().is_empty())
            .await
            .unwrap();
        let read = scene.text("SELECT max(g) FROM public.post_l");
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), read).await.expect("a reader waits"), "1");
        reader.batch_execute("COMMIT").await.unwrap();
    };
    tokio::join!(waiting, letting_go);
    assert_eq!(scene.text("SELECT max(g) FROM public.posts").await, "2");
}

#[tokio::test]
async fn what_is_swapped_in_has_keys_comments_and_its_names() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &generation(1)).await.unwrap();
    scene.load(&posts, &generation(2)).await.unwrap();
    let keys = "SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
                WHERE connamespace = 'public'::regnamespace AND conrelid IN ('posts'::regclass, 'post_l'::regclass) \
                  AND contype = 'p' ORDER BY 1";
    assert_eq!(scene.texts(keys).await, ["post_l_pkey PRIMARY KEY (posts_id, idx)", "posts_pkey PRIMARY KEY (id)"]);
    let comments = "SELECT obj_description('posts'::regclass) UNION ALL SELECT obj_description('post_l'::regclass) \
                    UNION ALL SELECT col_description('post_l'::regclass, 1)";
    assert_eq!(scene.texts(comments).await, ["gizer: posts", "gizer: posts.l[]", "l[].g"]);
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer\\_new%'";
    assert_eq!(scene.text(left).await, "0");
    let options = "SELECT count(*) FROM pg_class WHERE relname IN ('posts', 'post_l') AND reloptions IS NOT NULL";
    assert_eq!(scene.text(options).await, "0", "vacuum takes care of them again");
    let estimate = "SELECT reltuples::int FROM pg_class WHERE oid = 'post_l'::regclass";
    assert_eq!(scene.text(estimate).await, (PARENTS * CHILDREN).to_string(), "they are analysed");
}

#[tokio::test]
async fn tables_that_the_layout_no_longer_has_are_dropped_with_the_swap() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &generation(1)).await.unwrap();
    let other = layout("posts", r#"{"_id": "INT", "m": ["INT"]}"#);
    let swapped = scene.load(&other, &[doc! {"_id": 1, "m": [1]}]).await.unwrap();
    assert_eq!(swapped.dropped, ["post_l"]);
    assert_eq!(scene.text("SELECT to_regclass('public.post_l') IS NULL").await, "t");
    assert_eq!(scene.text("SELECT count(*) FROM post_m").await, "1");
}

#[tokio::test]
async fn a_dead_load_is_cleared_away() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &generation(1)).await.unwrap();
    let session = scene.session().await;
    drop(ready(&scene, &session, &layout("posts", r#"{"_id": "INT", "old": ["INT"]}"#), 2).await);
    drop(session);
    let posts_two = generation(2);
    wait_until("the lock to go", LIMIT, async || {
        scene.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").await == "0"
    })
    .await
    .unwrap();
    scene.load(&posts, &posts_two).await.unwrap();
    assert_eq!(scene.text("SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer\\_new%'").await, "0");
    assert_eq!(scene.text("SELECT min(g) FROM posts").await, "2");
}

#[tokio::test]
async fn two_documents_with_one_key_stop_the_load() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &generation(1)).await.unwrap();
    let documents = [77, 77, 77, 3, 88, 88].map(|id| doc! {"_id": id});
    let error = scene.load(&posts, &documents).await.unwrap_err();
    assert!(matches!(&error, PgError::DuplicateKey { table, .. } if table == "posts"), "{error:?}");
    assert!(error.to_string().contains("2 keys came more than once"), "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("77") && !shown.contains("88"), "the keys are data: {shown}");
    assert_eq!(scene.text("SELECT count(*) FROM posts").await, PARENTS.to_string());
}

#[tokio::test]
async fn a_key_that_is_not_unique_is_no_primary_key() {
    let scene = Scene::new().await;
    let posts = layout("posts", r#"{"id": "STRING", "l": ["INT"]}"#);
    let documents = [doc! {"_id": 1, "id": "a"}, doc! {"_id": 2, "id": "a"}, doc! {"_id": 3, "l": [1]}];
    let source = || LoadSource::Copy { reason: "no _id".to_owned() };
    scene.load_from(&posts, &documents, source()).await.unwrap();
    scene.load_from(&posts, &documents, source()).await.unwrap();
    let indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename LIKE 'post%' ORDER BY 1";
    assert_eq!(
        scene.texts(indexes).await,
        [
            "CREATE INDEX post_l_idx ON public.post_l USING btree (posts_id, idx)",
            "CREATE INDEX posts_idx ON public.posts USING btree (id)"
        ]
    );
    let status = read_status(&scene.session().await, 1).await.unwrap().unwrap();
    assert_eq!(status.collections[0].state, CollectionState::Copy);
    assert_eq!(status.collections[0].reason.as_deref(), Some("no _id"));
}

#[tokio::test]
async fn text_keys_sort_by_bytes() {
    let scene = Scene::new().await;
    let posts = layout("posts", r#"{"_id": "STRING", "l": ["INT"]}"#);
    let documents = ["b", "B", "a", "ä", "_"].map(|id| doc! {"_id": id, "l": [1]});
    scene.load(&posts, &documents).await.unwrap();
    assert_eq!(scene.texts("SELECT id FROM posts ORDER BY id").await, ["B", "_", "a", "b", "ä"]);
    assert_eq!(scene.texts("SELECT posts_id FROM post_l ORDER BY posts_id").await, ["B", "_", "a", "b", "ä"]);
}

#[tokio::test]
async fn owner_and_rights_stay() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &generation(1)).await.unwrap();
    let (owner, reader, shut_out) = (unique_name("owner"), unique_name("reader"), unique_name("shut_out"));
    scene
        .sql(&format!(
            "CREATE ROLE {owner}; CREATE ROLE {reader}; CREATE ROLE {shut_out}; \
             GRANT ALL ON SCHEMA public TO {owner}; \
             ALTER TABLE posts OWNER TO {owner}; \
             GRANT SELECT ON posts TO {reader} WITH GRANT OPTION; GRANT UPDATE (g) ON posts TO {reader}; \
             GRANT SELECT ON post_l TO PUBLIC; \
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {shut_out}"
        ))
        .await;
    let acl = "SELECT concat_ws(' ', c.relname, pg_get_userbyid(relowner), (SELECT array_agg(acl::text ORDER BY acl::text) \
                   FROM unnest(relacl) AS acl), (SELECT string_agg(attname || attacl::text, ' ') FROM pg_attribute \
                   WHERE attrelid = c.oid AND attacl IS NOT NULL)) \
               FROM pg_class c WHERE relname IN ('posts', 'post_l') ORDER BY 1";
    let before = scene.texts(acl).await;
    assert!(before[1].contains(&reader), "{before:?}");
    scene.load(&posts, &generation(2)).await.unwrap();
    assert_eq!(scene.texts(acl).await, before);
    assert_eq!(scene.text("SELECT min(g) FROM posts").await, "2");
}

#[tokio::test]
async fn the_state_says_what_was_loaded() {
    let scene = Scene::new().await;
    let session = scene.session().await;
    assert_eq!(read_status(&session, 5).await.unwrap(), None, "nothing loaded yet");
    let posts = layout("posts", POSTS);
    scene.load_from(&posts, &generation(1), followable(5)).await.unwrap();
    let status = read_status(&session, 5).await.unwrap().unwrap();
    let [posts_status] = status.collections.as_slice() else { panic!("{status:?}") };
    assert_eq!(posts_status.state, CollectionState::Following);
    assert!(posts_status.live && !posts_status.loading_now && posts_status.load_started.is_none());
    assert_eq!(posts_status.captured, Some(positions(&[("rs0", 5, 1)])));
    assert_eq!(posts_status.ledger.as_ref().unwrap().loaded, PARENTS as u64);
    let tables: Vec<(&str, Option<u64>)> =
        posts_status.tables.iter().map(|table| (table.name.as_str(), table.estimate)).collect();
    assert_eq!(tables, [("posts", Some(50)), ("post_l", Some(1000))]);

    // A reload that fails changes nothing of what the live tables are.
    let load = Load::begin(&session, request(&posts, followable(9))).await.unwrap();
    let during = read_status(&scene.session().await, 5).await.unwrap().unwrap();
    assert!(during.collections[0].loading_now && during.collections[0].load_started.is_some());
    assert_eq!(during.collections[0].state, CollectionState::Following);
    load.abandon("the source went away", false).await.unwrap();
    let after = read_status(&session, 5).await.unwrap().unwrap();
    assert_eq!(after.collections[0].state, CollectionState::Following);
    assert_eq!(after.collections[0].captured, posts_status.captured);
    assert_eq!(after.collections[0].reason.as_deref(), Some("the source went away"));

    // One that never had live tables is due for a load.
    let authors = layout("authors", POSTS);
    let load = Load::begin(&session, request(&authors, followable(9))).await.unwrap();
    let during = read_status(&scene.session().await, 5).await.unwrap().unwrap();
    assert_eq!(during.collections[0].state, CollectionState::Loading);
    load.abandon("the source went away", false).await.unwrap();
    let after = read_status(&session, 5).await.unwrap().unwrap();
    assert_eq!((after.collections[0].state, after.collections[0].live), (CollectionState::LoadDue, false));
}
