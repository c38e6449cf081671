//! Documents that PostgreSQL has refused, and their last tries before the commit: the batch may have resolved a conflict later.

use std::collections::BTreeSet;

use bytes::Bytes;
use gizer_pg::PgError;
use gizer_pg::rows::Keys;
use gizer_pg::state::{self, Refused};

use super::isolate::{Isolation, Trouble};
use super::{FollowedTables, Writer};
use crate::failure::Failure;

/// How often documents are tried once more at the end of a batch, while any is taken.
const MAX_LAST_TRIES: usize = 8;

/// Documents of a collection that were refused in the open batch.
#[derive(Default)]
pub(super) struct Refusals {
    documents: Vec<RefusedDocument>,
    /// Keys of documents that are gone, whose rows could not be deleted, and why.
    undeleted: Vec<Vec<u8>>,
    why_undeleted: Option<PgError>,
}

/// One of them.
struct RefusedDocument {
    /// Without the document itself.
    refused: Refused,
    bytes: usize,
    /// Whether it was not rejected before.
    is_new: bool,
}

impl Writer<'_> {
    /// Tries once more, before the commit, what was refused for a conflict with rows that the batch may have changed later.
    pub(super) async fn try_once_more(&mut self) -> Result<(), Failure> {
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
                self.set_apart(member, Trouble::Tables(error)).await?;
            }
        }
        Ok(self.leave().await?)
    }

    /// Gives whether any was taken.
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

    /// Gives whether any of these was taken; `None` if the collection has been set apart.
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
    /// Adds documents; `new` are the keys of those that were not rejected before.
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

    /// Documents that were not rejected before.
    pub(super) fn new_ones(&self) -> impl Iterator<Item = &Refused> {
        self.documents.iter().filter(|document| document.is_new).map(|document| &document.refused)
    }

    pub(super) fn new_count(&self) -> u64 {
        self.new_ones().count() as u64
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.documents.iter().any(|document| document.refused.retry.key == key)
    }

    /// Whether anything may be taken once more.
    fn is_open(&self) -> bool {
        !self.undeleted.is_empty() || self.documents.iter().any(|document| document.refused.is_conflict)
    }

    /// The keys of documents that may be taken once more, in portions of about so many bytes of documents: at least
    /// one portion, which may be empty.
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

    /// Forgets documents that were taken after all; gives how many of them had been rejected before.
    fn forget(&mut self, taken: &[&[u8]]) -> u64 {
        let is_taken = |document: &mut RefusedDocument| taken.contains(&document.refused.retry.key.as_slice());
        self.documents.extract_if(.., is_taken).filter(|document| !document.is_new).count() as u64
    }
}
