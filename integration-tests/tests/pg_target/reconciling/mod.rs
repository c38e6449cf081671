//! Rows of touched documents are made equal to them, by writing no more than what differs.

mod faults;
mod kinds;
mod meddling;
mod random;
mod rights;
mod scopes;
mod statements;

use std::sync::Arc;

use bson::{Bson, Document, doc};
use gizer_flatten::{DocumentBatch, Flattener};
use gizer_pg::Session;
use gizer_pg::load::Load;
use gizer_pg::rows::{Keys, RowStore, TableCounts, WhichTables};
use gizer_schema::Layout;
use gizer_schema::raw::RawDoc;
use gizer_verify::{ReadBack, Reconciled, VerifyError, compare, reconcile};

use crate::scene::{Scene, encode, followable, layout, request};

/// The keys of these ids, as far as they are usable.
fn keys_of(layout: &Layout, ids: &[Bson]) -> Keys {
    let flattener = Flattener::new(layout);
    let mut keys = Keys::new(layout);
    for id in ids {
        let bytes = doc! {"_id": id}.to_vec().unwrap();
        if let Ok(key) = flattener.key_of(RawDoc::new(&bytes).unwrap()) {
            keys.insert(&key).unwrap();
        }
    }
    keys
}

fn ids(documents: &[Document]) -> Vec<Bson> {
    documents.iter().map(|document| document.get("_id").unwrap().clone()).collect()
}

fn batch(documents: &[Document]) -> DocumentBatch {
    let bytes: Vec<u8> = documents.iter().flat_map(|document| document.to_vec().unwrap()).collect();
    DocumentBatch::from_sequence(bytes.into()).unwrap()
}

/// A batch as following has it: one transaction, rolled back if the rows cannot be made equal.
async fn in_transaction(
    session: &Session,
    store: &mut RowStore<'_>,
    documents: &[Document],
    touched: &[Bson],
) -> Result<Reconciled, VerifyError> {
    session.begin().await?;
    let keys = keys_of(store.layout(), touched);
    // In two batches of documents, as they may come.
    let (one, other) = documents.split_at(documents.len() / 2);
    let documents = [batch(one), batch(other)];
    let mut flattener = Flattener::new(store.layout());
    let outcome = reconcile(store, &mut flattener, &documents, &keys, ReadBack::All.into()).await;
    end(session, outcome).await
}

/// Commits, or rolls back.
async fn end<T>(session: &Session, outcome: Result<T, VerifyError>) -> Result<T, VerifyError> {
    match outcome {
        Ok(value) => Ok(session.end(Ok(value)).await?),
        Err(error) => {
            session.roll_back().await;
            Err(error)
        }
    }
}

/// The same on a session of its own, with live tables.
async fn reconciled(
    scene: &Scene,
    layout: &Arc<Layout>,
    documents: &[Document],
    touched: &[Bson],
) -> Result<Reconciled, VerifyError> {
    let session = scene.session().await;
    let mut store = RowStore::open(&session, layout, WhichTables::Live).await?;
    in_transaction(&session, &mut store, documents, touched).await
}

/// All rows of the layout's tables, as text.
async fn rows(scene: &Scene, schema: &str, layout: &Layout) -> Vec<Vec<String>> {
    let mut tables = Vec::new();
    for table in &layout.tables {
        let name = table.name.replace('"', "\"\"");
        let sql = format!("SELECT t::text FROM {schema}.\"{name}\" t ORDER BY t::text COLLATE \"C\"");
        tables.push(scene.texts(&sql).await);
    }
    tables
}

/// The rows that a load of these documents alone gives.
async fn fresh(scene: &Scene, layout: &Layout, documents: &[Document]) -> Vec<Vec<String>> {
    scene.sql("CREATE SCHEMA IF NOT EXISTS fresh").await;
    let place = Scene { server: scene.server, database: scene.database.clone(), schema: "fresh".to_owned() };
    place.load(layout, documents).await.unwrap();
    rows(scene, "fresh", layout).await
}

fn deleted(rows: u64) -> TableCounts {
    TableCounts { deleted: rows, ..TableCounts::default() }
}

fn updated(rows: u64) -> TableCounts {
    TableCounts { updated: rows, ..TableCounts::default() }
}

