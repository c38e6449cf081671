//! Finds documents that PostgreSQL refuses by halving, and writes all others.
//!
//! ```text
//!   documents ──▶ in place ──refused──▶ replaced as a whole ──refused──▶ halves … ──▶ one document ──▶ refused: no rows
//! ```
//!
//! Each attempt is a savepoint: two short messages if nothing is refused. Documents that conflict
//! only half-way, as two that swap a unique value, are deleted and inserted
//! ([`Writing::Replacing`]). A refused document has no rows in any table afterwards.

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

/// Writes a collection's documents except refused ones.
pub(crate) struct Isolation<'w, 'f> {
    pub(crate) session: &'w Session,
    pub(crate) layout: &'w Layout,
    pub(crate) store: &'w mut RowStore<'f>,
    pub(crate) flattener: &'w mut Flattener,
    pub(crate) checks: Checks,
    /// Limit of refused documents; beyond it the collection fails.
    pub(crate) limit: u64,
}

/// Result for some documents.
#[derive(Default)]
pub(crate) struct IsolationOutcome {
    pub(crate) reconciled: Reconciled,
    pub(crate) refused: Vec<Refused>,
    /// Keys without a document whose rows cannot be deleted, and the latest reason.
    pub(crate) undeleted: Vec<Vec<u8>>,
    pub(crate) why_undeleted: Option<PgError>,
}

/// Why a collection's documents cannot be written.
pub(crate) enum WriteFailure {
    /// The whole run fails.
    Run(PgError),
    /// This collection's tables cannot be written.
    Tables(PgError),
    /// Rows differ from what was written, or two documents have one key.
    Rows(VerifyError),
    /// MongoDB refuses to read its documents.
    Unreadable(Failure),
    /// More documents are refused than allowed.
    TooMany { limit: u64, last: String },
}

impl From<PgError> for WriteFailure {
    fn from(error: PgError) -> WriteFailure {
        match error.blame() {
            Blame::Run => WriteFailure::Run(error),
            Blame::Collection | Blame::Document => WriteFailure::Tables(error),
        }
    }
}

impl Isolation<'_, '_> {
    /// Makes rows equal to documents and deletes rows of keys without one.
    pub(crate) async fn write(
        &mut self,
        documents: &[DocumentBatch],
        keys: &Keys,
    ) -> Result<IsolationOutcome, WriteFailure> {
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

    /// The same for documents that were refused and have no rows.
    pub(super) async fn write_again(
        &mut self,
        documents: Vec<Bytes>,
        undeleted: Keys,
    ) -> Result<IsolationOutcome, WriteFailure> {
        let (references, writing) = self.references().await?;
        let mut outcome = IsolationOutcome::default();
        self.delete(undeleted, &mut outcome).await?;
        let none = Keys::new(self.layout);
        self.halve(documents, &none, writing, &references, &mut outcome).await?;
        Ok(outcome)
    }

    /// Foreign keys to the tables, and how documents are written because of them.
    async fn references(&mut self) -> Result<(References, Writing), PgError> {
        let references = self.store.references().await?;
        let writing = if references.any { Writing::InPlace } else { Writing::Replacing };
        Ok((references, writing))
    }

    /// One attempt in a savepoint; returns the error if the data is refused and rolled back.
    async fn attempt(
        &mut self,
        documents: &[DocumentBatch],
        keys: &Keys,
        writing: Writing,
    ) -> Result<Result<Reconciled, PgError>, WriteFailure> {
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
            Err(error) => Err(WriteFailure::Rows(error)),
        }
    }

    /// Writes documents by halves, noting refused ones.
    async fn halve(
        &mut self,
        documents: Vec<Bytes>,
        keys: &Keys,
        writing: Writing,
        references: &References,
        outcome: &mut IsolationOutcome,
    ) -> Result<(), WriteFailure> {
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

    /// Notes a refused document and deletes its rows.
    async fn refuse(
        &mut self,
        document: &Bytes,
        keys: &Keys,
        references: &References,
        refusal: PgError,
        outcome: &mut IsolationOutcome,
    ) -> Result<(), WriteFailure> {
        let reason = reason(&refusal);
        if outcome.refused.len() as u64 >= self.limit {
            return Err(WriteFailure::TooMany { limit: self.limit, last: reason });
        }
        // Its deferred constraints must not fail on the next one.
        self.session.set_savepoint(ATTEMPT).await?;
        let counts = self.store.set_apart(keys).await?;
        self.session.release_savepoint(ATTEMPT).await?;
        if references.cascading && counts.total() > 0 {
            // Rows that reference these would go too.
            return Err(WriteFailure::Tables(refusal));
        }
        let Ok(raw) = RawDoc::new(document) else { return Err(WriteFailure::Tables(refusal)) };
        let lookup = id_document(raw).ok().flatten();
        let (Some(lookup), true) = (lookup, keys.len() == 1) else { return Err(WriteFailure::Tables(refusal)) };
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

    /// Deletes rows of keys without a document, unless that is refused.
    async fn delete(&mut self, keys: Keys, outcome: &mut IsolationOutcome) -> Result<(), WriteFailure> {
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

    fn gone(&self, documents: &[Bytes], keys: &Keys) -> Keys {
        let mut found = vec![false; keys.len()];
        for document in documents.iter().filter_map(|document| RawDoc::new(document).ok()) {
            let number = self.flattener.key_of(document).ok().and_then(|key| keys.number_of(&key));
            number.into_iter().for_each(|number| found[number as usize] = true);
        }
        keys.split(|number| !found[number as usize]).0
    }

    /// The keys of these documents, with their scopes in `keys`.
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

/// Documents as a batch; none if empty.
pub(crate) fn sequence(documents: &[Bytes]) -> Vec<DocumentBatch> {
    DocumentBatch::from_sequence(documents.concat().into()).into_iter().collect()
}

/// The reason of a refusal, without values.
fn reason(refusal: &PgError) -> String {
    match refusal {
        PgError::DataRejected { said, .. } | PgError::Database { said, .. } => format!("PostgreSQL: {said}"),
        refusal => format!("PostgreSQL: {refusal}"),
    }
}
