//! One collection's trouble is its own: what is wrong with one keeps no other from going on.
//!
//! * A document that PostgreSQL refuses is rejected. Before a batch is committed, those are tried once more whose conflict another
//!   part of the batch may have resolved: its end counts.
//! * A collection whose tables cannot be written is left as it was before the batch, at its own position, *failing*; or a load of it
//!   is due. The others commit. It catches up from its position when it is tried again.

use std::collections::BTreeMap;

use bytes::Bytes;
use gizer_pg::PgError;
use gizer_pg::rows::Keys;
use gizer_pg::state::{self, ObstacleKind, Refused, SettledRejects};
use gizer_verify::VerifyError;

use super::isolate::{Isolated, Isolation, Trouble};
use super::member::FollowedTables;
use super::touched::Batch;
use super::write::Writer;
use super::{FollowProgress, Purpose};
use crate::BATCH_TARGET;
use crate::failure::{Failure, FailureKind};
use crate::observer::{CollectionEvent, CollectionEventKind, Event};
use crate::wording::{command, thousands};

/// The savepoint before what a batch brings to a collection.
const COLLECTION: &str = "gizer_collection_savepoint";

/// Rejected documents of a collection that the log names for a batch.
const NAMED_REJECTS: usize = 10;

/// How often documents are tried once more at the end of a batch, while any is taken.
const LAST_TRIES: usize = 8;

/// Documents of a collection that were refused in the open batch.
#[derive(Default)]
pub(super) struct RefusedInBatch {
    pub(super) documents: Vec<RefusedDocument>,
    /// Keys of documents that are gone, whose rows could not be deleted, and why.
    undeleted: Vec<Vec<u8>>,
    why_undeleted: Option<PgError>,
}

/// One of them, without itself.
pub(super) struct RefusedDocument {
    pub(super) key: Vec<u8>,
    id: String,
    reason: String,
    bytes: usize,
    is_conflict: bool,
    /// Whether it was not rejected before.
    is_new: bool,
}

/// A collection that is left as it was before the open batch.
pub(super) struct Apart {
    pub(super) failure: Failure,
    /// Whether only a load helps.
    pub(super) reload: bool,
}

/// What had been counted before a collection was entered.
#[derive(Default)]
pub(super) struct Entered {
    member: usize,
    before: FollowProgress,
}

