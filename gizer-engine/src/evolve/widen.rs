//! Columns that get wider types.
//!
//! The tables that change are filled from the live ones next to them, and take their place in a
//! swap. Nobody writes the collection meanwhile, and everybody reads it. Documents that were
//! rejected for an `_id` that did not fit its column are in `gizer_reject`, and get their rows with
//! the others.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gizer_flatten::{DocumentBatch, Flattener, Rejection};
use gizer_pg::copy::{CopyEncoder, Reject};
use gizer_pg::load::{AnyKey, KeySettings, RetypedVersion, Retyping};
use gizer_pg::rows::{Keys, RowStore, WhichTables};
use gizer_pg::state::{self, RepairKey, UnfinishedVersion, documents_with_unfit_keys};
use gizer_pg::{PgError, Session};
use gizer_schema::raw::RawDoc;
use gizer_schema::{ColumnType, Dialect, Growth, Layout, TableId};
use gizer_verify::id_of_key;

use super::decide::Decision;
use super::growing::Growing;
use super::rewrite::{FIRST_DOCUMENTS, MAX_DOCUMENTS, RewriteFailure, Rewritten, end, stop_if_asked, stored_documents};
use super::{EvolveOptions, EvolvedCollection, Occasion};
use crate::audit::{VerifyOptions, verify};
use crate::env::Env;
use crate::fail_point::fail_point;
use crate::failure::{Failure, FailureKind};
use crate::failures::Failures;
use crate::notice::Notice;
use crate::wording::command;

/// Stands for the rejected documents where a version records which table it goes through: all
/// tables are done then.
const REJECTED: &str = "gizer_reject";

/// What keeps a column as it is.
const PIN: &str = "\"$pinned\": true in the schema file keeps the type, so that it is not tried again";

/// Rejected documents of a chunk.
const REJECTS_AT_ONCE: u32 = 100;

