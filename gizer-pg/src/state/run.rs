//! `qmetlstatus`: one row a run, for monitors of the classic tool.
//!
//! `error = true` means that only a new load helps, as it always did. Any other failure closes its row with
//! `error = false` and a reason. While a run lives it holds an advisory lock; a row that is open without that lock
//! belongs to a run that died, and the next run closes it. A row that `gizer etlstatus start` has opened belongs to no connection:
//! it is known by its reason ([`ASKED`]), and given up after [`CLASSIC_RUN_LIFETIME`].

use std::time::Duration;

use strum::IntoStaticStr;

use super::definitions::{COLLECTIONS, RUNS};
use super::lock::{self, AdvisoryKey};
use super::positions::{ShardPositions, classic_ts};
use crate::connect::{Params, Session};
use crate::error::PgError;

/// What a run does: `status` and `comment` of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
pub enum RunKind {
    /// Loads while nothing is followed yet.
    #[strum(serialize = "init load")]
    InitLoad = 0,
    /// Aligns a load with the oplog.
    #[strum(serialize = "oplog sync")]
    OplogSync = 1,
    /// Applies changes.
    #[strum(serialize = "oplog use")]
    OplogUse = 2,
    /// Loads again what is followed.
    #[strum(serialize = "oplog resync")]
    OplogResync = 3,
}

impl RunKind {
    /// The column `status`.
    pub fn status(self) -> i32 {
        self as i32
    }

    /// The column `comment`.
    pub fn comment(self) -> &'static str {
        self.into()
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// All is well.
    Done {
        /// Documents, or changes, that it dealt with.
        records: u64,
        /// Statements and COPYs that it took.
        queries: u64,
    },
    /// Only a new load helps: `error` is set.
    LoadDue {
        /// Why.
        reason: String,
    },
    /// It failed, and the next run carries on.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The reason of a row that `gizer etlstatus start` has opened, while it is open.
pub(super) const ASKED: &str = "open until `gizer etlstatus finish`";

/// How long a row that no lock vouches for counts as that of a run in progress: as long as the classic tool waited.
pub const CLASSIC_RUN_LIFETIME: Duration = Duration::from_secs(9 * 60 * 60);

/// Why the row of a dead run was closed.
const DIED: &str = "the run ended without closing its row";

/// A run in progress: an open row in `qmetlstatus`, and a lock that says that it lives.
#[derive(Debug)]
pub struct Run<'s> {
    session: &'s Session,
    number: i64,
    key: AdvisoryKey,
}

