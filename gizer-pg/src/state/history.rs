//! `gizer_history`: how often rows were repaired and collections reloaded, and why.

use strum::IntoStaticStr;

use super::definitions::HISTORY;
use super::tables;
use crate::connect::Session;
use crate::error::PgError;

/// The column `event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum HistoryEvent {
    /// The rows of a document were made equal where nothing in the source had changed them, or were written a second time.
    Repair,
    /// A load of the collection became due while it was followed.
    Reload,
}

impl HistoryEvent {
    /// The text in the column.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What has happened so often for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The collection.
    pub collection: String,
    /// Why.
    pub reason: String,
    /// Documents repaired, or loads that became due.
    pub count: u64,
    /// When it last happened: ISO 8601 in UTC.
    pub last_at: String,
}

/// Counts what has happened to a collection, in the open transaction.
pub async fn count_event(
    session: &Session,
    event: HistoryEvent,
    collection: &str,
    reason: &str,
    count: u64,
) -> Result<(), PgError> {
    if count == 0 {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO {} AS h (collection, event, reason, count) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (collection, event, reason) \
         DO UPDATE SET count = h.count + excluded.count, last_at = pg_catalog.now()",
        session.relation(HISTORY)?
    );
    let doing = format!("counting what has happened to {collection}");
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    session.execute(doing, &sql, &[&collection, &event.name(), &reason, &count]).await.map(|_| ())
}

/// What has happened, by collection and reason; nothing where an older version has made no such table, or this role may not
/// read it.
pub(super) async fn history(session: &Session, event: HistoryEvent) -> Result<Vec<HistoryRow>, PgError> {
    if !tables::may_read(session, HISTORY).await? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT collection, reason, count, to_char(last_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
         FROM {} WHERE event = $1 ORDER BY collection, count DESC, reason",
        session.relation(HISTORY)?
    );
    let row = |row: &tokio_postgres::Row| HistoryRow {
        collection: row.get(0),
        reason: row.get(1),
        count: u64::try_from(row.get::<_, i64>(2)).unwrap_or_default(),
        last_at: row.get(3),
    };
    let rows = session.query("reading what has happened", &sql, &[&event.name()]).await?;
    Ok(rows.iter().map(row).collect())
}
