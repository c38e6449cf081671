//! The reading half: collects batches and looks up the documents they touch.

mod collector;
mod members;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gizer_flatten::Scope;
use gizer_flatten::change::ClusterTime;
use gizer_oplog::{ChangeSource, LookUp, MongoError, Oplog, ReadAt, WantedId, latest_time};
use gizer_pg::state::RepairKey;

pub(super) use collector::Collector;
pub(super) use members::{Ddl, FollowedCollection};

use super::batch::{Batch, Repairs};
use super::channels::{BatchEnd, Delivery, FoundDocuments, Interruption, ReaderEnd};
use super::{FollowSettings, Until};
use crate::failure::Failure;
use crate::observer::Observer;

/// The reading half of following.
pub(super) struct ChangeReader<'f, S, L> {
    collector: Collector<S>,
    look_up: L,
    oplogs: &'f [Oplog],
    settings: FollowSettings,
    /// Latest time of documents already read: until then the tables are catching up.
    ahead: Option<ClusterTime>,
    observer: Arc<dyn Observer>,
}

/// How a batch's documents are read.
struct ReadPlan {
    ahead: Option<ClusterTime>,
    at: ReadAt,
    /// Collections dropped or replaced later: they are skipped.
    skipped: BTreeSet<usize>,
    /// Collections that MongoDB refuses to read.
    unreadable: BTreeMap<usize, Failure>,
}

impl ReadPlan {
    /// Whether nothing is read of a collection.
    fn skips(&self, member: usize) -> bool {
        self.skipped.contains(&member) || self.unreadable.contains_key(&member)
    }
}

