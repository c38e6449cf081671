//! `gizer_resync`: how far a resync has come, so that an interrupted one resumes.
//!
//! A resync is a load whose tables are the live ones: it has the collection's lock and an epoch of
//! its own, and `load_started`, `load_captured` and `load_identity` tell of it, with `load_kind =
//! 'resync'`. From its first transaction on a load is due, and the tables are of its epoch: nobody
//! follows or verifies them until it is finished.

use std::collections::HashMap;

use gizer_flatten::change::Positions;

use super::audit::AuditSegment;
use super::collection::{LoadRow, Loaded, finish_load};
use super::definitions::{COLLECTIONS, REJECTS, RESYNC};
use super::lock::{self, AdvisoryKey};
use super::positions::positions_in;
use super::range::clear_ranges;
use super::reject::forget_rejected;
use super::repair::clear_repairs;
use super::stream::settle_position;
use super::tables;
use super::unfit::clear_unfit;
use crate::connect::{Params, Session};
use crate::error::PgError;
use crate::load::LoadFence;

/// Why a load of a collection is due while it is resynced, or after a resync that did not finish.
pub const RESYNC_BEGUN: &str = "a resync has begun, and is not finished";

/// The column `load_kind` of a resync.
const KIND: &str = "resync";

/// A resync that did not finish.
#[derive(Debug, Clone, PartialEq)]
pub struct UnfinishedResync {
    /// Its epoch, as long as nobody has taken over.
    pub load_epoch: i64,
    /// Where each shard was when it began.
    pub captured: Positions,
    /// Its segments, done or not.
    pub segments: Vec<ResyncSegment>,
}

/// A part of a collection that one worker goes through, and how far that has been done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResyncSegment {
    /// Its bounds, and how far it is done; its report is not kept.
    pub segment: AuditSegment,
    /// What was counted in it.
    pub counts: ResyncCounts,
}

/// What of a segment's counts the state shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResyncCounts {
    /// Documents compared.
    pub documents: u64,
    /// Rows compared, over all tables.
    pub rows: u64,
    /// Documents whose rows differed, and keys that had rows and no document.
    pub differed: u64,
    /// All counts: JSON of the caller, but with \u0000, which jsonb refuses.
    pub report: String,
}

/// Progress of a resync, for `gizer status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResyncProgress {
    /// Documents compared.
    pub documents: u64,
    /// Rows compared.
    pub rows: u64,
    /// Documents whose rows differed, and keys without a document.
    pub differed: u64,
}

/// Holds the collection's lock, until `release_load`.
///
/// # Errors
/// [`PgError::Locked`] if another run loads the collection.
pub(crate) async fn hold_load(session: &Session, collection: &str) -> Result<(), PgError> {
    lock::hold(session, &AdvisoryKey::load(session.schema(), collection)).await
}

/// Counts the collection's epoch up, and takes the live tables out of following, in the open
/// transaction, in which nobody may write them; its lock is held. What was rejected and what waited
/// to be repaired is found again. Gives the epoch.
pub(crate) async fn begin_resync(
    session: &Session,
    load: &LoadRow<'_>,
    tables: &[String],
    layout_hash: &str,
) -> Result<i64, PgError> {
    let collection = load.collection;
    let sql = format!(
        "INSERT INTO {collections} AS c \
             (collection, state, live, load_epoch, live_epoch, load_started, load_captured, load_identity, load_kind, \
              namespace, collection_uuid, uuids, tables, layout_hash, reason) \
         VALUES ($1, 'load due', true, 1, 1, pg_catalog.now(), $2::text::jsonb, $3, $4, $5, $6::text::uuid, \
                 $7::text::jsonb, $8, $9, $10) \
         ON CONFLICT (collection) DO UPDATE SET \
             state = excluded.state, live = true, load_epoch = c.load_epoch + 1, live_epoch = c.load_epoch + 1, \
             load_started = excluded.load_started, load_captured = excluded.load_captured, \
             load_identity = excluded.load_identity, load_kind = excluded.load_kind, \
             namespace = excluded.namespace, uuids = excluded.uuids, \
             collection_uuid = coalesce(excluded.collection_uuid, c.collection_uuid), tables = excluded.tables, \
             layout_hash = excluded.layout_hash, reason = excluded.reason, captured = NULL, exact_at = NULL, \
             joined = false, passed_over = NULL \
         RETURNING load_epoch",
        collections = session.relation(COLLECTIONS)?
    );
    let doing = format!("beginning the resync of {collection}");
    let (captured, namespace, uuid) = (load.captured_json(), load.namespace_text(), load.uuid_text());
    let uuids = load.uuids_json();
    let values: Params<'_> = &[
        &collection,
        &captured,
        &load.identity,
        &KIND,
        &namespace,
        &uuid,
        &uuids,
        &tables,
        &layout_hash,
        &RESYNC_BEGUN,
    ];
    let row = session.query_one(doing, &sql, values).await?;
    clear_ranges(session, collection).await?;
    clear_resync(session, collection).await?;
    forget_rejected(session, collection).await?;
    clear_repairs(session, collection).await?;
    Ok(row.get(0))
}

