//! `gizer_range`: which ranges of a load are written, so that an interrupted load resumes with the others.
//!
//! | kind | a row says |
//! |---|---|
//! | `segment` | one cursor is to read this part of the collection |
//! | `range` | this range of a segment is written; the row is committed with the range's rows |
//! | `before` | what was written before the load was resumed, summed up |
//!
//! The rows are there from the plan of a load to its swap. Where they are missing nothing can be resumed.

use std::pin::pin;

use futures::TryStreamExt;
use gizer_flatten::Tally;
use gizer_flatten::change::Positions;
use gizer_flatten::range::{IdBound, IdRange, Place, Segment};
use gizer_schema::Layout;

use super::definitions::{COLLECTIONS, RANGES, REJECTS, RESYNC, STREAM};
use super::positions::{earliest, from_json, positions_in};
use crate::connect::Session;
use crate::error::PgError;

/// A load that did not finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedLoad {
    /// Its epoch, as long as nobody has taken over.
    pub load_epoch: i64,
    /// Where each shard was when it began; `None` for a copy.
    pub captured: Option<Positions>,
    /// Documents that it has written or kept aside.
    pub documents: u64,
}

/// What a resumed load has yet to do, and what was done before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resumed {
    /// What is left.
    pub segments: Vec<Segment>,
    /// Rows by table, in the order of the layout's tables.
    pub rows: Vec<u64>,
    /// Bytes of BSON.
    pub bytes: u64,
    /// What the flatteners counted.
    pub tally: Tally,
}

/// What is recorded of a range.
#[derive(Debug)]
pub(crate) struct RangeRow<'a> {
    pub(crate) place: &'a Place,
    pub(crate) rows: &'a [u64],
    pub(crate) bytes: u64,
    pub(crate) tally: &'a Tally,
}

/// Records what the load is going to read, in the open transaction.
pub(crate) async fn write_segments(
    session: &Session,
    collection: &str,
    load_epoch: i64,
    segments: &[Segment],
) -> Result<(), PgError> {
    let numbers: Vec<i32> = segments.iter().map(|segment| number(segment.number)).collect();
    let sources: Vec<i32> = segments.iter().map(|segment| number(segment.source)).collect();
    let lower: Vec<Option<&[u8]>> = segments.iter().map(|segment| bytes(&segment.range.lower)).collect();
    let upper: Vec<Option<&[u8]>> = segments.iter().map(|segment| bytes(&segment.range.upper)).collect();
    let sql = format!(
        "INSERT INTO {} (collection, load_epoch, kind, segment, source, lower, upper) \
         SELECT $1, $2, 'segment', plan.* FROM unnest($3::int[], $4::int[], $5::bytea[], $6::bytea[]) AS plan",
        session.relation(RANGES)?
    );
    let doing = format!("writing down how {collection} is going to be read");
    session.execute(doing, &sql, &[&collection, &load_epoch, &numbers, &sources, &lower, &upper]).await.map(|_| ())
}

/// Records that a range is written, in the transaction that holds its rows.
pub(crate) async fn write_range(
    session: &Session,
    collection: &str,
    load_epoch: i64,
    range: &RangeRow<'_>,
) -> Result<(), PgError> {
    let sql = format!(
        "INSERT INTO {} (collection, load_epoch, kind, segment, sequence, part, lower, upper, rows, bytes, tally, documents) \
         VALUES ($1, $2, 'range', $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        session.relation(RANGES)?
    );
    let place = range.place;
    let (segment, sequence, part) = (number(place.segment), number(place.sequence), number(place.part));
    let (lower, upper) = (bytes(&place.range.lower), bytes(&place.range.upper));
    let (rows, size, tally) = (counts(range.rows), count(range.bytes), range.tally.to_json().to_string());
    let documents = count(range.tally.read);
    let doing = format!("writing down a range of {collection}");
    session
        .execute(
            doing,
            &sql,
            &[&collection, &load_epoch, &segment, &sequence, &part, &lower, &upper, &rows, &size, &tally, &documents],
        )
        .await
        .map(|_| ())
}

/// Forgets all ranges of a collection: it is loaded from the beginning, or is loaded now.
pub(crate) async fn clear_ranges(session: &Session, collection: &str) -> Result<(), PgError> {
    let sql = format!("DELETE FROM {} WHERE collection = $1", session.relation(RANGES)?);
    session.execute(format!("forgetting the ranges of {collection}"), &sql, &[&collection]).await.map(|_| ())
}

