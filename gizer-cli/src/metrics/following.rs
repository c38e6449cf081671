//! What following reports: batches, positions, and how far the oplogs reach.

use std::sync::PoisonError;
use std::time::Duration;

use gizer_engine::follow::ChangeCounts;
use gizer_engine::{AppliedCounts, CommittedBatch, Event, Observer};
use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{MongoError, Oplog};
use tokio::task::JoinSet;

use super::Metrics;
use super::catalog::{
    BATCH_SECONDS, BATCHES, CATCHING_UP, CHANGES, HEADROOM, LAG, LOOKUP_MEMORY, POSITION, REJECTED, RELOADS, REPAIRS,
    ROWS, SCHEMA_VERSIONS, UNFIT, UNKNOWN, VERIFIED,
};
use super::registry::Values;

/// How often the newest entries are looked at.
const NEWEST_EVERY: Duration = Duration::from_secs(5);

/// The oldest entries are looked at each time that the newest have been looked at so often.
const OLDEST_EVERY: u32 = 3;

/// How long a shard may take to tell.
const OPLOG_ENDS_TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of one shard. Seconds since 1970.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    position: Option<ClusterTime>,
    pub(super) newest: Option<u32>,
    pub(super) oldest: Option<u32>,
}

/// The oplogs of what is followed.
#[derive(Debug)]
pub(super) struct Watched {
    oplogs: Vec<Oplog>,
    /// Looks at them while anybody reads the metrics; ends when it is dropped.
    task: JoinSet<()>,
    /// Whether following has come to its end as it was to.
    is_done: bool,
}

impl Metrics {
    fn committed(&self, batch: &CommittedBatch<'_>) {
        self.registry().together(|values| {
            batch.applied.iter().for_each(|(collection, applied)| add_applied(values, collection, applied));
            for (reason, count) in &batch.repaired {
                values.add(&REPAIRS, &[reason], *count);
            }
            values.add(&BATCHES, &[], 1);
            values.observe(&BATCH_SECONDS, batch.took.as_secs_f64());
        });
    }

    /// A collection has to be reloaded.
    fn reload_due(&self, reason: &str) {
        self.registry().add(&RELOADS, &[reason], 1);
    }

    /// What has been applied so far of collections that are followed: counters exist from the beginning on, so that a first
    /// change is an increase.
    fn follows(&self, collections: &[&str]) {
        self.registry().together(|values| {
            collections.iter().for_each(|collection| add_applied(values, collection, &AppliedCounts::default()));
            values.add(&BATCHES, &[], 0);
        });
    }

    /// The tables stand here now. Whether they are catching up, so that they equal no single moment, is as it was where it is not
    /// said.
    pub(super) fn stands_at(&self, positions: &Positions, catching_up: Option<bool>) {
        let registry = self.registry();
        if let Some(catching_up) = catching_up {
            registry.set(&CATCHING_UP, &[], f64::from(u8::from(catching_up)));
        }
        for (shard, position) in positions {
            self.restate(shard, |standing| standing.position = Some(position.time()));
        }
    }

    /// Up to here the tables are known to be equal, with all that was written read back.
    fn verified_up_to(&self, positions: &Positions) {
        let registry = self.registry();
        for (shard, position) in positions {
            registry.set(&VERIFIED, &[shard], f64::from(position.time().seconds));
        }
    }

    /// Where the tables stand, for the log; `None` if nothing is followed.
    pub(super) fn position(&self) -> Option<String> {
        let shards = self.0.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<String> =
            shards.iter().filter_map(|(shard, standing)| Some(format!("{shard} {}", standing.position?))).collect();
        (!known.is_empty()).then(|| known.join(", "))
    }

    /// Takes in what has changed of a shard, and says what follows from it.
    pub(super) fn restate(&self, shard: &str, change: impl FnOnce(&mut Standing)) {
        let mut shards = self.0.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = shards.entry(shard.to_owned()).or_default();
        change(standing);
        let Standing { position, newest, oldest } = *standing;
        let position = position.map(|position| f64::from(position.seconds));
        let lag = position.zip(newest).map(|(position, newest)| (f64::from(newest) - position).max(0.0));
        let headroom = position.zip(oldest).map(|(position, oldest)| position - f64::from(oldest));
        self.registry().together(|values| {
            for (of, value) in [(&POSITION, position), (&LAG, lag), (&HEADROOM, headroom)] {
                match value {
                    Some(value) => values.set(of, &[shard], value),
                    None => values.forget(of, &[shard]),
                }
            }
        });
    }