impl Growing<'_> {
    /// Gives columns wider types.
    pub(super) async fn widen(
        &self,
        decision: Decision,
        occasion: Occasion,
    ) -> Result<Option<EvolvedCollection>, Failure> {
        let began = Instant::now();
        let mut evolved = self.report(&decision);
        if decision.widened.is_empty() || self.is_given_up(&decision, occasion).await? {
            return Ok(None);
        }
        let (new, settings) = (self.new_version(&decision)?, self.swap_settings());
        let (after, growth) = (&decision.after, &decision.growth);
        let (retyping, version) = Retyping::begin(self.session, after, growth, &new, &settings).await?;
        fail_point("evolve.after_begin");
        evolved.version = Some(version.version);
        evolved.tables = retyping.table_names();
        let paths: Vec<String> = decision.widened.iter().map(|widened| widened.path.clone()).collect();
        let filled = self.fill_or_give_up(retyping, version, (after, growth), &paths).await?;
        (evolved.documents, evolved.rows) = (filled.documents, filled.rows);
        evolved.took = began.elapsed();
        self.done(&decision.schema, &evolved)?;
        Ok(Some(evolved))
    }

    /// Resumes what an earlier run has begun.
    pub(super) async fn resume_widening(
        &self,
        mut version: UnfinishedVersion,
        after: &Arc<Layout>,
        growth: &Growth,
        paths: &[String],
    ) -> Result<Rewritten, Failure> {
        let begun = version.clone();
        match Retyping::resume(self.session, after, growth, &mut version).await {
            Ok(retyping) => self.fill_or_give_up(retyping, version, (after, growth), paths).await,
            Err(error) => Err(self.give_up(&begun, (after, growth), error.into()).await?),
        }
    }

    /// Fills the tables and swaps them in; if they cannot be had, everything is as it was before.
    async fn fill_or_give_up(
        &self,
        mut retyping: Retyping<'_>,
        version: UnfinishedVersion,
        (after, growth): (&Arc<Layout>, &Growth),
        paths: &[String],
    ) -> Result<Rewritten, Failure> {
        let begun = version.clone();
        match self.fill(&mut retyping, version, after, paths).await {
            Ok(filled) => Ok(filled),
            Err(failure) => Err(self.give_up(&begun, (after, growth), failure).await?),
        }
    }

    /// The live tables are as they were, so that the collection is followed again: nothing is left
    /// to be resumed but what was interrupted. What the rows are at fault for is remembered.
    async fn give_up(
        &self,
        version: &UnfinishedVersion,
        (after, growth): (&Layout, &Growth),
        RewriteFailure { failure, is_of_the_rows }: RewriteFailure,
    ) -> Result<Failure, Failure> {
        if failure.ends_run || failure.passes || self.env.stop.is_asked() {
            return Ok(failure);
        }
        let why = is_of_the_rows.then_some(failure.message.as_str());
        Retyping::give_up(self.session, after, growth, version, why).await?;
        let message =
            format!("the schema of {} could not grow, and is as it was: {}", self.before.collection, failure.message);
        let remedy = match &failure.remedy {
            Some(remedy) => format!("{remedy}; {PIN}"),
            None => PIN.to_owned(),
        };
        Ok(Failure { message, ..failure }.remedy(remedy))
    }

    /// The keys of documents that wait to be written, and what they are by the new layout. One
    /// whose `_id` nobody can tell is left out: no document has it.
    async fn rekeyed(&self, after: &Layout) -> Result<Vec<(Vec<u8>, Vec<u8>)>, PgError> {
        let (old, new) = (Flattener::new(&self.before), Flattener::new(after));
        let mut rekeyed = Vec::new();
        for RepairKey { key, id } in state::keys_waiting(self.session, &self.before.collection).await? {
            let id = id.or_else(|| id_of_key(&self.before, &old, &key));
            let cell = id.as_deref().and_then(|id| new.key_of(RawDoc::new(id).ok()?).ok());
            let mut keys = Keys::new(after);
            if let Some(number) = cell.and_then(|cell| keys.insert(&cell)) {
                rekeyed.push((key, keys.field(number).to_vec()));
            }
        }
        Ok(rekeyed)
    }

    async fn fill(
        &self,
        retyping: &mut Retyping<'_>,
        version: UnfinishedVersion,
        after: &Arc<Layout>,
        paths: &[String],
    ) -> Result<Rewritten, RewriteFailure> {
        let fits_all_keys = self.before.key.ty != ColumnType::Key && after.key.ty == ColumnType::Key;
        let mut filling = Filling::new(self, retyping, after).await?;
        let mut at = filling.copy_tables(version).await?;
        let mut any_key = None;
        if fits_all_keys {
            let rejects;
            (at, rejects) = filling.copy_rejected(at).await?;
            any_key = Some(AnyKey { rejects, rekeyed: self.rekeyed(after).await? });
        } else {
            for (table, live, rebuilt) in retyping.count_rows().await? {
                if live != rebuilt {
                    return Err(RewriteFailure::of_rows(format!(
                        "{table} has {live} rows, and its documents have {rebuilt}: `gizer verify --repair` finds out why"
                    )));
                }
            }
        }
        fail_point("evolve.before_swap");
        let keys = KeySettings { parallel_workers: Some(self.env.settings.key_workers), ..KeySettings::default() };
        let to_verify = loses_forms(&self.before, after);
        let retyped = RetypedVersion { version: &at, paths, to_verify, any_key: any_key.as_ref() };
        retyping.finish(retyped, keys, &self.swap_settings()).await?;
        Ok(Rewritten { documents: at.rewritten.0, rows: at.rewritten.1 })
    }
}

