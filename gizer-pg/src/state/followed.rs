//! What of `gizer_collection` following needs and changes.
//!
//! These rows are locked by running loads, so that following writes to one only where it must: when a collection has come to
//! the stream's position, and at DDL in the source.

use std::collections::BTreeMap;

use gizer_flatten::change::{ClusterTime, Namespace, Positions, SourcePosition};
use serde_json::Value;

use super::collection::uuids_to_json;
use super::definitions::{COLLECTIONS, EXPECTED, SCHEMA_HISTORY};
use super::history::{HistoryEvent, count_event};
use super::positions::{from_json, time_from_text, to_json};
use super::tables;
use crate::connect::{Params, Session};
use crate::error::PgError;

/// A collection whose live tables can be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The name of the collection, and of its schema file.
    pub collection: String,
    /// Where it is in MongoDB.
    pub namespace: Namespace,
    /// Its UUID on each shard that has it; none while it does not exist there.
    pub uuids: BTreeMap<String, [u8; 16]>,
    /// Its live tables, in the order of the layout.
    pub tables: Vec<String>,
    /// What the layout's hash was when they were loaded; see [`layout_hash`](crate::ddl::layout_hash).
    pub layout_hash: String,
    /// What lies after these positions is yet to be applied, until it has `joined` the stream.
    pub applied_to: Positions,
    /// Up to when its documents were read by the load; `None` if nobody knows.
    pub read_until: Option<ClusterTime>,
    /// Whether it stands where the stream stands.
    pub joined: bool,
    /// Changes were skipped, because another collection has its name, and no entry has said why yet: one must up to this
    /// time.
    pub passed_over: Option<ClusterTime>,
    /// The load that its tables are of.
    pub live_epoch: i64,
    /// What else is to be said of it; see [`set_remark`].
    pub remark: Option<String>,
}

impl Followed {
    /// As [`followed_now`] gives it.
    pub fn now(&self) -> FollowedNow {
        let Followed { collection, live_epoch, layout_hash, .. } = self;
        FollowedNow { collection: collection.clone(), live_epoch: *live_epoch, layout_hash: layout_hash.clone() }
    }

    /// Where its tables stand on a shard, if the stream stands at `stream`; `None` of a shard that is new.
    pub fn position_on(&self, stream: &Positions, shard: &str) -> Option<SourcePosition> {
        if self.joined { stream } else { &self.applied_to }.get(shard).cloned()
    }
}

/// The collections that are followed, by name; none before the first load.
///
/// # Errors
/// As [`followed`].
pub async fn read_followed(session: &Session) -> Result<Vec<Followed>, PgError> {
    session
        .in_snapshot(async { if tables::exist(session).await? { followed(session).await } else { Ok(Vec::new()) } })
        .await
}

/// The collections that are followed, in the order of the bytes of their names, in the open transaction; the state tables must be there.
///
/// # Errors
/// [`PgError::UnreadableState`]; whatever the server says.
pub async fn followed(session: &Session) -> Result<Vec<Followed>, PgError> {
    let sql = format!(
        "SELECT collection, namespace, coalesce(uuids, pg_catalog.jsonb_build_object('', collection_uuid))::text, tables, \
                layout_hash, captured::text, read_until, joined, live_epoch, passed_over, reason \
         FROM {} WHERE state = 'following' AND live ORDER BY collection COLLATE \"C\"",
        session.relation(COLLECTIONS)?
    );
    let schema = session.schema();
    let unreadable = |expected, came: &str| session.unreadable(COLLECTIONS, expected, came);
    let mut all = Vec::new();
    for row in session.query("reading what is followed", &sql, &[]).await? {
        let (namespace, uuids): (Option<String>, String) = (row.get(1), row.get(2));
        let namespace = namespace.unwrap_or_default();
        let captured: Option<String> = row.get(5);
        all.push(Followed {
            collection: row.get(0),
            namespace: Namespace::parse(&namespace).ok_or_else(|| unreadable("database.collection", &namespace))?,
            uuids: uuids_from_json(&uuids).ok_or_else(|| unreadable("a UUID a shard", &uuids))?,
            tables: row.get(3),
            layout_hash: row.get::<_, Option<_>>(4).unwrap_or_default(),
            applied_to: from_json(&captured.unwrap_or_default(), schema, COLLECTIONS)?,
            read_until: time_from_text(row.get(6), schema, COLLECTIONS)?,
            joined: row.get(7),
            live_epoch: row.get::<_, Option<_>>(8).unwrap_or_default(),
            passed_over: time_from_text(row.get(9), schema, COLLECTIONS)?,
            remark: row.get(10),
        });
    }
    Ok(all)
}

