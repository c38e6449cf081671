//! What a sync has done, over everything that made following start over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{ChangeSource, LookUp};

use super::{Follow, FollowProgress};
use crate::env::Env;
use crate::failure::{Failure, FailureKind};
use crate::notice::Notice;
use crate::unfit::UnfitReport;

/// What a sync has done.
#[derive(Debug)]
pub struct SyncReport {
    started: Instant,
    done: FollowProgress,
    positions: Positions,
    ahead: Option<ClusterTime>,
    /// A collection that was replaced and could not be reloaded, while the others are followed on.
    pub(crate) failed_reload: Option<Failure>,
    /// Whether all that was written was read back and compared.
    reads_all_back: bool,
    /// What the schemas have no place for, by collection.
    unfit: BTreeMap<String, UnfitReport>,
}

impl Default for SyncReport {
    fn default() -> SyncReport {
        SyncReport {
            started: Instant::now(),
            done: FollowProgress::default(),
            positions: Positions::new(),
            ahead: None,
            failed_reload: None,
            reads_all_back: false,
            unfit: BTreeMap::new(),
        }
    }
}

impl SyncReport {
    /// Transactions committed so far.
    pub fn batches(&self) -> u64 {
        self.done.batches
    }

    /// Whether any document was rejected.
    pub fn has_rejected(&self) -> bool {
        self.done.rejected > 0
    }

    /// What was done.
    pub fn done(&self) -> &FollowProgress {
        &self.done
    }

    /// Where the tables stand, by shard; none if nothing was followed.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Up to when documents have been read, where that is later than the position.
    pub fn ahead(&self) -> Option<ClusterTime> {
        self.ahead
    }

    /// Whether all that was written was read back and compared.
    pub fn reads_all_back(&self) -> bool {
        self.reads_all_back
    }

    /// What the schemas have no place for, by collection.
    pub fn unfit(&self) -> &BTreeMap<String, UnfitReport> {
        &self.unfit
    }

    /// Since it began.
    pub fn took(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says something, and keeps it among what has happened.
    pub(crate) fn note(&mut self, env: &Env, notice: &Notice) {
        env.notice(notice);
        self.done.events.push(notice.to_string());
    }

    /// Adds what one way along the stream has done.
    pub(crate) fn add<S, L>(&mut self, follow: &Follow<'_, S, L>)
    where
        S: ChangeSource,
        L: LookUp,
    {
        let progress = follow.progress();
        self.done.add(progress);
        self.positions.clone_from(follow.positions());
        self.ahead = follow.ahead();
        self.reads_all_back = follow.reads_all_back();
        for (name, tally, layout) in follow.tallies() {
            let unfit = UnfitReport::of(tally, layout);
            match self.unfit.get_mut(name) {
                Some(known) => known.add(unfit),
                None => drop(self.unfit.insert(name.to_owned(), unfit)),
            }
        }
    }

    /// A collection stays where it stands, or a load of it is due, while the others are followed.
    pub(crate) fn set_apart(&mut self, env: &Env, collection: &str, failure: &Failure) {
        env.notice(&Notice::SetApart { failure: failure.clone() });
        self.done.events.push(failure.message.clone());
        self.done.failing.insert(collection.to_owned(), failure.clone());
    }

    /// The collections that are failing, as the failure that they are together.
    pub(crate) fn failing(&self) -> Option<Failure> {
        let failing = &self.done.failing;
        let with = |kind: FailureKind| failing.values().find(move |failure| failure.kind == kind);
        let first = with(FailureKind::Differs).or(with(FailureKind::LoadDue)).or(failing.values().next())?;
        let messages: Vec<&str> = failing.values().map(|failure| failure.message.as_str()).collect();
        let failure = Failure::new(first.kind, messages.join("; "));
        Some(match &first.remedy {
            Some(remedy) => failure.remedy(remedy.clone()),
            None => failure,
        })
    }
}
