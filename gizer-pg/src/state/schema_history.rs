//! `gizer_schema_history`: how the schemas of collections have grown, version by version.
//!
//! A row is made in the transaction that adds the columns, and finished in the one that makes the new layout that of the
//! collection. In between rows are rewritten, and nobody follows the collection: the row says how far that has come, so that
//! whoever comes next goes on. The version in here decides which schema file is right ([`SchemaVersion::schema`]).

use std::collections::BTreeMap;
use std::time::Duration;

use super::definitions::{COLLECTIONS, EXPECTED, SCHEMA_HISTORY, STREAM, UNFIT};
use super::positions::{from_json, time_from_text, to_json};
use super::tables;
use crate::connect::Session;
use crate::error::PgError;

/// How a schema is about to grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The collection.
    pub collection: String,
    /// Hash of the layout that its tables have; see [`layout_hash`](crate::ddl::layout_hash).
    pub layout_before: String,
    /// Hash of the layout that they are to have.
    pub layout_after: String,
    /// The schema file that its tables follow from.
    pub schema_before: String,
    /// The schema file that the new layout follows from.
    pub schema: String,
    /// What is new in it, as JSON, for people and monitors.
    pub changes: String,
}

/// A version whose rows are not all rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedVersion {
    /// The version's number, from 1.
    pub version: i64,
    /// What it is.
    pub new: NewVersion,
    /// The table that is gone through, and the last root key in it that is done, in the binary form of its column. `None`
    /// before the first.
    pub place: Option<(String, Option<Vec<u8>>)>,
    /// Documents and rows rewritten so far.
    pub rewritten: (u64, u64),
    /// Why it cannot be done, if so: what was rewritten goes back.
    pub failed: Option<String>,
}

/// A version as the history has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaVersion {
    /// The version's number, from 1.
    pub version: i64,
    /// Hash of the layout before it.
    pub layout_before: String,
    /// Hash of its layout.
    pub layout_after: String,
    /// The schema file before it.
    pub schema_before: String,
    /// Its schema file.
    pub schema: String,
    /// What was new in it, as JSON.
    pub changes: String,
    /// When its columns were added: ISO 8601 in UTC.
    pub began_at: String,
    /// When it became the collection's; `None` while rows are rewritten.
    pub finished_at: Option<String>,
    /// Why it could not be done, if so.
    pub failed: Option<String>,
    /// Documents rewritten.
    pub documents: u64,
    /// Rows written.
    pub rows: u64,
}

/// Records that a schema grows, in the open transaction, which has locked the tables: nobody follows the collection from its
/// commit on. It keeps the position that it has. `tables` are those of the new layout, so that a load knows them.
///
/// # Errors
/// [`PgError::Fenced`] if the collection is not followed any more, is being loaded, or has another layout.
pub(crate) async fn begin_version(session: &Session, new: &NewVersion, tables: &[String]) -> Result<i64, PgError> {
    let NewVersion { collection, layout_before, layout_after, schema_before, schema, changes } = new;
    let claim = format!(
        "SELECT joined, read_until FROM {} WHERE collection = $1 AND layout_hash = $2 AND state = 'following' AND live \
         AND load_started IS NULL FOR UPDATE",
        session.relation(COLLECTIONS)?
    );
    let doing = format!("looking whether the schema of {collection} can grow");
    let Some(row) = session.query_opt(doing, &claim, &[collection, layout_before]).await? else {
        return Err(fenced(collection));
    };
    leave_stream(session, collection, row.get(0), row.get(1)).await?;
    set_tables(session, collection, tables).await?;
    let insert = format!(
        "INSERT INTO {history} (collection, version, layout_before, layout_after, schema_before, schema, changes) \
         SELECT $1, coalesce(pg_catalog.max(version), 0) + 1, $2, $3, $4, $5, $6 FROM {history} WHERE collection = $1 \
         RETURNING version",
        history = session.relation(SCHEMA_HISTORY)?
    );
    let doing = format!("recording that the schema of {collection} grows");
    let values: crate::connect::Params<'_> = &[collection, layout_before, layout_after, schema_before, schema, changes];
    let row = session.query_one(doing, &insert, values).await?;
    Ok(row.get(0))
}

async fn set_tables(session: &Session, collection: &str, tables: &[String]) -> Result<(), PgError> {
    let sql = format!("UPDATE {} SET tables = $2 WHERE collection = $1", session.relation(COLLECTIONS)?);
    let doing = format!("recording the tables of {collection}");
    session.execute(doing, &sql, &[&collection, &tables]).await.map(|_| ())
}

