//! The writing half: documents become rows, compared, in one transaction per batch.
//!
//! ```text
//!   Delivery ──▶ Writer ──▶ savepoint of a collection ──▶ Isolation ──▶ reconcile
//!                  │                 └── cannot be written: set apart, as before the batch
//!                  ├──▶ commit, with the checkpoint or the fence of a load
//!                  └──▶ Announcer: counters, events, one line in the log
//! ```

mod announcer;
mod apart;
mod capped;
mod isolate;
mod open_batch;
mod purpose;
mod refusals;
mod repairs;
mod requested;
mod tables;
mod unfit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gizer_flatten::change::{ClusterTime, Positions};
use gizer_flatten::{DocumentBatch, id_text};
use gizer_pg::Session;
use gizer_pg::rows::Keys;
use gizer_pg::state;
use gizer_schema::Layout;
use gizer_verify::ReadBack;

pub(crate) use apart::write_failure;
pub use capped::DELETIONS_UNKNOWN;
pub(crate) use isolate::{Isolation, IsolationOutcome, WriteFailure, sequence};
pub use purpose::Purpose;
pub(super) use tables::FollowedTables;

use super::batch::{Batch, Effect, Mark};
use super::channels::{BatchEnd, Delivery, FoundDocuments, Turn, WriterEnd};
use super::progress::FollowProgress;
use super::reader::Ddl;
use super::{FollowSettings, LOOK_INTERVAL, PauseReason};
use crate::fail_point::fail_point;
use crate::failure::Failure;
use crate::observer::Observer;
use crate::wording::command;
use announcer::{Announcement, Announcer};
use open_batch::OpenBatch;
use purpose::{Commit, CommitOutcome};
use refusals::Refusals;
use requested::{RejectedCollections, RequestedKeys};

/// How often an idle position is recorded.
const IDLE_CHECKPOINT: Duration = Duration::from_secs(10);

/// The writing half of following.
pub(super) struct BatchWriter<'f> {
    session: &'f Session,
    settings: FollowSettings,
    purpose: Purpose<'f>,
    tables: Vec<FollowedTables<'f>>,
    /// Position of the tables.
    mark: Mark,
    ahead: Option<ClusterTime>,
    committed: Instant,
    looked: Instant,
    batch: OpenBatch,
    /// Repaired documents by collection number.
    repaired: BTreeMap<usize, u64>,
    /// Refused documents by collection number.
    refused: BTreeMap<usize, u64>,
    /// Collections with rejected documents; unknown before the first batch.
    rejects: RejectedCollections,
    announcer: Announcer,
}

