//! `gizer_collection`: what is loaded of each collection, and the fence of its loads.
//!
//! The state is that of the live tables. A running load changes nothing of it: `load_started` and
//! `load_captured` tell of it, and only the swap makes its positions, tables and ledger those of the collection. So a
//! reload that fails leaves a collection as it was, followed if it was followed.

use std::collections::BTreeMap;

use gizer_flatten::change::{ClusterTime, Namespace, Positions};
use serde::{Deserialize, Serialize};
use serde_json::json;
use strum::{EnumString, IntoStaticStr};

use super::definitions::COLLECTIONS;
use super::lock::{self, AdvisoryKey};
use super::positions::to_json;
use super::range::clear_ranges;
use super::reject::clear_dead_rejects;
use super::repair::clear_repairs;
use super::resync::clear_resync;
use super::schema_history::{forget_unfinished, note_verified};
use crate::connect::Session;
use crate::error::{NameOwner, PgError};
use crate::load::LoadFence;

/// The column `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum CollectionState {
    /// The first load is running, or died; there are no live tables.
    Loading,
    /// The live tables can be brought up to date from the stream's position.
    Following,
    /// Only a load helps.
    #[strum(serialize = "load due")]
    LoadDue,
    /// Loaded without a usable position (a dump, a part of the collection, no `_id`): never followed.
    Copy,
}

impl CollectionState {
    /// The text in the column.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What became of every document of a load: `read = loaded + rejected + filtered`. The column `ledger`; what is missing in it
/// counts as 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Documents read from the source.
    pub read: u64,
    /// Documents whose rows are in the tables.
    pub loaded: u64,
    /// Documents put into `gizer_reject`.
    pub rejected: u64,
    /// Documents left out on request.
    pub filtered: u64,
    /// Rows by table name.
    pub rows: BTreeMap<String, u64>,
    /// Values that did not fit, by what reports call them: `wrong value (STRING) for posts.n(INT)`.
    pub unfit: BTreeMap<String, u64>,
    /// Milliseconds that it took, until before the swap; `None` if it took up the load of an earlier run.
    pub millis: Option<u64>,
    /// Milliseconds that the last resync took; `None` if there was none since the load, or it resumed one.
    pub resync_millis: Option<u64>,
}

/// What a load records when it begins.
pub(crate) struct LoadRow<'a> {
    pub(crate) collection: &'a str,
    pub(crate) namespace: Option<&'a Namespace>,
    /// By the name of the shard.
    pub(crate) uuids: &'a BTreeMap<String, [u8; 16]>,
    /// `None` for a copy.
    pub(crate) captured: Option<&'a Positions>,
    /// What must be the same for a later load to go on where this one ends; `None` if none can.
    pub(crate) identity: Option<&'a str>,
}

impl LoadRow<'_> {
    pub(super) fn namespace_text(&self) -> Option<String> {
        self.namespace.map(ToString::to_string)
    }

    pub(super) fn captured_json(&self) -> Option<String> {
        self.captured.map(to_json)
    }

    /// That of the first shard, as text that PostgreSQL reads as a `uuid`.
    pub(super) fn uuid_text(&self) -> Option<String> {
        self.uuids.values().next().map(hex::encode)
    }

    pub(super) fn uuids_json(&self) -> String {
        uuids_to_json(self.uuids)
    }
}

/// Holds the collection's lock and counts its epoch up, which fences off whoever loaded it before; what loads that
/// failed have rejected goes. In the open transaction; gives the epoch.
///
/// # Errors
/// [`PgError::Locked`] if another run loads the collection.
pub(crate) async fn begin_load(session: &Session, load: &LoadRow<'_>) -> Result<i64, PgError> {
    lock::hold(session, &AdvisoryKey::load(session.schema(), load.collection)).await?;
    let sql = format!(
        "INSERT INTO {collections} AS c \
             (collection, state, load_epoch, load_started, load_captured, captured, namespace, collection_uuid, \
              load_identity) \
         VALUES ($1, 'loading', 1, pg_catalog.now(), $2::text::jsonb, $2::text::jsonb, $3, $4::text::uuid, $5) \
         ON CONFLICT (collection) DO UPDATE SET \
             load_epoch = c.load_epoch + 1, load_started = excluded.load_started, \
             load_captured = excluded.load_captured, load_identity = excluded.load_identity, load_kind = NULL, \
             state = CASE WHEN c.live THEN c.state ELSE 'loading' END, \
             reason = CASE WHEN c.live THEN c.reason END, \
             captured = CASE WHEN c.live THEN c.captured ELSE excluded.captured END, \
             namespace = CASE WHEN c.live THEN c.namespace ELSE excluded.namespace END, \
             collection_uuid = CASE WHEN c.live THEN c.collection_uuid ELSE excluded.collection_uuid END \
         RETURNING load_epoch",
        collections = session.relation(COLLECTIONS)?
    );
    let doing = format!("beginning the load of {}", load.collection);
    let (captured, namespace, uuid) = (load.captured_json(), load.namespace_text(), load.uuid_text());
    let row = session.query_one(doing, &sql, &[&load.collection, &captured, &namespace, &uuid, &load.identity]).await?;
    clear_dead_rejects(session, load.collection).await?;
    clear_ranges(session, load.collection).await?;
    clear_resync(session, load.collection).await?;
    Ok(row.get(0))
}