/// The load of a collection that could be resumed, and what it was of: see `load_identity`.
pub(crate) async fn unfinished(
    session: &Session,
    collection: &str,
) -> Result<Option<(UnfinishedLoad, Option<String>)>, PgError> {
    let sql = format!(
        "SELECT c.load_epoch, c.load_captured::text, c.load_identity, \
                (SELECT coalesce(sum(r.documents), 0)::bigint FROM {ranges} r \
                 WHERE r.collection = $1 AND r.load_epoch = c.load_epoch) \
         FROM {collections} c \
         WHERE c.collection = $1 AND EXISTS \
             (SELECT FROM {ranges} r WHERE r.collection = $1 AND r.load_epoch = c.load_epoch)",
        ranges = session.relation(RANGES)?,
        collections = session.relation(COLLECTIONS)?
    );
    let doing = format!("looking for a load of {collection} that did not come to its end");
    let Some(row) = session.query_opt(doing, &sql, &[&collection]).await? else { return Ok(None) };
    let captured = positions_in(&row, 1, session, COLLECTIONS)?;
    let documents = u64::try_from(row.get::<_, i64>(3)).unwrap_or_default();
    Ok(Some((UnfinishedLoad { load_epoch: row.get(0), captured, documents }, row.get(2))))
}

/// The positions from which the log is still needed while these collections are loaded: by unfinished loads, unless
/// these `restart`, and by the other followed collections. Not by the tables that these loads replace, or a load a day
/// would read and keep the log of all days. `None` if nobody needs it. The state tables must be there.
pub async fn needed_from(session: &Session, loading: &[String], restart: bool) -> Result<Option<Positions>, PgError> {
    let sql = format!(
        "SELECT c.load_captured::text FROM {collections} c \
         WHERE c.load_captured IS NOT NULL AND NOT ($2 AND c.collection = ANY ($1)) AND {written} \
         UNION ALL \
         SELECT (CASE WHEN s.applied THEN s.position ELSE c.captured END)::text FROM {collections} c, {stream} s \
         WHERE c.collection <> ALL ($1) AND c.state = 'following' AND c.live AND c.captured IS NOT NULL",
        collections = session.relation(COLLECTIONS)?,
        stream = session.relation(STREAM)?,
        written = has_written(session)?
    );
    let mut needed = Vec::new();
    for row in session.query("reading from where on the log is needed", &sql, &[&loading, &restart]).await? {
        needed.push(from_json(row.get(0), session.schema(), COLLECTIONS)?);
    }
    Ok((!needed.is_empty()).then(|| earliest(needed)))
}

/// Whether a load or a resync of the collection `c` could go on where it ended.
fn has_written(session: &Session) -> Result<String, PgError> {
    let written = |table| {
        let table = session.relation(table)?;
        let of = "w.collection = c.collection AND w.load_epoch = c.load_epoch";
        Ok::<_, PgError>(format!("EXISTS (SELECT FROM {table} w WHERE {of})"))
    };
    Ok(format!("({} OR {})", written(RANGES)?, written(RESYNC)?))
}

/// Whether any load or resync that did not finish can still go on.
///
/// # Errors
/// [`PgError`] if the state tables cannot be read.
pub async fn has_unfinished_loads(session: &Session) -> Result<bool, PgError> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {} c WHERE c.load_captured IS NOT NULL AND {})",
        session.relation(COLLECTIONS)?,
        has_written(session)?
    );
    Ok(session.query_one("looking for unfinished loads", &sql, &[]).await?.get(0))
}