const POSTS: &str = r#"{"_id": "INT", "title": "STRING", "views": "BIGINT",
    "comments": [{"body": "STRING", "items": [{"data": "STRING", "indices": ["INT"]}]}]}"#;

/// `elements` comments, each with two items of three indices.
fn post(id: i32, title: &str, elements: usize) -> Document {
    let comment = |at: usize| {
        let items = vec![doc! {"data": "d", "indices": [1, 2, 3]}; 2];
        doc! {"body": format!("body {at}"), "items": items}
    };
    doc! {"_id": id, "title": title, "views": 1i64 << 40, "comments": (0..elements).map(comment).collect::<Vec<_>>()}
}

#[tokio::test]
async fn one_scalar_of_a_long_document_is_one_row() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let before = [post(1, "a", 1_000), post(2, "a", 3)];
    scene.load(&posts, &before).await.unwrap();
    let mut after = before.clone();
    after[0].insert("title", "b");
    let done = reconciled(&scene, &posts, &after, &ids(&after)).await.unwrap();
    assert_eq!(done.changes.tables[0], updated(1));
    assert_eq!(done.changes.total(), 1);
    assert_eq!((done.documents, done.rows, done.stored), (2, 9_029, 9_029));
    // One element's scalar, deep inside.
    after[0].get_array_mut("comments").unwrap()[998].as_document_mut().unwrap().get_array_mut("items").unwrap()[1]
        .as_document_mut()
        .unwrap()
        .insert("indices", [1, 2, 4]);
    let done = reconciled(&scene, &posts, &after, &ids(&after)).await.unwrap();
    assert_eq!(done.changes.tables[3], updated(1));
    assert_eq!(done.changes.total(), 1);
    let changed = "SELECT posts_comments_idx || ' ' || posts_comments_items_idx || ' ' || idx \
                   FROM post_comment_item_indices WHERE indices = 4";
    assert_eq!(scene.text(changed).await, "999 2 3");
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &after).await);
}

/// The classic tool's verifier looked for the rows of documents, and not for documents of rows: it did not see rows that an
/// array leaves behind when it becomes empty.
#[tokio::test]
async fn rows_of_an_array_that_became_empty_are_left_over() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[post(1, "a", 3), post(2, "a", 3)]).await.unwrap();
    let mut after = [post(1, "a", 3), post(2, "a", 3)];
    after[0].insert("comments", Bson::Array(Vec::new()));
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &posts, WhichTables::Live).await.unwrap();
    session.begin().await.unwrap();
    let keys = keys_of(&posts, &ids(&after));
    let verdict = compare(&mut store, &mut Flattener::new(&posts), &[batch(&after)], &keys).await.unwrap();
    assert_eq!(verdict.differences.len(), 3 + 6 + 18);
    assert!(verdict.differences.iter().all(|difference| difference.fault == gizer_verify::Fault::LeftOver));
    assert_eq!(verdict.differences[0].describe(&posts), "post_comments, key 1, position 1: the row is left over");
    let done = in_transaction(&session, &mut store, &after, &ids(&after)).await.unwrap();
    assert_eq!(done.changes.tables, [deleted(0), deleted(3), deleted(6), deleted(18)]);
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &after).await);
    // Missing, null and of another type are no different from empty.
    for (id, comments) in [(1, Some(Bson::Null)), (2, Some(Bson::from("none"))), (2, None)] {
        let mut gone = post(id, "a", 0);
        gone.remove("comments");
        gone.extend(comments.map(|comments| ("comments".to_owned(), comments)));
        reconciled(&scene, &posts, &[gone], &[id.into()]).await.unwrap();
        assert_eq!(scene.text(&format!("SELECT count(*) FROM post_comments WHERE posts_id = {id}")).await, "0");
    }
}

/// The classic tool updated all columns but those of type BIGINT.
#[tokio::test]
async fn bigint_columns_are_written_by_updates() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[post(1, "a", 1)]).await.unwrap();
    let mut after = post(1, "a", 1);
    after.insert("views", i64::MAX);
    let done = reconciled(&scene, &posts, &[after], &[1.into()]).await.unwrap();
    assert_eq!(done.changes.tables[0], updated(1));
    assert_eq!(scene.text("SELECT views FROM posts").await, i64::MAX.to_string());
}