impl<'f, S: ChangeSource, L: LookUp> ChangeReader<'f, S, L> {
    pub(super) fn new(
        collector: Collector<S>,
        look_up: L,
        oplogs: &'f [Oplog],
        settings: FollowSettings,
        ahead: Option<ClusterTime>,
        observer: Arc<dyn Observer>,
    ) -> ChangeReader<'f, S, L> {
        ChangeReader { collector, look_up, oplogs, settings, ahead, observer }
    }

    /// Delivers batches until `until`, `stop`, or the writer's end.
    pub(super) async fn run(
        &mut self,
        until: Until,
        stop: impl Fn() -> bool,
        mut end: ReaderEnd,
    ) -> Result<(), Failure> {
        match self.read_batches(until, stop, &mut end).await {
            Err(Interruption::Failed(failure)) => Err(failure),
            // The writer reports why it ended.
            Ok(()) | Err(Interruption::WriterGone | Interruption::Replan) => Ok(()),
        }
    }

    async fn read_batches(
        &mut self,
        until: Until,
        stop: impl Fn() -> bool,
        end: &mut ReaderEnd,
    ) -> Result<(), Interruption> {
        let mut is_idle = false;
        while !stop() {
            let is_done = self.collector.has_reached(until);
            let mut batch = self.collector.take_unexplained();
            // A round repairs last, at a late time.
            if batch.is_empty() && (is_done || until == Until::Stopped) && self.collector.can_repair_any() {
                let mut repairs = end.next_repairs(is_idle, is_done).await?;
                repairs.retain(|member, _| self.collector.can_repair(*member));
                batch.repairs = repairs;
            }
            if batch.is_empty() && !is_done {
                batch = self.collector.next_batch(until, &stop).await?;
            }
            is_idle = batch.is_empty();
            if !is_idle {
                self.deliver(batch, end).await?;
                continue;
            }
            end.deliver(Delivery::Mark { mark: self.collector.mark().clone(), ahead: self.ahead, must: is_done })
                .await?;
            if is_done {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads a batch's documents and delivers them.
    async fn deliver(&mut self, batch: Batch, end: &mut ReaderEnd) -> Result<(), Interruption> {
        let mark = self.collector.mark().clone();
        // Documents read ahead would only go back in time.
        let ahead = self.ahead.filter(|ahead| *ahead > mark.time);
        let at = if ahead.is_some() { ReadAt::NotBefore(mark.time) } else { ReadAt::Exactly(mark.time) };
        let replaced = batch.effects.iter().filter(|effect| matches!(effect.ddl, Ddl::Reload(_)));
        let skipped = replaced.map(|effect| effect.member).collect();
        let mut plan = ReadPlan { ahead, at, skipped, unreadable: BTreeMap::new() };
        loop {
            match self.read(&batch, &mut plan, end).await {
                Err(Interruption::Replan) => end.deliver(Delivery::Restart).await?,
                outcome => break outcome?,
            }
        }
        self.ahead = plan.ahead;
        let ReadPlan { ahead, skipped, unreadable, .. } = plan;
        let unexplained = self.collector.unexplained_among(&skipped);
        let whole = BatchEnd { batch, mark, ahead, skipped, unexplained, unreadable };
        end.deliver(Delivery::End(Box::new(whole))).await
    }

    async fn read(&mut self, batch: &Batch, plan: &mut ReadPlan, end: &mut ReaderEnd) -> Result<(), Interruption> {
        if !batch.effects.is_empty() {
            end.deliver(Delivery::Effects(batch.effects.clone())).await?;
        }
        for (&member, touched) in &batch.touched {
            // A huge transaction must not be in memory twice.
            let mut wanted = touched.wanted();
            while !plan.skips(member) {
                let some: Vec<(WantedId, Scope)> = wanted.by_ref().take(self.settings.batch_documents).collect();
                if some.is_empty() {
                    break;
                }
                self.find(member, some, Vec::new(), plan, end).await?;
            }
            if !plan.skips(member) && self.look_up.hides_deletions() {
                self.find_gone(member, plan, end).await?;
            }
        }
        self.read_repairs(&batch.repairs, plan, end).await
    }

    async fn read_repairs(
        &mut self,
        repairs: &Repairs,
        plan: &mut ReadPlan,
        end: &mut ReaderEnd,
    ) -> Result<(), Interruption> {
        for (&member, repairs) in repairs {
            if plan.skips(member) {
                continue;
            }
            let ids = repairs.iter().filter_map(|repair| repair.id.clone());
            let wanted: Vec<_> = ids.map(|id| (WantedId { id, first: None, last: None }, Scope::All)).collect();
            let collection = self.collector.collection(member);
            // A collection missing at the mark has no documents to read.
            if wanted.is_empty() || !collection.exists() {
                let nothing = FoundDocuments::new(member, collection.layout().clone(), repairs.clone());
                end.deliver(Delivery::Documents(FoundDocuments { is_last: true, ..nothing })).await?;
                continue;
            }
            self.find(member, wanted, repairs.clone(), plan, end).await?;
        }
        Ok(())
    }

    /// Looks up the documents with rows in a touched collection whose deletions are not logged.
    async fn find_gone(&mut self, member: usize, plan: &mut ReadPlan, end: &mut ReaderEnd) -> Result<(), Interruption> {
        let Some(ids) = end.stored_ids(member).await? else { return Ok(()) };
        for ids in ids.chunks(self.settings.batch_documents) {
            if plan.skips(member) {
                return Ok(());
            }
            let wanted = ids.iter().map(|id| (WantedId { id: id.clone(), first: None, last: None }, Scope::All));
            self.find(member, wanted.collect(), Vec::new(), plan, end).await?;
        }
        Ok(())
    }

    /// Looks up and delivers these documents with their repairs.
    async fn find(
        &mut self,
        member: usize,
        wanted: Vec<(WantedId, Scope)>,
        repairs: Vec<RepairKey>,
        plan: &mut ReadPlan,
        end: &mut ReaderEnd,
    ) -> Result<(), Interruption> {
        let collection = self.collector.collection(member);
        let mut found = FoundDocuments::new(member, collection.layout().clone(), repairs);
        // Without a router two shards can have one `_id`; the rows may be the other's.
        let is_alone = self.oplogs.len() == 1;
        let wanted = wanted.into_iter().map(|(wanted, scope)| {
            found.ids.push((wanted.id.clone(), if is_alone { scope } else { Scope::All }));
            wanted
        });
        let wanted = wanted.collect();
        if let Err(error) = self.look_up.begin(collection.watched(), wanted, plan.at).await {
            return Err(self.replan(error, member, plan).await);
        }
        let mut bytes = 0;
        loop {
            match self.look_up.next().await {
                Ok(Some(documents)) => {
                    bytes += documents.memory_bytes();
                    found.found.push(documents);
                }
                Ok(None) => break,
                Err(error) => return Err(self.replan(error, member, plan).await),
            }
            if bytes >= self.settings.part_bytes {
                end.deliver(Delivery::Documents(found.take_part(bytes, &self.observer))).await?;
                bytes = 0;
            }
        }
        let last = FoundDocuments { is_last: true, ..found.take_part(bytes, &self.observer) };
        end.deliver(Delivery::Documents(last)).await?;
        if matches!(plan.at, ReadAt::NotBefore(_)) {
            plan.ahead = plan.ahead.max(Some(self.look_up.read_until()));
        }
        Ok(())
    }

    /// A plan for when a batch's documents cannot be read as they were.
    async fn replan(&mut self, error: MongoError, member: usize, plan: &mut ReadPlan) -> Interruption {
        let collection = self.collector.collection(member).layout().collection.as_str();
        match (error, plan.at) {
            (MongoError::TimeOutOfReach { .. }, ReadAt::Exactly(time)) => {
                tracing::info!(%time, "documents can no longer be read as of this time; catching up");
                plan.at = ReadAt::NotBefore(time);
                Interruption::Replan
            }
            // An explaining entry will follow.
            (MongoError::CollectionChanged { .. }, _) => match latest_time(self.oplogs).await {
                Ok(latest) => {
                    tracing::info!(collection, "skipped up to its drop or rename");
                    plan.ahead = plan.ahead.max(Some(latest));
                    plan.skipped.insert(member);
                    self.collector.expect_explanation(member, latest);
                    Interruption::Replan
                }
                Err(error) => Interruption::Failed(error.into()),
            },
            // The others are read; this one is failing.
            (error, _) if error.is_of_one_collection() && !error.is_transient() => {
                tracing::info!(collection, %error, "left out of the batch");
                plan.unreadable.insert(member, error.into());
                Interruption::Replan
            }
            (error, _) => Interruption::Failed(error.into()),
        }
    }
}
