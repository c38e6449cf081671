//! Of a document only the tables are looked at that an update can have changed, and only what was written is read again.

use std::fs;
use std::sync::Arc;

use bson::{Bson, Document, doc};
use gizer_flatten::{DocumentBatch, Flattener, Scope, TableSet};
use gizer_pg::Session;
use gizer_pg::rows::{Keys, RowStore, WhichTables};
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, TableId};
use gizer_verify::{ReadBack, Reconciled, VerifyError, compare, reconcile};
use integration_tests::rig::Postgres;

use super::{POSTS, batch, deleted, end, fresh, ids, post, reconciled, rows, updated};
use crate::scene::{Scene, layout};

const ROOT: &[usize] = &[0];

fn within(tables: &[usize]) -> Scope {
    let mut set = TableSet::default();
    tables.iter().for_each(|table| set.insert(TableId(*table)));
    Scope::Tables(set)
}

/// The keys of these ids, each in the scope of these tables.
fn keys(layout: &Layout, ids: &[Bson], tables: &[usize]) -> Keys {
    let flattener = Flattener::new(layout);
    let mut keys = Keys::new(layout);
    for id in ids {
        let bytes = doc! {"_id": id}.to_vec().unwrap();
        keys.insert_within(&flattener.key_of(RawDoc::new(&bytes).unwrap()).unwrap(), &within(tables)).unwrap();
    }
    keys
}

async fn scoped_batch(
    session: &Session,
    store: &mut RowStore<'_>,
    documents: DocumentBatch,
    touched: &[Bson],
    tables: &[usize],
) -> Result<Reconciled, VerifyError> {
    session.begin().await?;
    let keys = keys(store.layout(), touched, tables);
    let mut flattener = Flattener::new(store.layout());
    let outcome = reconcile(store, &mut flattener, &[documents], &keys, ReadBack::All.into()).await;
    end(session, outcome).await
}

/// Makes rows equal within these tables, by a session of its own.
async fn scoped(
    scene: &Scene,
    layout: &Arc<Layout>,
    documents: &[Document],
    touched: &[Bson],
    tables: &[usize],
) -> Result<Reconciled, VerifyError> {
    let session = scene.session().await;
    let mut store = RowStore::open(&session, layout, WhichTables::Live).await?;
    scoped_batch(&session, &mut store, batch(documents), touched, tables).await
}

#[tokio::test]
async fn one_scalar_of_a_document_is_one_row_read() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let before: Vec<Document> = (0..20).map(|id| post(id, "a", 2)).collect();
    scene.load(&posts, &before).await.unwrap();
    let mut after = before.clone();
    after.iter_mut().for_each(|document| drop(document.insert("title", "b")));
    let done = scoped(&scene, &posts, &after, &ids(&after), ROOT).await.unwrap();
    assert_eq!((done.documents, done.rows, done.stored), (20, 20 * 19, 20));
    assert_eq!((done.changes.tables[0], done.changes.total()), (updated(20), 20));
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &after).await);
    // An element of an array: the rows on the way, and not what is below its neighbours.
    after[3].get_array_mut("comments").unwrap()[1].as_document_mut().unwrap().insert("body", "new");
    let done = scoped(&scene, &posts, &after[3..4], &ids(&after[3..4]), &[0, 1]).await.unwrap();
    assert_eq!((done.rows, done.stored), (19, 3));
    assert_eq!((done.changes.tables[1], done.changes.total()), (updated(1), 1));
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &after).await);
}

/// Each key has its own scope, and what is out of it stays as it is, whatever the document says.
#[tokio::test]
async fn what_is_out_of_scope_is_let_be() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[post(1, "a", 1), post(2, "a", 1)]).await.unwrap();
    let after = [post(1, "b", 2), post(2, "b", 2)];
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &posts, WhichTables::Live).await.unwrap();
    session.begin().await.unwrap();
    let mut keys = keys(&posts, &[1.into()], ROOT);
    keys.insert(&gizer_flatten::Cell::Integer(2));
    let mut flattener = Flattener::new(&posts);
    let done = reconcile(&mut store, &mut flattener, &[batch(&after)], &keys, ReadBack::All.into()).await.unwrap();
    assert_eq!((done.stored, done.changes.tables[0], done.changes.total()), (1 + 10, updated(2), 2 + 9));
    // To compare is to look at everything.
    let verdict = compare(&mut store, &mut flattener, &[batch(&after)], &keys).await.unwrap();
    assert_eq!(verdict.differences.len(), 9, "{:?}", verdict.differences);
    session.end(Ok(())).await.unwrap();
    let done = reconciled(&scene, &posts, &after, &ids(&after)).await.unwrap();
    assert_eq!(done.changes.total(), 9);
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &after).await);
}

/// Its last entry was an update: that it is gone is known from its not being there alone.
#[tokio::test]
async fn a_document_that_is_gone_leaves_nothing_in_any_table() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let before = [post(1, "a", 1), post(2, "a", 1)];
    scene.load(&posts, &before).await.unwrap();
    let done = scoped(&scene, &posts, &before[1..], &ids(&before), ROOT).await.unwrap();
    assert_eq!(done.changes.tables, [deleted(1), deleted(1), deleted(2), deleted(6)]);
    assert_eq!(done.stored, 1, "the rows of what is gone are deleted unread");
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &before[1..]).await);
}