/// From now on its tables stand at a position of their own: that of the stream, if they stood there.
async fn leave_stream(
    session: &Session,
    collection: &str,
    joined: bool,
    read_until: Option<&str>,
) -> Result<(), PgError> {
    let doing = format!("recording where {collection} stands");
    let sql = format!("SELECT position::text, ahead FROM {} WHERE singleton", session.relation(STREAM)?);
    let stream = session.query_one(&doing, &sql, &[]).await?;
    let position = from_json(stream.get(0), session.schema(), STREAM)?;
    let ahead = time_from_text(stream.get(1), session.schema(), STREAM)?;
    let known = time_from_text(read_until, session.schema(), COLLECTIONS)?;
    if !joined && known.is_none() {
        // Nobody knows up to when its documents were read, and it stays so.
        return Ok(());
    }
    let until = position.values().map(|at| at.time()).max().max(ahead).max(known);
    let sql = format!(
        "UPDATE {} SET captured = CASE WHEN joined THEN $2::text::jsonb ELSE captured END, joined = false, read_until = $3 \
         WHERE collection = $1",
        session.relation(COLLECTIONS)?
    );
    let until = until.map(|until| until.to_string());
    session.execute(doing, &sql, &[&collection, &to_json(&position), &until]).await.map(|_| ())
}

fn fenced(collection: &str) -> PgError {
    PgError::Fenced { what: format!("the schema of {collection}") }
}

/// The version of a collection whose rows are not all rewritten, if there is one.
pub async fn unfinished_version(session: &Session, collection: &str) -> Result<Option<UnfinishedVersion>, PgError> {
    let sql = format!(
        "SELECT version, layout_before, layout_after, schema, changes, in_table, upto, documents, rows, failed, \
                schema_before \
         FROM {} WHERE collection = $1 AND finished_at IS NULL ORDER BY version DESC LIMIT 1",
        session.relation(SCHEMA_HISTORY)?
    );
    let doing = format!("reading how the schema of {collection} grows");
    let row = session.query_opt(doing, &sql, &[&collection]).await?;
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(row.map(|row| UnfinishedVersion {
        version: row.get(0),
        new: NewVersion {
            collection: collection.to_owned(),
            layout_before: row.get(1),
            layout_after: row.get(2),
            schema_before: row.get(10),
            schema: row.get(3),
            changes: row.get(4),
        },
        place: row.get::<_, Option<String>>(5).map(|table| (table, row.get(6))),
        rewritten: (number(row.get(7)), number(row.get(8))),
        failed: row.get(9),
    }))
}

/// Checks in the open transaction that nobody has taken over a version, and keeps it so until the
/// end of the transaction.
///
/// # Errors
/// [`PgError::Fenced`].
pub(crate) async fn claim_version(session: &Session, version: &UnfinishedVersion) -> Result<(), PgError> {
    let sql = format!(
        "SELECT FROM {} WHERE collection = $1 AND version = $2 AND finished_at IS NULL FOR UPDATE",
        session.relation(SCHEMA_HISTORY)?
    );
    let collection = &version.new.collection;
    let doing = format!("looking whether the schema of {collection} still grows");
    match session.query_opt(doing, &sql, &[collection, &version.version]).await? {
        Some(_) => Ok(()),
        None => Err(fenced(collection)),
    }
}

/// Records how far rows are rewritten, in the transaction that has rewritten them.
///
/// # Errors
/// [`PgError::Fenced`] if another run has gone on in between, or the version is no longer unfinished.
pub async fn note_rewritten(
    session: &Session,
    before: &UnfinishedVersion,
    now: &UnfinishedVersion,
) -> Result<(), PgError> {
    let sql = format!(
        "UPDATE {} SET in_table = $3, upto = $4, documents = $5, rows = $6 \
         WHERE collection = $1 AND version = $2 AND finished_at IS NULL \
             AND in_table IS NOT DISTINCT FROM $7 AND upto IS NOT DISTINCT FROM $8",
        session.relation(SCHEMA_HISTORY)?
    );
    let collection = &now.new.collection;
    let place = |of: &UnfinishedVersion| of.place.clone().map_or((None, None), |(table, upto)| (Some(table), upto));
    let ((table, upto), (old_table, old_upto)) = (place(now), place(before));
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (documents, rows) = (number(now.rewritten.0), number(now.rewritten.1));
    let doing = format!("recording how far the rows of {collection} are rewritten");
    let parameters: crate::connect::Params<'_> =
        &[collection, &now.version, &table, &upto, &documents, &rows, &old_table, &old_upto];
    match session.execute(doing, &sql, parameters).await? {
        1 => Ok(()),
        _ => Err(fenced(collection)),
    }
}

