//! Documents that PostgreSQL refuses are found by halving; all others are written.
//!
//! ```text
//!   documents ──▶ in place ──refused──▶ replaced as a whole ──refused──▶ halves … ──▶ one document ──▶ refused: no rows
//! ```
//!
//! Each attempt is one savepoint, so that where nothing is refused this costs two short messages. What conflicts only half-way, two
//! documents that swap a unique value, is written by deleting and adding ([`Writing::Replacing`]). A document that is refused has no
//! rows afterwards, in any table.

use bytes::Bytes;
use gizer_flatten::change::id_document;
use gizer_flatten::{DocumentBatch, Flattener, id_text};
use gizer_pg::copy::RetryKey;
use gizer_pg::rows::{Keys, References, RowStore, Writing};
use gizer_pg::state::Refused;
use gizer_pg::{Blame, PgError, Session};
use gizer_schema::Layout;
use gizer_schema::raw::RawDoc;
use gizer_verify::{Checks, Reconciled, VerifyError, reconcile};

use crate::failure::Failure;

/// The savepoint of an attempt.
const ATTEMPT: &str = "gizer_attempt";

/// Writes documents of one collection without those that are refused.
pub(super) struct Isolation<'w, 'f> {
    pub(super) session: &'w Session,
    pub(super) layout: &'w Layout,
    pub(super) store: &'w mut RowStore<'f>,
    pub(super) flattener: &'w mut Flattener,
    pub(super) checks: Checks,
    /// More refused documents than this are the trouble of the collection.
    pub(super) limit: u64,
}

/// What came of some documents.
#[derive(Default)]
pub(super) struct IsolationOutcome {
    pub(super) reconciled: Reconciled,
    pub(super) refused: Vec<Refused>,
    /// Keys without a document whose rows cannot be deleted, and the last reason.
    pub(super) undeleted: Vec<Vec<u8>>,
    pub(super) why_undeleted: Option<PgError>,
}

/// Why documents of a collection cannot be written.
pub(super) enum Trouble {
    /// It concerns the whole run.
    Run(PgError),
    /// It concerns this collection.
    Tables(PgError),
    /// Rows are not as they were written, or two documents have one key.
    Rows(VerifyError),
    /// MongoDB does not let its documents be read.
    Unreadable(Failure),
    /// Too many documents are refused; how many may be.
    TooMany { limit: u64, last: String },
}

impl From<PgError> for Trouble {
    fn from(error: PgError) -> Trouble {
        match error.blame() {
            Blame::Run => Trouble::Run(error),
            Blame::Collection | Blame::Document => Trouble::Tables(error),
        }
    }
}

impl Isolation<'_, '_> {
    /// Makes rows equal to documents, and deletes those of keys without one.
    pub(super) async fn write(
        &mut self,
        documents: &[DocumentBatch],
        keys: &Keys,
    ) -> Result<IsolationOutcome, Trouble> {
        let refusal = match self.attempt(documents, keys, Writing::InPlace).await? {
            Ok(reconciled) => return Ok(IsolationOutcome { reconciled, ..IsolationOutcome::default() }),
            Err(refusal) => refusal,
        };
        let all: Vec<Bytes> =
            documents.iter().flat_map(|batch| (0..batch.len()).filter_map(|n| batch.share(n))).collect();
        let (references, writing) = self.references().await?;
        if refusal.is_conflict()
            && writing == Writing::Replacing
            && let Ok(reconciled) = self.attempt(documents, keys, writing).await?
        {
            return Ok(IsolationOutcome { reconciled, ..IsolationOutcome::default() });
        }
        let mut outcome = IsolationOutcome::default();
        self.delete(self.gone(&all, keys), &mut outcome).await?;
        self.halve(all, keys, writing, &references, &mut outcome).await?;
        Ok(outcome)
    }

    /// The same of documents that have no rows because they were refused: they are not read again.
    pub(super) async fn write_again(
        &mut self,
        documents: Vec<Bytes>,
        undeleted: Keys,
    ) -> Result<IsolationOutcome, Trouble> {
        let (references, writing) = self.references().await?;
        let mut outcome = IsolationOutcome::default();
        self.delete(undeleted, &mut outcome).await?;
        let none = Keys::new(self.layout);
        self.halve(documents, &none, writing, &references, &mut outcome).await?;
        Ok(outcome)
    }

    /// What points at the tables, and how documents are written next to it.
    async fn references(&mut self) -> Result<(References, Writing), PgError> {
        let references = self.store.references().await?;
        let writing = if references.any { Writing::InPlace } else { Writing::Replacing };
        Ok((references, writing))
    }