impl Writer<'_> {
    /// What is written from here on to this collection can be taken back by itself.
    pub(super) async fn enter(&mut self, member: usize) -> Result<(), PgError> {
        if self.batch.entered.as_ref().is_some_and(|entered| entered.member == member) {
            return Ok(());
        }
        self.leave().await?;
        self.session.set_savepoint(COLLECTION).await?;
        self.batch.entered = Some(Entered { member, before: self.batch.done.counted() });
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), PgError> {
        match self.batch.entered.take() {
            Some(_) => self.session.release_savepoint(COLLECTION).await,
            None => Ok(()),
        }
    }

    /// Leaves a collection as it was before the open batch, or ends the run if the trouble is not of one collection.
    pub(super) async fn set_apart(&mut self, member: usize, trouble: Trouble) -> Result<(), Failure> {
        let FollowedTables { name, live_epoch, .. } = &self.tables[member];
        let (name, live_epoch) = (name.clone(), *live_epoch);
        let Purpose::Stream { fence, .. } = &self.purpose else { return Err(failure(&name, trouble)) };
        let trouble = match trouble {
            Trouble::Run(error) | Trouble::Rows(VerifyError::Tables(error)) => return Err(error.into()),
            trouble => trouble,
        };
        let position = fence.position().clone();
        self.session.roll_back_to(COLLECTION).await?;
        let before = self.batch.entered.take().map(|entered| entered.before).unwrap_or_default();
        self.batch.done.take_back(&before, &name);
        self.batch.forget(member);
        let reload = matches!(trouble, Trouble::Tables(_)) && self.has_other_tables(member).await?;
        let failure = failure(&name, trouble);
        tracing::warn!(collection = name, reload, "set apart: {}", failure.message);
        if reload {
            state::mark_load_due(self.session, &name, live_epoch, &failure.message).await?;
        } else {
            let times = [Some(self.mark.time), self.ahead, self.batch.ahead, fence_time(&position)];
            let read_until = times.into_iter().flatten().max().unwrap_or_default();
            state::leave_stream(self.session, &name, live_epoch, &position, read_until).await?;
            let (reason, remedy) = (&failure.message, failure.remedy.as_deref());
            state::set_obstacle(self.session, &name, ObstacleKind::Failing, reason, remedy).await?;
        }
        let tables = &mut self.tables[member];
        (tables.apart, tables.joined) = (true, false);
        self.batch.apart.insert(member, Apart { failure, reload });
        Ok(())
    }

    /// Leaves collections as they were whose documents could not be read.
    pub(super) async fn set_unreadable_apart(&mut self, unreadable: BTreeMap<usize, Failure>) -> Result<(), Failure> {
        for (member, failure) in unreadable {
            self.enter(member).await?;
            self.set_apart(member, Trouble::Unreadable(failure)).await?;
        }
        Ok(())
    }

    /// Whether tables or columns are not those of the layout: an error may be of something else that a trigger needs.
    async fn has_other_tables(&mut self, member: usize) -> Result<bool, Failure> {
        self.session.set_savepoint(COLLECTION).await?;
        let checked = self.tables[member].store.check_tables().await;
        self.session.roll_back_to(COLLECTION).await?;
        Ok(checked.is_err_and(|error| error.is_of_other_tables()))
    }

    /// How many more documents of a collection may be refused in this run.
    pub(super) fn refusals_left(&self, member: usize) -> u64 {
        let in_batch = self.batch.refused.get(&member).map_or(0, |refused| refused.new_ones().count() as u64);
        let before = self.refused.get(&member).copied().unwrap_or_default();
        self.settings.max_rejects.saturating_sub(before + in_batch)
    }

    /// Notes what was refused of a part, in the open transaction: `ids` and `keys` are those of all of it.
    pub(super) async fn settle(
        &mut self,
        member: usize,
        (ids, keys): (&[String], &[&[u8]]),
        isolated: Isolated,
    ) -> Result<(), Failure> {
        let Isolated { reconciled, refused, undeleted, why_undeleted } = isolated;
        let FollowedTables { name, live_epoch, .. } = &self.tables[member];
        if !refused.is_empty() || self.rejects.contains(name) {
            let SettledRejects { new, resolved } =
                state::settle_rejects(self.session, name, *live_epoch, (ids, keys), &refused).await?;
            if !refused.is_empty() {
                self.rejects.insert(name.clone());
            }
            self.batch.done.accepted += resolved;
            let documents = refused.into_iter().map(|refused| RefusedDocument::new(refused, &new));
            self.batch.refused.entry(member).or_default().documents.extend(documents);
        }
        if why_undeleted.is_some() {
            let kept = self.batch.refused.entry(member).or_default();
            kept.undeleted.extend(undeleted);
            kept.why_undeleted = why_undeleted;
        }
        self.count_rows(member, reconciled);
        Ok(())
    }

    /// Tries once more, before the commit, what was refused for a conflict with rows that the batch may have changed later.
    pub(super) async fn try_once_more(&mut self) -> Result<(), Failure> {
        let members: Vec<usize> = self.batch.refused.keys().copied().collect();
        let mut open: Vec<usize> = members.clone();
        for _ in 0..LAST_TRIES {
            let mut taken = false;
            for &member in &open {
                taken |= self.try_member(member).await?;
            }
            open.retain(|member| self.batch.refused.get(member).is_some_and(RefusedInBatch::is_open));
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
        let open: Vec<(Vec<u8>, usize)> = refused
            .documents
            .iter()
            .filter(|document| document.is_conflict)
            .map(|document| (document.key.clone(), document.bytes))
            .collect();
        let mut taken = false;
        let mut chunks = chunks(open, self.settings.part_bytes);
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        for chunk in chunks {
            match self.try_chunk(member, &chunk, std::mem::take(&mut undeleted)).await? {
                Some(some) => taken |= some,
                None => return Ok(false),
            }
        }
        Ok(taken)
    }

    /// `None`: the collection has been set apart.
    async fn try_chunk(
        &mut self,
        member: usize,
        keys: &[Vec<u8>],
        undeleted: Vec<Vec<u8>>,
    ) -> Result<Option<bool>, Failure> {
        self.enter(member).await?;
        let FollowedTables { name, layout, live_epoch, store, flattener, .. } = &mut self.tables[member];
        let of: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let documents = state::refused_documents(self.session, name, *live_epoch, &of).await?;
        let documents: Vec<Bytes> = documents.into_iter().map(Bytes::from).collect();
        let mut gone = Keys::new(layout);
        for key in &undeleted {
            gone.insert_stored(key);
        }
        let (session, checks) = (self.session, self.settings.checks);
        let mut isolation = Isolation { session, layout, store, flattener, checks, limit: u64::MAX };
        let isolated = match isolation.write_again(documents, gone).await {
            Ok(isolated) => isolated,
            Err(trouble) => {
                self.set_apart(member, trouble).await?;
                return Ok(None);
            }
        };
        let still: Vec<&[u8]> = isolated.refused.iter().map(|refused| refused.retry.key.as_slice()).collect();
        let taken: Vec<&[u8]> = of.into_iter().filter(|key| !still.contains(key)).collect();
        if !taken.is_empty() {
            state::settle_rejects(self.session, name, *live_epoch, (&[], &taken), &[]).await?;
        }
        let progressed = !taken.is_empty() || isolated.undeleted.len() < undeleted.len();
        if let Some(refused) = self.batch.refused.get_mut(&member) {
            let (gone, rest) = std::mem::take(&mut refused.documents)
                .into_iter()
                .partition(|document| taken.contains(&document.key.as_slice()));
            let gone: Vec<RefusedDocument> = gone;
            refused.documents = rest;
            self.batch.done.accepted += gone.iter().filter(|document| !document.is_new).count() as u64;
            refused.undeleted.extend(isolated.undeleted);
        }
        self.count_rows(member, isolated.reconciled);
        Ok(Some(progressed))
    }

    /// Counts the documents that the batch has rejected, before it is committed.
    pub(super) fn count_refused(&mut self) {
        for (member, refused) in &self.batch.refused {
            let new = refused.new_ones().count() as u64;
            if new == 0 {
                continue;
            }
            self.batch.done.rejected += new;
            let rejects = self.batch.done.rejects.entry(self.tables[*member].name.clone()).or_default();
            refused.new_ones().for_each(|document| rejects.count_one(&document.reason, &document.id));
            self.batch.applied.entry(*member).or_default().rejected += new;
        }
    }

    /// What belongs to collections that were set apart is not of the batch.
    pub(super) fn without_apart(&self, mut batch: Batch) -> Batch {
        batch.touched.retain(|member, _| !self.batch.apart.contains_key(member));
        batch.effects.retain(|effect| !self.batch.apart.contains_key(&effect.member));
        batch
    }

    /// Reports, once it is committed, what was rejected and which collections were set apart.
    pub(super) fn tell_troubles(
        &mut self,
        refused: BTreeMap<usize, RefusedInBatch>,
        apart: BTreeMap<usize, Apart>,
        followed_again: Vec<String>,
    ) {
        for (member, refused) in refused {
            let name = &self.tables[member].name;
            let new: Vec<&RefusedDocument> = refused.new_ones().collect();
            for RefusedDocument { id, reason, .. } in
                new.iter().take(NAMED_REJECTS).filter(|_| self.settings.logs_unfit)
            {
                tracing::warn!(target: BATCH_TARGET, collection = name, id, "document rejected: {reason}");
            }
            *self.refused.entry(member).or_default() += new.len() as u64;
        }
        for (member, Apart { failure, reload }) in apart {
            let name = self.tables[member].name.clone();
            self.happened(&name, CollectionEventKind::SetApart { failure: failure.clone(), reload });
            if !reload {
                self.progress.failing.insert(name, failure);
            }
        }
        for name in followed_again {
            self.happened(&name, CollectionEventKind::FollowedAgain);
            self.progress.failing.remove(&name);
            self.progress.followed_again.push(name);
        }
    }

    /// Says what has happened to a collection, once it is committed.
    pub(super) fn happened(&mut self, collection: &str, what: CollectionEventKind) {
        let happened = CollectionEvent { collection: collection.to_owned(), what };
        self.observer.observe(Event::Collection(&happened));
        self.progress.events.push(happened.to_string());
    }
}

