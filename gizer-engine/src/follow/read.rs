//! The reading half: changes become batches, and what a batch has touched is looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::change::ClusterTime;
use gizer_flatten::{DocumentBatch, Scope};
use gizer_oplog::{ChangeEvent, ChangeSource, LookUp, MongoError, Oplog, ReadAt, WantedId, latest_time};
use gizer_pg::state::RepairKey;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;

use super::capped::StoredIds;
use super::collect::Collected;
use super::layout::LayoutVersion;
use super::member::FollowedCollection;
use super::members::{Ddl, Members};
use super::repair::{Asking, Repairs, Unwanted};
use super::touched::{Batch, Effect, Mark};
use super::{FollowSettings, Until};
use crate::failure::Failure;
use crate::observer::{InFlight, Observer};

/// What the reader gives the writer.
pub(super) enum Delivery {
    /// What happened to collections as such: the first of a batch.
    Effects(Vec<Effect>),
    /// Documents of one collection that were touched.
    Documents(Documents),
    /// What came of the batch so far is void: it is read anew.
    Anew,
    /// The batch is whole.
    Whole(Box<Whole>),
    /// What is there to repair? What was delivered before has been committed when the answer comes.
    Repairs(oneshot::Sender<Repairs>),
    /// Of which documents of this collection are there rows?
    StoredIds(usize, oneshot::Sender<StoredIds>),
    /// Up to here nothing was touched. Whether it must be written down, or may wait.
    Mark(Mark, Option<ClusterTime>, bool),
}

/// What was found of some documents that were touched.
pub(super) struct Documents {
    /// The number of the collection.
    pub(super) member: usize,
    /// The layout that they were read by.
    pub(super) layout: LayoutVersion,
    pub(super) found: Vec<DocumentBatch>,
    /// With the first of them the ids that were asked for, each with the tables in which rows of its document can have changed.
    pub(super) ids: Vec<(Bytes, Scope)>,
    /// With the first of them the repairs that are done with them, whether or not they have ids.
    pub(super) repairs: Vec<RepairKey>,
    /// Whether that is all that was found under those.
    pub(super) all: bool,
    /// That they are under way.
    pub(super) under_way: Option<InFlight>,
}

/// The end of a batch.
pub(super) struct Whole {
    pub(super) batch: Batch,
    pub(super) mark: Mark,
    /// Up to when documents were read, where that is later than the mark.
    pub(super) ahead: Option<ClusterTime>,
    /// Collections of which nothing was read.
    pub(super) passed_over: BTreeSet<usize>,
    /// Those of them of which no entry has told why yet, and up to when one must.
    pub(super) unexplained: BTreeMap<usize, ClusterTime>,
    /// Collections that could not be read, and why.
    pub(super) unreadable: BTreeMap<usize, Failure>,
}

/// How the documents of a batch are read.
pub(super) struct Plan {
    ahead: Option<ClusterTime>,
    at: ReadAt,
    /// Collections that are dropped or replaced further on: what was touched is passed over.
    pub(super) passed_over: BTreeSet<usize>,
    /// Collections that MongoDB does not let us read.
    unreadable: BTreeMap<usize, Failure>,
}

impl Plan {
    /// Whether nothing is read of a collection.
    pub(super) fn skips(&self, member: usize) -> bool {
        self.passed_over.contains(&member) || self.unreadable.contains_key(&member)
    }
}

/// Why reading a batch has ended early.
pub(super) enum Ended {
    /// Another plan may help.
    Replan,
    /// The writer has ended: nobody wants it.
    Unwanted,
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Ended {
    fn from(error: E) -> Ended {
        Ended::Failed(error.into())
    }
}

/// The reading half of following.
pub(super) struct Reader<'f, S, L> {
    oplogs: &'f [Oplog],
    pub(super) settings: FollowSettings,
    pub(super) source: S,
    look_up: L,
    pub(super) members: Members,
    /// Some documents were read as they were up to this time: until then the tables are catching up.
    ahead: Option<ClusterTime>,
    /// Collections that were passed over because another one has their name, and up to when the entry that tells why must
    /// have come.
    pub(super) unexplained: BTreeMap<usize, ClusterTime>,
    /// The last watermark.
    pub(super) mark: Mark,
    /// An event that came when the batch before it had to end.
    pub(super) pending: Option<ChangeEvent>,
    /// What it has asked the writer for.
    pub(super) asking: Asking,
    pub(super) observer: Arc<dyn Observer>,
}

