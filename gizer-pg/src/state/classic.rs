//! The questions of the classic tool's scripts: is a load needed, one begins, one has ended.
//!
//! They are asked by short-lived programs, so that no lock vouches for a row that one of them has opened.

use super::definitions::{COLLECTIONS, RUNS};
use super::lock::{self, AdvisoryKey};
use super::positions::ShardPositions;
use super::run::{ASKED, CLASSIC_RUN_LIFETIME, RunKind, Unlocked, close_dead_runs, insert};
use crate::connect::Session;
use crate::error::PgError;

/// Whether a load is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadNeed {
    /// No: the last run has ended and left no error.
    No,
    /// Not now: a run is in progress.
    UnderWay,
    /// Yes.
    Yes {
        /// Why.
        reason: String,
    },
}

/// The reason of a row that was closed as an error.
const FINISHED_WITH_ERROR: &str = "`gizer etlstatus finish error`";

/// What the status table says, be it gizer's or as the classic tool has left it. Nothing is written, no table is made.
///
/// The current row, with the greatest `time_start`, decides: an error needs a load. An open row is in progress if its run holds its
/// lock; without a run number, [`CLASSIC_RUN_LIFETIME`] long. The run of any other has died, and counts as the next run would close it.
pub async fn load_needed(session: &Session) -> Result<LoadNeed, PgError> {
    session.in_snapshot(look(session)).await
}

async fn look(session: &Session) -> Result<LoadNeed, PgError> {
    let yes = |reason: &str| Ok(LoadNeed::Yes { reason: reason.to_owned() });
    if !is_there(session, RUNS).await? {
        return yes("there is no status table: nothing has been loaded yet");
    }
    // The classic tool's table lacks the columns run and reason; they are NULL then.
    let sql = format!(
        "WITH r AS (SELECT r.*, (to_jsonb(r) ->> 'run')::pg_catalog.int8 AS number, \
                           to_jsonb(r) ->> 'reason' IS NOT DISTINCT FROM $1 AS asked, \
                           time_start > pg_catalog.clock_timestamp() AT TIME ZONE 'UTC' \
                               - pg_catalog.make_interval(secs => $2) AS young \
                    FROM {} r) \
         SELECT number, status, error, time_end IS NULL, young, \
                EXISTS (SELECT FROM r WHERE time_end IS NULL AND number IS NULL AND asked AND young) \
         FROM r ORDER BY time_start DESC NULLS LAST LIMIT 1",
        session.relation(RUNS)?
    );
    let patience = CLASSIC_RUN_LIFETIME.as_secs_f64();
    let Some(row) = session.query_opt("reading the current run", &sql, &[&ASKED, &patience]).await? else {
        return yes("the status table is empty: nothing has been loaded yet");
    };
    let (number, status, error): (Option<i64>, Option<i32>, Option<bool>) = (row.get(0), row.get(1), row.get(2));
    let (open, young, asked): (bool, Option<bool>, bool) = (row.get(3), row.get(4), row.get(5));
    if asked {
        return Ok(LoadNeed::UnderWay);
    }
    match (open, number) {
        _ if error == Some(true) => yes("the last run has left an error that only a load fixes"),
        (false, _) => Ok(LoadNeed::No),
        (true, Some(number)) if lock::is_held(session, &AdvisoryKey::run(session.schema(), number)).await? => {
            Ok(LoadNeed::UnderWay)
        }
        (true, Some(_)) if status == Some(RunKind::InitLoad.status()) && !any_live(session).await? => {
            yes("the first load has died")
        }
        (true, Some(_)) => Ok(LoadNeed::No),
        (true, None) if young == Some(true) => Ok(LoadNeed::UnderWay),
        (true, None) => yes("the last run has not ended in hours"),
    }
}

async fn is_there(session: &Session, table: &str) -> Result<bool, PgError> {
    let relation = session.relation(table)?.to_string();
    let sql = "SELECT pg_catalog.to_regclass($1) IS NOT NULL";
    Ok(session.query_one("looking for the status table", sql, &[&relation]).await?.get(0))
}

async fn any_live(session: &Session) -> Result<bool, PgError> {
    if !is_there(session, COLLECTIONS).await? {
        return Ok(false);
    }
    let sql = format!("SELECT EXISTS (SELECT FROM {} WHERE live)", session.relation(COLLECTIONS)?);
    Ok(session.query_one("looking for loaded collections", &sql, &[]).await?.get(0))
}

/// Opens a row of status 0 with these positions, which stays open until [`finish_asked`]. Rows of dead runs are closed, and rows
/// that an earlier call has left open: whoever starts over has given them up.
///
/// # Errors
/// Whatever the server says; the state tables must be there ([`prepare`](super::prepare)).
pub async fn start_asked(session: &Session, positions: &ShardPositions) -> Result<(), PgError> {
    session
        .in_transaction(async {
            lock::wait_in_transaction(session, &AdvisoryKey::state(session.schema())).await?;
            close_dead_runs(session, Unlocked::All).await?;
            insert(session, RunKind::InitLoad, positions, None, Some(ASKED)).await
        })
        .await
}

/// Closes the newest open row without a run number: that of [`start_asked`], or of the classic tool. `false` if there is none.
///
/// After an error the current row has it too, if gizer has written others since and the current one is closed: it is where monitors
/// look.
///
/// # Errors
/// Whatever the server says; the state tables must be there ([`prepare`](super::prepare)).
pub async fn finish_asked(session: &Session, error: bool) -> Result<bool, PgError> {
    session
        .in_transaction(async {
            lock::wait_in_transaction(session, &AdvisoryKey::state(session.schema())).await?;
            let runs = session.relation(RUNS)?;
            let sql = format!(
                "UPDATE {runs} SET time_end = greatest(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', time_start), \
                     error = $1, reason = $2 \
                 WHERE time_end IS NULL AND run IS NULL \
                     AND time_start = (SELECT pg_catalog.max(time_start) FROM {runs} \
                                       WHERE time_end IS NULL AND run IS NULL)"
            );
            let reason = error.then_some(FINISHED_WITH_ERROR);
            if session.execute("closing the row of the load", &sql, &[&error, &reason]).await? == 0 {
                return Ok(false);
            }
            if error {
                let sql = format!(
                    "UPDATE {runs} SET error = true, reason = coalesce(reason, $1) \
                     WHERE time_end IS NOT NULL AND error IS NOT TRUE \
                         AND time_start = (SELECT pg_catalog.max(time_start) FROM {runs})"
                );
                session.execute("marking the current run", &sql, &[&FINISHED_WITH_ERROR]).await?;
            }
            Ok(true)
        })
        .await
}