/// The inverse of the column `uuids`; `None` if it is something else.
pub(super) fn uuids_from_json(text: &str) -> Option<BTreeMap<String, [u8; 16]>> {
    let Ok(Value::Object(shards)) = serde_json::from_str(text) else { return None };
    let uuid = |text: &str| hex::decode(text.replace('-', "")).ok()?.try_into().ok();
    let known = shards.iter().filter(|(_, value)| !value.is_null());
    known.map(|(shard, value)| Some((shard.clone(), uuid(value.as_str()?)?))).collect()
}

/// The collection has these UUIDs from here on, in the open transaction; none: it is gone.
///
/// # Errors
/// [`PgError::Fenced`] if another load has taken the place of the one with this epoch.
pub async fn set_uuids(
    session: &Session,
    collection: &str,
    live_epoch: i64,
    uuids: &BTreeMap<String, [u8; 16]>,
) -> Result<(), PgError> {
    let set = "uuids = $3::text::jsonb, collection_uuid = coalesce($4::text::uuid, collection_uuid)";
    let first = uuids.values().next().map(hex::encode);
    let doing = format!("writing down which collection {collection} is");
    update(session, collection, live_epoch, doing, set, &[&uuids_to_json(uuids), &first]).await
}

/// Sets columns of a collection, in the open transaction; its values are `$3` and those that follow.
async fn update(
    session: &Session,
    collection: &str,
    live_epoch: i64,
    doing: String,
    set: &str,
    values: Params<'_>,
) -> Result<(), PgError> {
    let relation = session.relation(COLLECTIONS)?;
    let sql = format!("UPDATE {relation} SET {set} WHERE collection = $1 AND live_epoch = $2");
    let of: Params<'_> = &[&collection, &live_epoch];
    match session.execute(doing, &sql, &[of, values].concat()).await? {
        1 => Ok(()),
        _ => Err(PgError::Fenced { what: format!("following {collection}") }),
    }
}

/// Records, in the open transaction, that changes were skipped, and by when an entry must say why; `None`: one has. An
/// earlier time stays.
///
/// # Errors
/// [`PgError::Fenced`] if another load has taken the place of the one with this epoch.
pub async fn set_passed_over(
    session: &Session,
    collection: &str,
    live_epoch: i64,
    until: Option<ClusterTime>,
) -> Result<(), PgError> {
    let set = "passed_over = CASE WHEN $3::text IS NULL THEN NULL ELSE coalesce(passed_over, $3) END";
    let until = until.map(|until| until.to_string());
    let doing = format!("writing down what was passed over of {collection}");
    update(session, collection, live_epoch, doing, set, &[&until]).await
}

/// Records, in the open transaction, a remark on a collection that is followed, or that it no longer holds. Where nothing changes
/// nothing is written.
pub async fn set_remark(
    session: &Session,
    collection: &str,
    live_epoch: i64,
    remark: &str,
    holds: bool,
) -> Result<(), PgError> {
    let sql = format!(
        "UPDATE {} SET reason = CASE WHEN $4 THEN $3 END WHERE collection = $1 AND live_epoch = $2 AND state = 'following' \
         AND CASE WHEN $4 THEN reason IS DISTINCT FROM $3 ELSE reason = $3 END",
        session.relation(COLLECTIONS)?
    );
    let doing = format!("writing down a remark on {collection}");
    session.execute(doing, &sql, &[&collection, &live_epoch, &remark, &holds]).await.map(drop)
}

/// A collection that is followed now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FollowedNow {
    /// Its name.
    pub collection: String,
    /// The load that its tables are of.
    pub live_epoch: i64,
    /// The hash of the layout that its tables have.
    pub layout_hash: String,
}