#[tokio::test]
async fn elements_that_change_places_are_written_in_theirs() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", r#"{"_id": "INT", "l": [{"n": "INT", "m": ["STRING"]}]}"#);
    let element = |n: i32| doc! {"n": n, "m": vec!["x".to_owned(); n as usize]};
    scene.load(&posts, &[doc! {"_id": 1, "l": [element(1), element(2), element(3)]}]).await.unwrap();
    let after = [doc! {"_id": 1, "l": [element(3), element(2), element(1)]}];
    let done = reconciled(&scene, &posts, &after, &[1.into()]).await.unwrap();
    assert_eq!(done.changes.tables, [updated(0), updated(2), TableCounts { deleted: 2, updated: 0, inserted: 2 }]);
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &after).await);
}

#[tokio::test]
async fn documents_that_are_gone_leave_nothing_and_others_stay() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[post(1, "a", 2), post(2, "a", 2), post(3, "a", 2)]).await.unwrap();
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &posts, WhichTables::Live).await.unwrap();
    // 1 is gone, 4 is new, 5 never was here; of 2 and 3 nothing was said.
    let touched = [1.into(), 4.into(), 5.into()];
    let done = in_transaction(&session, &mut store, &[post(4, "new", 1)], &touched).await.unwrap();
    let sum = done.changes.sum();
    assert_eq!((sum.deleted, sum.updated, sum.inserted), (1 + 2 + 4 + 12, 0, 1 + 1 + 2 + 6));
    let after = [post(2, "a", 2), post(3, "a", 2), post(4, "new", 1)];
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &after).await);
    let again = in_transaction(&session, &mut store, &[post(4, "new", 1)], &touched).await.unwrap();
    assert_eq!((again.changes.total(), again.stored), (0, 10));
    // No keys at all: nothing to do.
    assert_eq!(in_transaction(&session, &mut store, &[], &[]).await.unwrap().changes.total(), 0);
}

