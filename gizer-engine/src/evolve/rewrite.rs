//! Rewriting rows by a layout that has grown.
//!
//! A chunk of documents is one transaction: their rows are read, rebuilt as documents, flattened by
//! the new layout, written where they differ, read back and compared, and how far that has come is
//! recorded with them. The last chunk makes the new layout that of the collection.

use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::{DocumentBatch, Flattener};
use gizer_pg::rows::{Keys, RowStore, WhichTables};
use gizer_pg::state::{self, UnfinishedVersion};
use gizer_pg::{Blame, PgError, Session, growth};
use gizer_schema::{Growth, Layout, TableId};
use gizer_verify::{Checks, ReadBack, StoredRows, VerifyError, rebuild_stored, reconcile, reconcile_stored};

use crate::env::Env;
use crate::fail_point::fail_point;
use crate::failure::Failure;

/// How much was rewritten.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rewritten {
    pub(super) documents: u64,
    pub(super) rows: u64,
}

/// Why rows could not be rewritten.
pub(super) struct RewriteFailure {
    pub(super) failure: Failure,
    /// Whether the same would come again: the rows, or what hangs on them, not the server, are at
    /// fault.
    pub(super) is_of_the_rows: bool,
}

impl RewriteFailure {
    /// The rows are at fault.
    pub(super) fn of_rows(message: String) -> RewriteFailure {
        RewriteFailure { failure: Failure::failed(message), is_of_the_rows: true }
    }
}

impl From<Failure> for RewriteFailure {
    fn from(failure: Failure) -> RewriteFailure {
        RewriteFailure { failure, is_of_the_rows: false }
    }
}

impl From<PgError> for RewriteFailure {
    fn from(error: PgError) -> RewriteFailure {
        let is_of_the_rows = error.is_data_rejected() || error.blame() == Blame::Document;
        // What hangs on the tables does not allow of it.
        let is_of_the_rows =
            is_of_the_rows || matches!(error, PgError::NotCarriedOver { .. } | PgError::Dependents { .. });
        RewriteFailure { failure: error.into(), is_of_the_rows }
    }
}

impl From<VerifyError> for RewriteFailure {
    fn from(error: VerifyError) -> RewriteFailure {
        match error {
            VerifyError::Tables(error) => error.into(),
            error => RewriteFailure::of_rows(error.to_string()),
        }
    }
}

/// Documents of the first chunk; later ones are as large as the memory allows.
pub(super) const FIRST_DOCUMENTS: usize = 200;

/// Documents of a chunk at most.
pub(super) const MAX_DOCUMENTS: usize = 10_000;

/// Rewrites all rows that hold a field which has a place now, and makes the version that of the collection.
pub(super) async fn rewrite(
    env: &Env,
    session: &Session,
    version: UnfinishedVersion,
    after: &Arc<Layout>,
    growth: &Growth,
    paths: &[String],
) -> Result<Rewritten, RewriteFailure> {
    let mut chunks = Chunks::open(env, session, after, after).await?;
    let mut at = version;
    let tables: Vec<(TableId, Vec<String>)> = growth
        .by_table()
        .into_iter()
        .map(|(table, fields)| (table, fields.into_iter().map(gizer_flatten::pointer).collect()))
        .collect();
    let begun =
        at.place.as_ref().and_then(|(name, _)| tables.iter().position(|(id, _)| after.table(*id).name == *name));
    for (number, (table, pointers)) in tables.iter().enumerate().skip(begun.unwrap_or_default()) {
        let mut is_done = false;
        while !is_done {
            stop_if_asked(env)?;
            let upto =
                at.place.clone().filter(|(name, _)| *name == after.table(*table).name).and_then(|(_, upto)| upto);
            session.begin().await?;
            let chunk = async {
                let keys = chunks.store.keys_with_extra(*table, pointers, upto.as_deref(), chunks.documents).await?;
                let mut now = at.clone();
                is_done = keys.len() < chunks.documents;
                let last = keys.last().cloned().or(upto);
                now.place = Some((after.table(*table).name.clone(), last));
                let rows = chunks.rewrite(&keys).await?;
                now.rewritten.0 += keys.len() as u64;
                now.rewritten.1 += rows;
                state::note_rewritten(session, &at, &now).await?;
                if is_done && number + 1 == tables.len() {
                    growth::finish(session, &now, paths).await?;
                }
                fail_point("evolve.in_chunk");
                Ok::<_, RewriteFailure>(now)
            };
            at = end(session, chunk.await).await?;
            fail_point("evolve.after_chunk");
        }
    }
    if tables.is_empty() {
        session.begin().await?;
        let finished = growth::finish(session, &at, paths).await.map_err(RewriteFailure::from);
        end(session, finished).await?;
    }
    Ok(Rewritten { documents: at.rewritten.0, rows: at.rewritten.1 })
}

