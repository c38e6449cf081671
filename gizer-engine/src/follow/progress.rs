//! Progress of a run: changes, rows, and values that did not fit.

use std::collections::{BTreeMap, BTreeSet};

use gizer_flatten::Tally;
use gizer_flatten::change::{Change, ChangeKind};
use gizer_pg::copy::Reject;
use gizer_pg::rows::TableCounts;

use crate::failure::Failure;

/// Counters of one run.
#[derive(Debug, Default)]
pub struct FollowProgress {
    /// Changes applied.
    pub changes: ChangeCounts,
    /// Documents read, each counted once a batch.
    pub documents: u64,
    /// Rows written.
    pub rows: TableCounts,
    /// Transactions committed.
    pub batches: u64,
    /// Those that were not exact.
    pub catching_up: u64,
    /// Documents repaired after a difference was found, or written a second time.
    pub repaired: u64,
    /// Documents that were rejected: without a usable key, or refused by PostgreSQL.
    pub rejected: u64,
    /// Formerly rejected documents that are stored now, or gone.
    pub accepted: u64,
    /// Failing collections with the reason.
    pub failing: BTreeMap<String, Failure>,
    /// Collections that were failing and are followed again.
    pub followed_again: Vec<String>,
    /// Statements executed.
    pub statements: u64,
    /// Events of whole collections, a line each.
    pub events: Vec<String>,
    /// Values that did not fit, by collection.
    pub tallies: BTreeMap<String, Tally>,
    /// Rejected documents, by collection.
    pub rejects: BTreeMap<String, Rejects>,
    /// Collections whose deletions are neither logged nor looked for.
    pub deletions_unknown: BTreeSet<String>,
}

impl FollowProgress {
    /// The counters that writing to a collection changes.
    pub(super) fn written(&self) -> FollowProgress {
        let FollowProgress { documents, rows, rejected, accepted, .. } = *self;
        FollowProgress { documents, rows, rejected, accepted, ..FollowProgress::default() }
    }

    /// Restores a collection's counters to `before`.
    pub(super) fn restore(&mut self, before: &FollowProgress, collection: &str) {
        let FollowProgress { documents, rows, rejected, accepted, .. } = *before;
        (self.documents, self.rows, self.rejected, self.accepted) = (documents, rows, rejected, accepted);
        self.tallies.remove(collection);
        self.rejects.remove(collection);
    }

    /// Adds another run's progress.
    pub fn add(&mut self, other: &FollowProgress) {
        self.changes.add(&other.changes);
        self.documents += other.documents;
        self.rows += other.rows;
        self.batches += other.batches;
        self.catching_up += other.catching_up;
        self.repaired += other.repaired;
        self.rejected += other.rejected;
        self.accepted += other.accepted;
        other.followed_again.iter().for_each(|name| drop(self.failing.remove(name)));
        self.failing.extend(other.failing.iter().map(|(name, failure)| (name.clone(), failure.clone())));
        self.statements += other.statements;
        self.events.extend(other.events.iter().cloned());
        for (name, tally) in &other.tallies {
            self.tallies.entry(name.clone()).or_default().add(tally.clone());
        }
        // The later one has all.
        self.deletions_unknown.clone_from(&other.deletions_unknown);
        for (name, rejects) in &other.rejects {
            self.rejects.entry(name.clone()).or_default().add(rejects);
        }
    }
}

/// Changes, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Inserted documents.
    pub inserts: u64,
    /// Replaced documents.
    pub replacements: u64,
    /// Updated documents.
    pub updates: u64,
    /// Deleted documents.
    pub deletes: u64,
    /// Entries of chunk migrations, which change no data.
    pub migrations: u64,
    /// Documents skipped because their collection is dropped or replaced later.
    pub skipped: u64,
}

impl ChangeCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.inserts + self.replacements + self.updates + self.deletes + self.migrations
    }

    pub(super) fn count(&mut self, change: &Change) {
        let count = match &change.kind {
            _ if change.from_migrate => &mut self.migrations,
            ChangeKind::Insert { .. } => &mut self.inserts,
            ChangeKind::Replace { .. } => &mut self.replacements,
            ChangeKind::Update { .. } => &mut self.updates,
            ChangeKind::Delete { .. } => &mut self.deletes,
            _ => return,
        };
        *count += 1;
    }

    pub(super) fn add(&mut self, other: &ChangeCounts) {
        self.inserts += other.inserts;
        self.replacements += other.replacements;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.migrations += other.migrations;
        self.skipped += other.skipped;
    }
}

/// Reasons counted separately.
const MAX_REASONS: usize = 100;

/// Label of all further reasons.
const OTHER_REASONS: &str = "other reasons";

/// Rejected documents of one collection, by reason.
#[derive(Debug, Clone, Default)]
pub struct Rejects(BTreeMap<String, RejectCount>);

/// Documents rejected for one reason.
#[derive(Debug, Clone, Default)]
pub struct RejectCount {
    /// How many.
    pub documents: u64,
    /// `_id` of the first of them, as Extended JSON.
    pub example: String,
}

impl Rejects {
    pub(super) fn count(&mut self, rejects: &[Reject]) {
        rejects.iter().for_each(|reject| self.count_one(&reject.reason, &reject.id));
    }

    pub(super) fn count_one(&mut self, reason: &str, id: &str) {
        self.place(reason, id).documents += 1;
    }

    pub(super) fn add(&mut self, other: &Rejects) {
        for (reason, count) in &other.0 {
            self.place(reason, &count.example).documents += count.documents;
        }
    }

    fn place(&mut self, reason: &str, example: &str) -> &mut RejectCount {
        let known = self.0.contains_key(reason) || self.0.len() < MAX_REASONS;
        let reason = if known { reason } else { OTHER_REASONS };
        let new = || RejectCount { documents: 0, example: example.to_owned() };
        self.0.entry(reason.to_owned()).or_insert_with(new)
    }

    /// By reason.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RejectCount)> {
        self.0.iter().map(|(reason, count)| (reason.as_str(), count))
    }
}
