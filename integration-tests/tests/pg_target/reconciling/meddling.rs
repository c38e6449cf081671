//! A stage that spoils rows after they were written: what is read back is written a second time.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use gizer_flatten::Flattener;
use gizer_pg::rows::{Keys, RowChanges, RowCounts, RowStore, StoredTuple, WhichTables};
use gizer_pg::{PgError, Session};
use gizer_schema::{Layout, TableId};
use gizer_verify::{Checks, ReadBack, Reconciled, RowTables, VerifyError, reconcile};
use tokio_postgres::SimpleQueryMessage;

use super::{batch, end, fresh, ids, keys_of, rows};
use crate::scene::{Scene, layout};

const THINGS: &str = r#"{"_id": "INT", "s": "STRING", "l": ["INT"]}"#;

fn thing(id: i32, s: &str) -> Document {
    doc! {"_id": id, "s": s, "l": [id, if s == "old" { 0 } else { 1 }]}
}

/// Each table, and what spoils a row of it.
const SPOILING: [(&str, &str); 2] = [("public.things", "s = 'spoiled'"), ("public.thing_l", "l = -1")];

/// Spoils every so-manieth row that is written.
struct Meddling<'s> {
    store: RowStore<'s>,
    session: &'s Session,
    every: usize,
    written: usize,
}

impl Meddling<'_> {
    async fn places(&self, table: &str) -> Vec<String> {
        let found = self.session.client().simple_query(&format!("SELECT ctid FROM {table}")).await.unwrap();
        let place = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap().to_owned()),
            _ => None,
        };
        found.iter().filter_map(place).collect()
    }
}

impl RowTables for Meddling<'_> {
    fn layout(&self) -> &Arc<Layout> {
        self.store.layout()
    }

    async fn read(
        &mut self,
        keys: &Keys,
        each: impl FnMut(TableId, u32, StoredTuple<'_>) + Send,
    ) -> Result<(), PgError> {
        self.store.read(keys, each).await
    }

    async fn write(&mut self, changes: &RowChanges) -> Result<RowCounts, PgError> {
        let mut before = Vec::new();
        for (table, _) in SPOILING {
            before.push(self.places(table).await);
        }
        let counts = self.store.write(changes).await?;
        for ((table, spoil), before) in SPOILING.iter().zip(before) {
            let before: std::collections::HashSet<String> = before.into_iter().collect();
            let mut spoiled = Vec::new();
            for place in self.places(table).await.into_iter().filter(|place| !before.contains(place)) {
                self.written += 1;
                if self.written.is_multiple_of(self.every) {
                    spoiled.push(format!("'{place}'::tid"));
                }
            }
            if !spoiled.is_empty() {
                let sql = format!("UPDATE {table} SET {spoil} WHERE ctid IN ({})", spoiled.join(", "));
                self.session.client().batch_execute(&sql).await.unwrap();
            }
        }
        Ok(counts)
    }

    async fn delete_documents(&mut self, keys: &Keys) -> Result<RowCounts, PgError> {
        self.store.delete_documents(keys).await
    }
}

/// 300 documents, of each of which two rows change, and every so-manieth of those is spoiled.
async fn spoilt(every: usize, checks: Checks) -> (Scene, Arc<Layout>, Result<Reconciled, VerifyError>) {
    let scene = Scene::prepared().await;
    let things = layout("things", THINGS);
    let before: Vec<Document> = (0..300).map(|id| thing(id, "old")).collect();
    scene.load(&things, &before).await.unwrap();
    let session = scene.session().await;
    let store = RowStore::open(&session, &things, WhichTables::Live).await.unwrap();
    let mut meddling = Meddling { store, session: &session, every, written: 0 };
    session.begin().await.unwrap();
    let after: Vec<Document> = (0..300).map(|id| thing(id, "new")).collect();
    let keys = keys_of(&things, &ids(&after));
    let outcome = reconcile(&mut meddling, &mut Flattener::new(&things), &[batch(&after)], &keys, checks).await;
    let outcome = end(&session, outcome).await;
    drop(meddling);
    (scene, things, outcome)
}

#[tokio::test]
async fn what_is_spoiled_now_and_then_ends_equal() {
    let (scene, things, done) = spoilt(100, ReadBack::All.into()).await;
    let done = done.unwrap();
    // Three in each table, of the same documents.
    assert_eq!((done.changes.sum().updated, done.repaired), (600 + 6, 3));
    let after: Vec<Document> = (0..300).map(|id| thing(id, "new")).collect();
    assert_eq!(rows(&scene, "public", &things).await, fresh(&scene, &things, &after).await);
}

#[tokio::test]
async fn what_is_spoiled_always_is_an_error_that_shows_values_when_asked() {
    let (scene, _, error) = spoilt(1, ReadBack::All.into()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("written twice") && error.contains("things, key 0: s differs"), "{error}");
    assert!(!error.contains("spoiled") && !error.contains("new"), "{error}");
    assert_eq!(scene.texts("SELECT DISTINCT s FROM things").await, ["old"], "rolled back");
    let checks = Checks { show_values: true, ..ReadBack::All.into() };
    let error = spoilt(1, checks).await.2.unwrap_err().to_string();
    let shown = "things, key 0: s differs: \"new\" in the document, \"spoiled\" in the table";
    assert!(error.contains(shown), "{error}");
}

#[tokio::test]
async fn a_sample_is_a_part_and_finds_what_is_spoiled_in_it() {
    let (.., error) = spoilt(1, ReadBack::Sample(16).into()).await;
    let VerifyError::Differs(differing) = error.unwrap_err() else { panic!("expected a difference") };
    assert!((5..50).contains(&differing.verdict.documents), "{}", differing.verdict.documents);
    let done = spoilt(1, ReadBack::Sample(u32::MAX).into()).await.2.unwrap();
    assert_eq!(done.repaired, 0, "nobody has looked");
    assert_eq!(spoilt(1, ReadBack::Off.into()).await.2.unwrap().repaired, 0);
}

/// Of those that are not in the sample at least the number of rows is right.
#[tokio::test]
async fn a_sample_counts_all_rows() {
    let scene = Scene::prepared().await;
    let things = layout("things", THINGS);
    scene.load(&things, &[thing(1, "old")]).await.unwrap();
    let lose = "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
                CREATE TRIGGER lose BEFORE UPDATE ON things FOR EACH ROW EXECUTE FUNCTION lose()";
    scene.sql(lose).await;
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &things, WhichTables::Live).await.unwrap();
    session.begin().await.unwrap();
    let (keys, never) = (keys_of(&things, &[Bson::from(1)]), ReadBack::Sample(u32::MAX).into());
    let outcome = reconcile(&mut store, &mut Flattener::new(&things), &[batch(&[thing(1, "new")])], &keys, never).await;
    let error = end(&session, outcome).await.unwrap_err();
    assert_eq!(error.to_string(), "1 rows of things were written: expected 2");
}
