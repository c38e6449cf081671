//! `gizer_repair`: documents whose rows are to be made equal by whoever follows.
//!
//! Whoever finds a difference queues its key; the next batch of following takes it as if the oplog had touched the document,
//! and takes it off the queue in the transaction that makes its rows equal. So a repair is either waiting or done.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::definitions::{REJECTS, REPAIRS};
use crate::connect::Session;
use crate::error::PgError;

/// A root key whose rows are to be made equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairKey {
    /// The key in the binary form of its column, as [`Keys::field`](crate::rows::Keys::field) has it.
    pub key: Vec<u8>,
    /// A BSON document of the one field `_id`, under which the document is looked up. `None`: no `_id` has this key, so that its
    /// rows are deleted.
    pub id: Option<Bytes>,
}

/// Queues repairs of a collection, in one statement, in the open transaction or in one of its own. A key that is waiting already
/// waits on for its first reason; an `_id` that is known of it is kept.
pub async fn queue_repairs(
    session: &Session,
    collection: &str,
    reason: &str,
    repairs: &[RepairKey],
) -> Result<(), PgError> {
    if repairs.is_empty() {
        return Ok(());
    }
    let keys: Vec<&[u8]> = repairs.iter().map(|repair| repair.key.as_slice()).collect();
    let ids: Vec<Option<&[u8]>> = repairs.iter().map(|repair| repair.id.as_deref()).collect();
    // In the order in which they are taken off, so that both can wait for each other's rows only one way round.
    let sql = format!(
        "INSERT INTO {} AS r (collection, key, id, reason) \
         SELECT $1, q.key, q.id, $2 FROM ( \
             SELECT DISTINCT ON (key) key, id \
             FROM ROWS FROM (pg_catalog.unnest($3::pg_catalog.bytea[]), pg_catalog.unnest($4::pg_catalog.bytea[])) \
                 AS q (key, id) ORDER BY key, id IS NULL) AS q \
         ORDER BY q.key \
         ON CONFLICT (collection, key) DO UPDATE SET id = coalesce(excluded.id, r.id)",
        session.relation(REPAIRS)?
    );
    let doing = format!("queueing repairs of {collection}");
    session.execute(doing, &sql, &[&collection, &reason, &keys, &ids]).await.map(|_| ())
}

/// How many repairs wait, by collection; none of those that have none.
pub async fn repairs_waiting(session: &Session) -> Result<BTreeMap<String, u64>, PgError> {
    let sql = format!("SELECT collection, count(*) FROM {} GROUP BY collection", session.relation(REPAIRS)?);
    let rows = session.query("asking what is to be repaired", &sql, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), u64::try_from(row.get::<_, i64>(1)).unwrap_or_default())).collect())
}

/// The first repairs of a collection that wait, at most `limit`, in the order of their keys. They go on waiting until
/// [`forget_repairs`].
pub async fn take_repairs(session: &Session, collection: &str, limit: u32) -> Result<Vec<RepairKey>, PgError> {
    let sql = format!("SELECT key, id FROM {} WHERE collection = $1 ORDER BY key LIMIT $2", session.relation(REPAIRS)?);
    let doing = format!("reading what is to be repaired of {collection}");
    let rows = session.query(doing, &sql, &[&collection, &i64::from(limit)]).await?;
    let repair = |row: &tokio_postgres::Row| RepairKey {
        key: row.get(0),
        id: row.get::<_, Option<Vec<u8>>>(1).map(Bytes::from),
    };
    Ok(rows.iter().map(repair).collect())
}

