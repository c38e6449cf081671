//! The stream's position and its fence.

use gizer_flatten::change::Positions;
use gizer_pg::state::{Checkpoint, StreamFence, checkpoint, take_fence};
use gizer_pg::{PgError, Session};

use crate::scene::{Scene, followable, layout, positions};

fn exactly(position: &Positions) -> Checkpoint<'_> {
    Checkpoint { position, ahead: None, joined: &[], verified: true }
}

async fn commit(session: &Session, fence: &mut StreamFence, to: &Positions) -> Result<(), PgError> {
    session.begin().await?;
    let outcome = checkpoint(session, fence, &exactly(to)).await;
    session.end(outcome).await
}

#[tokio::test]
async fn it_begins_at_the_earliest_load_and_then_moves_by_checkpoints_only() {
    let scene = Scene::prepared().await;
    let simple = r#"{"_id": "INT"}"#;
    let load = async |name: &str, captured: &[(&str, u32, u32)]| {
        let source = gizer_pg::load::LoadSource::Followable { captured: positions(captured) };
        scene.load_from(&layout(name, simple), &[], source).await.unwrap();
    };
    load("a", &[("s1", 566, 1), ("s2", 10, 5)]).await;
    load("b", &[("s1", 99, 9), ("s2", 11, 1)]).await;
    let reason = "a dump".to_owned();
    let copy = gizer_pg::load::LoadSource::Copy { reason };
    scene.load_from(&layout("c", simple), &[], copy).await.unwrap();

    let session = scene.session().await;
    let mut fence = take_fence(&session).await.unwrap();
    assert_eq!(fence.position(), &positions(&[("s1", 99, 9), ("s2", 10, 5)]), "shard by shard, as numbers");
    assert!(!fence.applied());
    // A load of b alone moves it on, as long as nothing was applied.
    load("b", &[("s1", 600, 1), ("s2", 600, 1)]).await;
    let stale = commit(&session, &mut fence, &positions(&[("s1", 700, 1)])).await.unwrap_err();
    assert!(matches!(stale, PgError::Fenced { .. }), "the fence stood at another position: {stale:?}");

    let mut fence = take_fence(&session).await.unwrap();
    assert_eq!(fence.position(), &positions(&[("s1", 566, 1), ("s2", 10, 5)]));
    let applied = positions(&[("s1", 700, 1), ("s2", 700, 1)]);
    commit(&session, &mut fence, &applied).await.unwrap();
    load("d", &[("s1", 650, 1), ("s2", 800, 1)]).await;
    let fence = take_fence(&session).await.unwrap();
    assert_eq!((fence.position(), fence.applied()), (&applied, true), "a load moves it no more");
}

#[tokio::test]
async fn who_takes_over_fences_the_other_off() {
    let scene = Scene::prepared().await;
    scene.load_from(&layout("a", r#"{"_id": "INT"}"#), &[], followable(5)).await.unwrap();
    let (one, two) = (scene.session().await, scene.session().await);
    let mut old = take_fence(&one).await.unwrap();
    let error = take_fence(&two).await.unwrap_err();
    assert!(matches!(&error, PgError::Locked { holder: Some(_), .. }), "{error:?}");

    // Its lock is lost, as at a pooler that hands the connection to somebody else; it does not know.
    one.client().batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    let mut new = take_fence(&two).await.unwrap();
    let to = positions(&[("rs0", 6, 1)]);
    let error = commit(&one, &mut old, &to).await.unwrap_err();
    assert!(matches!(&error, PgError::Fenced { .. }), "{error:?}");
    commit(&two, &mut new, &to).await.unwrap();
    assert_eq!(new.position(), &to);
    // What was rolled back is not remembered either.
    two.begin().await.unwrap();
    checkpoint(&two, &mut new.clone(), &exactly(&positions(&[("rs0", 7, 1)]))).await.unwrap();
    let outcome: Result<(), PgError> = Err(PgError::Fenced { what: "a test".to_owned() });
    two.end(outcome).await.unwrap_err();
    commit(&two, &mut new, &positions(&[("rs0", 8, 1)])).await.unwrap();
}
