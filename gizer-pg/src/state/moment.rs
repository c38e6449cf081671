//! State of the live tables of a collection, as a snapshot shows it.

use std::collections::BTreeMap;

use gizer_flatten::change::{ClusterTime, Positions};

use super::definitions::{COLLECTIONS, STREAM};
use super::followed::uuids_from_json;
use super::lock::{self, AdvisoryKey};
use super::positions::from_json;
use crate::connect::Session;
use crate::error::PgError;

/// State of the live tables of a collection at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The load that they are of.
    pub live_epoch: i64,
    /// What the oplog has up to these positions has been applied.
    pub positions: Positions,
    /// The time at which they equal the source; `None` while they are catching up. It is the latest of the positions: up to the
    /// watermark, at which the tables are exact, nothing has come after it on any shard.
    pub exact: Option<ClusterTime>,
    /// The UUID of the collection on each shard at these positions, as [`Followed::uuids`](super::Followed::uuids).
    pub uuids: BTreeMap<String, [u8; 16]>,
}

/// State of the live tables of a collection, read in the open transaction; `None` if it has none that are followed.
///
/// # Errors
/// [`PgError::UnreadableState`]; whatever the server says.
pub async fn moment(session: &Session, collection: &str) -> Result<Option<Moment>, PgError> {
    let sql = format!(
        "SELECT c.live_epoch, CASE WHEN c.joined THEN s.position ELSE c.captured END::text, \
                CASE WHEN c.joined THEN s.ahead IS NULL ELSE c.exact_at IS NOT NULL END AND c.passed_over IS NULL, \
                coalesce(c.uuids, pg_catalog.jsonb_build_object('', c.collection_uuid))::text \
         FROM {} c, {} s WHERE c.collection = $1 AND c.state = 'following' AND c.live AND s.singleton",
        session.relation(COLLECTIONS)?,
        session.relation(STREAM)?
    );
    let doing = format!("reading how the tables of {collection} stand");
    let Some(row) = session.query_opt(doing, &sql, &[&collection]).await? else { return Ok(None) };
    let uuids: &str = row.get(3);
    let uuids = uuids_from_json(uuids).ok_or_else(|| session.unreadable(COLLECTIONS, "a UUID a shard", uuids))?;
    let positions = row.get::<_, Option<&str>>(1).unwrap_or("{}");
    let positions = from_json(positions, session.schema(), COLLECTIONS)?;
    let exact = positions.values().map(|position| position.time()).max().filter(|_| row.get(2));
    Ok(Some(Moment { live_epoch: row.get::<_, Option<_>>(0).unwrap_or_default(), positions, exact, uuids }))
}

/// Whether a run is alive that follows changes into this schema.
pub async fn is_followed_now(session: &Session) -> Result<bool, PgError> {
    lock::is_held(session, &AdvisoryKey::stream(session.schema())).await
}
