//! The run's row in `qmetlstatus`.

use std::time::Duration;

use gizer_oplog::{Oplog, newest_positions};
use gizer_pg::state::{self, Run, RunKind, RunOutcome, ShardPositions};
use gizer_pg::{PgError, Session};
use tokio::sync::OnceCell;

use super::LoadedCollection;
use crate::failure::{Failure, FailureKind};
use crate::failures::Failures;

/// How long a failed load may clean up: the operator has pressed Ctrl-C and waits.
pub(crate) const TIDYING_LIMIT: Duration = Duration::from_secs(5);

/// The row of a load, opened once there is something to report.
///
/// Monitors read the newest row, so a load that another run blocks leaves none.
pub(crate) struct LoadRunRow<'s> {
    session: &'s Session,
    oplogs: &'s [Oplog],
    /// `None` for that of a load.
    kind: Option<RunKind>,
    opened: OnceCell<(Run<'s>, ShardPositions)>,
}

impl<'s> LoadRunRow<'s> {
    /// That of a load.
    pub(super) fn new(session: &'s Session, oplogs: &'s [Oplog]) -> LoadRunRow<'s> {
        LoadRunRow { session, oplogs, kind: None, opened: OnceCell::new() }
    }

    /// That of a resync.
    pub(crate) fn of_resync(session: &'s Session, oplogs: &'s [Oplog]) -> LoadRunRow<'s> {
        LoadRunRow { session, oplogs, kind: Some(RunKind::OplogResync), opened: OnceCell::new() }
    }

    /// Opens the row, unless it is open.
    pub(crate) async fn open(&self) -> Result<(), Failure> {
        let open = async {
            let positions = newest_positions(self.oplogs).await?;
            let positions: ShardPositions = positions.into_iter().map(|(shard, at)| (shard, Some(at))).collect();
            let kind = match self.kind {
                Some(kind) => kind,
                None => kind_of_load(self.session).await?,
            };
            let run = Run::start(self.session, kind, &positions).await?;
            tracing::info!(run = run.number(), ?positions, "run began");
            Ok::<_, Failure>((run, positions))
        };
        self.opened.get_or_try_init(|| open).await.map(|_| ())
    }

    /// Opens the row so that monitors see this obstacle. The failure itself matters more than one to
    /// open the row.
    pub(crate) async fn open_for(&self, failure: &Failure) {
        if failure.kind != FailureKind::Locked
            && !failure.ends_run
            && let Err(error) = self.open().await
        {
            tracing::warn!(%error, "the run has no row");
        }
    }

    /// Closes the row, if it is open. If that fails after a failure, the next run does it.
    pub(crate) async fn close(self, (records, queries): (u64, u64), failures: &Failures) -> Result<(), Failure> {
        let Some((run, positions)) = self.opened.into_inner() else { return Ok(()) };
        if failures.is_empty() {
            return Ok(run.finish(&RunOutcome::Done { records, queries }).await?);
        }
        let close = async {
            // Its own transaction first ends one left open by an interrupted load.
            let outcome = outcome(self.session, failures).await?;
            run.touch(&positions, records, queries).await?;
            run.finish(&outcome).await
        };
        if !matches!(tokio::time::timeout(TIDYING_LIMIT, close).await, Ok(Ok(()))) {
            tracing::warn!("the run's row stays open; the next run closes it");
        }
        Ok(())
    }
}

/// Documents and COPY statements of loads, for their row.
pub(super) fn work_of(loaded: &[LoadedCollection]) -> (u64, u64) {
    (loaded.iter().map(|each| each.ledger.loaded).sum(), loaded.iter().map(|each| each.written.copies).sum())
}

async fn kind_of_load(session: &Session) -> Result<RunKind, PgError> {
    let followed = state::read_status(session, 0).await?.is_some_and(|status| status.applied);
    Ok(if followed { RunKind::OplogResync } else { RunKind::InitLoad })
}

/// A load is due only if no collection has tables of an earlier one, and no other run is loading.
async fn outcome(session: &Session, failures: &Failures) -> Result<RunOutcome, PgError> {
    let reason = failures.in_a_line();
    let status = state::read_status(session, 0).await?;
    let any_live = status.is_some_and(|status| status.collections.iter().any(|collection| collection.live));
    let other_run = failures.iter().any(|failure| failure.kind == FailureKind::Locked);
    Ok(if any_live || other_run { RunOutcome::Failed { reason } } else { RunOutcome::LoadDue { reason } })
}