/// As [`begin_load`], but resumes the load with this epoch: what that one has rejected stays.
///
/// # Errors
/// [`PgError::Locked`] if another run loads the collection; [`PgError::Fenced`] if another has begun since the epoch was read.
pub(crate) async fn resume_load(session: &Session, load: &LoadRow<'_>, old_epoch: i64) -> Result<i64, PgError> {
    lock::hold(session, &AdvisoryKey::load(session.schema(), load.collection)).await?;
    let sql = format!(
        "UPDATE {} SET load_epoch = load_epoch + 1, load_started = pg_catalog.now(), \
             state = CASE WHEN live THEN state ELSE 'loading' END, reason = CASE WHEN live THEN reason END \
         WHERE collection = $1 AND load_epoch = $2 AND load_identity = $3 RETURNING load_epoch",
        session.relation(COLLECTIONS)?
    );
    let doing = format!("taking up the load of {}", load.collection);
    let row = session.query_opt(doing, &sql, &[&load.collection, &old_epoch, &load.identity]).await?;
    Ok(row.ok_or_else(|| fenced(load.collection))?.get(0))
}

/// The live tables that a collection has according to its row.
pub(crate) async fn tables_of(session: &Session, collection: &str) -> Result<Vec<String>, PgError> {
    let sql = format!("SELECT tables FROM {} WHERE collection = $1", session.relation(COLLECTIONS)?);
    let row = session.query_opt(format!("reading the state of {collection}"), &sql, &[&collection]).await?;
    Ok(row.map_or_else(Vec::new, |row| row.get(0)))
}

/// The live tables of a collection and the hash of the layout that they were loaded by; nothing where gizer has not
/// loaded it.
pub(crate) async fn loaded_as(session: &Session, collection: &str) -> Result<(Vec<String>, Option<String>), PgError> {
    if !super::tables::exist(session).await? {
        return Ok((Vec::new(), None));
    }
    let sql =
        format!("SELECT tables, layout_hash FROM {} WHERE collection = $1 AND live", session.relation(COLLECTIONS)?);
    let row = session.query_opt(format!("reading the state of {collection}"), &sql, &[&collection]).await?;
    Ok(row.map_or_else(Default::default, |row| (row.get(0), row.get(1))))
}

/// How gizer left the live tables: by table, items of a table and their values.
pub(crate) type Descriptions = BTreeMap<String, BTreeMap<String, String>>;

/// What [`remember_tables`] wrote down; nothing of tables that an older version has left.
pub(crate) async fn tables_as_left(session: &Session, collection: &str) -> Result<Descriptions, PgError> {
    let sql = format!(
        "SELECT tables.key, item.key, item.value \
         FROM {} AS c, jsonb_each(c.as_left) AS tables, jsonb_each_text(tables.value) AS item WHERE c.collection = $1",
        session.relation(COLLECTIONS)?
    );
    let mut left = Descriptions::new();
    for row in session.query(format!("reading how the tables of {collection} were left"), &sql, &[&collection]).await? {
        left.entry(row.get(0)).or_default().insert(row.get(1), row.get(2));
    }
    Ok(left)
}

/// Records how gizer leaves the live tables, in the transaction that swaps them in.
pub(crate) async fn remember_tables(session: &Session, collection: &str, left: &Descriptions) -> Result<(), PgError> {
    let sql = format!("UPDATE {} SET as_left = $2::text::jsonb WHERE collection = $1", session.relation(COLLECTIONS)?);
    let doing = format!("writing down how the tables of {collection} are left");
    session.execute(doing, &sql, &[&collection, &json!(left).to_string()]).await.map(|_| ())
}