/// Gives a followed collection a key that takes any `_id`: documents that were rejected for theirs
/// get rows. `None` if it is not followed, or a load is due: then only a load can.
///
/// # Errors
/// [`Failure`] if it cannot be done, as [`evolve`](super::evolve).
pub(crate) async fn widen_key(env: &Env, session: &Session, name: &str) -> Result<Option<EvolvedCollection>, Failure> {
    state::hold_tables(session, name).await?;
    let outcome = async {
        let options = EvolveOptions { occasion: Occasion::Due, ..EvolveOptions::default() };
        let growing = match Growing::of(env, session, name, &options).await {
            Err(failure) if failure.kind == FailureKind::LoadDue => return Ok(None),
            growing => growing?,
        };
        let (Some(growing), None) = (growing, state::unfinished_version(session, name).await?) else { return Ok(None) };
        let documents = state::count_unfit_keys(session, name).await?;
        let decision = Decision::any_key(&growing.schema, &growing.before, documents)?;
        match growing.is_given_up(&decision, Occasion::Due).await? {
            true => Ok(None),
            false => growing.widen(decision, Occasion::Due).await,
        }
    };
    let outcome = outcome.await;
    state::release_tables(session, name).await;
    outcome
}

/// Whether a column becomes `DECIMAL`. It keeps how many digits a number has behind the point, as
/// 1.00; what came before does not, and may have held such a number.
fn loses_forms(before: &Layout, after: &Layout) -> bool {
    let exact = before.dialect == Dialect::Gizer { exact_types: true };
    let retyped = Growth::between(before, after).map(|growth| growth.retyped).unwrap_or_default();
    !exact && retyped.iter().any(|(table, column)| after.table(*table).columns[column.0].ty == ColumnType::Numeric)
}

/// Has collections audited, and their rows repaired, of which numbers may be shown otherwise than
/// in MongoDB since a column became `DECIMAL`. What fails is retried when schemas are looked at the
/// next time.
pub(super) async fn verify_numbers(env: &Env, session: &Session, failures: &mut Failures) -> Result<(), Failure> {
    for collection in state::collections_to_verify(session).await? {
        if env.stop.is_asked() {
            break;
        }
        env.notice(&Notice::VerifiesNumbers { collection: collection.clone() });
        let options = VerifyOptions {
            collections: vec![collection.clone()],
            repairs: true,
            sample: None,
            restart: false,
            shows_values: false,
            named: 0,
        };
        // An audit with repairs may follow, and following begins with what is evolving.
        match Box::pin(verify(env, &options)).await {
            Ok((verified, failed)) => {
                failed.by_collection().for_each(|(name, failure)| failures.add(name, failure.clone()));
                match verified.first() {
                    Some(verified) if verified.is_equal() => state::note_verified(session, &collection).await?,
                    Some(_) => failures.add(collection.clone(), not_verified(&collection)),
                    None => {}
                }
            }
            Err(failure) if failure.ends_run => return Err(failure),
            Err(failure) => failures.add(collection.clone(), failure),
        }
    }
    Ok(())
}

fn not_verified(collection: &str) -> Failure {
    let message =
        format!("a column of {collection} has become DECIMAL, and some numbers are still without their zeros");
    Failure::new(FailureKind::Differs, message).remedy(format!("`{}`", command("verify", [collection], &["--repair"])))
}

/// Documents rebuilt from live rows, on their way into staging tables.
struct Filling<'f, 'g, 'r> {
    growing: &'f Growing<'g>,
    retyping: &'f mut Retyping<'r>,
    store: RowStore<'f>,
    flattener: Flattener,
    encoder: CopyEncoder,
    /// Documents of the next chunk.
    documents: usize,
}

