//! How many statements a batch takes, by the server's own log; and what a rolled-back one leaves.

use std::fs;

use bson::{Bson, Document};
use gizer_pg::rows::{RowStore, WhichTables};
use integration_tests::rig::Postgres;

use super::{POSTS, fresh, ids, in_transaction, post, rows};
use gizer_verify::ReadBack;

use crate::scene::{Scene, layout};

/// Documents of which one in three changes in its root row, one in three in its arrays, and one in three is gone.
fn changes(count: i32) -> (Vec<Document>, Vec<Document>) {
    let before: Vec<Document> = (0..count).map(|id| post(id, "a", 2)).collect();
    let after = before.iter().filter(|document| document.get_i32("_id").unwrap() % 3 < 2).cloned();
    let after = after.map(|document| match document.get_i32("_id").unwrap() {
        id if id % 3 == 0 => post(id, "b", 2),
        id => post(id, "a", 3),
    });
    let after = after.collect();
    (before, after)
}

/// Statements in the log that take part in a batch.
fn logged(log: &str) -> Vec<&str> {
    let statement = |line: &'_ str| line.contains("statement: ") || line.contains("execute ");
    log.lines().filter(|line| statement(line)).collect()
}

#[tokio::test]
async fn how_many_statements_does_not_depend_on_how_many_documents() {
    let server: &'static Postgres =
        Box::leak(Box::new(Postgres::builder().setting("log_statement", "all").start().await.unwrap()));
    let scene = Scene { server, database: server.create_database().await.unwrap(), schema: "public".to_owned() };
    let posts = layout("posts", POSTS);
    let mut numbers = Vec::new();
    for count in [3, 300] {
        let (before, after) = changes(count);
        scene.load(&posts, &before).await.unwrap();
        let session = scene.session().await;
        let mut store = RowStore::open(&session, &posts, WhichTables::Live).await.unwrap();
        let begun = fs::read_to_string(server.log_path()).unwrap().len();
        let done = in_transaction(&session, &mut store, &after, &ids(&before)).await.unwrap();
        let log = fs::read_to_string(server.log_path()).unwrap();
        let statements = logged(&log[begun..]);
        assert_eq!(done.changes.tables[0].updated, count as u64 / 3);
        numbers.push((statements.len() as u64, store.statements()));
        // Nothing differs: nothing is written, and nothing is read again.
        let begun = log.len();
        in_transaction(&session, &mut store, &after, &ids(&after)).await.unwrap();
        let log = fs::read_to_string(server.log_path()).unwrap();
        let statements = logged(&log[begun..]);
        let writing =
            |line: &&&str| ["UPDATE", "DELETE FROM", "COPY", "INSERT", "CREATE"].iter().any(|word| line.contains(word));
        assert_eq!(statements.iter().find(writing), None);
        assert_eq!(statements.iter().filter(|line| line.contains("ANY (")).count(), posts.tables.len());
    }
    assert_eq!(numbers[0], numbers[1]);
    let (logged, counted) = numbers[0];
    // The transaction's own: BEGIN and COMMIT, each in a message, and with BEGIN the settings.
    assert!(counted <= logged && logged <= counted + 2, "{numbers:?}");
}

#[tokio::test]
async fn a_batch_that_is_rolled_back_has_never_been() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let (before, after) = changes(30);
    scene.load(&posts, &before).await.unwrap();
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &posts, WhichTables::Live).await.unwrap();
    // The temporary tables are made in it, and are gone with it.
    for _ in 0..2 {
        session.begin().await.unwrap();
        let keys = super::keys_of(&posts, &ids(&before));
        let mut flattener = gizer_flatten::Flattener::new(&posts);
        let done =
            gizer_verify::reconcile(&mut store, &mut flattener, &[super::batch(&after)], &keys, ReadBack::All.into())
                .await;
        assert!(done.unwrap().changes.total() > 0);
        // Two batches in one transaction: the second must not meet the first one's rows.
        let done =
            gizer_verify::reconcile(&mut store, &mut flattener, &[super::batch(&before)], &keys, ReadBack::All.into())
                .await;
        assert!(done.unwrap().changes.total() > 0);
        session.roll_back().await;
        assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &before).await);
    }
    let done = in_transaction(&session, &mut store, &after, &ids(&before)).await.unwrap();
    assert!(done.changes.tables[0].updated > 0 && done.changes.tables[0].deleted > 0);
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &after).await);
    let kept = "SELECT count(*) || ' ' || sum(pg_relation_size(oid)) FROM pg_class WHERE relname ~ '^gizer_changed'";
    assert_eq!(scene.text(kept).await, "1 0", "one temporary table, and it is empty");
}

#[tokio::test]
async fn several_collections_share_a_session() {
    let scene = Scene::prepared().await;
    // A name of 63 bytes, which leaves no room for another word.
    let long = "x".repeat(63);
    let layouts = [layout("posts", POSTS), layout(&long, r#"{"_id": "INT", "n": "DOUBLE"}"#)];
    let with = |title: &str, n: f64| -> Vec<Document> {
        let mut documents: Vec<Document> = (0..4).map(|id| post(id, title, 1)).collect();
        documents.iter_mut().for_each(|document| drop(document.insert("n", n)));
        documents
    };
    let (before, after) = (with("a", 0.5), with("b", 1.5));
    for layout in &layouts {
        scene.load(layout, &before).await.unwrap();
    }
    let session = scene.session().await;
    let mut posts = RowStore::open(&session, &layouts[0], WhichTables::Live).await.unwrap();
    let mut longs = RowStore::open(&session, &layouts[1], WhichTables::Live).await.unwrap();
    session.begin().await.unwrap();
    let touched: Vec<Bson> = ids(&before);
    for store in [&mut posts, &mut longs] {
        let keys = super::keys_of(store.layout(), &touched);
        let mut flattener = gizer_flatten::Flattener::new(store.layout());
        let done = gizer_verify::reconcile(store, &mut flattener, &[super::batch(&after)], &keys, ReadBack::All.into())
            .await
            .unwrap();
        assert_eq!(done.changes.sum().updated, 4);
    }
    session.end(Ok(())).await.unwrap();
    assert_eq!(scene.texts("SELECT DISTINCT title FROM posts").await, ["b"]);
    assert_eq!(scene.texts(&format!("SELECT DISTINCT n FROM {long}")).await, ["1.5"]);
}