/// One of these names that a table of another collection has, or an index on one, and whose it is.
pub(crate) async fn name_of_another(
    session: &Session,
    collection: &str,
    names: &[String],
) -> Result<Option<(String, NameOwner)>, PgError> {
    let sql = format!(
        "SELECT c.relname::text, others.collection, i.indexrelid IS NOT NULL \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid \
         JOIN {} AS others ON coalesce(t.relname, c.relname) = ANY (others.tables) \
         WHERE n.nspname = $1 AND others.collection <> $2 AND others.live AND c.relname = ANY ($3) \
         ORDER BY 1 LIMIT 1",
        session.relation(COLLECTIONS)?
    );
    let doing = "reading which names belong to which collection";
    let row = session.query_opt(doing, &sql, &[&session.schema(), &collection, &names]).await?;
    Ok(row.map(|row| {
        let (collection, is_index) = (row.get(1), row.get(2));
        let owner = if is_index { NameOwner::Index { collection } } else { NameOwner::Table { collection } };
        (row.get(0), owner)
    }))
}

/// Checks in the open transaction that nobody has taken over the load, and keeps it so until the end of the
/// transaction. Connections that load the same collection share this lock.
///
/// # Errors
/// [`PgError::Fenced`].
pub async fn check_load(session: &Session, fence: &LoadFence) -> Result<(), PgError> {
    lock_fence(session, fence, "FOR SHARE").await
}

/// As [`check_load`], for the one connection that swaps.
pub(crate) async fn claim_swap(session: &Session, fence: &LoadFence) -> Result<(), PgError> {
    lock_fence(session, fence, "FOR UPDATE").await
}

async fn lock_fence(session: &Session, fence: &LoadFence, lock: &str) -> Result<(), PgError> {
    let LoadFence { collection, load_epoch } = fence;
    let sql =
        format!("SELECT FROM {} WHERE collection = $1 AND load_epoch = $2 {lock}", session.relation(COLLECTIONS)?);
    let doing = format!("checking the fence of {collection}");
    match session.query_opt(doing, &sql, &[collection, load_epoch]).await? {
        Some(_) => Ok(()),
        None => Err(fenced(collection)),
    }
}

fn fenced(collection: &str) -> PgError {
    PgError::Fenced { what: format!("the load of {collection}") }
}

/// The column `uuids`: `{"rs0": "00112233445566778899aabbccddeeff"}`.
pub(super) fn uuids_to_json(uuids: &BTreeMap<String, [u8; 16]>) -> String {
    let uuids: BTreeMap<&str, String> = uuids.iter().map(|(shard, uuid)| (shard.as_str(), hex::encode(uuid))).collect();
    json!(uuids).to_string()
}

/// Position of a load's tables in the oplog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What lies after these positions is yet to be applied.
    pub applied_to: Positions,
    /// Every document was read at this time or before it; `None` if nobody knows.
    pub read_until: Option<ClusterTime>,
    /// Whether the tables equal the source as it was at `applied_to`.
    pub exact: bool,
}

/// What a load records in the transaction that swaps its tables in.
pub(crate) struct Loaded<'a> {
    pub(crate) row: LoadRow<'a>,
    pub(crate) tables: &'a [String],
    pub(crate) layout_hash: &'a str,
    pub(crate) ledger: &'a Ledger,
    /// `None` of a copy.
    pub(crate) standing: Option<&'a Standing>,
    /// Why it is a copy; `None` if it can be followed.
    pub(crate) copy_because: Option<&'a str>,
}

/// Makes the load's result that of the collection, in the open transaction. What was to be repaired of the tables before goes.
///
/// # Errors
/// [`PgError::Fenced`].
pub(crate) async fn finish_load(session: &Session, load_epoch: i64, loaded: &Loaded<'_>) -> Result<(), PgError> {
    let sql = format!(
        "UPDATE {} SET state = $3, live = true, tables = $4, layout_hash = $5, captured = $6::text::jsonb, \
             exact_at = $7::text::jsonb, loaded_at = pg_catalog.now(), ledger = $8::text::jsonb, rejected = $9, \
             reason = $10, namespace = $11, collection_uuid = $12::text::uuid, uuids = $13::text::jsonb, \
             read_until = $14, joined = false, passed_over = NULL, live_epoch = load_epoch, \
             load_started = NULL, load_captured = NULL, load_identity = NULL, load_kind = NULL \
         WHERE collection = $1 AND load_epoch = $2",
        session.relation(COLLECTIONS)?
    );
    let collection = loaded.row.collection;
    let state = if loaded.copy_because.is_some() { CollectionState::Copy } else { CollectionState::Following };
    let standing = loaded.standing;
    let captured = standing.map(|standing| to_json(&standing.applied_to)).or_else(|| loaded.row.captured_json());
    let exact_at = standing.filter(|standing| standing.exact).map(|standing| to_json(&standing.applied_to));
    let read_until = standing.and_then(|standing| standing.read_until).map(|time| time.to_string());
    let (namespace, uuid) = (loaded.row.namespace_text(), loaded.row.uuid_text());
    let ledger = json!(loaded.ledger).to_string();
    let rejected = i64::try_from(loaded.ledger.rejected).unwrap_or(i64::MAX);
    let changed = session
        .execute(
            format!("writing down the load of {collection}"),
            &sql,
            &[
                &collection,
                &load_epoch,
                &state.name(),
                &loaded.tables,
                &loaded.layout_hash,
                &captured,
                &exact_at,
                &ledger,
                &rejected,
                &loaded.copy_because,
                &namespace,
                &uuid,
                &loaded.row.uuids_json(),
                &read_until,
            ],
        )
        .await?;
    if changed != 1 {
        return Err(fenced(collection));
    }
    forget_unfinished(session, collection).await?;
    note_verified(session, collection).await?;
    clear_repairs(session, collection).await
}

