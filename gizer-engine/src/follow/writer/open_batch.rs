//! The open batch and its transaction.

use std::collections::BTreeMap;
use std::time::Instant;

use gizer_flatten::Tally;
use gizer_flatten::change::ClusterTime;
use gizer_pg::copy::Reject;
use gizer_pg::state::UnfitCount;
use gizer_verify::Reconciled;

use super::apart::ApartCollection;
use super::refusals::Refusals;
use super::requested::RequestedKeys;
use super::tables::FollowedTables;
use crate::follow::batch::Batch;
use crate::follow::channels::FoundDocuments;
use crate::follow::progress::FollowProgress;
use crate::observer::AppliedCounts;

/// The repair reason of documents written a second time.
const WRITTEN_TWICE: &str = "rows were not as they had been written";

/// A batch that is not complete yet. Collections go by their numbers.
#[derive(Default)]
pub(super) struct OpenBatch {
    /// Start of its transaction, if open.
    pub(super) begun: Option<Instant>,
    /// The latest documents wait, so that a usual batch is read before its transaction starts.
    pub(super) waiting: Option<FoundDocuments>,
    /// Ids requested together whose documents have not all come.
    pub(super) requested: Option<RequestedKeys>,
    /// Progress once it is committed.
    pub(super) done: FollowProgress,
    /// Repaired documents by collection and reason.
    pub(super) repaired: BTreeMap<(usize, String), u64>,
    pub(super) applied: BTreeMap<usize, AppliedCounts>,
    /// Capped collections with unlogged deletions, and whether these are unknown.
    pub(super) capped: BTreeMap<usize, bool>,
    /// Values without a place in the schema, seen for the first time.
    pub(super) new_unfit: Vec<(usize, UnfitCount)>,
    /// The collection being written.
    pub(super) entered: Option<EnteredCollection>,
    pub(super) refused: BTreeMap<usize, Refusals>,
    pub(super) apart: BTreeMap<usize, ApartCollection>,
    /// Latest read time, if known.
    pub(super) ahead: Option<ClusterTime>,
}

/// The collection being written, and the counters before.
#[derive(Default)]
pub(super) struct EnteredCollection {
    member: usize,
    before: FollowProgress,
}

impl OpenBatch {
    pub(super) fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    pub(super) fn has_entered(&self, member: usize) -> bool {
        self.entered.as_ref().is_some_and(|entered| entered.member == member)
    }

    pub(super) fn enter(&mut self, member: usize) {
        self.entered = Some(EnteredCollection { member, before: self.done.written() });
    }

    /// Restores a collection's counters to those before it was entered, except run totals.
    pub(super) fn restore(&mut self, member: usize, name: &str) {
        let before = self.entered.take().map(|entered| entered.before).unwrap_or_default();
        self.done.restore(&before, name);
        self.requested = None;
        self.repaired.retain(|(of, _), _| *of != member);
        self.applied.remove(&member);
        self.refused.remove(&member);
    }

    /// Counts rows of an emptied collection.
    pub(super) fn count_deleted(&mut self, member: usize, rows: u64) {
        self.done.rows.deleted += rows;
        self.applied.entry(member).or_default().rows.deleted += rows;
    }

    pub(super) fn count_rows(&mut self, member: usize, name: &str, reconciled: Reconciled) {
        let rows = reconciled.changes.sum();
        self.done.rows += rows;
        self.applied.entry(member).or_default().rows += rows;
        self.done.documents += reconciled.documents;
        self.count_unfit(name, &reconciled.rejected, reconciled.tally);
    }

    /// Counts documents rejected for lack of a usable key.
    pub(super) fn count_rejected(&mut self, member: usize, name: &str, rejected: &[Reject]) {
        self.done.rejected += rejected.len() as u64;
        self.applied.entry(member).or_default().rejected += rejected.len() as u64;
        self.count_unfit(name, rejected, Tally::default());
    }

    fn count_unfit(&mut self, name: &str, rejects: &[Reject], tally: Tally) {
        if !rejects.is_empty() {
            self.done.rejects.entry(name.to_owned()).or_default().count(rejects);
        }
        if !tally.all_fits() {
            self.done.tallies.entry(name.to_owned()).or_default().add(tally);
        }
    }

    pub(super) fn count_written_twice(&mut self, member: usize, documents: u64) {
        if documents > 0 {
            *self.repaired.entry((member, WRITTEN_TWICE.to_owned())).or_default() += documents;
        }
    }

    /// Counts refused documents, before the commit.
    pub(super) fn count_refused(&mut self, tables: &[FollowedTables<'_>]) {
        for (member, refused) in self.refused.iter().filter(|(_, refused)| refused.new_count() > 0) {
            self.done.rejected += refused.new_count();
            self.applied.entry(*member).or_default().rejected += refused.new_count();
            let rejects = self.done.rejects.entry(tables[*member].name.clone()).or_default();
            refused.new_ones().for_each(|refused| rejects.count_one(&refused.reason, &refused.id));
        }
    }

    /// Removes collections that were set apart.
    pub(super) fn without_apart(&self, mut batch: Batch) -> Batch {
        batch.touched.retain(|member, _| !self.apart.contains_key(member));
        batch.effects.retain(|effect| !self.apart.contains_key(&effect.member));
        batch
    }
}