impl RefusedInBatch {
    fn new_ones(&self) -> impl Iterator<Item = &RefusedDocument> {
        self.documents.iter().filter(|document| document.is_new)
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.documents.iter().any(|document| document.key == key)
    }

    /// Whether anything may be taken once more.
    fn is_open(&self) -> bool {
        !self.undeleted.is_empty() || self.documents.iter().any(|document| document.is_conflict)
    }
}

impl RefusedDocument {
    fn new(refused: Refused, new: &std::collections::BTreeSet<Vec<u8>>) -> RefusedDocument {
        RefusedDocument {
            is_new: new.contains(&refused.retry.key),
            key: refused.retry.key,
            id: refused.id,
            reason: refused.reason,
            bytes: refused.document.len(),
            is_conflict: refused.is_conflict,
        }
    }
}

/// Keys in portions of documents that are held at once.
fn chunks(open: Vec<(Vec<u8>, usize)>, most: usize) -> Vec<Vec<Vec<u8>>> {
    let (mut chunks, mut chunk, mut held) = (Vec::new(), Vec::new(), 0);
    for (key, bytes) in open {
        chunk.push(key);
        held += bytes;
        if held >= most {
            chunks.push(std::mem::take(&mut chunk));
            held = 0;
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

fn fence_time(position: &gizer_flatten::change::Positions) -> Option<gizer_flatten::change::ClusterTime> {
    position.values().map(|position| position.time).max()
}

/// The trouble of a collection as a failure that names it.
pub(super) fn failure(collection: &str, trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Run(error) => error.into(),
        Trouble::Tables(error) => {
            let own = error.remedy();
            let load = command("load", [collection], &[]);
            let remedy = own.unwrap_or_else(|| {
                format!("undo what was changed about its tables, or run `{load}`, which makes them anew")
            });
            Failure::new(FailureKind::NotAll, format!("{collection}: {error}")).remedy(remedy)
        }
        Trouble::Rows(VerifyError::Tables(error)) => error.into(),
        Trouble::Rows(error @ VerifyError::SameKey { .. }) => Failure::new(FailureKind::NotAll, error.to_string()),
        Trouble::Unreadable(failure) => Failure { kind: FailureKind::NotAll, ..failure },
        // Rows that differ after they were written have a code of their own.
        Trouble::Rows(error) => Failure::new(FailureKind::Differs, format!("{collection}: {error}")).remedy(format!(
            "nothing of the batch was committed for {collection}; look for triggers, rules and other writers of its tables, \
             then `{}` makes them anew",
            command("load", [collection], &[])
        )),
        Trouble::TooMany { limit, last } => {
            let message = format!(
                "{collection}: PostgreSQL refuses more documents in one run than [follow] max_rejects allows ({}); the last: {last}",
                thousands(limit)
            );
            let remedy = "remove what refuses them (a constraint, an index, a trigger), or raise [follow] max_rejects";
            Failure::new(FailureKind::NotAll, message).remedy(remedy)
        }
    }
}
