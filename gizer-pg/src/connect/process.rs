//! The server's process behind a session, and what other sessions can see of it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use super::{Target, tls};
use crate::error::Server;

/// How long looking at a process may take, connecting included.
const LOOK_TIMEOUT: Duration = Duration::from_secs(8);

/// Processes that sessions of this program have left, so that what they still hold is known as ours. The oldest are
/// forgotten beyond [`MAX_ABANDONED`].
static ABANDONED: Mutex<Vec<ProcessId>> = Mutex::new(Vec::new());
const MAX_ABANDONED: usize = 1_000;

/// A process of a server. Numbers are used again: the time distinguishes two processes of one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) server: Arc<Server>,
    pub(crate) pid: i32,
    /// As `pg_stat_activity.backend_start` has it, in microseconds since 1970.
    pub(crate) started: i64,
}

impl ProcessId {
    /// Whether a session of this program has used it, and does so no more.
    pub(crate) fn is_abandoned(&self) -> bool {
        abandoned().contains(self)
    }

    /// The session that used it has ended, as far as this program is concerned.
    pub(super) fn abandon(&self) {
        let mut all = abandoned();
        if all.contains(self) {
            return;
        }
        if all.len() >= MAX_ABANDONED {
            all.remove(0);
        }
        all.push(self.clone());
    }
}

fn abandoned() -> MutexGuard<'static, Vec<ProcessId>> {
    ABANDONED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a second connection sees of a process.
#[derive(Debug)]
pub(super) enum Seen {
    /// It executes a statement. The text says what it waits for, and who holds that.
    Works(String),
    /// It executes a statement, and waits for us to send or to receive.
    Exchanges,
    /// It waits for our next statement.
    NothingToDo,
    /// It is not there any more.
    Gone,
    /// The server gave no answer, or would not say; why.
    NotToBeAsked(String),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Works(text) | Seen::NotToBeAsked(text) => f.write_str(text),
            Seen::Exchanges => f.write_str("its process there waits for the network"),
            Seen::NothingToDo => f.write_str("its process there has nothing to do"),
            Seen::Gone => f.write_str("its process there has ended"),
        }
    }
}

/// Looks at a process over a connection of its own.
pub(super) async fn look(target: &Target, process: Option<&ProcessId>) -> Seen {
    let Some(process) = process else {
        return Seen::NotToBeAsked("its process there is not known".to_owned());
    };
    // Boxed: it is seldom run, and its state would be part of that of every statement.
    match timeout(LOOK_TIMEOUT, Box::pin(look_without_limit(target, process))).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(reason)) => Seen::NotToBeAsked(format!("a second connection failed: {reason}")),
        Err(_) => Seen::NotToBeAsked("nor does the server answer on a second connection".to_owned()),
    }
}

async fn look_without_limit(target: &Target, process: &ProcessId) -> Result<Seen, String> {
    let tls = tls::connector(target).map_err(|error| error.to_string())?;
    let (client, connection) = match target.config().connect(tls).await {
        Ok(connected) => connected,
        // Too many connections, for instance: the server lives, and our process may work.
        Err(error) if error.as_db_error().is_some() => {
            return Ok(Seen::Works(format!("what it does cannot be asked: {}", super::session::cause_of(&error))));
        }
        Err(error) => return Err(super::session::cause_of(&error)),
    };
    let driver = tokio::spawn(connection);
    let seen = ask(&client, process).await.map_err(|error| super::session::cause_of(&error));
    driver.abort();
    seen
}

/// What every connection begins with: no name is looked up anywhere but in `pg_catalog`.
pub(super) const SEARCH_PATH: &str = "SET search_path TO pg_catalog";

/// The state of a process, what it waits for, and who holds that: `process 7 of role x, application y, holds
/// AccessExclusiveLock on shop.orders`.
const LOOK: &str = "SELECT a.state, a.wait_event_type, a.wait_event, \
    (SELECT pg_catalog.string_agg(pg_catalog.format('process %s of role %s, application %s%s, holds %s', \
            b.pid, coalesce(b.usename::pg_catalog.text, '?'), coalesce(nullif(b.application_name, ''), '?'), \
            coalesce(', ' || b.state, ''), \
            coalesce((SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('%s on %s', h.mode, \
                         coalesce(n.nspname || '.' || c.relname, 'a ' || h.locktype || ' lock')), ', ') \
                      FROM pg_catalog.pg_locks w \
                      JOIN pg_catalog.pg_locks h ON h.pid = b.pid AND h.granted AND h.locktype = w.locktype \
                           AND h.database IS NOT DISTINCT FROM w.database \
                           AND h.relation IS NOT DISTINCT FROM w.relation \
                           AND h.transactionid IS NOT DISTINCT FROM w.transactionid \
                           AND h.virtualxid IS NOT DISTINCT FROM w.virtualxid \
                           AND h.classid IS NOT DISTINCT FROM w.classid \
                           AND h.objid IS NOT DISTINCT FROM w.objid \
                      LEFT JOIN pg_catalog.pg_class c ON c.oid = w.relation \
                      LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                      WHERE w.pid = a.pid AND NOT w.granted), 'what it needs')), '; ') \
     FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) AS p (pid) \
     JOIN pg_catalog.pg_stat_activity b ON b.pid = p.pid) \
    FROM pg_catalog.pg_stat_activity a \
    WHERE a.pid = $1 AND (pg_catalog.date_part('epoch', a.backend_start) * 1000000)::pg_catalog.int8 = $2";

async fn ask(client: &Client, process: &ProcessId) -> Result<Seen, tokio_postgres::Error> {
    client.batch_execute(&format!("{SEARCH_PATH}; SET statement_timeout TO '5s'")).await?;
    let Some(row) = client.query_opt(LOOK, &[&process.pid, &process.started]).await? else { return Ok(Seen::Gone) };
    let (state, holders): (Option<String>, Option<String>) = (row.get(0), row.get(3));
    let (wait_type, wait): (Option<String>, Option<String>) = (row.get(1), row.get(2));
    Ok(match (state.as_deref(), wait_type.as_deref(), wait) {
        (Some(state), _, _) if state.starts_with("idle") => Seen::NothingToDo,
        (_, Some("Client"), Some(wait)) if wait == "ClientRead" || wait == "ClientWrite" => Seen::Exchanges,
        (_, Some("Lock"), wait) => Seen::Works(match holders {
            Some(holders) => holders,
            None => format!("its process {} waits for a lock ({})", process.pid, wait.unwrap_or_default()),
        }),
        (_, Some(kind), Some(wait)) => Seen::Works(format!("its process {} works ({kind}: {wait})", process.pid)),
        _ => Seen::Works(format!("its process {} works", process.pid)),
    })
}