#[tokio::test]
async fn a_document_whose_id_was_not_asked_for_counts_as_touched() {
    let scene = Scene::prepared().await;
    let people = layout("people", r#"{"_id": "STRING", "n": "INT"}"#);
    scene.load(&people, &[doc! {"_id": "Ann", "n": 1}, doc! {"_id": "ann", "n": 1}]).await.unwrap();
    // Under a collation that is blind for case a look-up of "ann" gives "Ann".
    let done = reconciled(&scene, &people, &[doc! {"_id": "Ann", "n": 2}], &["ann".into()]).await.unwrap();
    assert_eq!(done.changes.tables, [TableCounts { deleted: 1, updated: 1, inserted: 0 }]);
    assert_eq!(scene.texts("SELECT id || n FROM people").await, ["Ann2"]);
}

#[tokio::test]
async fn two_documents_of_one_key_are_refused_by_name() {
    let scene = Scene::prepared().await;
    let people = layout("people", r#"{"_id": "INT", "n": "INT"}"#);
    scene.load(&people, &[doc! {"_id": 1, "n": 1}]).await.unwrap();
    let both = [doc! {"_id": 1, "n": 1}, doc! {"_id": 1.0, "n": 2}];
    let error = reconciled(&scene, &people, &both, &[1.into()]).await.unwrap_err();
    assert!(matches!(&error, VerifyError::SameKey { key, .. } if key == "1"), "{error:?}");
}

#[tokio::test]
async fn rejected_documents_are_given_back_and_have_no_rows() {
    let scene = Scene::prepared().await;
    let people = layout("people", r#"{"_id": "INT", "l": ["INT"]}"#);
    scene.load(&people, &[doc! {"_id": 1, "l": [1, 2]}, doc! {"_id": 2, "l": [1]}]).await.unwrap();
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &people, WhichTables::Live).await.unwrap();
    // The second one breaks off inside of its array, after rows have come.
    let mut broken = doc! {"_id": 2, "l": [1, 2, "text"]}.to_vec().unwrap();
    let at = broken.windows(4).position(|bytes| bytes == b"text").unwrap();
    broken[at - 4] = 0xEE;
    let unfit = doc! {"_id": "x"}.to_vec().unwrap();
    let good = doc! {"_id": 1, "l": [1, 3, "stray"]}.to_vec().unwrap();
    let documents = DocumentBatch::from_sequence([good, broken.clone(), unfit.clone()].concat().into()).unwrap();
    session.begin().await.unwrap();
    let keys = keys_of(&people, &[1.into(), 2.into(), "x".into()]);
    let outcome = reconcile(&mut store, &mut Flattener::new(&people), &[documents], &keys, ReadBack::All.into()).await;
    let done = end(&session, outcome).await.unwrap();
    assert_eq!(done.rejected.len(), 2);
    assert_eq!((done.rejected[0].id.as_str(), &done.rejected[0].document), (r#"{"$numberInt":"2"}"#, &broken));
    assert_eq!(done.rejected[1].reason, "_id is STRING: expected INT");
    assert_eq!((done.tally.read, done.tally.loaded, done.tally.rejected), (3, 1, 2));
    assert_eq!(done.tally.mismatches(&people).len(), 1, "counted once, though it was looked at twice");
    assert_eq!(done.changes.tables, [deleted(1), TableCounts { deleted: 1, updated: 1, inserted: 1 }]);
    assert_eq!(
        scene.texts("SELECT people_id || ':' || coalesce(l::text, '-') FROM people_l ORDER BY idx").await,
        ["1:1", "1:3", "1:-"]
    );
}

/// An align writes into the tables of a load that is not swapped in yet.
#[tokio::test]
async fn staging_tables_are_written_like_live_ones() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[post(1, "live", 1)]).await.unwrap();
    let session = scene.session().await;
    let load = Load::begin(&session, request(&posts, followable(1))).await.unwrap();
    let mut sink = load.sink(scene.session().await).unwrap();
    gizer_pg::load::RangeSink::write(&mut sink, encode(&posts, &[post(1, "a", 1), post(2, "a", 1)])).await.unwrap();
    // Before there are keys a row may be there twice.
    scene.sql("INSERT INTO gizer_new_post_comments SELECT * FROM gizer_new_post_comments WHERE posts_id = 1").await;
    let batch_session = scene.session().await;
    let mut store = RowStore::open(&batch_session, &posts, WhichTables::Staging).await.unwrap();
    let after = [post(1, "b", 1), post(3, "b", 2)];
    let touched = [1.into(), 2.into(), 3.into()];
    let done = in_transaction(&batch_session, &mut store, &after, &touched).await.unwrap();
    assert_eq!(done.changes.tables[1], TableCounts { deleted: 3, updated: 0, inserted: 3 }, "two copies of one row");
    load.build_keys(&[], gizer_pg::load::KeySettings::default()).await.unwrap();
    assert_eq!(scene.texts("SELECT title FROM posts").await, ["live"]);
    load.swap(&crate::scene::quick(), &gizer_pg::state::Ledger::default(), None).await.unwrap();
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &after).await);
    // A store of live tables finds those that were swapped in meanwhile.
    let mut live = RowStore::open(&batch_session, &posts, WhichTables::Live).await.unwrap();
    in_transaction(&batch_session, &mut live, &[post(1, "c", 1)], &[1.into()]).await.unwrap();
    scene.load(&posts, &[post(1, "again", 1)]).await.unwrap();
    let done = in_transaction(&batch_session, &mut live, &[post(1, "d", 1)], &[1.into()]).await.unwrap();
    assert_eq!(done.changes.total(), 1);
    assert_eq!(scene.text("SELECT title FROM posts").await, "d");
}

#[tokio::test]
async fn columns_that_people_have_added_keep_their_values() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[post(1, "a", 2)]).await.unwrap();
    scene
        .sql(
            "ALTER TABLE post_comments ADD COLUMN rating int NOT NULL DEFAULT 3; UPDATE post_comments SET rating = idx",
        )
        .await;
    let mut after = post(1, "a", 3);
    after.get_array_mut("comments").unwrap()[1].as_document_mut().unwrap().insert("body", "new");
    let done = reconciled(&scene, &posts, &[after], &[1.into()]).await.unwrap();
    assert_eq!(done.changes.tables[1], TableCounts { deleted: 0, updated: 1, inserted: 1 });
    let read = "SELECT idx || body || rating FROM post_comments ORDER BY idx";
    assert_eq!(scene.texts(read).await, ["1body 01", "2new2", "3body 23"]);
}