/// A document without a root row was rejected before, or is another one than was updated.
#[tokio::test]
async fn a_document_that_had_no_rows_gets_them_all() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[post(1, "a", 1)]).await.unwrap();
    let after = [post(1, "b", 1), post(2, "b", 1)];
    let done = scoped(&scene, &posts, &after, &ids(&after), ROOT).await.unwrap();
    assert_eq!((done.changes.sum().inserted, done.changes.total()), (10, 11));
    assert_eq!(done.tally.read, 2, "counted once, though it was looked at twice");
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &after).await);
}

#[tokio::test]
async fn a_document_that_is_rejected_leaves_nothing_in_any_table() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    scene.load(&posts, &[post(1, "a", 1), post(2, "a", 1)]).await.unwrap();
    let mut broken = post(1, "broken", 1).to_vec().unwrap();
    // A type that there is not, behind its first rows.
    let at = broken.windows(7).position(|bytes| bytes == b"indices").unwrap();
    broken[at + b"indices\0....".len()] = 0xEE;
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &posts, WhichTables::Live).await.unwrap();
    let documents = DocumentBatch::from_sequence(broken.into()).unwrap();
    let done = scoped_batch(&session, &mut store, documents, &[1.into()], ROOT).await.unwrap();
    assert_eq!((done.rejected.len(), done.tally.rejected), (1, 1));
    assert_eq!(done.changes.tables, [deleted(1), deleted(1), deleted(2), deleted(6)]);
    assert_eq!(rows(&scene, "public", &posts).await, fresh(&scene, &posts, &[post(2, "a", 1)]).await);
}

/// What a trigger on a table of the scope does to the rows that are written there is found as ever.
#[tokio::test]
async fn faults_in_what_is_written_are_found() {
    let comments = |elements, body: &str| {
        let mut post = post(1, "a", elements);
        post.get_array_mut("comments").unwrap()[0].as_document_mut().unwrap().insert("body", body);
        post
    };
    for (change, found) in [
        ("IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; NEW.body := 'x'; RETURN NEW;", "position 1: body differs"),
        ("IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NULL;", "position 1: body differs"),
        ("IF TG_OP = 'DELETE' THEN RETURN NULL; END IF; RETURN NEW;", "position 3: the row is left over"),
        (
            "IF TG_OP = 'UPDATE' THEN INSERT INTO public.post_comments (posts_id, idx) VALUES (1, 9); END IF; \
             IF TG_OP = 'DELETE' THEN IF OLD.idx = 9 THEN RETURN NULL; END IF; RETURN OLD; END IF; RETURN NEW;",
            "position 9: the row is left over",
        ),
    ] {
        let scene = Scene::prepared().await;
        let posts = layout("posts", POSTS);
        scene.load(&posts, &[comments(3, "a"), post(2, "a", 3)]).await.unwrap();
        scene
            .sql(&format!(
                "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {change} END $$; CREATE TRIGGER \
                 meddle BEFORE INSERT OR UPDATE OR DELETE ON post_comments FOR EACH ROW EXECUTE FUNCTION meddle()"
            ))
            .await;
        let after = [comments(2, "b"), post(2, "a", 3)];
        let error = scoped(&scene, &posts, &after, &ids(&after), &[0, 1, 2, 3]).await.unwrap_err();
        let VerifyError::Differs(differing) = error else { panic!("{error:?}") };
        assert_eq!(differing.described, [format!("post_comments, key 1, {found}")], "{change}");
        assert_eq!(differing.verdict.documents, 1, "the other document was not written");
    }
}

/// By the server's own log: the tables that are read, and under which keys.
#[tokio::test]
async fn what_is_read_again_is_what_was_written() {
    let server: &'static Postgres =
        Box::leak(Box::new(Postgres::builder().setting("log_statement", "all").start().await.unwrap()));
    let scene = Scene { server, database: server.create_database().await.unwrap(), schema: "public".to_owned() };
    let posts = layout("posts", POSTS);
    let before: Vec<Document> = (0..5).map(|id| post(id, "a", 1)).collect();
    scene.load(&posts, &before).await.unwrap();
    let mut after = before.clone();
    after[3].insert("title", "b");
    let session = scene.session().await;
    for (tables, reads) in [
        (ROOT, vec!["posts {0,1,2,3,4}", "posts {3}"]),
        (
            &[0, 1, 2, 3],
            vec![
                "posts {0,1,2,3,4}",
                "post_comments {0,1,2,3,4}",
                "post_comment_items {0,1,2,3,4}",
                "post_comment_item_indices {0,1,2,3,4}",
                "posts {3}",
            ],
        ),
    ] {
        let mut store = RowStore::open(&session, &posts, WhichTables::Live).await.unwrap();
        let begun = fs::read_to_string(server.log_path()).unwrap().len();
        let done = scoped_batch(&session, &mut store, batch(&after), &ids(&after), tables).await.unwrap();
        assert_eq!(done.changes.total(), 1);
        let log = fs::read_to_string(server.log_path()).unwrap();
        assert_eq!(read(&log[begun..]), reads);
        reconciled(&scene, &posts, &before, &ids(&before)).await.unwrap();
    }
}

/// Each table that was read by its keys, and the keys.
fn read(log: &str) -> Vec<String> {
    let mut lines = log.lines();
    let mut reads = Vec::new();
    while let Some(line) = lines.next() {
        if !line.contains("= ANY ($1") {
            continue;
        }
        let table = line.split("FROM \"public\".\"").nth(1).unwrap().split('"').next().unwrap();
        let keys = lines.next().unwrap().split("$1 = '").nth(1).unwrap().trim_end_matches('\'');
        reads.push(format!("{table} {keys}"));
    }
    reads
}