/// As [`begin_resync`], but resumes the resync with this epoch.
///
/// # Errors
/// [`PgError::Locked`] if another run loads the collection; [`PgError::Fenced`] if another has
/// begun since the epoch was read.
pub(crate) async fn resume_resync(session: &Session, load: &LoadRow<'_>, old_epoch: i64) -> Result<i64, PgError> {
    let collection = load.collection;
    lock::hold(session, &AdvisoryKey::load(session.schema(), collection)).await?;
    let sql = format!(
        "UPDATE {} SET load_epoch = load_epoch + 1, live_epoch = load_epoch + 1, load_started = pg_catalog.now(), \
             reason = $4 \
         WHERE collection = $1 AND load_epoch = $2 AND load_identity = $3 AND load_kind = $5 RETURNING load_epoch",
        session.relation(COLLECTIONS)?
    );
    let doing = format!("resuming the resync of {collection}");
    let values: Params<'_> = &[&collection, &old_epoch, &load.identity, &RESYNC_BEGUN, &KIND];
    let Some(row) = session.query_opt(&doing, &sql, values).await? else { return Err(fenced(collection)) };
    let epoch: i64 = row.get(0);
    for table in [RESYNC, REJECTS] {
        let sql = format!(
            "UPDATE {} SET load_epoch = $3 WHERE collection = $1 AND load_epoch = $2",
            session.relation(table)?
        );
        session.execute(&doing, &sql, &[&collection, &old_epoch, &epoch]).await?;
    }
    Ok(epoch)
}

fn fenced(collection: &str) -> PgError {
    PgError::Fenced { what: format!("the resync of {collection}") }
}

/// Records what a resync is going to go through, in the open transaction.
pub(crate) async fn plan_resync(
    session: &Session,
    fence: &LoadFence,
    segments: &[AuditSegment],
) -> Result<(), PgError> {
    let LoadFence { collection, load_epoch } = fence;
    let sql = format!(
        "INSERT INTO {} (collection, load_epoch, segment, after, after_key, upto, upto_key, done, report) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, false, '')",
        session.relation(RESYNC)?
    );
    let doing = format!("recording how {collection} is going to be compared");
    for AuditSegment { number, after, after_key, upto, upto_key, .. } in segments {
        let values: Params<'_> = &[collection, load_epoch, number, after, after_key, upto, upto_key];
        session.execute(&doing, &sql, values).await?;
    }
    Ok(())
}

