//! Announces committed batches: counters, events, log lines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gizer_flatten::change::Positions;
use gizer_pg::state::{Refused, UnfitCount};
use gizer_verify::ReadBack;

use super::apart::ApartCollection;
use super::open_batch::OpenBatch;
use super::purpose::{CommitOutcome, Purpose};
use super::refusals::Refusals;
use super::tables::FollowedTables;
use crate::BATCH_TARGET;
use crate::follow::FollowSettings;
use crate::follow::batch::{Batch, Effect, Mark};
use crate::follow::progress::{ChangeCounts, FollowProgress};
use crate::follow::reader::Ddl;
use crate::observer::{AppliedCounts, CollectionEvent, CollectionEventKind, CommittedBatch, Event, Observer};
use crate::unfit::unfit_line;

/// Paths logged per batch and collection.
const MAX_LOGGED_PATHS: usize = 10;

/// Rejected documents logged per batch and collection.
const MAX_LOGGED_REJECTS: usize = 10;

/// Counts committed batches and reports them to observer and log.
pub(super) struct Announcer {
    observer: Arc<dyn Observer>,
    settings: FollowSettings,
    is_load: bool,
    progress: FollowProgress,
}

/// A committed batch.
pub(super) struct Announcement {
    pub(super) open: OpenBatch,
    pub(super) batch: Batch,
    /// Collections that were not read.
    pub(super) skipped: BTreeSet<usize>,
    /// Collections with too many repairs, and how many.
    pub(super) overrun: BTreeMap<usize, u64>,
    pub(super) outcome: CommitOutcome,
}

