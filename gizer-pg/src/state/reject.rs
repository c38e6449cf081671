//! `gizer_reject`: rejected documents.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tokio_postgres::types::ToSql;

use super::definitions::{COLLECTIONS, REJECTS};
use super::tables;
use crate::connect::Session;
use crate::copy::Reject;
use crate::error::PgError;

/// Writes rejected documents in the open transaction, in one statement.
pub(crate) async fn write_rejects(
    session: &Session,
    collection: &str,
    load_epoch: i64,
    rejects: &[Reject],
) -> Result<(), PgError> {
    if rejects.is_empty() {
        return Ok(());
    }
    // Text in PostgreSQL holds no NUL, and an id may: it is there to be read by people, the document is the proof.
    let ids: Vec<String> = rejects.iter().map(|reject| reject.id.replace('\0', "\\u0000")).collect();
    let reasons: Vec<String> = rejects.iter().map(|reject| reject.reason.replace('\0', "\\u0000")).collect();
    let documents: Vec<&[u8]> = rejects.iter().map(|reject| reject.document.as_slice()).collect();
    let retry = || rejects.iter().map(|reject| reject.retry.as_ref());
    let keys: Vec<Option<&[u8]>> = retry().map(|retry| Some(retry?.key.as_slice())).collect();
    let lookups: Vec<Option<&[u8]>> = retry().map(|retry| Some(retry?.lookup.as_slice())).collect();
    let codes: Vec<Option<&str>> = retry().map(|retry| Some(retry?.sqlstate.as_str())).collect();
    let unfit_keys: Vec<bool> = rejects.iter().map(|reject| reject.is_unfit_key).collect();
    let sql = format!(
        "INSERT INTO {} (collection, load_epoch, id, reason, document, key, lookup, sqlstate, unfit_key) \
         SELECT $1, $2, kept.* \
         FROM unnest($3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[], $8::text[], $9::boolean[]) AS kept",
        session.relation(REJECTS)?
    );
    let doing = format!("keeping rejected documents of {collection} aside");
    let values: [&(dyn ToSql + Sync); 9] =
        [&collection, &load_epoch, &ids, &reasons, &documents, &keys, &lookups, &codes, &unfit_keys];
    session.execute(doing, &sql, &values).await.map(|_| ())
}

/// Keeps documents aside that following could not apply, in the open transaction: each once, as it was last. What was
/// kept under the ids in `gone` is removed.
pub async fn keep_rejected(
    session: &Session,
    collection: &str,
    live_epoch: i64,
    rejects: &[Reject],
    gone: &[String],
) -> Result<(), PgError> {
    if rejects.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let ids = rejects.iter().map(|reject| &reject.id).chain(gone);
    let ids: Vec<String> = ids.map(|id| id.replace('\0', "\\u0000")).collect();
    let sql = format!("DELETE FROM {} WHERE collection = $1 AND id = ANY ($2)", session.relation(REJECTS)?);
    session.execute(format!("replacing rejected documents of {collection}"), &sql, &[&collection, &ids]).await?;
    write_rejects(session, collection, live_epoch, rejects).await
}

/// Those of these ids whose documents are rejected for the tables of this load, and so have no rows.
pub async fn rejected_among(
    session: &Session,
    collection: &str,
    epoch: i64,
    ids: &[String],
) -> Result<HashSet<String>, PgError> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let kept: Vec<String> = ids.iter().map(|id| id.replace('\0', "\\u0000")).collect();
    let sql = format!(
        "SELECT DISTINCT id FROM {} WHERE collection = $1 AND load_epoch = $2 AND id = ANY ($3)",
        session.relation(REJECTS)?
    );
    let doing = format!("asking which documents of {collection} were rejected");
    let rows = session.query(doing, &sql, &[&collection, &epoch, &kept]).await?;
    let found: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(ids.iter().zip(&kept).filter(|(_, kept)| found.contains(*kept)).map(|(id, _)| id.clone()).collect())
}

/// The collections of which documents are rejected because their `_id` does not fit the key's column. Nothing where this role may
/// not read it, or an older version has made the state tables.
pub async fn collections_with_unfit_keys(session: &Session) -> Result<BTreeSet<String>, PgError> {
    let doing = "looking for documents whose _id does not fit";
    session
        .in_snapshot(async {
            let known = "SELECT coalesce(pg_catalog.has_column_privilege(c.oid, 'unfit_key', 'SELECT'), false) \
                         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
                         WHERE c.oid = pg_catalog.to_regclass($1) AND a.attname = 'unfit_key' AND NOT a.attisdropped";
            let rejects = session.relation(REJECTS)?.to_string();
            if !session.query(doing, known, &[&rejects]).await?.iter().any(|row| row.get(0)) {
                return Ok(BTreeSet::new());
            }
            let sql = format!("SELECT DISTINCT collection FROM {rejects} WHERE unfit_key");
            Ok(session.query(doing, &sql, &[]).await?.iter().map(|row| row.get(0)).collect())
        })
        .await
}

/// Which rejects `r` of a collection `c` are of its live tables, and have no place there for their
/// `_id` alone.
const UNFIT_KEYS: &str = "r.collection = $1 AND c.collection = $1 AND r.unfit_key \
                          AND c.live AND r.load_epoch = coalesce(c.live_epoch, r.load_epoch)";

/// How many documents of a collection are rejected for their `_id` alone.
pub async fn count_unfit_keys(session: &Session, collection: &str) -> Result<u64, PgError> {
    let (rejects, collections) = (session.relation(REJECTS)?, session.relation(COLLECTIONS)?);
    let sql = format!("SELECT pg_catalog.count(*) FROM {rejects} AS r, {collections} AS c WHERE {UNFIT_KEYS}");
    let doing = format!("counting documents of {collection} whose _id does not fit");
    let row = session.query_one(doing, &sql, &[&collection]).await?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or_default())
}

