//! Advisory locks (PostgreSQL documentation, "Advisory Locks"): politeness between runs, and proof of life.
//!
//! Keys are 64-bit hashes of a text that names schema and purpose. Two texts with one hash would make two runs polite
//! to each other for no reason, and nothing worse: safety does not rest on these locks.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::connect::{ProcessId, Session};
use crate::error::PgError;

/// What a lock stands for.
#[derive(Debug, Clone)]
pub(crate) struct AdvisoryKey {
    text: String,
    /// For messages.
    what: String,
}

impl AdvisoryKey {
    fn new(schema: &str, purpose: &str, name: &str, what: String) -> AdvisoryKey {
        // The lengths keep ("a", "bc") and ("ab", "c") apart.
        AdvisoryKey { text: format!("gizer {purpose} {}:{schema} {name}", schema.len()), what }
    }

    /// Making the state tables of a schema, and starting runs in it.
    pub(crate) fn state(schema: &str) -> AdvisoryKey {
        AdvisoryKey::new(schema, "state", "", format!("the state of schema {schema}"))
    }

    /// Auditing a collection.
    pub(crate) fn audit(schema: &str, collection: &str) -> AdvisoryKey {
        AdvisoryKey::new(schema, "audit", collection, format!("verifying {collection} in schema {schema}"))
    }

    /// That a run is alive.
    pub(crate) fn run(schema: &str, number: i64) -> AdvisoryKey {
        AdvisoryKey::new(schema, "run", &number.to_string(), format!("run {number} in schema {schema}"))
    }

    /// Loading a collection.
    pub(crate) fn load(schema: &str, collection: &str) -> AdvisoryKey {
        AdvisoryKey::new(schema, "load", collection, format!("loading {collection} into schema {schema}"))
    }

    /// Keeping the changes of a MongoDB database in the oplog of a shard aside, for a target.
    pub(crate) fn spool(schema: &str, owner: &str, shard: &str, database: &str) -> AdvisoryKey {
        let name = format!("{database} {}:{shard} {owner}", shard.len());
        AdvisoryKey::new(schema, "spool", &name, format!("keeping aside the oplog of {shard} in schema {schema}"))
    }

    /// Doing whatever is due in a schema.
    pub(crate) fn due(schema: &str) -> AdvisoryKey {
        AdvisoryKey::new(schema, "due", "", format!("doing what is due in schema {schema}"))
    }

    /// Following changes into a schema.
    pub(crate) fn stream(schema: &str) -> AdvisoryKey {
        AdvisoryKey::new(schema, "stream", "", format!("following changes into schema {schema}"))
    }
}

/// Takes a lock for the rest of the transaction, waiting for it: only for what is short.
pub(crate) async fn wait_in_transaction(session: &Session, key: &AdvisoryKey) -> Result<(), PgError> {
    let sql = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))";
    session.query_one(format!("waiting for {}", key.what), sql, &[&key.text]).await.map(|_| ())
}

/// Takes a lock for the rest of the transaction if it is free.
pub(crate) async fn try_in_transaction(session: &Session, key: &AdvisoryKey) -> Result<bool, PgError> {
    let sql = "SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))";
    Ok(session.query_one(format!("asking for {}", key.what), sql, &[&key.text]).await?.get(0))
}

/// How long to wait for a session of ours that was lost to let go of a lock, once it was ended.
const OWN_SESSION_LIMIT: Duration = Duration::from_secs(60);

/// How often to ask for the lock meanwhile.
const OWN_SESSION_PAUSE: Duration = Duration::from_millis(100);