/// Records how far a segment is done, in the transaction that holds its rows: the fence of a resync
/// is this row.
///
/// # Errors
/// [`PgError::Fenced`] if another run has taken over: roll back.
pub async fn save_resync(session: &Session, fence: &LoadFence, of: &ResyncSegment) -> Result<(), PgError> {
    let LoadFence { collection, load_epoch } = fence;
    let ResyncSegment { segment, counts: ResyncCounts { documents, rows, differed, report } } = of;
    let sql = format!(
        "UPDATE {} SET after = $4, after_key = $5, upto = $6, upto_key = $7, done = $8, documents = $9, rows = $10, \
             differed = $11, report = $12 \
         WHERE collection = $1 AND load_epoch = $2 AND segment = $3",
        session.relation(RESYNC)?
    );
    let doing = format!("recording how far {collection} is resynced");
    let AuditSegment { number, after, after_key, upto, upto_key, done, .. } = segment;
    let (documents, rows, differed) = (count(*documents), count(*rows), count(*differed));
    let values: Params<'_> =
        &[collection, load_epoch, number, after, after_key, upto, upto_key, done, &documents, &rows, &differed, report];
    match session.execute(doing, &sql, values).await? {
        1 => Ok(()),
        _ => Err(fenced(collection)),
    }
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn natural(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// The resync of a collection that could be resumed, if it was of this identity; the state tables
/// must be there.
pub(crate) async fn unfinished_resync(
    session: &Session,
    collection: &str,
    identity: Option<&str>,
) -> Result<Option<UnfinishedResync>, PgError> {
    let doing = format!("looking for a resync of {collection} that did not come to its end");
    let sql = format!(
        "SELECT load_epoch, load_captured::text FROM {} \
         WHERE collection = $1 AND load_kind = $2 AND load_identity = $3 AND load_captured IS NOT NULL \
             AND live_epoch = load_epoch",
        session.relation(COLLECTIONS)?
    );
    let Some(row) = session.query_opt(&doing, &sql, &[&collection, &KIND, &identity]).await? else { return Ok(None) };
    let load_epoch: i64 = row.get(0);
    let captured = positions_in(&row, 1, session, COLLECTIONS)?.unwrap_or_default();
    let sql = format!(
        "SELECT segment, after, after_key, upto, upto_key, done, documents, rows, differed, report FROM {} \
         WHERE collection = $1 AND load_epoch = $2 ORDER BY segment",
        session.relation(RESYNC)?
    );
    let mut segments = Vec::new();
    for row in session.query(&doing, &sql, &[&collection, &load_epoch]).await? {
        let segment = AuditSegment {
            number: row.get(0),
            after: row.get(1),
            after_key: row.get(2),
            upto: row.get(3),
            upto_key: row.get(4),
            done: row.get(5),
            ..AuditSegment::default()
        };
        let counts = ResyncCounts {
            documents: natural(row.get(6)),
            rows: natural(row.get(7)),
            differed: natural(row.get(8)),
            report: row.get(9),
        };
        segments.push(ResyncSegment { segment, counts });
    }
    Ok((!segments.is_empty()).then_some(UnfinishedResync { load_epoch, captured, segments }))
}

/// How far resyncs have come, by collection; nothing where an older version has made the state tables,
/// or this role may not read it.
pub(super) async fn resyncs(session: &Session) -> Result<HashMap<String, ResyncProgress>, PgError> {
    if !tables::may_read(session, RESYNC).await? {
        return Ok(HashMap::new());
    }
    let sql = format!(
        "SELECT collection, sum(documents)::pg_catalog.int8, sum(rows)::pg_catalog.int8, \
                sum(differed)::pg_catalog.int8 FROM {} GROUP BY 1",
        session.relation(RESYNC)?
    );
    let progress = |row: &tokio_postgres::Row| {
        let number = |at: usize| natural(row.get(at));
        (row.get(0), ResyncProgress { documents: number(1), rows: number(2), differed: number(3) })
    };
    let rows = session.query("reading how far resyncs have come", &sql, &[]).await?;
    Ok(rows.iter().map(progress).collect())
}

/// Makes a resync's result that of the collection, in the open transaction: it is followed from
/// where it stands.
///
/// # Errors
/// [`PgError::Fenced`].
pub(crate) async fn finish_resync(session: &Session, fence: &LoadFence, resynced: &Loaded<'_>) -> Result<(), PgError> {
    finish_load(session, fence.load_epoch, resynced).await?;
    clear_unfit(session, &fence.collection).await?;
    clear_resync(session, &fence.collection).await?;
    settle_position(session).await
}

/// Forgets how far a resync has come: it starts over, or a load comes in its place.
pub(crate) async fn clear_resync(session: &Session, collection: &str) -> Result<(), PgError> {
    let sql = format!("DELETE FROM {} WHERE collection = $1", session.relation(RESYNC)?);
    session.execute(format!("forgetting the resync of {collection}"), &sql, &[&collection]).await.map(|_| ())
}
