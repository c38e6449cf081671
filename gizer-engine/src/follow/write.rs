//! The writing half: documents become rows, compared, in one transaction a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use gizer_flatten::change::ClusterTime;
use gizer_flatten::{DocumentBatch, Tally, id_text};
use gizer_pg::Session;
use gizer_pg::rows::Keys;
use gizer_pg::state::{self, UnfitCount};
use gizer_verify::{ReadBack, Reconciled};
use tokio::sync::mpsc::Receiver;

use super::apart::{Apart, Entered, RefusedInBatch};
use super::asked::{Asked, RejectedCollections};
use super::commit::{Commit, WrittenDown};
use super::fail_point::fail_point;
use super::isolate::{Isolated, Isolation};
use super::member::FollowedTables;
use super::members::Ddl;
use super::read::{Delivery, Documents, Whole};
use super::repair::{WRITTEN_TWICE, Waiting};
use super::touched::{Batch, Effect, Mark};
use super::{FollowProgress, FollowSettings, IDLE_CHECKPOINT, LOOK_EVERY, PauseReason, Purpose};
use crate::failure::Failure;
use crate::observer::{AppliedCounts, CollectionEventKind, Event, Observer};

/// The writing half of following.
pub(super) struct Writer<'f> {
    pub(super) session: &'f Session,
    pub(super) settings: FollowSettings,
    pub(super) purpose: Purpose<'f>,
    pub(super) tables: Vec<FollowedTables<'f>>,
    /// Where the tables stand.
    pub(super) mark: Mark,
    pub(super) ahead: Option<ClusterTime>,
    committed: Instant,
    looked: Instant,
    pub(super) progress: FollowProgress,
    pub(super) batch: Open,
    /// How many documents of each collection were repaired, by its number.
    pub(super) repaired: BTreeMap<usize, u64>,
    /// How many documents of each collection were refused, by its number.
    pub(super) refused: BTreeMap<usize, u64>,
    /// The collections of which documents are rejected; not known before the first batch.
    pub(super) rejects: RejectedCollections,
    pub(super) observer: Arc<dyn Observer>,
}

/// What has come so far of a batch that is not whole yet.
#[derive(Default)]
pub(super) struct Open {
    /// When its transaction has begun, if it has.
    pub(super) begun: Option<Instant>,
    /// The latest documents wait, so that a batch of ordinary size has been read when its transaction begins.
    waiting: Option<Documents>,
    /// The ids that were asked for together, of which not all that was found has come.
    asked: Option<Asked>,
    /// What will have been done once it is committed.
    pub(super) done: FollowProgress,
    /// How many documents were repaired, by the number of the collection and the reason.
    pub(super) repaired: BTreeMap<(usize, String), u64>,
    /// What is applied, by the number of the collection.
    pub(super) applied: BTreeMap<usize, AppliedCounts>,
    /// Capped collections of which the oplog does not tell what is gone, and whether nobody has looked.
    pub(super) capped: BTreeMap<usize, bool>,
    /// What came for the first time of that the schema has no place for, with the number of the collection.
    pub(super) new_unfit: Vec<(usize, UnfitCount)>,
    /// The collection that is written to.
    pub(super) entered: Option<Entered>,
    /// What was refused, and what is left as it was, by the number of the collection.
    pub(super) refused: BTreeMap<usize, RefusedInBatch>,
    pub(super) apart: BTreeMap<usize, Apart>,
    /// Up to when documents were read, where that is known.
    pub(super) ahead: Option<ClusterTime>,
}

impl Open {
    /// Forgets what a collection has brought, but not what was counted in all.
    pub(super) fn forget(&mut self, member: usize) {
        self.asked = None;
        self.repaired.retain(|(of, _), _| *of != member);
        self.applied.remove(&member);
        self.refused.remove(&member);
    }
}