/// Makes the new layout that of the collection, in the open transaction. `paths` are what has a place now, so that it is no
/// longer counted as unfit; `to_verify` says whether numbers may be shown otherwise than in MongoDB
/// ([`collections_to_verify`]).
///
/// # Errors
/// [`PgError::Fenced`].
pub(crate) async fn finish_version(
    session: &Session,
    version: &UnfinishedVersion,
    paths: &[String],
    to_verify: bool,
) -> Result<(), PgError> {
    let NewVersion { collection, layout_before, layout_after, .. } = &version.new;
    let switch = format!(
        "UPDATE {} SET layout_hash = $3 WHERE collection = $1 AND layout_hash = $2 AND live",
        session.relation(COLLECTIONS)?
    );
    let doing = format!("recording the new schema of {collection}");
    if session.execute(&doing, &switch, &[collection, layout_before, layout_after]).await? != 1 {
        return Err(fenced(collection));
    }
    let finish = format!(
        "UPDATE {} SET finished_at = pg_catalog.now(), to_verify = $3 \
         WHERE collection = $1 AND version = $2 AND finished_at IS NULL",
        session.relation(SCHEMA_HISTORY)?
    );
    if session.execute(&doing, &finish, &[collection, &version.version, &to_verify]).await? != 1 {
        return Err(fenced(collection));
    }
    let forget = format!(
        "DELETE FROM {} AS u USING pg_catalog.unnest($2::pg_catalog.text[]) AS new (path) \
         WHERE u.collection = $1 AND (u.path = new.path OR pg_catalog.starts_with(u.path, new.path || '.'))",
        session.relation(UNFIT)?
    );
    session.execute(&doing, &forget, &[collection, &paths]).await?;
    // A schema file that `run` has made stays its own.
    let own = format!(
        "UPDATE {} SET inferred_hash = $3 WHERE collection = $1 AND inferred_hash = $2",
        session.relation(EXPECTED)?
    );
    session.execute(doing, &own, &[collection, layout_before, layout_after]).await.map(|_| ())
}

/// Collections with a column that has become `DECIMAL`: 1 and 1.00 are one number there before, and
/// two forms of it after, so that an audit has to find those that MongoDB has otherwise.
pub async fn collections_to_verify(session: &Session) -> Result<Vec<String>, PgError> {
    let sql = format!(
        "SELECT DISTINCT h.collection FROM {} AS h JOIN {} AS c USING (collection) \
         WHERE h.to_verify AND c.live AND c.state = 'following' ORDER BY h.collection",
        session.relation(SCHEMA_HISTORY)?,
        session.relation(COLLECTIONS)?
    );
    let rows = session.query("asking whose numbers are to be verified", &sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// An audit has found all rows of a collection as they should be, or a load has written them.
pub async fn note_verified(session: &Session, collection: &str) -> Result<(), PgError> {
    let sql = format!(
        "UPDATE {} SET to_verify = NULL WHERE collection = $1 AND to_verify",
        session.relation(SCHEMA_HISTORY)?
    );
    let doing = format!("recording that the numbers of {collection} were verified");
    session.execute(doing, &sql, &[&collection]).await.map(|_| ())
}

/// Whether this layout was tried before, and could not be had.
pub async fn has_failed(session: &Session, collection: &str, layout_after: &str) -> Result<bool, PgError> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM {} WHERE collection = $1 AND layout_after = $2 AND failed IS NOT NULL)",
        session.relation(SCHEMA_HISTORY)?
    );
    let doing = format!("reading how the schema of {collection} has grown");
    Ok(session.query_one(doing, &sql, &[&collection, &layout_after]).await?.get(0))
}

/// Records that it was looked at what of a collection could get a place.
pub async fn note_looked(session: &Session, collection: &str) -> Result<(), PgError> {
    let sql =
        format!("UPDATE {} SET looked_at = pg_catalog.now() WHERE collection = $1", session.relation(COLLECTIONS)?);
    let doing = format!("recording that the fields of {collection} were looked at");
    session.execute(doing, &sql, &[&collection]).await.map(|_| ())
}

