//! What the state tables tell, for `gizer status`.

use std::collections::HashMap;

use gizer_flatten::change::{ClusterTime, Positions};

use super::audit::{Audits, audits};
use super::collection::{CollectionState, Ledger};
use super::definitions::{COLLECTIONS, REJECTS, RUNS, STREAM};
use super::expected::{Expected, expected_if_readable};
use super::history::{HistoryEvent, HistoryRow, history};
use super::lock::{self, AdvisoryKey};
use super::positions::{from_json, positions_in, time_from_text};
use super::resync::{ResyncProgress, resyncs};
use super::tables;
use crate::connect::Session;
use crate::error::PgError;

/// Everything that gizer knows of a schema. Times are ISO 8601 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// By name.
    pub collections: Vec<CollectionStatus>,
    /// The collections that should be copied, by the bytes of their names.
    pub expected: Vec<Expected>,
    /// The last runs, newest first.
    pub runs: Vec<RunRow>,
    /// Where following resumes.
    pub stream: Positions,
    /// Whether changes have ever been applied.
    pub applied: bool,
    /// Where the tables of all that is followed were last known to be equal to the source.
    pub exact_at: Option<Positions>,
    /// Some documents were read as they were up to this time: the tables are catching up until the position has come by there.
    pub ahead: Option<ClusterTime>,
    /// When changes were last applied, or the position has last moved.
    pub updated_at: Option<String>,
    /// Where they were last known to be equal, with all that was written up to there read back and compared.
    pub verified_up_to: Option<Positions>,
    /// Documents that were repaired, by collection and reason.
    pub repairs: Vec<HistoryRow>,
    /// Loads that became due while following, by collection and reason.
    pub reloads: Vec<HistoryRow>,
}

/// What is known of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionStatus {
    /// Its name.
    pub collection: String,
    /// `database.collection` in MongoDB.
    pub namespace: Option<String>,
    /// State of its live tables.
    pub state: CollectionState,
    /// Whether it has live tables that hold a finished load.
    pub live: bool,
    /// Why it is in this state, where there is something to say.
    pub reason: Option<String>,
    /// Its live tables, in the order of the layout.
    pub tables: Vec<TableRows>,
    /// Where each shard was when the load of the live tables began.
    pub captured: Option<Positions>,
    /// Where each shard was when the live tables were known to be equal to the source.
    pub exact_at: Option<Positions>,
    /// When its tables were swapped in.
    pub loaded_at: Option<String>,
    /// When the running load began, or an interrupted one.
    pub load_started: Option<String>,
    /// Whether a run is alive that loads it.
    pub loading_now: bool,
    /// What became of the documents of the last load.
    pub ledger: Option<Ledger>,
    /// Documents that the live tables lack because they were rejected; they are kept in `gizer_reject`.
    pub rejected: u64,
    /// The load that the live tables are of, as far as that is known.
    pub live_epoch: Option<i64>,
    /// What the layout's hash was when the live tables were loaded; see [`layout_hash`](crate::ddl::layout_hash).
    pub layout_hash: Option<String>,
    /// Whether it exists in MongoDB, as far as changes were applied.
    pub in_source: bool,
    /// What audits have found, and how far a running one has come.
    pub audits: Audits,
    /// How far a resync has come that runs or was interrupted.
    pub resync: Option<ResyncProgress>,
}

/// A live table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRows {
    /// Its name.
    pub name: String,
    /// Rows as PostgreSQL estimates them (`pg_class.reltuples`, as of the last ANALYZE); `None` if the table is not
    /// there or was never analysed.
    pub estimate: Option<u64>,
}

/// A row of `qmetlstatus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Number of the run; `None` for one of the classic tool or of `gizer etlstatus`.
    pub run: Option<i64>,
    /// 0 to 3; see [`RunKind`](super::RunKind).
    pub status: Option<i32>,
    /// In words.
    pub comment: Option<String>,
    /// When it began.
    pub started: Option<String>,
    /// When it ended; `None` while it runs, and after it died until the next run closes its row.
    pub ended: Option<String>,
    /// Positions in the classic form.
    pub ts: Option<String>,
    /// Documents or changes.
    pub records: Option<i32>,
    /// Statements.
    pub queries: Option<i32>,
    /// Whether only a load helps.
    pub error: Option<bool>,
    /// Why, if it did not end well.
    pub reason: Option<String>,
}

/// Reads everything at one time; of the runs the last `runs`. `None` if the schema holds no state of gizer: nothing
/// has been loaded yet.
///
/// # Errors
/// [`PgError::UnreadableState`] if a state table does not hold what gizer writes; [`PgError::NoRights`] if this role may
/// not read them, with the GRANT that helps; whatever the server says.
pub async fn read_status(session: &Session, runs: u32) -> Result<Option<Status>, PgError> {
    session.in_snapshot(read_in_transaction(session, runs)).await
}