impl<'f, S: ChangeSource, L: LookUp> Reader<'f, S, L> {
    pub(super) fn new(
        oplogs: &'f [Oplog],
        settings: FollowSettings,
        source: S,
        look_up: L,
        followed: Vec<FollowedCollection>,
        mark: Mark,
        ahead: Option<ClusterTime>,
        observer: Arc<dyn Observer>,
    ) -> Reader<'f, S, L> {
        let passed_over = followed.iter().enumerate();
        let unexplained = passed_over.filter_map(|(at, followed)| Some((at, followed.skipped_until?))).collect();
        let (members, pending, asking) = (Members::new(followed), None, Asking::default());
        Reader { oplogs, settings, source, look_up, members, ahead, unexplained, mark, pending, asking, observer }
    }

    /// Delivers batches until it has come far enough, somebody says stop, or the writer has ended.
    pub(super) async fn run(
        &mut self,
        until: Until,
        stop: impl Fn() -> bool,
        deliver: Sender<Delivery>,
    ) -> Result<(), Failure> {
        let mut idle = false;
        while !stop() {
            let done = matches!(until, Until::Time(time) if self.mark.read_to >= time && self.pending.is_none());
            let batch = match self.unexplained_now() {
                Some(batch) => Some(batch),
                // A round does it last, when the time that has been reached is a late one.
                None if done || until == Until::Stopped => match self.next_repairs(&deliver, idle, done).await {
                    Ok(batch) => batch,
                    Err(Unwanted) => return Ok(()),
                },
                None => None,
            };
            let batch = match batch {
                Some(batch) => batch,
                None if done => {
                    let _ = deliver.send(Delivery::Mark(self.mark.clone(), self.ahead, true)).await;
                    return Ok(());
                }
                None => match self.collect(until, &stop).await? {
                    Collected::Nothing => {
                        idle = true;
                        if deliver.send(Delivery::Mark(self.mark.clone(), self.ahead, false)).await.is_err() {
                            return Ok(());
                        }
                        continue;
                    }
                    Collected::Batch(batch) => batch,
                },
            };
            idle = false;
            if !self.deliver(batch, &deliver).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Collections that were passed over, and no entry has told why, though all up to then have come: a shard that was added,
    /// files that were exchanged below the server. What was passed over of them is not known any more.
    fn unexplained_now(&mut self) -> Option<Batch> {
        let time = self.mark.time;
        let due: Vec<usize> =
            self.unexplained.iter().filter(|(_, until)| **until <= time).map(|(member, _)| *member).collect();
        self.unexplained.retain(|_, until| *until > time);
        let ddl = Ddl::Reload("it is another collection, and no entry of the oplog says since when");
        let effect = |member| Effect { member, ddl, uuids: BTreeMap::new() };
        (!due.is_empty()).then(|| Batch { effects: due.into_iter().map(effect).collect(), ..Batch::default() })
    }

    /// Reads what a batch has touched, and delivers it; gives whether anybody wants it.
    async fn deliver(&mut self, batch: Batch, deliver: &Sender<Delivery>) -> Result<bool, Failure> {
        let mark = self.mark.clone();
        // Where documents have been read ahead already, these would only go back in time.
        let ahead = self.ahead.filter(|ahead| *ahead > mark.time);
        let at = if ahead.is_some() { ReadAt::NotBefore(mark.time) } else { ReadAt::Exactly(mark.time) };
        let passed_over = batch.effects.iter().filter(|effect| matches!(effect.ddl, Ddl::Reload(_)));
        let passed_over = passed_over.map(|effect| effect.member).collect();
        let mut plan = Plan { ahead, at, passed_over, unreadable: BTreeMap::new() };
        loop {
            let delivery = match self.read(&batch, &mut plan, deliver).await {
                Ok(()) => {
                    self.ahead = plan.ahead;
                    let Plan { ahead, passed_over, unreadable, .. } = plan;
                    let unexplained = self.unexplained.iter().filter(|(member, _)| passed_over.contains(member));
                    let unexplained = unexplained.map(|(member, until)| (*member, *until)).collect();
                    let whole = Whole { batch, mark, ahead, passed_over, unexplained, unreadable };
                    return Ok(deliver.send(Delivery::Whole(Box::new(whole))).await.is_ok());
                }
                Err(Ended::Replan) => Delivery::Anew,
                Err(Ended::Unwanted) => return Ok(false),
                Err(Ended::Failed(failure)) => return Err(failure),
            };
            if deliver.send(delivery).await.is_err() {
                return Ok(false);
            }
        }
    }

    async fn read(&mut self, batch: &Batch, plan: &mut Plan, deliver: &Sender<Delivery>) -> Result<(), Ended> {
        if !batch.effects.is_empty() {
            deliver.send(Delivery::Effects(batch.effects.clone())).await.map_err(|_| Ended::Unwanted)?;
        }
        for (&member, touched) in &batch.touched {
            // A batch that is one huge transaction is not held twice.
            let mut wanted = touched.wanted();
            while !plan.skips(member) {
                let some: Vec<(WantedId, Scope)> = wanted.by_ref().take(self.settings.batch_documents).collect();
                if some.is_empty() {
                    break;
                }
                self.find(member, some, Vec::new(), plan, deliver).await?;
            }
            if !plan.skips(member) && self.look_up.hides_deletions() {
                self.find_gone(member, plan, deliver).await?;
            }
        }
        for (&member, repairs) in &batch.repairs {
            if plan.skips(member) {
                continue;
            }
            let ids = repairs.iter().filter_map(|repair| repair.id.clone());
            let wanted: Vec<_> = ids.map(|id| (WantedId { id, first: None, last: None }, Scope::All)).collect();
            // A collection that does not exist at the mark has no documents, and cannot be looked at.
            if wanted.is_empty() || self.members.all[member].watched.uuids.is_empty() {
                let (found, ids, repairs, under_way) = (Vec::new(), Vec::new(), repairs.clone(), None);
                let layout = self.members.all[member].layout.clone();
                let all = Documents { member, layout, found, ids, repairs, all: true, under_way };
                deliver.send(Delivery::Documents(all)).await.map_err(|_| Ended::Unwanted)?;
                continue;
            }
            self.find(member, wanted, repairs.clone(), plan, deliver).await?;
        }
        Ok(())
    }

    fn under_way(&self, bytes: usize) -> Option<InFlight> {
        Some(InFlight::of(&self.observer, bytes))
    }

    /// Looks up and delivers the documents with these ids, and with them these repairs.
    pub(super) async fn find(
        &mut self,
        member: usize,
        wanted: Vec<(WantedId, Scope)>,
        mut repairs: Vec<RepairKey>,
        plan: &mut Plan,
        deliver: &Sender<Delivery>,
    ) -> Result<(), Ended> {
        let watched = self.members.all[member].watched.clone();
        let mut ids: Vec<(Bytes, Scope)> = Vec::new();
        // Without a router two shards can have documents of one `_id`: the one that is read need not be that of the rows.
        let alone = self.oplogs.len() == 1;
        let wanted = wanted.into_iter().map(|(wanted, scope)| {
            ids.push((wanted.id.clone(), if alone { scope } else { Scope::All }));
            wanted
        });
        let wanted = wanted.collect();
        if let Err(error) = self.look_up.begin(&watched, wanted, plan.at).await {
            return Err(self.replan(error, member, plan).await);
        }
        let (mut found, mut bytes) = (Vec::new(), 0);
        loop {
            match self.look_up.next().await {
                Ok(Some(documents)) => {
                    bytes += documents.memory_bytes();
                    found.push(documents);
                }
                Ok(None) => break,
                Err(error) => return Err(self.replan(error, member, plan).await),
            }
            if bytes >= self.settings.part_bytes {
                let (found, ids) = (std::mem::take(&mut found), std::mem::take(&mut ids));
                let (repairs, under_way) = (std::mem::take(&mut repairs), self.under_way(bytes));
                let layout = self.members.all[member].layout.clone();
                let part = Documents { member, layout, found, ids, repairs, all: false, under_way };
                deliver.send(Delivery::Documents(part)).await.map_err(|_| Ended::Unwanted)?;
                bytes = 0;
            }
        }
        let layout = self.members.all[member].layout.clone();
        let last = Documents { member, layout, found, ids, repairs, all: true, under_way: self.under_way(bytes) };
        deliver.send(Delivery::Documents(last)).await.map_err(|_| Ended::Unwanted)?;
        if matches!(plan.at, ReadAt::NotBefore(_)) {
            plan.ahead = plan.ahead.max(Some(self.look_up.read_until()));
        }
        Ok(())
    }

    /// What can be done where the documents of a batch cannot be read as they were.
    async fn replan(&mut self, error: MongoError, member: usize, plan: &mut Plan) -> Ended {
        match (error, plan.at) {
            (MongoError::TimeOutOfReach { .. }, ReadAt::Exactly(time)) => {
                tracing::info!(%time, "documents can no longer be read as of this time; catching up");
                plan.at = ReadAt::NotBefore(time);
                Ended::Replan
            }
            // The entry that tells why is on its way.
            (MongoError::CollectionChanged { .. }, _) => match latest_time(self.oplogs).await {
                Ok(latest) => {
                    tracing::info!(collection = self.members.all[member].name, "passed over up to its drop or rename");
                    plan.ahead = plan.ahead.max(Some(latest));
                    plan.passed_over.insert(member);
                    self.unexplained.entry(member).or_insert(latest);
                    Ended::Replan
                }
                Err(error) => Ended::Failed(error.into()),
            },
            // The others are read, and this one is failing.
            (error, _) if error.is_of_one_collection() && !error.is_transient() => {
                tracing::info!(collection = self.members.all[member].name, %error, "left out of the batch");
                plan.unreadable.insert(member, error.into());
                Ended::Replan
            }
            (error, _) => Ended::Failed(error.into()),
        }
    }
}
