//! `gizer_unfit`: what has come to a collection since its load that its schema has no place for.
//!
//! A row is one type of value at one path. It is counted in the transaction of the batch that brought it, and goes with the next
//! load of the collection. Paths are bounded: what comes under further ones is counted in one row without a path.

use std::collections::BTreeMap;

use super::definitions::UNFIT;
use super::tables;
use crate::connect::Session;
use crate::error::PgError;
use crate::ident::Qualified;

/// Rows of one collection at most, but for the one of the others: data used as field names must not fill the table.
pub const MAX_UNFIT_PATHS: usize = 1_000;

/// A longer path is counted with the others: an index entry has to hold it.
const MAX_PATH_BYTES: usize = 1_000;

/// What came of one type at one path, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfitCount {
    /// Field names from the root, joined by dots.
    pub path: String,
    /// The type that the schema expects there; `None` if it does not have the field.
    pub expected: Option<String>,
    /// The type that came, or what else is wrong with the value.
    pub came: String,
    /// Values.
    pub count: u64,
    /// Documents that had one, each as often as it was written.
    pub documents: u64,
}

/// The same as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfitRow {
    /// What came; `None` stands for all paths beyond the first [`MAX_UNFIT_PATHS`].
    pub what: Option<UnfitCount>,
    /// Values.
    pub count: u64,
    /// Documents that had one, each as often as it was written.
    pub documents: u64,
    /// When it first came, ISO 8601 in UTC.
    pub first_at: String,
    /// When it last came.
    pub last_at: String,
}

/// Adds counts of a collection in the open transaction, in one statement; gives the numbers of those that are new. `beyond` are
/// values that nobody has counted by path.
pub async fn count_unfit(
    session: &Session,
    collection: &str,
    counts: &[UnfitCount],
    beyond: u64,
) -> Result<Vec<usize>, PgError> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    // The others have neither a path nor a type. A name in MongoDB holds no NUL.
    let named = |count: &UnfitCount| count.path.len() <= MAX_PATH_BYTES;
    let (mut paths, mut came): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for count in counts {
        paths.push(if named(count) { &count.path } else { "" });
        came.push(if named(count) { &count.came } else { "" });
    }
    let mut expected: Vec<Option<&str>> = counts.iter().map(|count| count.expected.as_deref()).collect();
    let mut times: Vec<i64> = counts.iter().map(|count| number(count.count)).collect();
    let mut documents: Vec<i64> = counts.iter().map(|count| number(count.documents)).collect();
    if beyond > 0 {
        paths.push("");
        came.push("");
        expected.push(None);
        times.push(number(beyond));
        documents.push(number(beyond));
    }
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let sql = counting(&session.relation(UNFIT)?);
    let limit = i64::try_from(MAX_UNFIT_PATHS).unwrap_or(i64::MAX);
    let doing = format!("counting what the schema of {collection} has no place for");
    let rows = session.query(doing, &sql, &[&collection, &paths, &came, &expected, &times, &documents, &limit]).await?;
    Ok(rows.iter().filter_map(|row| usize::try_from(row.get::<_, i64>(0) - 1).ok()).collect())
}

/// Counts in one statement, by path and type: what is known, what gets a row of its own, and what is beyond the limit.
fn counting(unfit: &Qualified) -> String {
    format!(
        "WITH new AS ( \
             SELECT * FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[]), \
                                      pg_catalog.unnest($4::pg_catalog.text[]), pg_catalog.unnest($5::pg_catalog.int8[]), \
                                      pg_catalog.unnest($6::pg_catalog.int8[])) \
                  WITH ORDINALITY AS new (path, came, expected, count, documents, number)), \
         known AS ( \
             UPDATE {unfit} u SET count = u.count + new.count, documents = u.documents + new.documents, \
                    last_at = pg_catalog.now() \
             FROM new WHERE u.collection = $1 AND u.path = new.path AND u.came = new.came AND new.came <> '' \
             RETURNING new.number), \
         placed AS ( \
             SELECT new.*, new.came <> '' AND pg_catalog.row_number() OVER (ORDER BY new.came = '', new.number) \
                 <= $7 - (SELECT pg_catalog.count(*) FROM {unfit} u WHERE u.collection = $1 AND u.came <> '') AS named \
             FROM new WHERE new.number NOT IN (SELECT known.number FROM known)), \
         added AS ( \
             INSERT INTO {unfit} AS u (collection, path, came, expected, count, documents) \
             SELECT $1, CASE WHEN named THEN path ELSE '' END, CASE WHEN named THEN came ELSE '' END, \
                    pg_catalog.max(CASE WHEN named THEN expected END), pg_catalog.sum(count), pg_catalog.sum(documents) \
             FROM placed GROUP BY 2, 3 \
             ON CONFLICT (collection, path, came) DO UPDATE SET count = u.count + excluded.count, \
                 documents = u.documents + excluded.documents, last_at = pg_catalog.now()) \
         SELECT number FROM placed WHERE named ORDER BY number"
    )
}

/// Forgets what was counted of a collection, in the open transaction: it has been loaded, or is gone.
pub async fn clear_unfit(session: &Session, collection: &str) -> Result<(), PgError> {
    let sql = format!("DELETE FROM {} WHERE collection = $1", session.relation(UNFIT)?);
    let doing = format!("forgetting what the schema of {collection} had no place for");
    session.execute(doing, &sql, &[&collection]).await.map(|_| ())
}

/// What was counted, by collection; the most frequent first, and what has no path last. Nothing where an older version has made no
/// such table, or this role may not read it.
pub async fn read_unfit(session: &Session) -> Result<BTreeMap<String, Vec<UnfitRow>>, PgError> {
    session.in_snapshot(unfit(session)).await
}

async fn unfit(session: &Session) -> Result<BTreeMap<String, Vec<UnfitRow>>, PgError> {
    if !tables::may_read(session, UNFIT).await? {
        return Ok(BTreeMap::new());
    }
    let sql = format!(
        "SELECT collection, path, expected, came, count, documents, \
                pg_catalog.to_char(first_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
                pg_catalog.to_char(last_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
         FROM {} ORDER BY collection, came = '', count DESC, path COLLATE \"C\", came",
        session.relation(UNFIT)?
    );
    let mut all: BTreeMap<String, Vec<UnfitRow>> = BTreeMap::new();
    for row in session.query("reading what schemas have no place for", &sql, &[]).await? {
        let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        let (count, documents, came): (u64, u64, String) = (number(4), number(5), row.get(3));
        let what = UnfitCount { path: row.get(1), expected: row.get(2), came, count, documents };
        let what = (!what.came.is_empty()).then_some(what);
        let row_of = UnfitRow { what, count, documents, first_at: row.get(6), last_at: row.get(7) };
        all.entry(row.get(0)).or_default().push(row_of);
    }
    Ok(all)
}