impl Announcer {
    pub(super) fn new(
        observer: Arc<dyn Observer>,
        settings: FollowSettings,
        purpose: &Purpose<'_>,
        tables: &[FollowedTables<'_>],
    ) -> Announcer {
        let unknown = tables.iter().filter(|tables| tables.has_unknown_deletions);
        let deletions_unknown = unknown.map(|tables| tables.name.clone()).collect();
        let progress = FollowProgress { deletions_unknown, ..FollowProgress::default() };
        Announcer { observer, settings, is_load: matches!(purpose, Purpose::Load { .. }), progress }
    }

    pub(super) fn progress(&self) -> &FollowProgress {
        &self.progress
    }

    pub(super) fn set_statements(&mut self, statements: u64) {
        self.progress.statements = statements;
    }

    pub(super) fn committed(&mut self, committed: Announcement, mark: &Mark, tables: &[FollowedTables<'_>]) {
        self.observe(&committed, mark, tables);
        self.stands_at(mark, Some(!committed.outcome.exact));
        self.count(&committed, tables);
        let Announcement { open, batch, overrun, outcome, .. } = committed;
        self.log_unfit(&open.new_unfit, tables);
        for Effect { member, ddl, .. } in &batch.effects {
            match ddl {
                Ddl::Created(_) => {}
                Ddl::Gone(_) => self.happened(&tables[*member].name, CollectionEventKind::Gone),
                Ddl::Reload(why) => {
                    self.happened(&tables[*member].name, CollectionEventKind::ReloadDue((*why).to_owned()));
                }
            }
        }
        self.repaired_too_often(&overrun, tables);
        for (member, refusals) in &open.refused {
            self.log_rejects(&tables[*member].name, refusals);
        }
        for (member, ApartCollection { failure, reload }) in open.apart {
            let name = &tables[member].name;
            self.happened(name, CollectionEventKind::SetApart { failure: failure.clone(), reload });
            if !reload {
                self.progress.failing.insert(name.clone(), failure);
            }
        }
        self.follows_again(outcome.followed_again);
    }

    /// Announces failing collections that have caught up with the stream.
    pub(super) fn follows_again(&mut self, names: Vec<String>) {
        for name in names {
            self.happened(&name, CollectionEventKind::FollowedAgain);
            self.progress.failing.remove(&name);
            self.progress.followed_again.push(name);
        }
    }

    /// Announces reloads because of too many repairs.
    pub(super) fn repaired_too_often(&mut self, overrun: &BTreeMap<usize, u64>, tables: &[FollowedTables<'_>]) {
        let most = self.settings.max_repairs;
        for (member, &repairs) in overrun {
            self.happened(&tables[*member].name, CollectionEventKind::TooManyRepairs { repairs, most });
        }
    }

    /// Announces the tables' position; `catching_up` is known once it is committed.
    pub(super) fn stands_at(&self, mark: &Mark, catching_up: Option<bool>) {
        self.observer.observe(Event::StandsAt { positions: &mark.positions, catching_up });
        if catching_up == Some(false) && self.settings.checks.read_back == ReadBack::All {
            self.observer.observe(Event::VerifiedUpTo(&mark.positions));
        }
    }

    fn happened(&mut self, collection: &str, what: CollectionEventKind) {
        let event = CollectionEvent { collection: collection.to_owned(), what };
        self.observer.observe(Event::Collection(&event));
        self.progress.events.push(event.to_string());
    }

    fn count(&mut self, committed: &Announcement, tables: &[FollowedTables<'_>]) {
        let (Announcement { open, batch, .. }, progress) = (committed, &mut self.progress);
        progress.add(&open.done);
        progress.repaired += open.repaired.values().sum::<u64>();
        for (member, is_unknown) in &open.capped {
            let name = &tables[*member].name;
            match is_unknown {
                true => progress.deletions_unknown.insert(name.clone()),
                false => progress.deletions_unknown.remove(name),
            };
        }
        let skipped = committed.skipped.iter().filter_map(|member| batch.touched.get(member));
        progress.changes.add(&batch.counts());
        progress.changes.skipped += skipped.map(|touched| touched.len() as u64).sum::<u64>();
        progress.batches += 1;
        progress.catching_up += u64::from(!committed.outcome.exact);
    }

    fn observe(&self, committed: &Announcement, mark: &Mark, tables: &[FollowedTables<'_>]) {
        let Announcement { open, batch, skipped, .. } = committed;
        let took = open.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        let mut applied = open.applied.clone();
        // Skipped changes are not applied.
        for (member, touched) in batch.touched.iter().filter(|(member, _)| !skipped.contains(member)) {
            applied.entry(*member).or_default().changes.add(&touched.counts);
        }
        self.log(committed, &applied, took, mark);
        let mut repaired: BTreeMap<&str, u64> = BTreeMap::new();
        for ((_, reason), count) in &open.repaired {
            *repaired.entry(reason).or_default() += count;
        }
        let applied = applied.iter().map(|(member, applied)| (tables[*member].name.as_str(), *applied)).collect();
        let batch = CommittedBatch { applied, repaired: repaired.into_iter().collect(), took };
        self.observer.observe(Event::Committed(&batch));
    }

    /// Logs one line per batch. The lag is by this machine's clock.
    fn log(
        &self,
        Announcement { open, outcome, .. }: &Announcement,
        applied: &BTreeMap<usize, AppliedCounts>,
        took: Duration,
        mark: &Mark,
    ) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let FollowProgress { documents, rows, rejected, .. } = open.done;
        if self.is_load {
            tracing::debug!(target: BATCH_TARGET, documents, ms, "batch of a load aligned");
            return;
        }
        let mut changes = ChangeCounts::default();
        applied.values().for_each(|applied| changes.add(&applied.changes));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        tracing::info!(
            target: BATCH_TARGET,
            inserts = changes.inserts,
            replacements = changes.replacements,
            updates = changes.updates,
            deletes = changes.deletes,
            repaired = open.repaired.values().sum::<u64>(),
            rejected,
            unknown = applied.values().map(|applied| applied.unknown).sum::<u64>(),
            unfit = applied.values().map(|applied| applied.unfit).sum::<u64>(),
            documents,
            rows_inserted = rows.inserted,
            rows_updated = rows.updated,
            rows_deleted = rows.deleted,
            ms,
            lag_seconds = now.as_secs().saturating_sub(u64::from(mark.time.seconds)),
            position = positions_text(&mark.positions),
            exact = outcome.exact,
            "batch committed",
        );
    }

    /// Logs values seen for the first time since the load.
    fn log_unfit(&self, new: &[(usize, UnfitCount)], tables: &[FollowedTables<'_>]) {
        if !self.settings.logs_unfit {
            return;
        }
        for of_one in new.chunk_by(|a, b| a.0 == b.0) {
            let tables = &tables[of_one[0].0];
            for (_, count) in of_one.iter().take(MAX_LOGGED_PATHS) {
                let line = unfit_line(&tables.name, count, tables.layout.dialect);
                tracing::warn!(target: BATCH_TARGET, collection = tables.name, path = count.path, "{line}");
            }
            if let Some(more @ 1..) = of_one.len().checked_sub(MAX_LOGGED_PATHS) {
                tracing::warn!(target: BATCH_TARGET, collection = tables.name, more, "and more such paths");
            }
        }
    }

    fn log_rejects(&self, collection: &str, refusals: &Refusals) {
        if self.settings.logs_unfit {
            for Refused { id, reason, .. } in refusals.new_ones().take(MAX_LOGGED_REJECTS) {
                tracing::warn!(target: BATCH_TARGET, collection, id, "document rejected: {reason}");
            }
        }
    }
}

/// Positions, for the log: `rs0 Timestamp(1454960732, 1)`.
fn positions_text(positions: &Positions) -> String {
    let each = positions.iter().map(|(shard, position)| format!("{shard} {}", position.time()));
    each.collect::<Vec<_>>().join(", ")
}