    /// One attempt in a savepoint; gives the error if the data are refused, and everything is as before then.
    async fn attempt(
        &mut self,
        documents: &[DocumentBatch],
        keys: &Keys,
        writing: Writing,
    ) -> Result<Result<Reconciled, PgError>, Trouble> {
        self.session.set_savepoint(ATTEMPT).await?;
        self.store.set_writing(writing);
        let outcome = reconcile(self.store, self.flattener, documents, keys, self.checks).await;
        self.store.set_writing(Writing::InPlace);
        let outcome = match outcome {
            Ok(reconciled) => {
                self.session.release_savepoint(ATTEMPT).await.map(|()| reconciled).map_err(VerifyError::Tables)
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(reconciled) => Ok(Ok(reconciled)),
            Err(VerifyError::Tables(error)) if error.is_data_rejected() => {
                self.session.roll_back_to(ATTEMPT).await?;
                Ok(Err(error))
            }
            Err(VerifyError::Tables(error)) => Err(error.into()),
            Err(error) => Err(Trouble::Rows(error)),
        }
    }

    /// Writes what can be written of documents, and notes the others.
    async fn halve(
        &mut self,
        documents: Vec<Bytes>,
        keys: &Keys,
        writing: Writing,
        references: &References,
        outcome: &mut IsolationOutcome,
    ) -> Result<(), Trouble> {
        let mut open = vec![documents];
        while let Some(mut documents) = open.pop() {
            if documents.is_empty() {
                continue;
            }
            let part_keys = self.keys_of(&documents, keys);
            let part = sequence(&documents);
            match self.attempt(&part, &part_keys, writing).await? {
                Ok(reconciled) => outcome.add(reconciled),
                Err(refusal) if documents.len() == 1 => {
                    self.refuse(&documents[0], &part_keys, references, refusal, outcome).await?;
                }
                Err(_) => {
                    let second = documents.split_off(documents.len() / 2);
                    open.extend([second, documents]);
                }
            }
        }
        Ok(())
    }

    /// Notes a document that is refused; its rows go.
    async fn refuse(
        &mut self,
        document: &Bytes,
        keys: &Keys,
        references: &References,
        refusal: PgError,
        outcome: &mut IsolationOutcome,
    ) -> Result<(), Trouble> {
        let reason = reason(&refusal);
        if outcome.refused.len() as u64 >= self.limit {
            return Err(Trouble::TooMany { limit: self.limit, last: reason });
        }
        // What is deferred of it must not be blamed on the next one.
        self.session.set_savepoint(ATTEMPT).await?;
        let counts = self.store.set_apart(keys).await?;
        self.session.release_savepoint(ATTEMPT).await?;
        if references.cascading && counts.total() > 0 {
            // What points at these rows would go with them.
            return Err(Trouble::Tables(refusal));
        }
        let Ok(raw) = RawDoc::new(document) else { return Err(Trouble::Tables(refusal)) };
        let lookup = id_document(raw).ok().flatten();
        let (Some(lookup), true) = (lookup, keys.len() == 1) else { return Err(Trouble::Tables(refusal)) };
        outcome.reconciled.changes += &counts;
        outcome.refused.push(Refused {
            id: id_text(raw),
            reason,
            document: document.to_vec(),
            retry: RetryKey {
                key: keys.field(0).to_vec(),
                lookup: lookup.to_vec(),
                sqlstate: refusal.sqlstate().unwrap_or_default().to_owned(),
            },
            is_conflict: refusal.is_conflict(),
        });
        Ok(())
    }

    /// Deletes the rows of keys without a document, as far as that is not refused.
    async fn delete(&mut self, keys: Keys, outcome: &mut IsolationOutcome) -> Result<(), Trouble> {
        let mut open = vec![keys];
        while let Some(keys) = open.pop() {
            if keys.is_empty() {
                continue;
            }
            match self.attempt(&[], &keys, Writing::InPlace).await? {
                Ok(reconciled) => outcome.add(reconciled),
                Err(refusal) if keys.len() == 1 => {
                    outcome.undeleted.push(keys.field(0).to_vec());
                    outcome.why_undeleted = Some(refusal);
                }
                Err(_) => {
                    let half = u32::try_from(keys.len() / 2).unwrap_or(u32::MAX);
                    let (first, second) = keys.split(|number| number < half);
                    open.extend([second, first]);
                }
            }
        }
        Ok(())
    }

    /// The keys that none of these documents has.
    fn gone(&self, documents: &[Bytes], keys: &Keys) -> Keys {
        let mut found = vec![false; keys.len()];
        for document in documents.iter().filter_map(|document| RawDoc::new(document).ok()) {
            let number = self.flattener.key_of(document).ok().and_then(|key| keys.number_of(&key));
            number.into_iter().for_each(|number| found[number as usize] = true);
        }
        keys.split(|number| !found[number as usize]).0
    }

    /// The keys of these documents, with the scopes that they have among `keys`.
    fn keys_of(&self, documents: &[Bytes], keys: &Keys) -> Keys {
        let mut part = Keys::new(self.layout);
        for document in documents.iter().filter_map(|document| RawDoc::new(document).ok()) {
            let Ok(key) = self.flattener.key_of(document) else { continue };
            match keys.number_of(&key) {
                Some(number) => part.insert_within(&key, keys.scope(number)),
                None => part.insert(&key),
            };
        }
        part
    }
}

impl IsolationOutcome {
    fn add(&mut self, other: Reconciled) {
        let Reconciled { documents, rejected, rows, stored, changes, repaired, tally } = other;
        let sum = &mut self.reconciled;
        sum.documents += documents;
        sum.rejected.extend(rejected);
        sum.rows += rows;
        sum.stored += stored;
        sum.changes += &changes;
        sum.repaired += repaired;
        sum.tally.add(tally);
    }
}

/// Documents one after the other as a batch; none if there is none.
fn sequence(documents: &[Bytes]) -> Vec<DocumentBatch> {
    DocumentBatch::from_sequence(documents.concat().into()).into_iter().collect()
}

/// Why a document was refused, without values.
fn reason(refusal: &PgError) -> String {
    match refusal {
        PgError::DataRejected { said, .. } | PgError::Database { said, .. } => format!("PostgreSQL: {said}"),
        refusal => format!("PostgreSQL: {refusal}"),
    }
}