/// Followed collections of which unknown fields have been counted in several documents since they were last looked at, unless
/// that is not so long ago.
pub async fn collections_to_look_at(session: &Session, every: Duration) -> Result<Vec<String>, PgError> {
    let sql = format!(
        "SELECT c.collection FROM {} AS c JOIN {} AS u USING (collection) \
         WHERE c.state = 'following' AND c.live AND u.came <> '' AND u.documents > 1 \
         GROUP BY c.collection, c.looked_at \
         HAVING c.looked_at IS NULL OR pg_catalog.max(u.last_at) > c.looked_at \
             AND c.looked_at + pg_catalog.make_interval(secs => $1) <= pg_catalog.now() \
         ORDER BY c.collection COLLATE \"C\"",
        session.relation(COLLECTIONS)?,
        session.relation(UNFIT)?
    );
    let rows = session.query("asking whose schema may grow", &sql, &[&every.as_secs_f64()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Records that a version cannot be done, in the open transaction: from now on what was rewritten goes back.
pub async fn begin_to_give_up(session: &Session, collection: &str, version: i64, why: &str) -> Result<(), PgError> {
    let sql = format!(
        "UPDATE {} SET failed = $3 WHERE collection = $1 AND version = $2 AND finished_at IS NULL",
        session.relation(SCHEMA_HISTORY)?
    );
    let doing = format!("recording why the schema of {collection} does not grow");
    session.execute(doing, &sql, &[&collection, &version, &why]).await.map(|_| ())
}

/// Records why a version could not be done, in the open transaction, which has taken its columns away; `tables` are left.
pub(crate) async fn fail_version(
    session: &Session,
    (collection, version): (&str, i64),
    why: &str,
    tables: &[String],
) -> Result<(), PgError> {
    set_tables(session, collection, tables).await?;
    let sql = format!(
        "UPDATE {} SET finished_at = pg_catalog.now(), failed = $3 WHERE collection = $1 AND version = $2",
        session.relation(SCHEMA_HISTORY)?
    );
    let doing = format!("recording why the schema of {collection} does not grow");
    session.execute(doing, &sql, &[&collection, &version, &why]).await.map(|_| ())
}

/// Forgets a version that is not finished, in the open transaction: a load has recreated the
/// tables, or they stay as they are.
pub(crate) async fn forget_unfinished(session: &Session, collection: &str) -> Result<(), PgError> {
    let sql =
        format!("DELETE FROM {} WHERE collection = $1 AND finished_at IS NULL", session.relation(SCHEMA_HISTORY)?);
    let doing = format!("forgetting how the schema of {collection} was to grow");
    session.execute(doing, &sql, &[&collection]).await.map(|_| ())
}

/// All versions by collection, the first one first. Nothing where an older version has made no such table, or this role may
/// not read it.
pub async fn schema_versions(session: &Session) -> Result<BTreeMap<String, Vec<SchemaVersion>>, PgError> {
    session
        .in_snapshot(async {
            if tables::may_read(session, SCHEMA_HISTORY).await? { versions(session).await } else { Ok(BTreeMap::new()) }
        })
        .await
}

async fn versions(session: &Session) -> Result<BTreeMap<String, Vec<SchemaVersion>>, PgError> {
    let time =
        |column: &str| format!("pg_catalog.to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')");
    let sql = format!(
        "SELECT collection, version, layout_before, layout_after, schema, changes, {}, {}, failed, documents, rows, schema_before \
         FROM {} ORDER BY collection COLLATE \"C\", version",
        time("began_at"),
        time("finished_at"),
        session.relation(SCHEMA_HISTORY)?
    );
    let mut all: BTreeMap<String, Vec<SchemaVersion>> = BTreeMap::new();
    for row in session.query("reading how schemas have grown", &sql, &[]).await? {
        let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        all.entry(row.get(0)).or_default().push(SchemaVersion {
            version: row.get(1),
            layout_before: row.get(2),
            layout_after: row.get(3),
            schema_before: row.get(11),
            schema: row.get(4),
            changes: row.get(5),
            began_at: row.get(6),
            finished_at: row.get(7),
            failed: row.get(8),
            documents: number(9),
            rows: number(10),
        });
    }
    Ok(all)
}