/// Resumes a load, in the open transaction. Its ranges are summed up, and the rest of their segments becomes the
/// segments of the new epoch.
///
/// # Errors
/// [`PgError::UnreadableState`] if the rows are not what this version writes for this layout.
pub(crate) async fn take_up(
    session: &Session,
    layout: &Layout,
    old_epoch: i64,
    new_epoch: i64,
) -> Result<Resumed, PgError> {
    let collection = layout.collection.as_str();
    let WrittenRanges { segments, places, mut resumed } = read(session, layout, old_epoch).await?;
    let mut next = 0;
    for segment in &segments {
        for range in segment.gaps(places.iter().filter(|place| place.segment == segment.number)) {
            resumed.segments.push(Segment { number: next, source: segment.source, range });
            next += 1;
        }
    }
    clear_ranges(session, collection).await?;
    write_segments(session, collection, new_epoch, &resumed.segments).await?;
    let sql = format!(
        "INSERT INTO {} (collection, load_epoch, kind, segment, rows, bytes, tally, documents) \
         VALUES ($1, $2, 'before', -1, $3, $4, $5, $6)",
        session.relation(RANGES)?
    );
    let (rows, size, tally) = (counts(&resumed.rows), count(resumed.bytes), resumed.tally.to_json().to_string());
    let documents = count(resumed.tally.read);
    let doing = format!("summing up the ranges of {collection}");
    session.execute(doing, &sql, &[&collection, &new_epoch, &rows, &size, &tally, &documents]).await?;
    let sql =
        format!("UPDATE {} SET load_epoch = $3 WHERE collection = $1 AND load_epoch = $2", session.relation(REJECTS)?);
    let doing = format!("taking over the rejected documents of {collection}");
    session.execute(doing, &sql, &[&collection, &old_epoch, &new_epoch]).await?;
    Ok(resumed)
}

/// The rows of a load's epoch.
struct WrittenRanges {
    segments: Vec<Segment>,
    places: Vec<Place>,
    /// The sums; without segments.
    resumed: Resumed,
}

async fn read(session: &Session, layout: &Layout, epoch: i64) -> Result<WrittenRanges, PgError> {
    let sql = format!(
        "SELECT kind, segment, source, sequence, part, lower, upper, rows, bytes, tally FROM {} \
         WHERE collection = $1 AND load_epoch = $2 ORDER BY segment, sequence NULLS FIRST, part",
        session.relation(RANGES)?
    );
    let doing = format!("reading the ranges of {}", layout.collection);
    let mut resumed = Resumed { rows: vec![0; layout.tables.len()], ..Resumed::default() };
    let (mut segments, mut places) = (Vec::new(), Vec::new());
    // With names of fields that are data, each row can have thousands of them: never all rows at once.
    let mut rows = pin!(session.stream(doing, &sql, &[&layout.collection, &epoch]).await?);
    while let Some(row) = rows.try_next().await? {
        let unreadable =
            |came| session.unreadable(RANGES, "what this version of gizer writes for this schema file", came);
        let bound = |at: usize| -> Result<Option<IdBound>, PgError> {
            let bytes: Option<Vec<u8>> = row.get(at);
            bytes.map(|bytes| IdBound::from_bytes(bytes).map_err(|_| unreadable("bytes that are no BSON"))).transpose()
        };
        let natural = |at: usize| {
            row.get::<_, Option<i32>>(at).and_then(|n| u32::try_from(n).ok()).ok_or_else(|| unreadable("no number"))
        };
        let range = IdRange { lower: bound(5)?, upper: bound(6)? };
        let kind: String = row.get(0);
        if kind == "segment" {
            segments.push(Segment { number: natural(1)?, source: natural(2)?, range });
            continue;
        }
        if kind == "range" {
            places.push(Place { segment: natural(1)?, sequence: natural(3)?, part: natural(4)?, range });
        }
        let rows: Vec<i64> = row.get::<_, Option<_>>(7).unwrap_or_default();
        if rows.len() != resumed.rows.len() {
            return Err(unreadable("counts of other tables"));
        }
        resumed.rows.iter_mut().zip(rows).for_each(|(sum, rows)| *sum += u64::try_from(rows).unwrap_or_default());
        resumed.bytes += u64::try_from(row.get::<_, Option<i64>>(8).unwrap_or_default()).unwrap_or_default();
        let tally = serde_json::from_str(row.get::<_, Option<&str>>(9).unwrap_or_default()).ok();
        let tally = tally.and_then(|tally| Tally::from_json(&tally, layout));
        resumed.tally.add(tally.ok_or_else(|| unreadable("no counts of this layout"))?);
    }
    Ok(WrittenRanges { segments, places, resumed })
}

fn bytes(bound: &Option<IdBound>) -> Option<&[u8]> {
    bound.as_ref().map(IdBound::as_bytes)
}

fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn counts(all: &[u64]) -> Vec<i64> {
    all.iter().map(|one| count(*one)).collect()
}
