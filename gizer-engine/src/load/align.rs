//! Aligns staging tables with changes during the load, before the swap.
//!
//! A load reads documents at many times. From the capture's T0 on the oplog tells which were
//! touched since; these are read again as in following. `docs/architecture/exactness.md` says why
//! the tables are exact then.

use std::sync::Arc;

use gizer_oplog::{WatchedCollection, latest_time};
use gizer_pg::load::{Load, LoadSource};
use gizer_pg::state::Standing;

use super::fill::FilledLoad;
use super::job::LoadJob;
use crate::failure::{Failure, FailureKind};
use crate::follow::{self, Follow, FollowSetup, FollowStart, Member, PauseReason, Purpose, SyncOptions, Until};
use crate::observer::NoObserver;

/// Rounds of catching up. A source that never rests is left to `sync`.
const MAX_ROUNDS: usize = 5;

impl LoadJob<'_, '_> {
    /// Aligns a load's staging tables, unless it is a copy, and records their position.
    pub(super) async fn align(&self, filled: &mut FilledLoad<'_>) -> Result<(), Failure> {
        let FilledLoad { load, whole, watched } = filled;
        let (LoadSource::Followable { captured }, Some(watched)) = (load.source(), watched) else { return Ok(()) };
        let name = &watched.namespace.collection;
        let read_until = Some(latest_time(self.oplogs).await?);
        let mut standing = Standing { applied_to: captured.clone(), read_until, exact: false };
        for round in 0..MAX_ROUNDS {
            let outcome = self.align_up_to_now(load, watched, standing).await;
            standing = outcome
                .map_err(|failure| if failure.kind == FailureKind::LoadDue { rolled_over(name) } else { failure })?;
            tracing::debug!(collection = name, round, ?standing, "aligned");
            let is_only_spooled = match &self.capture {
                Some(capture) => capture.alone_reaches(self.oplogs, &standing.applied_to).await?,
                None => false,
            };
            // Exact as of a time from which the log cannot be followed any more is not enough: the spool leads on.
            if standing.exact && !is_only_spooled {
                break;
            }
        }
        whole.standing = Some(standing);
        Ok(())
    }

    async fn align_up_to_now(
        &self,
        load: &Load<'_>,
        watched: &WatchedCollection,
        standing: Standing,
    ) -> Result<Standing, Failure> {
        let now = latest_time(self.oplogs).await?;
        let from = standing.applied_to;
        let layout = Arc::new(load.layout().clone());
        let member = Member::staging(self.session, load.fence(), layout, watched.clone(), from.clone()).await?;
        let interest = follow::interest(self.cluster.database(), std::slice::from_ref(&member));
        let options = follow::source_options(self.env);
        let source = self.changes(&from, interest, options).await?;
        let mut follow = Follow::new(FollowSetup {
            session: self.session,
            oplogs: self.oplogs,
            source,
            look_up: self.cluster.look_up(self.oplogs),
            settings: follow::settings(self.env, SyncOptions::default()),
            purpose: Purpose::Load { fence: load.fence().clone() },
            members: vec![member],
            start: FollowStart { positions: from, ahead: standing.read_until },
            // Monitors do not count this as following.
            observer: Arc::new(NoObserver),
        });
        match follow.run(Until::Time(now), || false).await? {
            PauseReason::Done => {}
            // Nothing else loads staging tables.
            PauseReason::Reload(_) | PauseReason::Changed => {
                return Err(Failure::failed("a load was requested during an alignment"));
            }
        }
        let (applied_to, ahead) = (follow.positions().clone(), follow.ahead());
        Ok(Standing { exact: ahead.is_none(), read_until: Some(ahead.unwrap_or(now)), applied_to })
    }
}

/// The failure of a load whose changes have left the oplog.
fn rolled_over(collection: &str) -> Failure {
    let message = format!(
        "{collection} was loaded, but the oplog has rolled over meanwhile, and the spool does not hold all of it: what has changed \
         during the load is not known any more, and nothing is swapped in"
    );
    Failure::new(FailureKind::LoadDue, message).remedy("raise load.spool_limit or enlarge the oplog, then load again")
}