/// The collections that are followed now, in the open transaction. Left out are *paused* ones, *failing* ones whose next try
/// has not come, and those whose rows are being rewritten for a schema that has grown.
pub async fn followed_now(session: &Session) -> Result<Vec<FollowedNow>, PgError> {
    let sql = format!(
        "SELECT c.collection, coalesce(c.live_epoch, 0), coalesce(c.layout_hash, '') \
         FROM {} AS c LEFT JOIN {} AS e USING (collection) \
         WHERE c.state = 'following' AND c.live \
             AND NOT coalesce(e.obstacle = 'paused' \
                 OR e.obstacle = 'failing' AND e.next_try > pg_catalog.now(), false) \
             AND NOT EXISTS (SELECT FROM {} AS h WHERE h.collection = c.collection AND h.finished_at IS NULL)",
        session.relation(COLLECTIONS)?,
        session.relation(EXPECTED)?,
        session.relation(SCHEMA_HISTORY)?
    );
    let rows = session.query("asking what is followed", &sql, &[]).await?;
    let now = |row: &tokio_postgres::Row| FollowedNow {
        collection: row.get(0),
        live_epoch: row.get(1),
        layout_hash: row.get(2),
    };
    Ok(rows.iter().map(now).collect())
}

/// As [`followed_now`], in a transaction of its own.
pub async fn read_followed_now(session: &Session) -> Result<Vec<FollowedNow>, PgError> {
    session.in_snapshot(followed_now(session)).await
}

/// Takes a collection out of the stream, in the open transaction. Its tables stay at a position of their own until it
/// joins again. `position` is that of the stream: one that has not joined has its own. `read_until` is up to when its
/// documents may have been read.
///
/// # Errors
/// [`PgError::Fenced`] if another load has taken the place of the one with this epoch.
pub async fn leave_stream(
    session: &Session,
    collection: &str,
    live_epoch: i64,
    position: &Positions,
    read_until: ClusterTime,
) -> Result<(), PgError> {
    let set = "captured = CASE WHEN joined THEN $3::text::jsonb ELSE captured END, joined = false, read_until = $4";
    let doing = format!("recording where {collection} stands");
    update(session, collection, live_epoch, doing, set, &[&to_json(position), &read_until.to_string()]).await
}

/// All collections that are followed and *failing* are to be tried again at once.
pub async fn try_failing_now(session: &Session) -> Result<(), PgError> {
    let sql = format!(
        "UPDATE {} AS e SET next_try = pg_catalog.now() FROM {} AS c \
         WHERE c.collection = e.collection AND c.state = 'following' AND c.live AND e.obstacle = 'failing'",
        session.relation(EXPECTED)?,
        session.relation(COLLECTIONS)?
    );
    session.execute("looking for collections to try again", &sql, &[]).await.map(|_| ())
}

/// Only a load helps this collection any more, in the open transaction. It is counted in `gizer_history`.
///
/// # Errors
/// [`PgError::Fenced`] if another load has taken the place of the one with this epoch.
pub async fn mark_load_due(session: &Session, collection: &str, live_epoch: i64, reason: &str) -> Result<(), PgError> {
    let doing = format!("writing down that a load of {collection} is due");
    update(session, collection, live_epoch, doing, "state = 'load due', reason = $3", &[&reason]).await?;
    count_event(session, HistoryEvent::Reload, collection, reason, 1).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_read_back_whoever_wrote_them() {
        let uuids = BTreeMap::from([("a".to_owned(), [0x0F; 16]), ("b".to_owned(), [0xA7; 16])]);
        assert_eq!(uuids_from_json(&uuids_to_json(&uuids)), Some(uuids));
        let by_postgres = r#"{"": "00112233-4455-6677-8899-aabbccddeeff", "x": null}"#;
        assert_eq!(uuids_from_json(by_postgres).unwrap().len(), 1);
        for nonsense in ["[]", r#"{"a": 1}"#, r#"{"a": "00"}"#, r#"{"a": "zz112233-4455-6677-8899-aabbccddeeff"}"#] {
            assert_eq!(uuids_from_json(nonsense), None, "{nonsense}");
        }
    }
}
