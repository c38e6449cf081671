//! What came that the schema has no place for, and which documents gave no rows: counted by collection while following.

use std::collections::BTreeMap;

use gizer_flatten::Tally;
use gizer_pg::copy::Reject;
use gizer_pg::state::{self, UnfitCount};
use gizer_schema::Layout;

use super::Purpose;
use super::write::Writer;
use crate::BATCH_TARGET;
use crate::failure::Failure;
use crate::unfit::{of_mismatch, of_unknown, unfit_line};

/// Paths that the log names of one batch and collection.
const MAX_LOGGED_PATHS: usize = 10;

/// Reasons that are counted one by one.
const MAX_REASONS: usize = 100;

/// What all further reasons are called.
const OTHER_REASONS: &str = "other reasons";

/// Rejected documents of one collection, by reason.
#[derive(Debug, Clone, Default)]
pub struct Rejects(BTreeMap<String, RejectCount>);

/// Documents that were rejected for one reason.
#[derive(Debug, Clone, Default)]
pub struct RejectCount {
    pub documents: u64,
    /// `_id` of the first of them, as Extended JSON.
    pub example: String,
}

impl Rejects {
    fn count(&mut self, rejects: &[Reject]) {
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

/// What a tally has counted, by path and type.
fn unfit_counts(tally: &Tally, layout: &Layout) -> Vec<UnfitCount> {
    let (mismatches, unknown) = (tally.mismatches(layout), tally.unknown_by_kind());
    mismatches.iter().map(of_mismatch).chain(unknown.iter().map(of_unknown)).collect()
}

impl Writer<'_> {
    /// Counts, until the batch is committed, what of some documents had no place.
    pub(super) fn count_unfit(&mut self, member: usize, rejects: &[Reject], tally: Tally) {
        let (name, done) = (&self.tables[member].name, &mut self.batch.done);
        if !rejects.is_empty() {
            done.rejects.entry(name.clone()).or_default().count(rejects);
        }
        if !tally.all_fits() {
            done.tallies.entry(name.clone()).or_default().add(tally);
        }
    }

    /// Keeps in the state, in the open transaction, what of the batch had no place. Staging tables keep none: whoever loads them
    /// reports it.
    pub(super) async fn keep_unfit(&mut self) -> Result<(), Failure> {
        if let Purpose::Load { .. } = self.purpose {
            return Ok(());
        }
        for (member, tables) in self.tables.iter().enumerate() {
            let Some(tally) = self.batch.done.tallies.get(&tables.name) else { continue };
            let counts = unfit_counts(tally, &tables.layout);
            let new = state::count_unfit(self.session, &tables.name, &counts, tally.unknown_beyond()).await?;
            self.batch.new_unfit.extend(new.into_iter().map(|number| (member, counts[number].clone())));
            let applied = self.batch.applied.entry(member).or_default();
            let sum = |unknown: bool| {
                counts.iter().filter(|count| count.expected.is_none() == unknown).map(|count| count.count).sum::<u64>()
            };
            applied.unknown += sum(true) + tally.unknown_beyond();
            applied.unfit += sum(false);
        }
        Ok(())
    }

    /// Names in the log what came for the first time since the load, once it is committed.
    pub(super) fn log_unfit(&self, new: &[(usize, UnfitCount)]) {
        if !self.settings.logs_unfit {
            return;
        }
        for of_one in new.chunk_by(|a, b| a.0 == b.0) {
            let tables = &self.tables[of_one[0].0];
            for (_, count) in of_one.iter().take(MAX_LOGGED_PATHS) {
                let line = unfit_line(&tables.name, count, tables.layout.dialect);
                tracing::warn!(target: BATCH_TARGET, collection = tables.name, path = count.path, "{line}");
            }
            if let Some(more @ 1..) = of_one.len().checked_sub(MAX_LOGGED_PATHS) {
                tracing::warn!(target: BATCH_TARGET, collection = tables.name, more, "and more such paths");
            }
        }
    }
}