/// Some of them, behind the one at `after`, at most so many: each with its place, in their order.
pub async fn documents_with_unfit_keys(
    session: &Session,
    collection: &str,
    after: Option<String>,
    most: u32,
) -> Result<Vec<(String, Vec<u8>)>, PgError> {
    let (rejects, collections) = (session.relation(REJECTS)?, session.relation(COLLECTIONS)?);
    let sql = format!(
        "SELECT r.ctid::pg_catalog.text, r.document FROM {rejects} AS r, {collections} AS c WHERE {UNFIT_KEYS} \
             AND r.ctid > coalesce($2::pg_catalog.text, '(0,0)')::pg_catalog.tid ORDER BY r.ctid LIMIT $3"
    );
    let doing = format!("reading documents of {collection} whose _id does not fit");
    let rows = session.query(doing, &sql, &[&collection, &after, &i64::from(most)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get::<_, Option<Vec<u8>>>(1).unwrap_or_default())).collect())
}

/// They have rows now, in the open transaction, but for these.
pub(crate) async fn replace_unfit_keys(session: &Session, collection: &str, but: &[Reject]) -> Result<(), PgError> {
    let (rejects, collections) = (session.relation(REJECTS)?, session.relation(COLLECTIONS)?);
    let sql = format!("DELETE FROM {rejects} AS r USING {collections} AS c WHERE {UNFIT_KEYS} RETURNING r.load_epoch");
    let doing = format!("forgetting that documents of {collection} were rejected");
    let epoch = session.query(doing, &sql, &[&collection]).await?.first().map(|row| row.get(0));
    match epoch {
        Some(epoch) => write_rejects(session, collection, epoch, but).await,
        None => Ok(()),
    }
}

/// Why documents of a collection are kept aside, and how many for each reason; the most frequent first.
pub type RejectReasons = Vec<(String, u64)>;

/// Reasons of one collection that are read at most.
const MAX_REASONS: i64 = 100;

/// Why documents are missing in the live tables, by collection. Nothing where this role may not read it.
pub async fn read_reject_reasons(session: &Session) -> Result<BTreeMap<String, RejectReasons>, PgError> {
    session.in_snapshot(reject_reasons(session)).await
}

async fn reject_reasons(session: &Session) -> Result<BTreeMap<String, RejectReasons>, PgError> {
    if !tables::may_read(session, REJECTS).await? || !tables::may_read(session, COLLECTIONS).await? {
        return Ok(BTreeMap::new());
    }
    // As the status counts them. Tables of an older version may have no column live_epoch.
    let sql = format!(
        "SELECT collection, reason, count FROM ( \
             SELECT r.collection, coalesce(r.reason, '') AS reason, pg_catalog.count(*), \
                    pg_catalog.row_number() OVER (PARTITION BY r.collection ORDER BY pg_catalog.count(*) DESC) AS number \
             FROM {rejects} r JOIN {collections} c ON c.collection = r.collection AND c.live \
                 AND coalesce((pg_catalog.to_jsonb(c) ->> 'live_epoch')::pg_catalog.int8, r.load_epoch) = r.load_epoch \
             GROUP BY 1, 2) AS reasons WHERE number <= $1 ORDER BY collection, count DESC, reason",
        rejects = session.relation(REJECTS)?,
        collections = session.relation(COLLECTIONS)?
    );
    let mut all: BTreeMap<String, RejectReasons> = BTreeMap::new();
    for row in session.query("reading why documents were rejected", &sql, &[&MAX_REASONS]).await? {
        let count = u64::try_from(row.get::<_, i64>(2)).unwrap_or_default();
        all.entry(row.get(0)).or_default().push((row.get(1), count));
    }
    Ok(all)
}

/// Removes all rejected documents of a collection, in the open transaction: it is gone.
pub async fn forget_rejected(session: &Session, collection: &str) -> Result<(), PgError> {
    let sql = format!("DELETE FROM {} WHERE collection = $1", session.relation(REJECTS)?);
    let doing = format!("removing rejected documents of {collection}");
    session.execute(doing, &sql, &[&collection]).await.map(|_| ())
}

/// Removes those of loads that failed: they were kept until the next load, for people to look at. Those of the live
/// tables stay. A swap of an older version did not record its epoch: then none can be told from those of failed loads.
pub(super) async fn clear_dead_rejects(session: &Session, collection: &str) -> Result<(), PgError> {
    let sql = format!(
        "DELETE FROM {rejects} r USING {collections} c WHERE r.collection = $1 AND c.collection = $1 \
             AND NOT (c.live AND coalesce(c.live_epoch, r.load_epoch) = r.load_epoch)",
        rejects = session.relation(REJECTS)?,
        collections = session.relation(COLLECTIONS)?
    );
    let doing = format!("removing rejected documents of failed loads of {collection}");
    session.execute(doing, &sql, &[&collection]).await.map(|_| ())
}

/// Removes those of earlier loads: the documents of this load are what the tables hold from now on.
pub(crate) async fn clear_rejects(session: &Session, collection: &str, load_epoch: i64) -> Result<(), PgError> {
    let sql = format!("DELETE FROM {} WHERE collection = $1 AND load_epoch < $2", session.relation(REJECTS)?);
    let doing = format!("removing rejected documents of earlier loads of {collection}");
    session.execute(doing, &sql, &[&collection, &load_epoch]).await.map(|_| ())
}
