//! Aligns tables with changes since they began to be written, before they are followed.
//!
//! A load and a resync read documents at many times. From the capture's T0 on the oplog tells which
//! were touched since; these are read again as in following. `docs/architecture/exactness.md` says
//! why the tables are exact then.

use std::sync::Arc;

use gizer_flatten::change::Positions;
use gizer_oplog::{Cluster, FollowOptions, Interest, MongoError, Oplog, WatchedCollection, latest_time};
use gizer_pg::Session;
use gizer_pg::load::{LoadFence, LoadSource};
use gizer_pg::rows::WhichTables;
use gizer_pg::state::Standing;
use gizer_schema::Layout;

use super::fill::FilledLoad;
use super::job::LoadJob;
use crate::env::Env;
use crate::failure::{Failure, FailureKind};
use crate::follow::{self, Follow, FollowSetup, FollowStart, Member, PauseReason, Purpose, SyncOptions, Until};
use crate::observer::NoObserver;
use crate::spool::{Capture, SpooledChanges};
use crate::wording::command;

/// Rounds of catching up. A source that never rests is left to `sync`.
const MAX_ROUNDS: usize = 5;

/// What is aligned, and with what.
pub(crate) struct Alignment<'a> {
    pub(crate) env: &'a Env,
    pub(crate) cluster: &'a Cluster,
    pub(crate) oplogs: &'a [Oplog],
    pub(crate) session: &'a Session,
    /// `None` if nothing was captured.
    pub(crate) capture: Option<&'a Capture>,
    /// The right to write the tables.
    pub(crate) fence: &'a LoadFence,
    pub(crate) layout: &'a Layout,
    pub(crate) tables: WhichTables,
    pub(crate) watched: &'a WatchedCollection,
}

impl LoadJob<'_, '_> {
    /// Aligns a load's staging tables, unless it is a copy, and records their position.
    pub(super) async fn align(&self, filled: &mut FilledLoad<'_>) -> Result<(), Failure> {
        let FilledLoad { load, whole, watched } = filled;
        let (LoadSource::Followable { captured }, Some(watched)) = (load.source(), watched) else { return Ok(()) };
        let alignment = Alignment {
            env: self.env,
            cluster: self.cluster,
            oplogs: self.oplogs,
            session: self.session,
            capture: self.capture.as_ref(),
            fence: load.fence(),
            layout: load.layout(),
            tables: WhichTables::Staging,
            watched,
        };
        whole.standing = Some(Box::pin(alignment.run(captured.clone())).await.map_err(|failure| {
            let name = &watched.namespace.collection;
            if failure.kind == FailureKind::LoadDue { rolled_over(name) } else { failure }
        })?);
        Ok(())
    }
}

impl Alignment<'_> {
    /// Aligns the tables, whose rows are of documents as of these positions or later; returns where
    /// they stand.
    ///
    /// # Errors
    /// [`Failure`] of kind [`LoadDue`](FailureKind::LoadDue) if changes since then are lost.
    pub(crate) async fn run(&self, captured: Positions) -> Result<Standing, Failure> {
        let read_until = Some(latest_time(self.oplogs).await?);
        let mut standing = Standing { applied_to: captured, read_until, exact: false };
        for round in 0..MAX_ROUNDS {
            standing = self.up_to_now(standing).await?;
            tracing::debug!(collection = self.layout.collection, round, ?standing, "aligned");
            let is_only_spooled = match self.capture {
                Some(capture) => capture.alone_reaches(self.oplogs, &standing.applied_to).await?,
                None => false,
            };
            // Exact as of a time from which the log cannot be followed any more is not enough: the spool leads on.
            if standing.exact && !is_only_spooled {
                break;
            }
        }
        Ok(standing)
    }

    async fn up_to_now(&self, standing: Standing) -> Result<Standing, Failure> {
        let now = latest_time(self.oplogs).await?;
        let from = standing.applied_to;
        let layout = Arc::new(self.layout.clone());
        let (session, fence) = (self.session, self.fence);
        let member = Member::of_load(session, fence, layout, self.tables, self.watched.clone(), from.clone()).await?;
        let interest = follow::interest(self.cluster.database(), std::slice::from_ref(&member));
        let source = self.changes(&from, interest, follow::source_options(self.env)).await?;
        let mut follow = Follow::new(FollowSetup {
            session,
            oplogs: self.oplogs,
            source,
            look_up: self.cluster.look_up(self.oplogs),
            settings: follow::settings(self.env, SyncOptions::default()),
            purpose: Purpose::Load { fence: fence.clone() },
            members: vec![member],
            start: FollowStart { positions: from, ahead: standing.read_until },
            // Monitors do not count this as following.
            observer: Arc::new(NoObserver),
        });
        match follow.run(Until::Time(now), || false).await? {
            PauseReason::Done => {}
            // Nothing else loads these tables.
            PauseReason::Reload(_) | PauseReason::Changed => {
                return Err(Failure::failed("a load was requested during an alignment"));
            }
        }
        let (applied_to, ahead) = (follow.positions().clone(), follow.ahead());
        Ok(Standing { exact: ahead.is_none(), read_until: Some(ahead.unwrap_or(now)), applied_to })
    }

    /// The changes after these positions, spooled ones first.
    async fn changes(
        &self,
        from: &Positions,
        interest: Interest,
        options: FollowOptions,
    ) -> Result<SpooledChanges, MongoError> {
        match self.capture {
            Some(capture) => capture.changes(self.oplogs, from, interest, options).await,
            None => SpooledChanges::of_log(self.oplogs, from, interest, options).await,
        }
    }
}

/// The failure of a load whose changes have left the oplog.
fn rolled_over(collection: &str) -> Failure {
    let message = format!(
        "{collection} was loaded, but the oplog has rolled over meanwhile, and the spool does not hold all of it: what has changed \
         during the load is not known any more, and nothing is swapped in"
    );
    Failure::new(FailureKind::LoadDue, message).remedy(format!(
        "raise load.spool_limit or enlarge the oplog, then run `{}`",
        command("load", [collection], &[])
    ))
}