impl<'f> Writer<'f> {
    pub(super) fn new(
        session: &'f Session,
        settings: FollowSettings,
        purpose: Purpose<'f>,
        tables: Vec<FollowedTables<'f>>,
        mark: Mark,
        ahead: Option<ClusterTime>,
        observer: Arc<dyn Observer>,
    ) -> Writer<'f> {
        let (now, progress, batch, repaired) =
            (Instant::now(), FollowProgress::default(), Open::default(), BTreeMap::new());
        let (committed, looked) = (now, now);
        Writer {
            session,
            settings,
            purpose,
            tables,
            mark,
            ahead,
            committed,
            looked,
            progress,
            batch,
            repaired,
            refused: BTreeMap::new(),
            rejects: RejectedCollections::default(),
            observer,
        }
    }

    /// Applies what is delivered, until there is no more or a reason to pause. What was not delivered whole is rolled back.
    pub(super) async fn run(&mut self, mut delivered: Receiver<Delivery>) -> Result<PauseReason, Failure> {
        let outcome = self.apply(&mut delivered).await;
        self.roll_back().await;
        outcome
    }

    async fn apply(&mut self, delivered: &mut Receiver<Delivery>) -> Result<PauseReason, Failure> {
        while let Some(delivery) = delivered.recv().await {
            match delivery {
                Delivery::Anew => self.roll_back().await,
                Delivery::Effects(effects) => {
                    self.begin().await?;
                    if self.purpose.has_changed_now(self.session, &self.tables, &[]).await? {
                        return Ok(PauseReason::Changed);
                    }
                    self.take_effects(&effects).await?;
                }
                Delivery::Documents(documents) => {
                    if let Some(documents) = self.batch.waiting.replace(documents) {
                        self.write(documents).await?;
                    }
                }
                Delivery::Whole(whole) => {
                    let paused = self.complete(*whole).await?;
                    if let Some(paused) = paused {
                        return Ok(paused);
                    }
                }
                Delivery::Repairs(answer) => match self.waiting_repairs().await? {
                    Waiting::Repairs(repairs) => drop(answer.send(repairs)),
                    Waiting::Pause(paused) => return Ok(paused),
                },
                Delivery::StoredIds(member, answer) => drop(answer.send(self.stored_ids(member).await?)),
                Delivery::Mark(mark, ahead, must) => self.move_on(mark, ahead, must).await?,
            }
            if self.batch.begun.is_none() && self.looked.elapsed() >= LOOK_EVERY {
                self.looked = Instant::now();
                if self.purpose.has_changed(self.session, &self.tables).await? {
                    return Ok(PauseReason::Changed);
                }
            }
        }
        Ok(PauseReason::Done)
    }

    /// Begins the transaction of the batch, unless it has begun.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        if self.batch.begun.is_none() {
            self.batch.begun = Some(Instant::now());
            fail_point("sync.before_apply");
            self.session.begin().await?;
            self.rejects.look(self.session).await?;
        }
        Ok(())
    }

    async fn roll_back(&mut self) {
        if std::mem::take(&mut self.batch).begun.is_some() {
            self.session.roll_back().await;
        }
    }

    /// Brings about what has happened to collections as such, in the open transaction.
    async fn take_effects(&mut self, effects: &[Effect]) -> Result<(), Failure> {
        for effect in effects.iter().filter(|effect| effect.ddl.is_gone()) {
            self.empty(effect).await?;
        }
        for Effect { member, ddl, uuids } in effects.iter().filter(|effect| !effect.ddl.is_gone()) {
            let tables = &self.tables[*member];
            let (name, epoch) = (&tables.name, tables.live_epoch);
            if let Purpose::Load { .. } = self.purpose {
                return Err(replaced(name));
            }
            match ddl {
                Ddl::Created(_) => state::set_uuids(self.session, name, epoch, uuids).await?,
                Ddl::Gone(_) => {}
                Ddl::Reload(why) => state::mark_load_due(self.session, name, epoch, why).await?,
            }
        }
        Ok(())
    }

    /// A collection is gone: its tables are emptied.
    async fn empty(&mut self, Effect { member, uuids, .. }: &Effect) -> Result<(), Failure> {
        let name = self.tables[*member].name.clone();
        if let Purpose::Load { .. } = self.purpose {
            return Err(replaced(&name));
        }
        self.enter(*member).await?;
        let FollowedTables { live_epoch, store, .. } = &mut self.tables[*member];
        state::set_uuids(self.session, &name, *live_epoch, uuids).await?;
        state::set_passed_over(self.session, &name, *live_epoch, None).await?;
        let deleted = match store.empty().await {
            Ok(deleted) => deleted,
            Err(error) => return self.set_apart(*member, error.into()).await,
        };
        self.batch.done.rows.deleted += deleted;
        self.batch.applied.entry(*member).or_default().rows.deleted += deleted;
        state::forget_rejected(self.session, &name).await?;
        state::clear_repairs(self.session, &name).await?;
        Ok(state::clear_unfit(self.session, &name).await?)
    }

    /// Makes the rows of these documents, and of ids that belong to none, equal to what was found.
    async fn write(&mut self, documents: Documents) -> Result<(), Failure> {
        if self.batch.apart.contains_key(&documents.member) {
            return Ok(());
        }
        self.begin().await?;
        let Documents { member, layout, found: documents, ids, repairs, all, under_way: _under_way } = documents;
        self.enter(member).await?;
        if let Err(error) = self.tables[member].take_layout(self.session, layout).await {
            return self.set_apart(member, error.into()).await;
        }
        self.take_off(member, &repairs).await?;
        let left = self.refusals_left(member);
        let FollowedTables { layout, store, flattener, .. } = &mut self.tables[member];
        let asked = match self.batch.asked.take() {
            Some(asked) => asked,
            None => Asked::new(layout, flattener, &ids, &repairs),
        };
        let (keys, mut asked) = asked.keys_of(layout, flattener, &documents, all);
        let limit = left.saturating_add(asked.known.len() as u64);
        let (gone, known): (Vec<String>, Vec<Vec<u8>>) = match all {
            true => (std::mem::take(&mut asked.gone).into_iter().collect(), std::mem::take(&mut asked.known)),
            false => (Vec::new(), Vec::new()),
        };
        if !all {
            self.batch.asked = Some(asked);
        }
        if documents.is_empty() && keys.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let (session, checks) = (self.session, self.settings.checks);
        let mut isolation = Isolation { session, layout, store, flattener, checks, limit };
        match isolation.write(&documents, &keys).await {
            Ok(isolated) => self.note_rejects(member, &documents, (&keys, &known, &gone), isolated).await,
            Err(trouble) => self.set_apart(member, trouble).await,
        }
    }

    /// Notes which documents of a part are rejected, and which no longer are.
    async fn note_rejects(
        &mut self,
        member: usize,
        documents: &[DocumentBatch],
        (keys, known, gone): (&Keys, &[Vec<u8>], &[String]),
        mut isolated: Isolated,
    ) -> Result<(), Failure> {
        let FollowedTables { name, live_epoch, .. } = &self.tables[member];
        let (name, live_epoch) = (name.clone(), *live_epoch);
        let (mut ids, mut touched) = (Vec::new(), Vec::new());
        if self.rejects.contains(&name) {
            let unfit: BTreeSet<&str> = isolated.reconciled.rejected.iter().map(|reject| reject.id.as_str()).collect();
            let all = documents.iter().flat_map(DocumentBatch::documents).map(id_text);
            ids = all.filter(|id| !unfit.contains(id.as_str())).collect();
            let refused = self.batch.refused.get(&member);
            let is_refused = |key: &[u8]| refused.is_some_and(|refused| refused.has(key));
            touched = (0..).take(keys.len()).map(|number| keys.field(number)).collect();
            touched.extend(known.iter().map(Vec::as_slice).filter(|key| !is_refused(key)));
        }
        let rejected = std::mem::take(&mut isolated.reconciled.rejected);
        if isolated.reconciled.repaired > 0 {
            *self.batch.repaired.entry((member, WRITTEN_TWICE.to_owned())).or_default() += isolated.reconciled.repaired;
        }
        self.settle(member, (&ids, &touched), isolated).await?;
        state::keep_rejected(self.session, &name, live_epoch, &rejected, gone).await?;
        if !rejected.is_empty() {
            let count = rejected.len() as u64;
            self.rejects.insert(name);
            self.batch.done.rejected += count;
            self.batch.applied.entry(member).or_default().rejected += count;
            self.count_unfit(member, &rejected, Tally::default());
        }
        Ok(())
    }

    /// Writes what is left of a batch and commits it; gives why following has to pause, if it has to.
    async fn complete(&mut self, whole: Whole) -> Result<Option<PauseReason>, Failure> {
        let Whole { batch, mark, ahead, passed_over, unexplained, unreadable } = whole;
        self.batch.ahead = ahead.max(Some(mark.time));
        if let Some(documents) = self.batch.waiting.take() {
            self.write(documents).await?;
        }
        self.begin().await?;
        self.set_unreadable_apart(unreadable).await?;
        self.try_once_more().await?;
        self.count_refused();
        let batch = self.without_apart(batch);
        self.count_repairs().await?;
        let given_up = self.give_up(&self.too_many()).await?;
        let mut reload = self.to_reload(&batch);
        reload.extend(given_up.iter().map(|given_up| given_up.collection.clone()));
        let apart = self.batch.apart.iter();
        let (due, failing): (Vec<_>, Vec<_>) = apart.partition(|(_, apart)| apart.reload);
        let name = |(member, _): &(&usize, _)| self.tables[**member].name.clone();
        reload.extend(due.iter().map(name));
        reload.sort_unstable();
        reload.dedup();
        let left: Vec<String> = failing.iter().map(name).chain(reload.iter().cloned()).collect();
        // Tables of a later load hold later documents: none of these may take their place.
        if self.purpose.has_changed_now(self.session, &self.tables, &left).await? {
            return Ok(Some(PauseReason::Changed));
        }
        self.note_passed_over(&unexplained).await?;
        self.keep_unfit().await?;
        self.keep_capped().await?;
        fail_point("sync.after_write");
        let counts = batch.counts();
        let WrittenDown { exact, followed_again } = self.write_down(&mark, ahead, counts.total()).await?;
        fail_point("sync.before_commit");
        let mut open = std::mem::take(&mut self.batch);
        self.session.end(Ok(())).await?;
        fail_point("sync.after_commit");
        if !passed_over.is_empty() {
            fail_point("sync.after_passing_over");
        }
        (self.mark, self.ahead, self.committed) = (mark, ahead, Instant::now());
        self.tell_monitors(&open, &batch, &passed_over, exact);
        self.log_unfit(&open.new_unfit);
        self.progress.add(&open.done);
        self.add_repaired(open.repaired);
        self.add_capped(open.capped);
        let passed_over = passed_over.iter().filter_map(|member| batch.touched.get(member));
        self.progress.changes.add(&counts);
        self.progress.changes.skipped += passed_over.map(|touched| touched.len() as u64).sum::<u64>();
        self.progress.batches += 1;
        self.progress.catching_up += u64::from(!exact);
        self.tell(&batch);
        self.tell_of(given_up);
        let is_apart = !open.apart.is_empty();
        self.tell_troubles(std::mem::take(&mut open.refused), std::mem::take(&mut open.apart), followed_again);
        fail_point("sync.between_batches");
        Ok(match reload.is_empty() {
            false => Some(PauseReason::Reload(reload)),
            true => is_apart.then_some(PauseReason::Changed),
        })
    }

    /// What is passed over must be explained, also if this run does not live to see it.
    async fn note_passed_over(&mut self, unexplained: &BTreeMap<usize, ClusterTime>) -> Result<(), Failure> {
        for (member, until) in unexplained {
            let FollowedTables { name, live_epoch, .. } = &self.tables[*member];
            if let Purpose::Load { .. } = self.purpose {
                return Err(replaced(name));
            }
            state::set_passed_over(self.session, name, *live_epoch, Some(*until)).await?;
        }
        Ok(())
    }

    /// Writes down in the open transaction where the tables stand.
    pub(super) async fn write_down(
        &mut self,
        mark: &Mark,
        ahead: Option<ClusterTime>,
        changes: u64,
    ) -> Result<WrittenDown, Failure> {
        let statements = self.tables.iter().map(|tables| tables.statements()).sum();
        self.progress.statements = statements;
        let commit = Commit {
            positions: &mark.positions,
            ahead: ahead.filter(|ahead| *ahead > mark.time),
            changes: self.progress.changes.total() + changes,
            statements,
            verified: self.settings.checks.read_back == ReadBack::All,
        };
        Ok(self.purpose.write_down(self.session, &mut self.tables, &commit).await?)
    }

    /// Nothing was touched up to here: the position is committed if it must be, if the tables have become exact, and else now
    /// and then.
    async fn move_on(&mut self, mark: Mark, ahead: Option<ClusterTime>, must: bool) -> Result<(), Failure> {
        let exact_now = ahead.is_some_and(|ahead| ahead <= mark.time);
        let due = must || exact_now || self.committed.elapsed() >= IDLE_CHECKPOINT;
        let ahead = ahead.filter(|ahead| *ahead > mark.time);
        if due && self.purpose.is_behind(&mark.positions, ahead, mark.time, &self.tables) {
            self.begin().await?;
            let WrittenDown { exact, followed_again } = self.write_down(&mark, ahead, 0).await?;
            self.batch = Open::default();
            self.session.end(Ok(())).await?;
            self.committed = Instant::now();
            self.tell_troubles(BTreeMap::new(), BTreeMap::new(), followed_again);
            self.tell_standing(&mark, exact);
        } else {
            let catching_up = ahead.map(|_| true);
            self.observer.observe(Event::StandsAt { positions: &mark.positions, catching_up });
        }
        (self.mark, self.ahead) = (mark, ahead);
        Ok(())
    }

    /// Says what has happened to collections as such, once it is committed.
    fn tell(&mut self, batch: &Batch) {
        for Effect { member, ddl, .. } in &batch.effects {
            let name = self.tables[*member].name.clone();
            let what = match ddl {
                Ddl::Created(_) => continue,
                Ddl::Gone(_) => CollectionEventKind::Gone,
                Ddl::Reload(why) => CollectionEventKind::ReloadDue((*why).to_owned()),
            };
            self.happened(&name, what);
        }
    }

    /// The collections that have to be loaded anew after this batch.
    fn to_reload(&self, batch: &Batch) -> Vec<String> {
        let due = batch.effects.iter().filter(|effect| matches!(effect.ddl, Ddl::Reload(_)));
        due.map(|effect| self.tables[effect.member].name.clone()).collect()
    }

    /// Counts what was done, as long as its batch is not committed apart from the rest.
    pub(super) fn count_rows(&mut self, member: usize, reconciled: Reconciled) {
        let (done, applied) = (&mut self.batch.done, self.batch.applied.entry(member).or_default());
        let rows = reconciled.changes.sum();
        applied.rows.deleted += rows.deleted;
        applied.rows.updated += rows.updated;
        applied.rows.inserted += rows.inserted;
        done.documents += reconciled.documents;
        done.rows.deleted += rows.deleted;
        done.rows.updated += rows.updated;
        done.rows.inserted += rows.inserted;
        self.count_unfit(member, &reconciled.rejected, reconciled.tally);
    }
}

/// A load of what is another collection by now is of no use.
pub fn replaced(collection: &str) -> Failure {
    let message = format!("{collection} was created, dropped, renamed or replaced while it was loaded");
    Failure::failed(message).remedy("load it again")
}