impl<'f, 'g, 'r> Filling<'f, 'g, 'r> {
    async fn new(
        growing: &'f Growing<'g>,
        retyping: &'f mut Retyping<'r>,
        after: &Arc<Layout>,
    ) -> Result<Filling<'f, 'g, 'r>, RewriteFailure> {
        let store = RowStore::open(growing.session, &growing.before, WhichTables::Live).await?;
        let (flattener, encoder) = (Flattener::new(after), CopyEncoder::new(after));
        Ok(Filling { growing, retyping, store, flattener, encoder, documents: FIRST_DOCUMENTS })
    }

    /// All documents that have rows, in the order of their keys: a chunk is one transaction.
    async fn copy_tables(&mut self, version: UnfinishedVersion) -> Result<UnfinishedVersion, RewriteFailure> {
        let session = self.growing.session;
        let root = self.growing.before.tables[0].name.clone();
        let mut at = version;
        let mut is_done = at.place.as_ref().is_some_and(|(table, _)| table == REJECTED);
        while !is_done {
            stop_if_asked(self.growing.env)?;
            session.begin().await?;
            let chunk = async {
                let upto = at.place.as_ref().and_then(|(_, upto)| upto.clone());
                let keys = self.store.keys_with_values(TableId(0), &[], upto.as_deref(), self.documents).await?;
                is_done = keys.len() < self.documents;
                let mut now = at.clone();
                now.place = Some((root.clone(), keys.last().cloned().or(upto)));
                now.rewritten.0 += keys.len() as u64;
                now.rewritten.1 += self.copy_stored(&keys).await?;
                state::note_rewritten(session, &at, &now).await?;
                fail_point("evolve.in_chunk");
                Ok::<_, RewriteFailure>(now)
            };
            at = end(session, chunk.await).await?;
            fail_point("evolve.after_chunk");
        }
        Ok(at)
    }

    /// Documents that had no rows because of their `_id`, in one transaction; gives those that are
    /// rejected all the same.
    async fn copy_rejected(
        &mut self,
        at: UnfinishedVersion,
    ) -> Result<(UnfinishedVersion, Vec<Reject>), RewriteFailure> {
        let (session, collection) = (self.growing.session, &self.growing.before.collection);
        let is_done = at.place.as_ref().is_some_and(|(table, _)| table == REJECTED);
        session.begin().await?;
        let all = async {
            let (mut now, mut rejects, mut after) = (at.clone(), Vec::new(), None);
            loop {
                let some = documents_with_unfit_keys(session, collection, after.take(), REJECTS_AT_ONCE).await?;
                let Some((last, _)) = some.last() else { break };
                after = Some(last.clone());
                let batch = DocumentBatch::from_sequence(Bytes::from(
                    some.into_iter().flat_map(|(_, document)| document).collect::<Vec<u8>>(),
                ))
                .map_err(|error| Failure::failed(format!("a rejected document: {error}")))?;
                let still = self.encode(&batch);
                let unit = self.encoder.take();
                now.rewritten.0 += unit.documents;
                rejects.extend(still);
                if is_done {
                    continue;
                }
                let (rows, buffers) = self.retyping.copy(unit).await?;
                now.rewritten.1 += rows;
                self.encoder.reuse(buffers);
            }
            if is_done {
                return Ok((at.clone(), rejects));
            }
            now.place = Some((REJECTED.to_owned(), None));
            state::note_rewritten(session, &at, &now).await?;
            Ok::<_, RewriteFailure>((now, rejects))
        };
        end(session, all.await).await
    }

    /// Copies the documents of these keys, in the open transaction; gives the number of rows.
    async fn copy_stored(&mut self, fields: &[Vec<u8>]) -> Result<u64, RewriteFailure> {
        if fields.is_empty() {
            return Ok(0);
        }
        let (_, _, batch) = stored_documents(&mut self.store, &self.growing.before, fields).await?;
        if let Some(rejected) = self.encode(&batch).first() {
            return Err(RewriteFailure::of_rows(format!("the document {} has no rows by the new schema", rejected.id)));
        }
        let bytes = self.growing.env.settings.memory / 16;
        self.documents = (fields.len() * bytes / batch.document_bytes().max(1)).clamp(1, MAX_DOCUMENTS);
        let (rows, buffers) = self.retyping.copy(self.encoder.take()).await?;
        self.encoder.reuse(buffers);
        Ok(rows)
    }

    /// Encodes documents; gives those that have no rows.
    fn encode(&mut self, batch: &DocumentBatch) -> Vec<Reject> {
        let mut rejected = Vec::new();
        self.flattener.flatten(batch.documents(), &mut self.encoder, |document, Rejection { id, reason }| {
            rejected.push(Reject {
                id,
                reason: reason.to_string(),
                document: document.as_bytes().to_vec(),
                retry: None,
                is_unfit_key: reason.is_unfit_key(),
            });
        });
        rejected
    }
}