impl<'f> BatchWriter<'f> {
    pub(super) fn new(
        session: &'f Session,
        settings: FollowSettings,
        purpose: Purpose<'f>,
        tables: Vec<FollowedTables<'f>>,
        mark: Mark,
        ahead: Option<ClusterTime>,
        observer: Arc<dyn Observer>,
    ) -> BatchWriter<'f> {
        let now = Instant::now();
        let announcer = Announcer::new(observer, settings, &purpose, &tables);
        BatchWriter {
            session,
            settings,
            purpose,
            tables,
            mark,
            ahead,
            committed: now,
            looked: now,
            batch: OpenBatch::default(),
            repaired: BTreeMap::new(),
            refused: BTreeMap::new(),
            rejects: RejectedCollections::default(),
            announcer,
        }
    }

    pub(super) fn progress(&self) -> &FollowProgress {
        self.announcer.progress()
    }

    pub(super) fn into_purpose(self) -> Purpose<'f> {
        self.purpose
    }

    /// Latest read time, if later than the last watermark.
    pub(super) fn ahead(&self) -> Option<ClusterTime> {
        self.ahead.filter(|ahead| *ahead > self.mark.time)
    }

    /// Positions of the tables.
    pub(super) fn positions(&self) -> &Positions {
        &self.mark.positions
    }

    pub(super) fn layout(&self, collection: &str) -> Option<&Layout> {
        self.tables.iter().find(|tables| tables.name == collection).map(|tables| &*tables.layout)
    }

    pub(super) fn reads_all_back(&self) -> bool {
        self.settings.checks.read_back == ReadBack::All
    }

    /// Applies deliveries until the end or a reason to pause. An incomplete batch is rolled back.
    pub(super) async fn run(&mut self, mut end: WriterEnd) -> Result<PauseReason, Failure> {
        let outcome = self.apply_all(&mut end).await;
        self.roll_back().await;
        outcome
    }

    async fn apply_all(&mut self, end: &mut WriterEnd) -> Result<PauseReason, Failure> {
        while let Some(delivery) = end.next().await {
            if let Some(reason) = self.apply(delivery, end).await? {
                return Ok(reason);
            }
            if !self.batch.is_begun() && self.looked.elapsed() >= LOOK_INTERVAL {
                self.looked = Instant::now();
                if self.purpose.has_changed(self.session, &self.tables).await? {
                    return Ok(PauseReason::Changed);
                }
            }
        }
        Ok(PauseReason::Done)
    }

    /// Applies one delivery; returns the reason to pause, if any.
    async fn apply(&mut self, delivery: Delivery, end: &WriterEnd) -> Result<Option<PauseReason>, Failure> {
        match delivery {
            Delivery::Restart => self.roll_back().await,
            Delivery::Effects(effects) => {
                self.begin().await?;
                if self.purpose.has_changed_now(self.session, &self.tables, &[]).await? {
                    return Ok(Some(PauseReason::Changed));
                }
                self.apply_effects(&effects).await?;
            }
            Delivery::Documents(documents) => {
                if let Some(documents) = self.batch.waiting.replace(documents) {
                    if self.begins_changed().await? {
                        return Ok(Some(PauseReason::Changed));
                    }
                    self.write(documents).await?;
                }
            }
            Delivery::End(whole) => return self.complete(*whole).await,
            Delivery::Mark { mark, ahead, must } => self.move_idle(mark, ahead, must).await?,
            Delivery::Turn(Turn::Repairs) => return self.ask_for_repairs(end).await,
            Delivery::Turn(Turn::StoredIds(member)) => end.send_stored(self.stored_ids(member).await?).await,
        }
        Ok(None)
    }

    /// Starts the batch's transaction, unless it is open.
    async fn begin(&mut self) -> Result<(), Failure> {
        if !self.batch.is_begun() {
            self.batch.begun = Some(Instant::now());
            fail_point("sync.before_apply");
            self.session.begin().await?;
            self.rejects.look(self.session).await?;
        }
        Ok(())
    }

    /// Starts the batch's transaction, unless it is open; `true` if what is followed has changed before. Rows that another
    /// run is rewriting would make the batch wait, with all other collections in it.
    async fn begins_changed(&mut self) -> Result<bool, Failure> {
        if self.batch.is_begun() {
            return Ok(false);
        }
        self.begin().await?;
        Ok(self.purpose.has_changed_now(self.session, &self.tables, &[]).await?)
    }

    async fn roll_back(&mut self) {
        if std::mem::take(&mut self.batch).is_begun() {
            self.session.roll_back().await;
        }
    }

    /// Applies effects on whole collections, in the open transaction.
    async fn apply_effects(&mut self, effects: &[Effect]) -> Result<(), Failure> {
        if let (Purpose::Load { .. }, Some(effect)) = (&self.purpose, effects.first()) {
            return Err(replaced(&self.tables[effect.member].name));
        }
        for effect in effects.iter().filter(|effect| effect.ddl.is_gone()) {
            self.empty(effect).await?;
        }
        for Effect { member, ddl, uuids } in effects {
            let FollowedTables { name, live_epoch, .. } = &self.tables[*member];
            match ddl {
                Ddl::Created(_) => state::set_uuids(self.session, name, *live_epoch, uuids).await?,
                Ddl::Gone(_) => {}
                Ddl::Reload(why) => state::mark_load_due(self.session, name, *live_epoch, why).await?,
            }
        }
        Ok(())
    }

    /// Empties the tables of a dropped collection.
    async fn empty(&mut self, Effect { member, uuids, .. }: &Effect) -> Result<(), Failure> {
        self.enter(*member).await?;
        let FollowedTables { name, live_epoch, store, .. } = &mut self.tables[*member];
        state::set_uuids(self.session, name, *live_epoch, uuids).await?;
        state::set_passed_over(self.session, name, *live_epoch, None).await?;
        let deleted = match store.empty().await {
            Ok(deleted) => deleted,
            Err(error) => return self.set_apart(*member, error.into()).await,
        };
        state::forget_rejected(self.session, name).await?;
        state::clear_repairs(self.session, name).await?;
        state::clear_unfit(self.session, name).await?;
        self.batch.count_deleted(*member, deleted);
        Ok(())
    }

    /// Makes rows equal to the found documents, and deletes rows of ids without one.
    async fn write(&mut self, documents: FoundDocuments) -> Result<(), Failure> {
        if self.batch.apart.contains_key(&documents.member) {
            return Ok(());
        }
        self.begin().await?;
        let FoundDocuments { member, layout, found: documents, ids, repairs, is_last, in_flight: _in_flight } =
            documents;
        self.enter(member).await?;
        if let Err(error) = self.tables[member].take_layout(self.session, layout).await {
            return self.set_apart(member, error.into()).await;
        }
        self.take_off_queue(member, &repairs).await?;
        let left = self.refusals_left(member);
        let FollowedTables { layout, store, flattener, .. } = &mut self.tables[member];
        let requested = self.batch.requested.take();
        let mut requested = requested.unwrap_or_else(|| RequestedKeys::new(layout, flattener, &ids, &repairs));
        let keys = requested.keys_of(layout, flattener, &documents, is_last);
        let limit = left.saturating_add(requested.known.len() as u64);
        let mut part = WrittenPart { member, documents: &documents, keys: &keys, known: Vec::new(), gone: Vec::new() };
        if is_last {
            (part.known, part.gone) = (requested.known, requested.gone.into_iter().collect());
        } else {
            self.batch.requested = Some(requested);
        }
        if documents.is_empty() && keys.is_empty() && part.gone.is_empty() {
            return Ok(());
        }
        let (session, checks) = (self.session, self.settings.checks);
        let mut isolation = Isolation { session, layout, store, flattener, checks, limit };
        match isolation.write(&documents, &keys).await {
            Ok(outcome) => self.note_rejects(part, outcome).await,
            Err(trouble) => self.set_apart(member, trouble).await,
        }
    }

    /// Notes which documents of a part are rejected, and which no longer are.
    async fn note_rejects(&mut self, part: WrittenPart<'_>, mut outcome: IsolationOutcome) -> Result<(), Failure> {
        let WrittenPart { member, documents, keys, known, gone } = part;
        let (mut ids, mut touched) = (Vec::new(), Vec::new());
        if self.rejects.contains(&self.tables[member].name) {
            let unfit: BTreeSet<&str> = outcome.reconciled.rejected.iter().map(|reject| reject.id.as_str()).collect();
            let all = documents.iter().flat_map(DocumentBatch::documents).map(id_text);
            ids = all.filter(|id| !unfit.contains(id.as_str())).collect();
            let refused = self.batch.refused.get(&member);
            let is_refused = |key: &[u8]| refused.is_some_and(|refused| refused.has(key));
            touched = (0..).take(keys.len()).map(|number| keys.field(number)).collect();
            touched.extend(known.iter().map(Vec::as_slice).filter(|key| !is_refused(key)));
        }
        let rejected = std::mem::take(&mut outcome.reconciled.rejected);
        self.batch.count_written_twice(member, outcome.reconciled.repaired);
        self.settle(member, &ids, &touched, outcome).await?;
        let FollowedTables { name, live_epoch, .. } = &self.tables[member];
        state::keep_rejected(self.session, name, *live_epoch, &rejected, &gone).await?;
        if !rejected.is_empty() {
            self.rejects.insert(name.clone());
            self.batch.count_rejected(member, name, &rejected);
        }
        Ok(())
    }

    /// Notes refused documents of a part with these `ids` and `keys`, in the open transaction.
    async fn settle(
        &mut self,
        member: usize,
        ids: &[String],
        keys: &[&[u8]],
        outcome: IsolationOutcome,
    ) -> Result<(), Failure> {
        let IsolationOutcome { reconciled, refused, undeleted, why_undeleted } = outcome;
        let FollowedTables { name, live_epoch, .. } = &self.tables[member];
        if !refused.is_empty() || self.rejects.contains(name) {
            let settled = state::settle_rejects(self.session, name, *live_epoch, (ids, keys), &refused).await?;
            if !refused.is_empty() {
                self.rejects.insert(name.clone());
            }
            self.batch.done.accepted += settled.resolved;
            self.batch.refused.entry(member).or_default().add(refused, &settled.new);
        }
        if let Some(why) = why_undeleted {
            self.batch.refused.entry(member).or_default().add_undeleted(undeleted, why);
        }
        self.batch.count_rows(member, name, reconciled);
        Ok(())
    }

    /// Refusals left for a collection in this run.
    fn refusals_left(&self, member: usize) -> u64 {
        let in_batch = self.batch.refused.get(&member).map_or(0, Refusals::new_count);
        let before = self.refused.get(&member).copied().unwrap_or_default();
        self.settings.max_rejects.saturating_sub(before + in_batch)
    }

    /// Writes the rest of a batch and commits it; returns the reason to pause, if any.
    async fn complete(&mut self, end: BatchEnd) -> Result<Option<PauseReason>, Failure> {
        let BatchEnd { batch, mark, ahead, skipped, unexplained, unreadable } = end;
        self.batch.ahead = ahead.max(Some(mark.time));
        if self.begins_changed().await? {
            return Ok(Some(PauseReason::Changed));
        }
        if let Some(documents) = self.batch.waiting.take() {
            self.write(documents).await?;
        }
        self.set_unreadable_apart(unreadable).await?;
        self.retry_refused().await?;
        self.batch.count_refused(&self.tables);
        let batch = self.batch.without_apart(batch);
        self.count_repairs().await?;
        let overrun = self.overrun_in_batch();
        self.mark_overrun(&overrun).await?;
        let reload = self.to_reload(&batch, &overrun);
        let failing = self.batch.apart.iter().filter(|(_, apart)| !apart.reload);
        let left: Vec<String> =
            failing.map(|(member, _)| self.tables[*member].name.clone()).chain(reload.iter().cloned()).collect();
        // Tables of a later load hold later documents, which these must not replace.
        if self.purpose.has_changed_now(self.session, &self.tables, &left).await? {
            return Ok(Some(PauseReason::Changed));
        }
        self.note_skipped(&unexplained).await?;
        self.record_unfit().await?;
        self.record_capped().await?;
        fail_point("sync.after_write");
        let counts = batch.counts();
        let outcome = self.record_position(&mark, ahead, counts.total()).await?;
        fail_point("sync.before_commit");
        let open = self.commit(mark, ahead).await?;
        fail_point("sync.after_commit");
        if !skipped.is_empty() {
            fail_point("sync.after_passing_over");
        }
        self.count_committed(&open);
        let has_apart = !open.apart.is_empty();
        let announcement = Announcement { open, batch, skipped, overrun, outcome };
        self.announcer.committed(announcement, &self.mark, &self.tables);
        fail_point("sync.between_batches");
        Ok(match reload.is_empty() {
            false => Some(PauseReason::Reload(reload)),
            true => has_apart.then_some(PauseReason::Changed),
        })
    }

    /// Commits the open transaction at a mark; returns the batch.
    async fn commit(&mut self, mark: Mark, ahead: Option<ClusterTime>) -> Result<OpenBatch, Failure> {
        let open = std::mem::take(&mut self.batch);
        self.session.end(Ok(())).await?;
        (self.mark, self.ahead, self.committed) = (mark, ahead, Instant::now());
        Ok(open)
    }

    /// Counts repairs and refusals towards the run's limits.
    fn count_committed(&mut self, open: &OpenBatch) {
        for ((member, _), count) in &open.repaired {
            *self.repaired.entry(*member).or_default() += count;
        }
        for (member, refused) in &open.refused {
            *self.refused.entry(*member).or_default() += refused.new_count();
        }
    }

    /// Names of collections to reload after this batch.
    fn to_reload(&self, batch: &Batch, overrun: &BTreeMap<usize, u64>) -> Vec<String> {
        let replaced = batch.effects.iter().filter(|effect| matches!(effect.ddl, Ddl::Reload(_)));
        let apart = self.batch.apart.iter().filter(|(_, apart)| apart.reload).map(|(member, _)| *member);
        let due: BTreeSet<usize> =
            replaced.map(|effect| effect.member).chain(overrun.keys().copied()).chain(apart).collect();
        let mut names: Vec<String> = due.into_iter().map(|member| self.tables[member].name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Records skipped collections, so that a later run also waits for their explanation.
    async fn note_skipped(&mut self, unexplained: &BTreeMap<usize, ClusterTime>) -> Result<(), Failure> {
        for (member, until) in unexplained {
            let FollowedTables { name, live_epoch, .. } = &self.tables[*member];
            if let Purpose::Load { .. } = self.purpose {
                return Err(replaced(name));
            }
            state::set_passed_over(self.session, name, *live_epoch, Some(*until)).await?;
        }
        Ok(())
    }

    /// Records the tables' position in the open transaction.
    async fn record_position(
        &mut self,
        mark: &Mark,
        ahead: Option<ClusterTime>,
        changes: u64,
    ) -> Result<CommitOutcome, Failure> {
        let statements = self.tables.iter().map(FollowedTables::statements).sum();
        self.announcer.set_statements(statements);
        let commit = Commit {
            positions: &mark.positions,
            ahead: ahead.filter(|ahead| *ahead > mark.time),
            changes: self.progress().changes.total() + changes,
            statements,
            verified: self.reads_all_back(),
        };
        Ok(self.purpose.record_position(self.session, &mut self.tables, &commit).await?)
    }

    /// Moves to an idle position; records it if necessary, or now and then.
    async fn move_idle(&mut self, mark: Mark, ahead: Option<ClusterTime>, must: bool) -> Result<(), Failure> {
        let exact_now = ahead.is_some_and(|ahead| ahead <= mark.time);
        let due = must || exact_now || self.committed.elapsed() >= IDLE_CHECKPOINT;
        let ahead = ahead.filter(|ahead| *ahead > mark.time);
        if due && self.purpose.is_behind(&mark.positions, ahead, mark.time, &self.tables) {
            self.begin().await?;
            let CommitOutcome { exact, followed_again } = self.record_position(&mark, ahead, 0).await?;
            self.commit(mark, ahead).await?;
            self.announcer.follows_again(followed_again);
            self.announcer.stands_at(&self.mark, Some(!exact));
        } else {
            self.announcer.stands_at(&mark, ahead.map(|_| true));
            (self.mark, self.ahead) = (mark, ahead);
        }
        Ok(())
    }
}

/// A written part of a batch, with requested ids that have no document.
struct WrittenPart<'p> {
    member: usize,
    documents: &'p [DocumentBatch],
    keys: &'p Keys,
    /// Keys of repairs and of rejected documents.
    known: Vec<Vec<u8>>,
    /// `_id`s without a key and without a document.
    gone: Vec<String>,
}

/// The failure of a load whose collection was replaced.
pub fn replaced(collection: &str) -> Failure {
    let message = format!("{collection} was created, dropped, renamed or replaced while it was loaded");
    Failure::failed(message).remedy(format!("run `{}`", command("load", [collection], &[])))
}