    /// Looks at the ends of the oplogs now and then, until told otherwise.
    fn watch(&self, oplogs: &[Oplog]) {
        let oplogs = oplogs.to_vec();
        let mut task = JoinSet::new();
        if self.are_read() {
            let (metrics, oplogs) = (self.clone(), oplogs.clone());
            task.spawn(async move { metrics.look_again_and_again(&oplogs).await });
        }
        *self.0.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some(Watched { oplogs, task, is_done: false });
    }

    /// Nobody follows any more: what the oplogs hold is not known, until they are looked at once more where following was done.
    fn watch_no_more(&self, is_done: bool) {
        let mut watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watched) = watched.as_mut() else { return };
        watched.is_done = is_done;
        watched.task.abort_all();
        self.look_away(&watched.oplogs);
    }

    /// Looks once more at the oplogs of what was followed to its end, so that what a round leaves behind is known until the next.
    pub(crate) async fn settle(&self) {
        let watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watched) = watched.filter(|watched| watched.is_done) {
            self.look(&watched.oplogs, true).await;
        }
    }

    async fn look_again_and_again(&self, oplogs: &[Oplog]) {
        let mut ticks = tokio::time::interval(NEWEST_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for round in 0_u32.. {
            ticks.tick().await;
            self.look(oplogs, round.is_multiple_of(OLDEST_EVERY)).await;
        }
    }

    /// Looks at the newest entries of the oplogs, and at the oldest if that is wanted. What a shard does not tell is not known.
    async fn look(&self, oplogs: &[Oplog], oldest: bool) {
        if !self.are_read() {
            return;
        }
        for oplog in oplogs {
            let newest = seconds(oplog.newest()).await;
            self.restate(oplog.name(), |standing| standing.newest = newest);
            if oldest {
                let oldest = seconds(oplog.oldest()).await;
                self.restate(oplog.name(), |standing| standing.oldest = oldest);
            }
        }
    }

    /// Nobody looks at the oplogs any more: what they held is not known.
    fn look_away(&self, oplogs: &[Oplog]) {
        for oplog in oplogs {
            self.restate(oplog.name(), |standing| (standing.newest, standing.oldest) = (None, None));
        }
    }

    /// So many bytes of documents more are in use, or fewer.
    fn under_way(&self, bytes: i64) {
        self.registry().shift(&LOOKUP_MEMORY, bytes as f64);
    }
}

/// Adds what was applied of a collection, each kind of it, so that a counter exists also where
/// nothing came.
fn add_applied(values: &mut Values, collection: &str, applied: &AppliedCounts) {
    let AppliedCounts { changes, rows, rejected, unknown, unfit } = *applied;
    let ChangeCounts { inserts, replacements, updates, deletes, migrations, .. } = changes;
    let operations = [
        ("insert", inserts),
        ("replace", replacements),
        ("update", updates),
        ("delete", deletes),
        ("migration", migrations),
    ];
    let changed = [("insert", rows.inserted), ("update", rows.updated), ("delete", rows.deleted)];
    operations.iter().for_each(|(name, count)| values.add(&CHANGES, &[collection, name], *count));
    changed.iter().for_each(|(name, count)| values.add(&ROWS, &[collection, name], *count));
    values.add(&REJECTED, &[collection], rejected);
    values.add(&UNKNOWN, &[collection], unknown);
    values.add(&UNFIT, &[collection], unfit);
}

async fn seconds(position: impl Future<Output = Result<gizer_oplog::OplogPosition, MongoError>>) -> Option<u32> {
    match tokio::time::timeout(OPLOG_ENDS_TIMEOUT, position).await {
        Ok(Ok(position)) => Some(position.time.seconds),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the ends of the oplog are not known");
            None
        }
        Err(_) => None,
    }
}

/// Metrics count what the engine does.
impl Observer for Metrics {
    fn observe(&self, event: Event<'_>) {
        match event {
            Event::Committed(batch) => self.committed(batch),
            Event::StandsAt { positions, catching_up } => self.stands_at(positions, catching_up),
            Event::VerifiedUpTo(positions) => self.verified_up_to(positions),
            Event::InFlight(bytes) => self.under_way(bytes),
            Event::Collection(happened) => {
                if let Some(reason) = happened.reload_reason() {
                    self.reload_due(reason);
                }
            }
            Event::Loaded(loaded) => self.loaded(loaded),
            Event::Resynced(resynced) => self.resynced(resynced),
            Event::Verified(verified) => self.verified(verified),
            Event::Evolved(evolved) => self.registry().add(&SCHEMA_VERSIONS, &[&evolved.collection], 1),
            Event::Follows { collections, oplogs } => {
                self.follows(collections);
                self.watch(oplogs);
            }
            Event::FollowsNoMore { done } => self.watch_no_more(done),
            _ => {}
        }
    }
}
