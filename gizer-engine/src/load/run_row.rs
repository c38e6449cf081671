//! The run's row in `qmetlstatus`, from its opening to its end.

use std::time::Duration;

use gizer_oplog::{Oplog, newest_positions};
use gizer_pg::state::{self, Run, RunKind, RunOutcome, ShardPositions};
use gizer_pg::{PgError, Session};
use tokio::sync::OnceCell;

use super::Loaded;
use crate::failure::{Failure, FailureKind};
use crate::failures::Failures;

/// How long a failed load tries to leave everything in order: an operator who has pressed Ctrl-C waits for it.
pub(crate) const TIDYING_LIMIT: Duration = Duration::from_secs(5);

/// The row of a load, opened once there is something to tell.
///
/// Monitors look at the newest row: a load that another run keeps from doing anything leaves none, so that what they see
/// is the other run.
pub(super) struct RunRow<'s> {
    session: &'s Session,
    oplogs: &'s [Oplog],
    opened: OnceCell<(Run<'s>, ShardPositions)>,
}

impl<'s> RunRow<'s> {
    pub(super) fn new(session: &'s Session, oplogs: &'s [Oplog]) -> RunRow<'s> {
        RunRow { session, oplogs, opened: OnceCell::new() }
    }

    /// Opens the row, unless it is open.
    pub(super) async fn open(&self) -> Result<(), Failure> {
        let open = async {
            let positions = newest_positions(self.oplogs).await?;
            let positions: ShardPositions = positions.into_iter().map(|(shard, at)| (shard, Some(at))).collect();
            let followed = state::read_status(self.session, 0).await?.is_some_and(|status| status.applied);
            let kind = if followed { RunKind::OplogResync } else { RunKind::InitLoad };
            let run = Run::start(self.session, kind, &positions).await?;
            tracing::info!(run = run.number(), ?positions, "run began");
            Ok::<_, Failure>((run, positions))
        };
        self.opened.get_or_try_init(|| open).await.map(|_| ())
    }

    /// Opens the row for what stands in the way of a load, so that monitors see it. That failure counts more than one to open it.
    pub(super) async fn open_for(&self, failure: &Failure) {
        if failure.kind != FailureKind::Locked
            && !failure.ends_run
            && let Err(error) = self.open().await
        {
            tracing::warn!(%error, "the run has no row");
        }
    }

    /// Closes the row, if it is open. After a failure, what cannot be written any more the next run puts right.
    pub(super) async fn close(self, loaded: &[Loaded], failures: &Failures) -> Result<(), Failure> {
        let Some((run, positions)) = self.opened.into_inner() else { return Ok(()) };
        let records = loaded.iter().map(|each| each.ledger.loaded).sum();
        let queries = loaded.iter().map(|each| each.written.copies).sum();
        if failures.is_empty() {
            return Ok(run.finish(&RunOutcome::Done { records, queries }).await?);
        }
        let close = async {
            // Reading in a transaction of its own first ends one that was left open where the load was interrupted.
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

/// A load is due only where no collection has tables of an earlier one, and no other run is about to make them.
async fn outcome(session: &Session, failures: &Failures) -> Result<RunOutcome, PgError> {
    let reason = failures.in_a_line();
    let status = state::read_status(session, 0).await?;
    let any_live = status.is_some_and(|status| status.collections.iter().any(|collection| collection.live));
    let other_run = failures.iter().any(|failure| failure.kind == FailureKind::Locked);
    Ok(if any_live || other_run { RunOutcome::Failed { reason } } else { RunOutcome::LoadDue { reason } })
}
