//! Documents in `gizer_reject` that PostgreSQL has refused: what is in their way may go, so that they are tried again.
//!
//! They have the key that their rows would have. While one is there, its document has no rows.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use tokio_postgres::Row;

use super::definitions::REJECTS;
use super::repair::RepairKey;
use crate::connect::Session;
use crate::copy::RetryKey;
use crate::error::PgError;

/// A document whose rows PostgreSQL has refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its `_id` as canonical Extended JSON.
    pub id: String,
    /// Why, without values.
    pub reason: String,
    /// The document as BSON.
    pub document: Vec<u8>,
    /// How it is found again.
    pub retry: RetryKey,
    /// Whether it conflicts with other rows, so that it may be taken once those have changed; see
    /// [`PgError::is_conflict`].
    pub is_conflict: bool,
}

/// Rejected documents of which something has become known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettledRejects {
    /// The keys of those that were refused for the first time.
    pub new: BTreeSet<Vec<u8>>,
    /// Those that are rejected no longer: their rows are stored, or they are gone.
    pub resolved: u64,
}

/// The collections of which documents are rejected, in the open transaction.
pub async fn collections_with_rejects(session: &Session) -> Result<BTreeSet<String>, PgError> {
    let sql = format!("SELECT DISTINCT collection FROM {}", session.relation(REJECTS)?);
    let rows = session.query("looking for rejected documents", &sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Documents with these ids or keys were written, or are gone, but for those that were `refused`, in the open transaction.
///
/// A document that is refused again waits longer for the next try: 30 s at first, twice as long each time, an hour at most.
pub async fn settle_rejects(
    session: &Session,
    collection: &str,
    live_epoch: i64,
    (ids, keys): (&[String], &[&[u8]]),
    refused: &[Refused],
) -> Result<SettledRejects, PgError> {
    let rejects = session.relation(REJECTS)?;
    let sql = format!(
        "DELETE FROM {rejects} WHERE collection = $1 AND load_epoch = $2 AND (id = ANY ($3) OR key = ANY ($4)) \
         RETURNING key, attempts"
    );
    let ids: Vec<String> = ids.iter().map(|id| id.replace('\0', "\\u0000")).collect();
    let doing = format!("removing rejected documents of {collection}");
    let before = session.query(doing, &sql, &[&collection, &live_epoch, &ids, &keys]).await?;
    let removed = before.len() as u64;
    let of = |row: &Row| Some((row.get::<_, Option<Vec<u8>>>(0)?, row.get::<_, i32>(1)));
    let before: HashMap<Vec<u8>, i32> = before.iter().filter_map(of).collect();
    let new = refused.iter().filter(|refused| !before.contains_key(&refused.retry.key));
    let new: BTreeSet<Vec<u8>> = new.map(|refused| refused.retry.key.clone()).collect();
    let again = (refused.len() - new.len()) as u64;
    write_refused(session, collection, live_epoch, refused, &before).await?;
    Ok(SettledRejects { new, resolved: removed.saturating_sub(again) })
}

async fn write_refused(
    session: &Session,
    collection: &str,
    live_epoch: i64,
    refused: &[Refused],
    before: &HashMap<Vec<u8>, i32>,
) -> Result<(), PgError> {
    let sql = format!(
        "INSERT INTO {} (collection, load_epoch, id, reason, document, key, lookup, sqlstate, attempts, tried_at, next_try) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp() \
             + pg_catalog.make_interval(secs => least(3600, 30 * pg_catalog.power(2, least($9 - 1, 7)))))",
        session.relation(REJECTS)?
    );
    for Refused { id, reason, document, retry: RetryKey { key, lookup, sqlstate }, .. } in refused {
        let attempts = before.get(key).copied().unwrap_or_default().saturating_add(1);
        let (id, reason) = (id.replace('\0', "\\u0000"), reason.replace('\0', "\\u0000"));
        let doing = format!("recording a rejected document of {collection}");
        session
            .execute(doing, &sql, &[&collection, &live_epoch, &id, &reason, document, key, lookup, sqlstate, &attempts])
            .await?;
    }
    Ok(())
}

/// The documents that were refused under these keys, in the open transaction, as BSON.
pub async fn refused_documents(
    session: &Session,
    collection: &str,
    live_epoch: i64,
    keys: &[&[u8]],
) -> Result<Vec<Vec<u8>>, PgError> {
    let sql = format!(
        "SELECT document FROM {} WHERE collection = $1 AND load_epoch = $2 AND key = ANY ($3)",
        session.relation(REJECTS)?
    );
    let doing = format!("reading rejected documents of {collection}");
    let rows = session.query(doing, &sql, &[&collection, &live_epoch, &keys]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// All refused documents of a collection are to be tried again by whoever follows; gives how many there are.
pub async fn try_rejects_now(session: &Session, collection: &str) -> Result<u64, PgError> {
    let sql = format!(
        "UPDATE {} SET next_try = pg_catalog.now() WHERE collection = $1 AND key IS NOT NULL",
        session.relation(REJECTS)?
    );
    let doing = format!("asking for rejected documents of {collection} to be tried again");
    session.execute(doing, &sql, &[&collection]).await
}

/// The time by the server's clock, to be given to [`due_rejects`].
pub async fn server_time(session: &Session) -> Result<String, PgError> {
    let sql = "SELECT pg_catalog.clock_timestamp()::pg_catalog.text";
    Ok(session.query_one("asking for the time", sql, &[]).await?.get(0))
}

/// Refused documents to retry, at most `limit`, the longest waiting first, in the open transaction. They are due, or
/// were not tried since `since`.
pub async fn due_rejects(
    session: &Session,
    collection: &str,
    live_epoch: i64,
    since: &str,
    limit: u32,
) -> Result<Vec<RepairKey>, PgError> {
    let sql = format!(
        "SELECT key, lookup FROM {} WHERE collection = $1 AND load_epoch = $2 AND key IS NOT NULL \
             AND (coalesce(next_try <= pg_catalog.now(), true) OR coalesce(tried_at < $3::text::timestamptz, true)) \
         ORDER BY tried_at NULLS FIRST LIMIT $4",
        session.relation(REJECTS)?
    );
    let doing = format!("reading rejected documents of {collection}");
    let rows = session.query(doing, &sql, &[&collection, &live_epoch, &since, &i64::from(limit)]).await?;
    let due = |row: &Row| RepairKey { key: row.get(0), id: row.get::<_, Option<Vec<u8>>>(1).map(Bytes::from) };
    Ok(rows.iter().map(due).collect())
}