/// Takes repairs off the queue, in the open transaction, which repairs the rows **after** that. One that is queued
/// again meanwhile waits for the transaction, and stays. Gives how many there were, by reason.
pub async fn forget_repairs(
    session: &Session,
    collection: &str,
    repairs: &[RepairKey],
) -> Result<BTreeMap<String, u64>, PgError> {
    if repairs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys: Vec<&[u8]> = repairs.iter().map(|repair| repair.key.as_slice()).collect();
    let sql = format!(
        "WITH due AS MATERIALIZED ( \
             SELECT key FROM {repairs} WHERE collection = $1 AND key = ANY ($2) ORDER BY key FOR UPDATE), \
         gone AS (DELETE FROM {repairs} AS r USING due WHERE r.collection = $1 AND r.key = due.key RETURNING r.reason) \
         SELECT reason, count(*) FROM gone GROUP BY reason",
        repairs = session.relation(REPAIRS)?
    );
    let doing = format!("taking repairs of {collection} off the queue");
    let rows = session.query(doing, &sql, &[&collection, &keys]).await?;
    Ok(rows.iter().map(|row| (row.get(0), u64::try_from(row.get::<_, i64>(1)).unwrap_or_default())).collect())
}

/// Empties the queue of a collection, in the open transaction: its tables are empty, or those of another load.
///
/// What a running batch is just taking off is left to it: it holds the rows and may wait for the tables, which
/// whoever swaps a load in holds. Where it is rolled back, those keys are looked at once more, which changes nothing.
pub async fn clear_repairs(session: &Session, collection: &str) -> Result<(), PgError> {
    let sql = format!(
        "WITH due AS MATERIALIZED (SELECT key FROM {repairs} WHERE collection = $1 FOR UPDATE SKIP LOCKED) \
         DELETE FROM {repairs} AS r USING due WHERE r.collection = $1 AND r.key = due.key",
        repairs = session.relation(REPAIRS)?
    );
    let doing = format!("emptying the queue of repairs of {collection}");
    session.execute(doing, &sql, &[&collection]).await.map(|_| ())
}

/// The keys under which documents of a collection wait: to be made equal, or to be tried again
/// after PostgreSQL has refused them.
///
/// # Errors
/// Whatever the server says.
pub async fn keys_waiting(session: &Session, collection: &str) -> Result<Vec<RepairKey>, PgError> {
    let sql = format!(
        "SELECT DISTINCT ON (key) key, id FROM ( \
             SELECT key, id FROM {} WHERE collection = $1 \
             UNION ALL SELECT key, lookup FROM {} WHERE collection = $1 AND key IS NOT NULL) AS waiting \
         ORDER BY key, id IS NULL",
        session.relation(REPAIRS)?,
        session.relation(REJECTS)?
    );
    let doing = format!("reading which documents of {collection} wait");
    let rows = session.query(doing, &sql, &[&collection]).await?;
    let waiting = |row: &tokio_postgres::Row| RepairKey {
        key: row.get(0),
        id: row.get::<_, Option<Vec<u8>>>(1).map(Bytes::from),
    };
    Ok(rows.iter().map(waiting).collect())
}

/// Documents wait under other keys from now on, in the open transaction: the key's column has
/// another type. Each is given as what it was and what it is. A repair that is not among them is
/// taken off the queue: no document has its key.
pub(crate) async fn rekey(session: &Session, collection: &str, rekeyed: &[(Vec<u8>, Vec<u8>)]) -> Result<(), PgError> {
    let (old, new): (Vec<&[u8]>, Vec<&[u8]>) = rekeyed.iter().map(|(old, new)| (&old[..], &new[..])).unzip();
    for table in [REPAIRS, REJECTS] {
        let sql = format!(
            "UPDATE {} AS w SET key = keys.new FROM ROWS FROM ( \
                 pg_catalog.unnest($2::pg_catalog.bytea[]), pg_catalog.unnest($3::pg_catalog.bytea[])) AS keys (old, new) \
             WHERE w.collection = $1 AND w.key = keys.old",
            session.relation(table)?
        );
        let doing = format!("recording the new keys of documents of {collection} that wait");
        session.execute(doing, &sql, &[&collection, &old, &new]).await?;
    }
    let sql = format!("DELETE FROM {} WHERE collection = $1 AND key <> ALL ($2)", session.relation(REPAIRS)?);
    let doing = format!("taking repairs of {collection} off the queue");
    session.execute(doing, &sql, &[&collection, &new]).await.map(|_| ())
}