/// Gives values that were moved into new columns and tables back to `_extra`.
pub(super) async fn take_back(
    env: &Env,
    session: &Session,
    (before, after): (&Arc<Layout>, &Arc<Layout>),
    growth: &Growth,
    version: i64,
    why: &str,
) -> Result<(), Failure> {
    let collection = &before.collection;
    session.in_transaction(state::begin_to_give_up(session, collection, version, why)).await?;
    let mut chunks = Chunks::open(env, session, after, before).await?;
    let mut tables: Vec<TableId> = growth.columns.iter().map(|(table, _)| *table).collect();
    tables.dedup();
    tables.extend(&growth.tables);
    for table in tables {
        let columns: Vec<_> = growth.columns.iter().filter(|(of, _)| *of == table).map(|(_, column)| *column).collect();
        let mut upto: Option<Vec<u8>> = None;
        loop {
            stop_if_asked(env)?;
            session.begin().await?;
            let chunk = async {
                let keys = chunks.store.keys_with_values(table, &columns, upto.as_deref(), chunks.documents).await?;
                chunks.rewrite(&keys).await?;
                Ok::<_, RewriteFailure>(keys.last().cloned())
            };
            match end(session, chunk.await).await.map_err(|failure| failure.failure)? {
                Some(last) => upto = Some(last),
                None => break,
            }
        }
    }
    Ok(())
}

pub(super) fn stop_if_asked(env: &Env) -> Result<(), Failure> {
    env.stop.reason().map_or(Ok(()), Err)
}

/// Ends the transaction of a chunk.
pub(super) async fn end<T>(session: &Session, outcome: Result<T, RewriteFailure>) -> Result<T, RewriteFailure> {
    match outcome {
        Ok(done) => Ok(session.end(Ok(done)).await?),
        Err(failure) => {
            session.roll_back().await;
            Err(failure)
        }
    }
}

/// Reads documents by one layout and writes them by another.
struct Chunks<'c> {
    /// Reads, and finds keys.
    store: RowStore<'c>,
    from: Arc<Layout>,
    /// Writes, where that is by another layout of the same tables.
    to: Option<RowStore<'c>>,
    flattener: Flattener,
    checks: Checks,
    /// Documents of the next chunk.
    documents: usize,
    /// Bytes of documents that a chunk should have.
    bytes: usize,
}

impl<'c> Chunks<'c> {
    async fn open(
        env: &Env,
        session: &'c Session,
        from: &Arc<Layout>,
        to: &Arc<Layout>,
    ) -> Result<Chunks<'c>, PgError> {
        let to_other = match Arc::ptr_eq(from, to) {
            true => None,
            false => Some(RowStore::open(session, to, WhichTables::Live).await?),
        };
        Ok(Chunks {
            store: RowStore::open(session, from, WhichTables::Live).await?,
            from: Arc::clone(from),
            to: to_other,
            flattener: Flattener::new(to),
            checks: Checks { read_back: ReadBack::All, show_values: false },
            documents: FIRST_DOCUMENTS,
            bytes: env.settings.memory / 16,
        })
    }

    /// Rewrites the documents of these keys, in the open transaction; gives the number of rows written.
    async fn rewrite(&mut self, fields: &[Vec<u8>]) -> Result<u64, RewriteFailure> {
        if fields.is_empty() {
            return Ok(0);
        }
        let (keys, stored, batch) = stored_documents(&mut self.store, &self.from, fields).await?;
        let bytes = batch.document_bytes();
        let reconciled = match self.to.as_mut() {
            None => {
                let rows = (&keys, stored);
                reconcile_stored(&mut self.store, &mut self.flattener, &[batch], rows, self.checks).await?
            }
            Some(to) => {
                drop(stored);
                reconcile(to, &mut self.flattener, &[batch], &keys, self.checks).await?
            }
        };
        if let Some(rejected) = reconciled.rejected.first() {
            let message = format!("the document {} has no rows by the new schema", rejected.id);
            return Err(RewriteFailure::of_rows(message));
        }
        self.documents = (fields.len() * self.bytes / bytes.max(1)).clamp(1, MAX_DOCUMENTS);
        Ok(reconciled.changes.total())
    }
}

/// The rows of these keys, and the documents rebuilt from them.
pub(super) async fn stored_documents(
    store: &mut RowStore<'_>,
    layout: &Layout,
    fields: &[Vec<u8>],
) -> Result<(Keys, StoredRows, DocumentBatch), RewriteFailure> {
    let mut keys = Keys::new(layout);
    for field in fields {
        keys.insert_stored(field);
    }
    let stored = StoredRows::read(store, &keys).await?;
    let mut documents = Vec::new();
    for number in 0..u32::try_from(keys.len()).unwrap_or(u32::MAX) {
        let document = rebuild_stored(layout, &stored, number)
            .map_err(|error| RewriteFailure::of_rows(format!("rows are not those of a document: {error}")))?;
        documents.extend_from_slice(&document);
    }
    let batch = DocumentBatch::from_sequence(Bytes::from(documents))
        .map_err(|error| Failure::failed(format!("a document rebuilt from its rows: {error}")))?;
    Ok((keys, stored, batch))
}
