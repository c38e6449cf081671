//! What is said of a batch that is committed: to the observer, and a line in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gizer_flatten::change::{Position, Positions};
use gizer_verify::ReadBack;

use super::Purpose;
use super::touched::{Batch, ChangeCounts, Mark};
use super::write::{Open, Writer};
use crate::BATCH_TARGET;
use crate::observer::{AppliedCounts, CommittedBatch, Event};

impl Writer<'_> {
    /// Tells what a batch that has just been committed has done.
    pub(super) fn tell_monitors(&self, open: &Open, batch: &Batch, passed_over: &BTreeSet<usize>, exact: bool) {
        let took = open.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        let mut applied = open.applied.clone();
        // What was passed over has not been applied.
        for (member, touched) in batch.touched.iter().filter(|(member, _)| !passed_over.contains(member)) {
            applied.entry(*member).or_default().changes.add(&touched.counts);
        }
        let mut repaired: BTreeMap<&str, u64> = BTreeMap::new();
        for ((_, reason), count) in &open.repaired {
            *repaired.entry(reason).or_default() += count;
        }
        self.log(open, &applied, repaired.values().sum(), took, exact);
        let applied = applied.iter().map(|(member, applied)| (self.tables[*member].name.as_str(), *applied)).collect();
        let batch = CommittedBatch { applied, repaired: repaired.into_iter().collect(), took };
        self.observer.observe(Event::Committed(&batch));
        self.tell_standing(&self.mark, exact);
    }

    /// Tells where the tables stand by what was committed, and whether they are known to be equal there.
    pub(super) fn tell_standing(&self, mark: &Mark, exact: bool) {
        self.observer.observe(Event::StandsAt { positions: &mark.positions, catching_up: Some(!exact) });
        if exact && self.settings.checks.read_back == ReadBack::All {
            self.observer.observe(Event::VerifiedUpTo(&mark.positions));
        }
    }

    /// One line. How far the tables are behind is told by this machine's clock.
    fn log(&self, open: &Open, applied: &BTreeMap<usize, AppliedCounts>, repaired: u64, took: Duration, exact: bool) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let documents = open.done.documents;
        if let Purpose::Load { .. } = self.purpose {
            tracing::debug!(target: BATCH_TARGET, documents, ms, "batch of a load aligned");
            return;
        }
        let mut changes = ChangeCounts::default();
        applied.values().for_each(|applied| changes.add(&applied.changes));
        let ChangeCounts { inserts, replacements, updates, deletes, .. } = changes;
        let rows = open.done.rows;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        tracing::info!(
            target: BATCH_TARGET,
            inserts,
            replacements,
            updates,
            deletes,
            repaired,
            rejected = open.done.rejected,
            unknown = applied.values().map(|applied| applied.unknown).sum::<u64>(),
            unfit = applied.values().map(|applied| applied.unfit).sum::<u64>(),
            documents,
            rows_inserted = rows.inserted,
            rows_updated = rows.updated,
            rows_deleted = rows.deleted,
            ms,
            lag_seconds = now.as_secs().saturating_sub(u64::from(self.mark.time.seconds)),
            position = positions_text(&self.mark.positions),
            exact,
            "batch committed",
        );
    }
}

/// Positions, for the log: `rs0 Timestamp(1454960732, 1)`.
fn positions_text(positions: &Positions) -> String {
    let of = |(shard, position): (&String, &Position)| format!("{shard} {}", position.time);
    positions.iter().map(of).collect::<Vec<_>>().join(", ")
}