/// Records that a load has failed: the collection is as it was before, or due for a load if it has no live tables.
pub(crate) async fn fail_load(
    session: &Session,
    collection: &str,
    load_epoch: i64,
    reason: &str,
    goes_on: bool,
) -> Result<(), PgError> {
    let sql = format!(
        "UPDATE {} SET state = CASE WHEN live THEN state ELSE 'load due' END, reason = $3, \
                load_started = CASE WHEN live AND $4 THEN load_started END \
         WHERE collection = $1 AND load_epoch = $2",
        session.relation(COLLECTIONS)?
    );
    let doing = format!("writing down that the load of {collection} failed");
    session.execute(doing, &sql, &[&collection, &load_epoch, &reason, &goes_on]).await.map(|_| ())
}

/// The collections that have live tables, and of which no load is due, running or interrupted. None before the first load.
pub(crate) async fn without_load(session: &Session) -> Result<Vec<String>, PgError> {
    let sql = format!(
        "SELECT collection FROM {} WHERE live AND load_started IS NULL AND state <> 'load due' ORDER BY 1",
        session.relation(COLLECTIONS)?
    );
    let rows = session.query("looking for collections that are not being loaded", &sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Keeps everybody from loading a collection until the end of the transaction; `false` if somebody does, or it goes on.
pub(crate) async fn keep_from_loading(session: &Session, collection: &str) -> Result<bool, PgError> {
    if !lock::try_in_transaction(session, &AdvisoryKey::load(session.schema(), collection)).await? {
        return Ok(false);
    }
    Ok(without_load(session).await?.iter().any(|other| other == collection))
}

/// Gives the lock of [`begin_load`] back.
pub(crate) async fn release_load(session: &Session, collection: &str) {
    lock::release(session, &AdvisoryKey::load(session.schema(), collection)).await;
}

/// Holds what loads and audits of a collection hold, so that neither begins while its tables are made to grow. Both locks end
/// with the session, or with [`release_tables`].
///
/// # Errors
/// [`PgError::Locked`] if somebody loads or verifies the collection.
pub async fn hold_tables(session: &Session, collection: &str) -> Result<(), PgError> {
    let load = AdvisoryKey::load(session.schema(), collection);
    lock::hold(session, &load).await?;
    let audit = lock::hold(session, &AdvisoryKey::audit(session.schema(), collection)).await;
    if audit.is_err() {
        lock::release(session, &load).await;
    }
    audit
}

/// Gives back what [`hold_tables`] took.
pub async fn release_tables(session: &Session, collection: &str) {
    lock::release(session, &AdvisoryKey::audit(session.schema(), collection)).await;
    lock::release(session, &AdvisoryKey::load(session.schema(), collection)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back() {
        for state in ["loading", "following", "load due", "copy"] {
            assert_eq!(state.parse::<CollectionState>().unwrap().name(), state);
        }
        assert!("done".parse::<CollectionState>().is_err());
    }

    #[test]
    fn a_ledger_reads_back() {
        let rows = BTreeMap::from([("posts".to_owned(), 3), ("post_comments".to_owned(), 0)]);
        let unfit = BTreeMap::from([("wrong value (STRING) for posts.n(INT)".to_owned(), 1)]);
        let ledger =
            Ledger { read: 5, loaded: 3, rejected: 1, filtered: 1, rows, unfit, millis: Some(12), resync_millis: None };
        assert_eq!(serde_json::from_value::<Ledger>(json!(ledger)).unwrap(), ledger);
        assert_eq!(serde_json::from_value::<Ledger>(json!({})).unwrap(), Ledger::default());
    }
}
