//! Refused documents and their retries before the commit: the batch may resolve a conflict later.

use std::collections::BTreeSet;

use bytes::Bytes;
use gizer_pg::PgError;
use gizer_pg::rows::Keys;
use gizer_pg::state::{self, Refused};

use super::isolate::{Isolation, WriteFailure};
use super::{BatchWriter, FollowedTables};
use crate::failure::Failure;

/// Limit of retries at the end of a batch, as long as some succeed.
const MAX_LAST_TRIES: usize = 8;

/// Documents of a collection refused in the open batch.
#[derive(Default)]
pub(super) struct Refusals {
    documents: Vec<RefusedDocument>,
    /// Keys of deleted documents whose rows could not be deleted, and why.
    undeleted: Vec<Vec<u8>>,
    why_undeleted: Option<PgError>,
}

/// A refused document.
struct RefusedDocument {
    /// Without its contents.
    refused: Refused,
    bytes: usize,
    /// Whether it is newly rejected.
    is_new: bool,
}

impl BatchWriter<'_> {
    /// Retries documents refused for a conflict that the batch may have resolved.
    pub(super) async fn retry_refused(&mut self) -> Result<(), Failure> {
        let mut open: Vec<usize> = self.batch.refused.keys().copied().collect();
        for _ in 0..MAX_LAST_TRIES {
            let mut taken = false;
            for &member in &open {
                taken |= self.try_member(member).await?;
            }
            open.retain(|member| self.batch.refused.get(member).is_some_and(Refusals::is_open));
            if !taken || open.is_empty() {
                break;
            }
        }
        for member in open {
            let Some(refused) = self.batch.refused.get_mut(&member) else { continue };
            if let Some(error) = refused.why_undeleted.take_if(|_| !refused.undeleted.is_empty()) {
                self.enter(member).await?;
                self.set_apart(member, WriteFailure::Tables(error)).await?;
            }
        }
        Ok(self.leave().await?)
    }

    /// Returns whether any was accepted.
    async fn try_member(&mut self, member: usize) -> Result<bool, Failure> {
        let Some(refused) = self.batch.refused.get_mut(&member).filter(|refused| refused.is_open()) else {
            return Ok(false);
        };
        let mut undeleted = std::mem::take(&mut refused.undeleted);
        let mut taken = false;
        for keys in refused.open_keys(self.settings.part_bytes) {
            match self.try_keys(member, &keys, std::mem::take(&mut undeleted)).await? {
                Some(some) => taken |= some,
                None => return Ok(false),
            }
        }
        Ok(taken)
    }

    /// Returns whether any was accepted; `None` if the collection was set apart.
    async fn try_keys(
        &mut self,
        member: usize,
        keys: &[Vec<u8>],
        undeleted: Vec<Vec<u8>>,
    ) -> Result<Option<bool>, Failure> {
        self.enter(member).await?;
        let FollowedTables { name, layout, live_epoch, store, flattener, .. } = &mut self.tables[member];
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let documents = state::refused_documents(self.session, name, *live_epoch, &keys).await?;
        let documents: Vec<Bytes> = documents.into_iter().map(Bytes::from).collect();
        let mut gone = Keys::new(layout);
        for key in &undeleted {
            gone.insert_stored(key);
        }
        let (session, checks) = (self.session, self.settings.checks);
        let mut isolation = Isolation { session, layout, store, flattener, checks, limit: u64::MAX };
        let outcome = match isolation.write_again(documents, gone).await {
            Ok(outcome) => outcome,
            Err(trouble) => {
                self.set_apart(member, trouble).await?;
                return Ok(None);
            }
        };
        let still: Vec<&[u8]> = outcome.refused.iter().map(|refused| refused.retry.key.as_slice()).collect();
        let taken: Vec<&[u8]> = keys.into_iter().filter(|key| !still.contains(key)).collect();
        if !taken.is_empty() {
            state::settle_rejects(self.session, name, *live_epoch, (&[], &taken), &[]).await?;
        }
        let progressed = !taken.is_empty() || outcome.undeleted.len() < undeleted.len();
        if let Some(refused) = self.batch.refused.get_mut(&member) {
            self.batch.done.accepted += refused.forget(&taken);
            refused.undeleted.extend(outcome.undeleted);
        }
        self.batch.count_rows(member, name, outcome.reconciled);
        Ok(Some(progressed))
    }
}

impl Refusals {
    /// Adds documents; `new` has the keys of newly rejected ones.
    pub(super) fn add(&mut self, refused: Vec<Refused>, new: &BTreeSet<Vec<u8>>) {
        self.documents.extend(refused.into_iter().map(|refused| RefusedDocument {
            is_new: new.contains(&refused.retry.key),
            bytes: refused.document.len(),
            refused: Refused { document: Vec::new(), ..refused },
        }));
    }

    pub(super) fn add_undeleted(&mut self, keys: Vec<Vec<u8>>, why: PgError) {
        self.undeleted.extend(keys);
        self.why_undeleted = Some(why);
    }

    pub(super) fn new_ones(&self) -> impl Iterator<Item = &Refused> {
        self.documents.iter().filter(|document| document.is_new).map(|document| &document.refused)
    }

    pub(super) fn new_count(&self) -> u64 {
        self.new_ones().count() as u64
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.documents.iter().any(|document| document.refused.retry.key == key)
    }

    /// Whether anything can be retried.
    fn is_open(&self) -> bool {
        !self.undeleted.is_empty() || self.documents.iter().any(|document| document.refused.is_conflict)
    }

    /// Keys to retry, in portions of about `portion` bytes: at least one, possibly empty.
    fn open_keys(&self, portion: usize) -> Vec<Vec<Vec<u8>>> {
        let (mut portions, mut keys, mut held) = (Vec::new(), Vec::new(), 0);
        for document in self.documents.iter().filter(|document| document.refused.is_conflict) {
            keys.push(document.refused.retry.key.clone());
            held += document.bytes;
            if held >= portion {
                portions.push(std::mem::take(&mut keys));
                held = 0;
            }
        }
        if !keys.is_empty() || portions.is_empty() {
            portions.push(keys);
        }
        portions
    }

    /// Removes accepted documents; returns how many had been rejected before.
    fn forget(&mut self, taken: &[&[u8]]) -> u64 {
        let is_taken = |document: &mut RefusedDocument| taken.contains(&document.refused.retry.key.as_slice());
        self.documents.extract_if(.., is_taken).filter(|document| !document.is_new).count() as u64
    }
}
