//! `gizer_stream`: how far changes have been applied, and the fence of following.

use gizer_flatten::change::{ClusterTime, Positions};

use super::definitions::{COLLECTIONS, STREAM};
use super::lock::{self, AdvisoryKey};
use super::positions::{earliest, from_json, time_from_text, to_json};
use crate::connect::Session;
use crate::error::PgError;

/// The right to move the stream's position, until another run takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFence {
    epoch: i64,
    position: Positions,
    applied: bool,
    ahead: Option<ClusterTime>,
}

impl StreamFence {
    /// The position that the tables are at, as far as this run knows.
    pub fn position(&self) -> &Positions {
        &self.position
    }

    /// Whether changes have ever been applied.
    pub fn applied(&self) -> bool {
        self.applied
    }

    /// Some documents were read as of this time, later than the position. The tables are exact once the position has
    /// passed it.
    pub fn ahead(&self) -> Option<ClusterTime> {
        self.ahead
    }
}

/// Takes over the stream: other runs that follow are fenced off from now on. The lock that is held for politeness
/// goes with the session.
///
/// # Errors
/// [`PgError::Locked`] if another run follows; [`PgError::UnreadableState`].
pub async fn take_fence(session: &Session) -> Result<StreamFence, PgError> {
    session
        .in_transaction(async {
            lock::hold(session, &AdvisoryKey::stream(session.schema())).await?;
            let sql = format!(
                "UPDATE {} SET epoch = epoch + 1 WHERE singleton RETURNING epoch, position::text, applied, ahead",
                session.relation(STREAM)?
            );
            let row = session.query_one("taking over the stream", &sql, &[]).await?;
            let position = from_json(row.get(1), session.schema(), STREAM)?;
            let ahead = time_from_text(row.get(3), session.schema(), STREAM)?;
            Ok(StreamFence { epoch: row.get(0), position, applied: row.get(2), ahead })
        })
        .await
}

/// What is recorded with the rows of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint<'a> {
    /// Where following resumes.
    pub position: &'a Positions,
    /// Up to when documents were read, where that is later than the position: the tables are catching up. `None`: they are
    /// exact at the position.
    pub ahead: Option<ClusterTime>,
    /// Collections that have come to the stream's position, with the epochs of their loads.
    pub joined: &'a [(&'a str, i64)],
    /// Whether all that was written has been read back and compared: where the tables are exact, they are *verified up to*
    /// the position.
    pub verified: bool,
}

/// Moves the stream's position in the open transaction, which holds the rows that belong to it. The fence stands at
/// the new position from now on; if the transaction is not committed after all, the fence is void and must be taken
/// anew.
///
/// # Errors
/// [`PgError::Fenced`] if another run has taken over or the position is not where this run left it: roll back.
pub async fn checkpoint(
    session: &Session,
    fence: &mut StreamFence,
    checkpoint: &Checkpoint<'_>,
) -> Result<(), PgError> {
    let sql = format!(
        "UPDATE {} SET position = $1::text::jsonb, applied = true, updated_at = pg_catalog.now(), ahead = $4, \
             exact_at = CASE WHEN $4::text IS NULL THEN $1::text::jsonb ELSE exact_at END, \
             verified = CASE WHEN $4::text IS NULL AND $5 THEN $1::text::jsonb ELSE verified END \
         WHERE singleton AND position = $2::text::jsonb AND epoch = $3",
        session.relation(STREAM)?
    );
    let Checkpoint { position, ahead, joined, verified } = checkpoint;
    let (new, old, ahead_text) = (to_json(position), to_json(&fence.position), ahead.map(|time| time.to_string()));
    let doing = "moving the stream's position";
    let changed = session.execute(doing, &sql, &[&new, &old, &fence.epoch, &ahead_text, verified]).await?;
    if changed != 1 {
        return Err(PgError::Fenced { what: format!("following changes into schema {}", session.schema()) });
    }
    if !joined.is_empty() {
        let sql = format!(
            "UPDATE {} AS c SET joined = true \
             FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.int8[])) \
                 AS come (collection, epoch) \
             WHERE c.collection = come.collection AND c.live_epoch = come.epoch",
            session.relation(COLLECTIONS)?
        );
        let (collections, epochs): (Vec<&str>, Vec<i64>) = joined.iter().copied().unzip();
        session.execute("writing down which collections are in step", &sql, &[&collections, &epochs]).await?;
    }
    fence.position.clone_from(position);
    fence.applied = true;
    fence.ahead = *ahead;
    Ok(())
}

/// Makes the row where it is missing, in the open transaction: at first, or because somebody has deleted it. The collections that
/// stood where it said are due for a load then: nobody knows from where on their changes are missing.
pub(super) async fn restore_row(session: &Session) -> Result<(), PgError> {
    let (stream, collections) = (session.relation(STREAM)?, session.relation(COLLECTIONS)?);
    let there = format!("SELECT FROM {stream} WHERE singleton");
    let doing = "preparing the stream's position";
    if session.query_opt(doing, &there, &[]).await?.is_some() {
        return Ok(());
    }
    let row = format!("INSERT INTO {stream} (singleton) VALUES (true) ON CONFLICT DO NOTHING");
    if session.execute(doing, &row, &[]).await? == 0 {
        return Ok(());
    }
    let lost = format!(
        "UPDATE {collections} SET state = 'load due', reason = $1 WHERE state = 'following' AND live AND joined"
    );
    session.execute(doing, &lost, &[&POSITION_LOST]).await.map(|_| ())
}

/// Why collections are due for a load whose position was that of a row that is gone.
pub const POSITION_LOST: &str = "its position in the oplog was lost: gizer_stream had no row";

/// Sets where the stream begins, in the transaction of a swap: at the earliest position that a followed collection was
/// captured at. Once changes have been applied, only [`checkpoint`] moves it. The row stays locked until the end of
/// the transaction, so that two loads that end at once see each other.
pub(crate) async fn settle_position(session: &Session) -> Result<(), PgError> {
    let stream = session.relation(STREAM)?;
    let sql = format!("SELECT applied FROM {stream} WHERE singleton FOR UPDATE");
    let applied: bool = session.query_one("reading the stream's position", &sql, &[]).await?.get(0);
    if applied {
        return Ok(());
    }
    let sql = format!(
        "SELECT captured::text FROM {} WHERE state = 'following' AND live AND captured IS NOT NULL",
        session.relation(COLLECTIONS)?
    );
    let mut captured = Vec::new();
    for row in session.query("reading where the loads began", &sql, &[]).await? {
        captured.push(from_json(row.get(0), session.schema(), COLLECTIONS)?);
    }
    let sql = format!("UPDATE {stream} SET position = $1::text::jsonb, updated_at = pg_catalog.now() WHERE singleton");
    let position = to_json(&earliest(captured));
    session.execute("setting the stream's position", &sql, &[&position]).await.map(|_| ())
}
