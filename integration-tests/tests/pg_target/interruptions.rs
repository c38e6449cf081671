//! A load that is interrupted leaves nothing running, and the next one is told what still is.

use std::time::{Duration, Instant};

use bson::doc;
use gizer_pg::PgError;
use gizer_pg::load::{KeySettings, Load, RangeSink};
use gizer_pg::state::read_status;
use integration_tests::rig::wait_until;

use crate::scene::{LIMIT, Scene, encode, followable, layout, request};

const POSTS: &str = r#"{"_id": "INT", "l": ["INT"]}"#;

/// Statements that wait for a lock on a staging table.
const WAITING: &str = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
    WHERE NOT l.granted AND c.relname LIKE 'gizer\\_new\\_%' \
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test]
async fn an_interrupted_build_of_keys_is_cancelled_on_the_server() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let session = scene.session().await;
    // On sessions of their own, and on that of the load.
    for builders in [2, 0] {
        let load = Load::begin(&session, request(&posts, followable(1))).await.unwrap();
        let mut sink = load.sink(scene.session().await).unwrap();
        sink.write(encode(&posts, &[doc! {"_id": 1, "l": [1]}])).await.unwrap();
        // A reader of the staging tables makes the builds take as long as a test needs.
        let reader = scene.client().await;
        reader.batch_execute("BEGIN; SELECT FROM gizer_new_posts; SELECT FROM gizer_new_post_l").await.unwrap();
        let mut sessions = Vec::new();
        for _ in 0..builders {
            sessions.push(scene.session().await);
        }
        let sessions_of_builders: Vec<_> = sessions.iter().collect();
        let expected = builders.max(1).to_string();
        tokio::select! {
            built = load.build_keys(&sessions_of_builders, KeySettings::default()) => panic!("{built:?}"),
            waiting = wait_until("the builds to wait", LIMIT, async || scene.text(WAITING).await == expected) => waiting.unwrap(),
        }
        drop(sessions);
        let nothing = async || scene.text(WAITING).await == "0";
        wait_until("the builds to be cancelled", Duration::from_secs(10), nothing).await.unwrap();
        // The load can be given up on the session that was in the middle of it.
        load.abandon("interrupted", false).await.unwrap();
        let status = read_status(&session, 0).await.unwrap().unwrap();
        assert_eq!(status.collections[0].reason.as_deref(), Some("interrupted"));
        assert!(!status.collections[0].loading_now);
        reader.batch_execute("ROLLBACK").await.unwrap();
    }
    scene.load(&posts, &[doc! {"_id": 2}]).await.unwrap();
}

#[tokio::test]
async fn a_load_is_told_who_holds_the_staging_tables_of_a_dead_one() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let session = scene.session().await;
    Load::begin(&session, request(&posts, followable(1))).await.unwrap().abandon("died", false).await.unwrap();
    let holder = scene.client().await;
    holder.batch_execute("BEGIN; SELECT FROM gizer_new_post_l").await.unwrap();
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);

    let started = Instant::now();
    let begin = Load::begin(&session, request(&posts, followable(1)));
    let begun = tokio::time::timeout(LIMIT, begin).await.expect("it does not wait for ever");
    let error = begun.map(drop).unwrap_err();
    assert!(started.elapsed() >= Duration::from_secs(1), "it waits a moment");
    let PgError::StagingBusy { collection, blockers, .. } = &error else { panic!("{error:?}") };
    assert_eq!(collection, "posts");
    assert!(blockers.len() == 1 && blockers[0].contains(&format!("process {pid} ")), "{error}");
    assert!(error.remedy().unwrap().contains("pg_terminate_backend"), "{error:?}");

    // It has given the collection's lock back, and nothing else is in the way.
    holder.batch_execute("COMMIT").await.unwrap();
    scene.load(&posts, &[doc! {"_id": 1}]).await.unwrap();
}