/// Takes a lock for as long as the session lives, or until [`release`].
///
/// A connection that was lost may live on at the server, with its locks: where a session of this very program holds the
/// lock that it uses no more, that session is ended first.
///
/// # Errors
/// [`PgError::Locked`], with what `pg_stat_activity` says of the holder; [`PgError::ConnectionLost`] if a lost session of
/// ours does not end.
pub(crate) async fn hold(session: &Session, key: &AdvisoryKey) -> Result<(), PgError> {
    let began = Instant::now();
    let mut ended = None;
    loop {
        let sql = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))";
        let taken: bool = session.query_one(format!("asking for {}", key.what), sql, &[&key.text]).await?.get(0);
        if taken {
            return Ok(());
        }
        let (holder, process) = match holder(session, key).await? {
            Some(holder) => (Some(holder.text), Some(holder.process)),
            None => (None, None),
        };
        let ours = process.filter(ProcessId::is_abandoned);
        let Some(ours) = ours else {
            // Whoever held it has just let go.
            if ended.is_some() && holder.is_none() && began.elapsed() < OWN_SESSION_LIMIT {
                sleep(OWN_SESSION_PAUSE).await;
                continue;
            }
            return Err(PgError::Locked { what: key.what.clone(), holder });
        };
        if began.elapsed() >= OWN_SESSION_LIMIT {
            let reason = format!("process {} is still there after {} s", ours.pid, OWN_SESSION_LIMIT.as_secs());
            let doing = "ending a session of this run that was lost".to_owned();
            return Err(PgError::ConnectionLost { server: ours.server, doing, reason, sqlstate: None });
        }
        if ended.as_ref() != Some(&ours) {
            end_own(session, key, &ours).await?;
            ended = Some(ours);
        }
        sleep(OWN_SESSION_PAUSE).await;
    }
}

async fn end_own(session: &Session, key: &AdvisoryKey, process: &ProcessId) -> Result<(), PgError> {
    let ProcessId { server, pid, .. } = process;
    tracing::warn!(
        "{} is still locked by process {pid} at {server}, a session of this run that was lost: ending it",
        key.what
    );
    let sql = "SELECT pg_catalog.pg_terminate_backend($1)";
    session.query_one("ending a session of this run that was lost", sql, &[pid]).await.map(drop)
}

/// Gives back what [`hold`] took. If that fails the connection is gone, and the lock with it.
pub(crate) async fn release(session: &Session, key: &AdvisoryKey) {
    let sql = "SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended($1, 0))";
    if let Err(error) = session.query_one(format!("releasing {}", key.what), sql, &[&key.text]).await {
        tracing::debug!(%error, "a lock was not given back");
    }
}

/// Whether anybody holds a lock, this session included.
pub(crate) async fn is_held(session: &Session, key: &AdvisoryKey) -> Result<bool, PgError> {
    let sql = format!("SELECT EXISTS (SELECT FROM {HELD})");
    Ok(session.query_one(format!("asking whether {} is under way", key.what), &sql, &[&key.text]).await?.get(0))
}

/// The entries of `pg_locks` for the key `$1`: one of 64 bits is shown there as two halves.
const HELD: &str = "(SELECT pg_catalog.hashtextextended($1, 0) AS key) AS wanted \
    JOIN pg_catalog.pg_locks l ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
         AND l.classid::pg_catalog.int8 = (wanted.key >> 32) & 4294967295 \
         AND l.objid::pg_catalog.int8 = wanted.key & 4294967295 \
    JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()";

struct Holder {
    process: ProcessId,
    /// For messages.
    text: String,
}

/// Who holds a lock, as far as this role may see it.
async fn holder(session: &Session, key: &AdvisoryKey) -> Result<Option<Holder>, PgError> {
    let sql = format!(
        "SELECT pg_catalog.format('process %s of role %s, application %s, from %s, since %s UTC', a.pid, \
                coalesce(a.usename::pg_catalog.text, '?'), coalesce(nullif(a.application_name, ''), '?'), \
                coalesce(pg_catalog.host(a.client_addr), 'a local socket'), \
                coalesce(pg_catalog.to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), '?')), \
                a.pid, (pg_catalog.date_part('epoch', a.backend_start) * 1000000)::pg_catalog.int8 \
         FROM {HELD} JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid LIMIT 1"
    );
    let row = session.query_opt(format!("asking who holds {}", key.what), &sql, &[&key.text]).await?;
    Ok(row.map(|row| {
        let started = row.get::<_, Option<i64>>(2).unwrap_or_default();
        let process = ProcessId { server: Arc::clone(session.server()), pid: row.get(1), started };
        Holder { process, text: row.get(0) }
    }))
}
