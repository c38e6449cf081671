//! Report of a sync, over all restarts of following.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{ChangeSource, LookUp};

use super::{Follow, FollowProgress};
use crate::env::Env;
use crate::failure::{Failure, FailureKind};
use crate::notice::Notice;
use crate::unfit::UnfitReport;

/// Report of a sync.
#[derive(Debug)]
pub struct SyncReport {
    started: Instant,
    done: FollowProgress,
    positions: Positions,
    ahead: Option<ClusterTime>,
    /// Failure of a reload of a replaced collection; the others are still followed.
    pub(crate) failed_reload: Option<Failure>,
    /// Whether all writes were read back and compared.
    reads_all_back: bool,
    /// Values without a place in the schemas, by collection.
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
    /// Committed transactions.
    pub fn batches(&self) -> u64 {
        self.done.batches
    }

    /// Whether documents were rejected.
    pub fn has_rejected(&self) -> bool {
        self.done.rejected > 0
    }

    /// Progress.
    pub fn done(&self) -> &FollowProgress {
        &self.done
    }

    /// Positions of the tables by shard; empty if nothing was followed.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Latest read time, if later than the positions.
    pub fn ahead(&self) -> Option<ClusterTime> {
        self.ahead
    }

    /// Whether all writes were read back and compared.
    pub fn reads_all_back(&self) -> bool {
        self.reads_all_back
    }

    /// Values without a place in the schemas, by collection.
    pub fn unfit(&self) -> &BTreeMap<String, UnfitReport> {
        &self.unfit
    }

    /// Time since the start.
    pub fn took(&self) -> Duration {
        self.started.elapsed()
    }

    /// Gives a notice and records it as an event.
    pub(crate) fn note(&mut self, env: &Env, notice: &Notice) {
        env.notice(notice);
        self.done.events.push(notice.to_string());
    }

    /// Adds one run's progress.
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

    /// Records that a collection stays behind or must be reloaded, while others are followed.
    pub(crate) fn set_apart(&mut self, env: &Env, collection: &str, failure: &Failure) {
        env.notice(&Notice::SetApart { failure: failure.clone() });
        self.done.events.push(failure.message.clone());
        self.done.failing.insert(collection.to_owned(), failure.clone());
    }

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
