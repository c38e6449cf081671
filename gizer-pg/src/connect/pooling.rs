//! Whether a connection has a process of the server to itself.
//!
//! ```text
//!   two connections, each asked in turn which process answers:
//!     one each, always the same       ──▶ the server itself, or a pooler that pools sessions
//!     one for both, or several for one ──▶ a pooler that pools transactions: refused
//! ```
//!
//! Behind such a pooler settings, advisory locks and prepared statements of gizer would be those of other clients, and
//! theirs gizer's. Nothing is set and nothing is written before this is known.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::Target;
use crate::error::{PgError, Server};

/// Servers that have passed. One look at each is enough for a program, and the oldest are forgotten beyond
/// [`MAX_PASSED_SERVERS`].
static PASSED: Mutex<Vec<Arc<Server>>> = Mutex::new(Vec::new());
const MAX_PASSED_SERVERS: usize = 1_000;

/// Which of the two connections is asked, in this order. A pooler that gives the process used last gives both connections
/// one; one that goes round its processes is found by two questions in a row, whatever their number.
const ORDER: [Side; 8] = [Side::A, Side::B, Side::A, Side::A, Side::B, Side::B, Side::A, Side::B];

/// One of two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    A,
    B,
}

/// A process, by number and start: numbers are used again, and two hosts may use the same.
const PROCESS: &str = "SELECT pg_catalog.pg_backend_pid(), \
    (SELECT a.backend_start FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a)";

/// Whether the server of a target has passed before.
pub(super) fn has_passed(target: &Target) -> bool {
    PASSED.lock().unwrap_or_else(PoisonError::into_inner).contains(target.server())
}

/// Asks both connections, on which nothing has been set.
pub(super) async fn check(target: &Target, a: &Client, b: &Client) -> Result<(), PgError> {
    let mut seen = Vec::with_capacity(ORDER.len());
    for side in ORDER {
        let client = match side {
            Side::A => a,
            Side::B => b,
        };
        let process = process(client).await.map_err(|error| super::connect_error(&error, target))?;
        seen.push((side, process));
    }
    if !is_each_its_own(&seen) {
        return Err(PgError::PoolsTransactions { server: Arc::clone(target.server()) });
    }
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    if !passed.contains(target.server()) {
        if passed.len() >= MAX_PASSED_SERVERS {
            passed.remove(0);
        }
        passed.push(Arc::clone(target.server()));
    }
    Ok(())
}

/// Which process answers now. Sent as a simple query: a pooler needs to remember nothing of it.
async fn process(client: &Client) -> Result<Vec<Option<String>>, Error> {
    let messages = client.simple_query(PROCESS).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(row.map(|row| (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()).unwrap_or_default())
}

fn is_each_its_own<P: PartialEq>(seen: &[(Side, P)]) -> bool {
    seen.iter()
        .enumerate()
        .all(|(i, (side, process))| seen[..i].iter().all(|(earlier, other)| (side == earlier) == (process == other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The processes that a pooler gives.
    fn passes(mut give: impl FnMut(Side) -> usize) -> bool {
        let seen: Vec<(Side, usize)> = ORDER.iter().map(|&side| (side, give(side))).collect();
        is_each_its_own(&seen)
    }

    #[test]
    fn a_process_for_each_connection_passes() {
        assert!(passes(|side| side as usize));
    }

    #[test]
    fn poolers_of_transactions_are_found_whatever_their_order() {
        assert!(!passes(|_| 7), "the process used last");
        for processes in 1..=20 {
            let mut next = 0;
            let round = |_| {
                next += 1;
                next % processes
            };
            assert!(!passes(round), "round {processes} processes");
        }
    }
}