impl<'s> Run<'s> {
    /// Closes the rows of dead runs and opens one for this run. The session's connection is the run's sign of life.
    ///
    /// A dead row gets `error = true` only if it was an init load and no collection has loaded tables: then, and only
    /// then, a load is due because of it. Open rows without a run number are the classic tool's, and count as dead.
    ///
    /// # Errors
    /// Whatever the server says; the state tables must be there ([`prepare`](super::prepare)).
    pub async fn start(session: &'s Session, kind: RunKind, positions: &ShardPositions) -> Result<Run<'s>, PgError> {
        session
            .in_transaction(async {
                lock::wait_in_transaction(session, &AdvisoryKey::state(session.schema())).await?;
                close_dead_runs(session, Unlocked::OthersOnly).await?;
                let sql = format!("SELECT coalesce(pg_catalog.max(run), 0) + 1 FROM {}", session.relation(RUNS)?);
                let number = session.query_one("numbering the run", &sql, &[]).await?.get(0);
                let key = AdvisoryKey::run(session.schema(), number);
                lock::hold(session, &key).await?;
                insert(session, kind, positions, Some(number), None).await?;
                Ok(Run { session, number, key })
            })
            .await
    }

    /// The number of the run, unique in its schema.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Brings the row up to date: the positions reached, and how much was done so far. Can be called in an open
    /// transaction of the session, to become part of it.
    pub async fn touch(&self, positions: &ShardPositions, records: u64, queries: u64) -> Result<(), PgError> {
        let sql = format!(
            "UPDATE {} SET ts = $2, recs_count = $3, queries_count = $4 WHERE run = $1",
            self.session.relation(RUNS)?
        );
        let ts = classic_ts(positions);
        let doing = "updating the row of the run";
        self.session.execute(doing, &sql, &[&self.number, &ts, &count(records), &count(queries)]).await.map(|_| ())
    }

    /// Closes the row, and gives the lock back.
    ///
    /// # Errors
    /// Whatever the server says. A row that could not be closed is closed by the next run.
    pub async fn finish(self, outcome: &RunOutcome) -> Result<(), PgError> {
        let (records, queries, error, reason) = match outcome {
            RunOutcome::Done { records, queries } => (Some(count(*records)), Some(count(*queries)), false, None),
            RunOutcome::LoadDue { reason } => (None, None, true, Some(reason.as_str())),
            RunOutcome::Failed { reason } => (None, None, false, Some(reason.as_str())),
        };
        let sql = format!(
            "UPDATE {} SET time_end = greatest(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', time_start), \
                 recs_count = coalesce($2, recs_count), queries_count = coalesce($3, queries_count), \
                 error = $4, reason = $5 \
             WHERE run = $1",
            self.session.relation(RUNS)?
        );
        let doing = "closing the row of the run";
        self.session.execute(doing, &sql, &[&self.number, &records, &queries, &error, &reason]).await?;
        lock::release(self.session, &self.key).await;
        Ok(())
    }
}

/// A new row, later than all others.
pub(super) async fn insert(
    session: &Session,
    kind: RunKind,
    positions: &ShardPositions,
    number: Option<i64>,
    reason: Option<&str>,
) -> Result<(), PgError> {
    let sql = format!(
        "INSERT INTO {runs} (comment, time_start, ts, status, attempt, run, reason) \
         SELECT $1, greatest(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', \
                             pg_catalog.max(time_start) + interval '1 microsecond'), $2, $3, 1, $4, $5 \
         FROM {runs}",
        runs = session.relation(RUNS)?
    );
    let ts = classic_ts(positions);
    let values: Params<'_> = &[&kind.comment(), &ts, &kind.status(), &number, &reason];
    session.execute("opening a row for the run", &sql, values).await.map(|_| ())
}

/// Which open rows without a run number are closed as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unlocked {
    /// Those of the classic tool, and of `gizer etlstatus start` those that were given up.
    OthersOnly,
    /// Those of `gizer etlstatus start` too.
    All,
}

pub(super) async fn close_dead_runs(session: &Session, unlocked: Unlocked) -> Result<(), PgError> {
    let runs = session.relation(RUNS)?;
    let sql = format!("SELECT run FROM {runs} WHERE time_end IS NULL AND run IS NOT NULL");
    let mut dead: Vec<i64> = Vec::new();
    for row in session.query("looking for dead runs", &sql, &[]).await? {
        let number = row.get(0);
        if lock::try_in_transaction(session, &AdvisoryKey::run(session.schema(), number)).await? {
            dead.push(number);
        }
    }
    let sql = format!(
        "UPDATE {runs} SET time_end = greatest(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', time_start), \
             error = (status IS NOT DISTINCT FROM 0 AND NOT EXISTS (SELECT FROM {collections} WHERE live)), \
             reason = $1 \
         WHERE time_end IS NULL AND (run = ANY ($2) OR (run IS NULL AND ($3 OR reason IS DISTINCT FROM $4 \
             OR time_start < pg_catalog.clock_timestamp() AT TIME ZONE 'UTC' - pg_catalog.make_interval(secs => $5))))",
        collections = session.relation(COLLECTIONS)?
    );
    let all = unlocked == Unlocked::All;
    let patience = CLASSIC_RUN_LIFETIME.as_secs_f64();
    let values: Params<'_> = &[&DIED, &dead, &all, &ASKED, &patience];
    let closed = session.execute("closing the rows of dead runs", &sql, values).await?;
    if closed > 0 {
        tracing::warn!(closed, "an earlier run ended without closing its row");
    }
    Ok(())
}

/// The classic columns are of 32 bits: what is more shows as the most they hold.
fn count(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