async fn read_in_transaction(session: &Session, runs: u32) -> Result<Option<Status>, PgError> {
    if !tables::exist(session).await? {
        return Ok(None);
    }
    // Tables that an older version has made may lack columns; they are NULL then.
    let sql = format!(
        "SELECT position::text, applied, to_jsonb(s) ->> 'exact_at', to_jsonb(s) ->> 'ahead', \
                to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), to_jsonb(s) ->> 'verified' \
         FROM {} s WHERE singleton",
        session.relation(STREAM)?
    );
    let mut status = Status {
        collections: collections(session).await?,
        expected: expected_if_readable(session).await?,
        runs: last_runs(session, runs).await?,
        repairs: history(session, HistoryEvent::Repair).await?,
        reloads: history(session, HistoryEvent::Reload).await?,
        ..Status::default()
    };
    // Somebody may have deleted the row: then no position is known.
    let Some(stream) = session.query_opt("reading the stream's position", &sql, &[]).await? else {
        return Ok(Some(status));
    };
    let positions = |column| positions_in(&stream, column, session, STREAM);
    status.stream = from_json(stream.get(0), session.schema(), STREAM)?;
    status.applied = stream.get(1);
    status.exact_at = positions(2)?;
    status.ahead = time_from_text(stream.get(3), session.schema(), STREAM)?;
    status.updated_at = stream.get(4);
    status.verified_up_to = positions(5)?;
    Ok(Some(status))
}

async fn collections(session: &Session) -> Result<Vec<CollectionStatus>, PgError> {
    // Tables that an older version has made may have no column live_epoch yet; it is NULL then.
    let sql = format!(
        "SELECT collection, namespace, state, live, reason, tables, captured::text, exact_at::text, \
                to_char(loaded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
                to_char(load_started AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), ledger::text, \
                (SELECT count(*) FROM {rejects} r WHERE r.collection = c.collection AND c.live \
                     AND coalesce((to_jsonb(c) ->> 'live_epoch')::bigint, r.load_epoch) = r.load_epoch), \
                (to_jsonb(c) ->> 'live_epoch')::bigint, layout_hash, coalesce(to_jsonb(c) ->> 'uuids', '-') <> '{{}}', \
                to_jsonb(c) ->> 'load_kind' IS NOT NULL \
         FROM {collections} c ORDER BY collection",
        rejects = session.relation(REJECTS)?,
        collections = session.relation(COLLECTIONS)?
    );
    let (estimates, mut audits) = (estimates(session).await?, audits(session).await?);
    let mut resyncs = resyncs(session).await?;
    let mut found = Vec::new();
    for row in session.query("reading the state of the collections", &sql, &[]).await? {
        let collection: String = row.get(0);
        let loading_now = lock::is_held(session, &AdvisoryKey::load(session.schema(), &collection)).await?;
        let positions = |column| positions_in(&row, column, session, COLLECTIONS);
        let state: String = row.get(2);
        let state = state.parse().map_err(|_| session.unreadable(COLLECTIONS, "a state", state))?;
        let tables: Vec<String> = row.get(5);
        let ledger = row.get::<_, Option<&str>>(10).and_then(|text| serde_json::from_str(text).ok());
        found.push(CollectionStatus {
            namespace: row.get(1),
            state,
            live: row.get(3),
            reason: row.get(4),
            tables: tables
                .into_iter()
                .map(|name| TableRows { estimate: estimates.get(&name).copied(), name })
                .collect(),
            captured: positions(6)?,
            exact_at: positions(7)?,
            loaded_at: row.get(8),
            load_started: row.get(9),
            loading_now,
            ledger,
            rejected: u64::try_from(row.get::<_, i64>(11)).unwrap_or_default(),
            live_epoch: row.get(12),
            layout_hash: row.get(13),
            in_source: row.get(14),
            audits: audits.remove(&collection).unwrap_or_default(),
            resync: row.get::<_, bool>(15).then(|| resyncs.remove(&collection).unwrap_or_default()),
            collection,
        });
    }
    Ok(found)
}

/// Estimated rows of the schema's tables. Before PostgreSQL 14 a table that was never analysed shows 0.
async fn estimates(session: &Session) -> Result<HashMap<String, u64>, PgError> {
    let sql = "SELECT c.relname::text, c.reltuples::float8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND c.reltuples >= 0";
    let rows = session.query("reading the sizes of tables", sql, &[&session.schema()]).await?;
    // From a count in single precision: no sign, no fraction.
    Ok(rows.iter().map(|row| (row.get(0), row.get::<_, f64>(1) as u64)).collect())
}

async fn last_runs(session: &Session, runs: u32) -> Result<Vec<RunRow>, PgError> {
    let sql = format!(
        "SELECT run, status, comment, to_char(time_start, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
                to_char(time_end, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), ts, recs_count, queries_count, error, reason \
         FROM {} ORDER BY time_start DESC NULLS LAST LIMIT $1",
        session.relation(RUNS)?
    );
    let rows = session.query("reading the last runs", &sql, &[&i64::from(runs)]).await?;
    let read = |row: &tokio_postgres::Row| RunRow {
        run: row.get(0),
        status: row.get(1),
        comment: row.get(2),
        started: row.get(3),
        ended: row.get(4),
        ts: row.get(5),
        records: row.get(6),
        queries: row.get(7),
        error: row.get(8),
        reason: row.get(9),
    };
    Ok(rows.iter().map(read).collect())
}
