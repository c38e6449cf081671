//! Two runs that want the same: one is told, or fenced off; never both.

use bson::doc;
use gizer_pg::load::{KeySettings, Load, RangeSink};
use gizer_pg::state::{self, Ledger};
use gizer_pg::{ErrorKind, PgError};
use integration_tests::rig::wait_until;

use crate::scene::{LIMIT, Scene, encode, followable, layout, quick, request};

const POSTS: &str = r#"{"_id": "INT", "l": ["INT"]}"#;

#[tokio::test]
async fn a_second_load_is_told_who_holds_the_lock() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let (one, two) = (scene.session().await, scene.session().await);
    let load = Load::begin(&one, request(&posts, followable(1))).await.unwrap();
    let error = Load::begin(&two, request(&posts, followable(1))).await.map(drop).unwrap_err();
    assert!(matches!(&error, PgError::Locked { holder: Some(_), .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::HeldByAnotherRun);
    let pid = one.client().query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
    assert!(error.to_string().contains(&format!("process {pid} ")), "{error}");
    // Another collection is another matter, and so is the same one once the lock is given back.
    let authors = layout("authors", POSTS);
    Load::begin(&two, request(&authors, followable(1))).await.unwrap();
    load.abandon("for a test", false).await.unwrap();
    Load::begin(&two, request(&posts, followable(1))).await.unwrap();
}

#[tokio::test]
async fn what_cannot_begin_does_not_keep_the_lock() {
    let scene = Scene::prepared().await;
    scene.sql("CREATE VIEW public.posts AS SELECT 1 AS a").await;
    let posts = layout("posts", POSTS);
    let (one, two) = (scene.session().await, scene.session().await);
    for session in [&one, &two] {
        let error = Load::begin(session, request(&posts, followable(1))).await.map(drop).unwrap_err();
        assert!(matches!(&error, PgError::ForeignTable { .. }), "{error:?}");
    }
    assert_eq!(scene.text("SELECT count(*) FROM gizer_collection").await, "0");
}

#[tokio::test]
async fn the_older_of_two_loads_is_fenced_and_commits_nothing() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let one = scene.session().await;
    let pid = one.client().query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
    let old = Load::begin(&one, request(&posts, followable(1))).await.unwrap();
    let mut old_sink = old.sink(scene.session().await).unwrap();
    old_sink.write(encode(&posts, &[doc! {"_id": 1, "l": [1]}])).await.unwrap();

    // The older run's lock goes with its connection, as at a broken network; its sink does not know.
    scene.sql(&format!("SELECT pg_terminate_backend({pid})")).await;
    wait_until("the lock to go", LIMIT, async || {
        scene.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").await == "0"
    })
    .await
    .unwrap();
    let two = scene.session().await;
    let new = Load::begin(&two, request(&posts, followable(1))).await.unwrap();
    assert!(new.fence().load_epoch > old.fence().load_epoch);
    let mut new_sink = new.sink(scene.session().await).unwrap();

    let error = old_sink.write(encode(&posts, &[doc! {"_id": 2, "l": [1, 2]}])).await.unwrap_err();
    assert!(matches!(&error, PgError::Fenced { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::HeldByAnotherRun);
    new_sink.write(encode(&posts, &[doc! {"_id": 3, "l": [7]}])).await.unwrap();
    new.build_keys(&[], KeySettings::default()).await.unwrap();
    new.swap(&quick(), &Ledger::default(), None).await.unwrap();
    assert_eq!(scene.texts("SELECT id FROM posts").await, ["3"]);
    assert_eq!(scene.texts("SELECT l FROM post_l").await, ["7"]);
}

#[tokio::test]
async fn a_fenced_load_cannot_swap() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[doc! {"_id": 1}]).await.unwrap();
    let one = scene.session().await;
    let load = Load::begin(&one, request(&posts, followable(1))).await.unwrap();
    load.build_keys(&[], KeySettings::default()).await.unwrap();
    scene.sql("UPDATE gizer_collection SET load_epoch = load_epoch + 1").await;
    let error = load.swap(&quick(), &Ledger::default(), None).await.unwrap_err();
    assert!(matches!(&error, PgError::Fenced { .. }), "{error:?}");
    assert_eq!(scene.texts("SELECT id FROM posts").await, ["1"]);
}

#[tokio::test]
async fn sinks_of_one_load_do_not_wait_for_each_other() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let session = scene.session().await;
    let load = Load::begin(&session, request(&posts, followable(1))).await.unwrap();
    // A transaction of one connection that stays open with its fence checked …
    let holder = scene.session().await;
    holder.begin().await.unwrap();
    let share = "SELECT 1 FROM public.gizer_collection WHERE collection = 'posts' FOR SHARE";
    holder.client().query_one(share, &[]).await.unwrap();
    // … does not keep another from committing.
    let mut sink = load.sink(scene.session().await).unwrap();
    let write = sink.write(encode(&posts, &[doc! {"_id": 1}]));
    tokio::time::timeout(LIMIT, write).await.expect("the sink waits").unwrap();
}

#[tokio::test]
async fn two_runs_that_start_at_once_both_find_the_state_tables() {
    let scene = Scene::new().await;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(scene.session().await);
    }
    let prepare = |session| tokio::spawn(async move { state::prepare(&session).await });
    let starting: Vec<_> = sessions.into_iter().map(prepare).collect();
    for start in starting {
        start.await.unwrap().unwrap();
    }
    assert_eq!(scene.text("SELECT count(*) FROM gizer_stream").await, "1");
}
