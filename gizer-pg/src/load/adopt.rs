//! Live tables as a resync needs them: those of the classic tool get gizer's keys and marks.
//!
//! What a swap would put right by new tables is done to the tables that are there: a column
//! `_extra`, columns that are not null, byte order of text keys, the primary key, and the comments.
//! Building a key takes a lock that readers wait for, so its index is built before, concurrently
//! (PostgreSQL documentation, "CREATE INDEX", "Building Indexes Concurrently").

use gizer_schema::{ColumnSource, Layout, TableId};

use super::standing::changed_tables;
use super::survey::{Origin, live_tables};
use super::swap::SwapSettings;
use crate::connect::Session;
use crate::ddl::{comments, key_names, mark, quoted, staging_name};
use crate::error::PgError;
use crate::growth::giving_way;
use crate::ident::{Qualified, quote_identifier, quote_literal};

/// SQLSTATE of a row without a value (PostgreSQL documentation, "PostgreSQL Error Codes").
const NOT_NULL_VIOLATION: &str = "23502";

/// SQLSTATE of two rows with one key.
const UNIQUE_VIOLATION: &str = "23505";

/// SQLSTATE of what a view depends on.
const NOT_SUPPORTED: &str = "0A000";

/// What a table missing.
#[derive(Debug, Default)]
struct MissingParts {
    /// Whether it is the classic tool's, without gizer's comments.
    marks: bool,
    extra: bool,
    key: bool,
    /// Whether it has another primary key than gizer's.
    other_key: bool,
    /// Text columns of the key in another order than that of bytes.
    order: Vec<String>,
}

/// Checks that the tables are those of the layout, and gives them what they lack. Where something
/// speaks against that, all of them are as they were.
pub(super) async fn adopt(session: &Session, layout: &Layout, settings: &SwapSettings) -> Result<(), PgError> {
    let live = session.in_transaction(live_tables(session, layout)).await?;
    let mut all = Vec::new();
    for (at, table) in layout.tables.iter().enumerate() {
        let Some(found) = live.iter().find(|live| live.name == table.name) else {
            return Err(not_adopted(session, layout, &format!("table {} is missing", table.name)));
        };
        all.push((TableId(at), missing_parts(session, layout, TableId(at), found.origin == Origin::Classic).await?));
    }
    if all.iter().all(|(_, missing)| !missing.extra)
        && let Some(difference) = changed_tables(session, &[layout]).await?.remove(&layout.collection)
    {
        return Err(not_adopted(session, layout, &difference));
    }
    for (id, missing) in all.iter().filter(|(_, missing)| missing.key) {
        refuse_keyless(session, layout, *id, missing).await?;
    }
    set_order(session, layout, &all, settings).await?;
    for (id, missing) in &all {
        if missing.extra || missing.key || missing.marks {
            complete(session, layout, *id, missing, settings).await?;
        }
    }
    match changed_tables(session, &[layout]).await?.remove(&layout.collection) {
        None => Ok(()),
        Some(difference) => Err(not_adopted(session, layout, &difference)),
    }
}

fn not_adopted(session: &Session, layout: &Layout, why: &str) -> PgError {
    let collection = layout.collection.clone();
    PgError::NotAdopted { schema: session.schema().to_owned(), collection, why: why.to_owned() }
}

/// Of a column: whether it is there, and in the order of bytes if it is text.
const FOUND: &str = "\
    SELECT a.attname::pg_catalog.text, \
           coll.collname IS NULL OR coll.collname = 'C' \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_catalog.pg_collation coll ON coll.oid = a.attcollation \
    WHERE n.nspname = $1 AND c.relname = $2";

/// Of a table's primary key, if it has one: whether it has just these columns.
const KEY: &str = "\
    SELECT i.indisvalid \
           AND ARRAY(SELECT a.attname::pg_catalog.text \
                     FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (num, at) \
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num \
                     ORDER BY k.at) = $3 \
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = $1 AND c.relname = $2 AND i.indisprimary";

async fn missing_parts(session: &Session, layout: &Layout, id: TableId, marks: bool) -> Result<MissingParts, PgError> {
    let table = layout.table(id);
    let doing = format!("reading what {} lacks", table.name);
    let rows = session.query(&doing, FOUND, &[&session.schema(), &table.name]).await?;
    let found: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let extra = table
        .columns
        .iter()
        .any(|column| column.source == ColumnSource::Extra && found.iter().all(|(name, _)| *name != column.name));
    let keys: Vec<&str> = table.key_columns().map(|column| column.name.as_str()).collect();
    let text = table.key_columns().filter(|column| column.ty.is_text());
    let order = text.filter(|column| found.iter().any(|(name, in_order)| *name == column.name && !in_order));
    let order = order.map(|column| column.name.clone()).collect();
    let key = session.query_opt(&doing, KEY, &[&session.schema(), &table.name, &keys]).await?;
    let (key, other_key) = key.map_or((false, false), |row| (row.get(0), !row.get::<_, bool>(0)));
    Ok(MissingParts { marks, extra, key: !key, other_key, order })
}

/// Refuses rows that no key tells apart, before anything is done. An index that is built later says
/// the same of rows that come meanwhile.
async fn refuse_keyless(
    session: &Session,
    layout: &Layout,
    id: TableId,
    missing: &MissingParts,
) -> Result<(), PgError> {
    let table = layout.table(id);
    if missing.other_key {
        return Err(not_adopted(session, layout, &format!("{} has another primary key", table.name)));
    }
    let (at, keys) = (session.relation(&table.name)?, quoted(table.key_columns())?);
    let doing = format!("looking for rows of {at} that no key tells apart");
    let is_null = keys.iter().map(|key| format!("{key} IS NULL")).collect::<Vec<_>>().join(" OR ");
    let sql = format!("SELECT EXISTS (SELECT FROM {at} WHERE {is_null})");
    if session.query_one(&doing, &sql, &[]).await?.get(0) {
        return Err(without_key(session, layout, &table.name));
    }
    let by = keys.join(", ");
    let sql = format!("SELECT EXISTS (SELECT FROM {at} GROUP BY {by} HAVING pg_catalog.count(*) > 1)");
    if session.query_one(&doing, &sql, &[]).await?.get(0) {
        return Err(with_one_key(session, layout, &table.name));
    }
    Ok(())
}

fn without_key(session: &Session, layout: &Layout, table: &str) -> PgError {
    not_adopted(session, layout, &format!("rows of {table} have no key"))
}

fn with_one_key(session: &Session, layout: &Layout, table: &str) -> PgError {
    not_adopted(session, layout, &format!("several rows of {table} have one key"))
}

/// Gives text keys the order of bytes, in all tables or in none. Before keys are built: their
/// indexes would be built again.
async fn set_order(
    session: &Session,
    layout: &Layout,
    all: &[(TableId, MissingParts)],
    settings: &SwapSettings,
) -> Result<(), PgError> {
    let mut statements = Vec::new();
    for (id, missing) in all.iter().filter(|(_, missing)| !missing.order.is_empty()) {
        let alter = |column: &String| Ok(format!("ALTER COLUMN {} TYPE text COLLATE \"C\"", quote_identifier(column)?));
        let columns: Vec<String> = missing.order.iter().map(alter).collect::<Result<_, PgError>>()?;
        statements.push(format!("ALTER TABLE {} {}", session.relation(&layout.table(*id).name)?, columns.join(", ")));
    }
    if statements.is_empty() {
        return Ok(());
    }
    let (doing, sql) = (format!("giving keys of {} the order of bytes", layout.collection), statements.join("; "));
    match giving_way(session, layout, settings, async || session.run(&doing, &sql).await).await {
        Err(error) if error.sqlstate() == Some(NOT_SUPPORTED) => {
            let why = "a view of somebody's shows a text key, whose order of bytes can only be set without it";
            Err(not_adopted(session, layout, why))
        }
        outcome => outcome,
    }
}

/// Gives a table what it missing. The index of its key is built first, while readers and writers go
/// on.
async fn complete(
    session: &Session,
    layout: &Layout,
    id: TableId,
    missing: &MissingParts,
    settings: &SwapSettings,
) -> Result<(), PgError> {
    let table = layout.table(id);
    let at = session.relation(&table.name)?;
    let doing = format!("completing {at}");
    let (key, keys) = (key_names(layout).swap_remove(id.0), quoted(table.key_columns())?);
    let mut statements = Vec::new();
    if missing.key {
        let building = staging_name(&key);
        build_index(session, layout, &at, &building, &keys).await?;
        statements.extend(keys.iter().map(|key| format!("ALTER TABLE {at} ALTER COLUMN {key} SET NOT NULL")));
        let (name, index) = (quote_identifier(&key)?, quote_identifier(&building)?);
        statements.push(format!("ALTER TABLE {at} ADD CONSTRAINT {name} PRIMARY KEY USING INDEX {index}"));
        let mark = quote_literal(&mark(layout, id).replace('\0', "\\0"))?;
        statements.push(format!("COMMENT ON INDEX {} IS {mark}", session.relation(&key)?));
    }
    for column in table.columns.iter().filter(|column| missing.extra && column.source == ColumnSource::Extra) {
        let (name, ty) = (quote_identifier(&column.name)?, column.ty.pg_name());
        statements.push(format!("ALTER TABLE {at} ADD COLUMN {name} {ty}"));
    }
    if missing.marks {
        statements.extend(comments(layout, id, &at)?);
    }
    let statements = statements.join("; ");
    match giving_way(session, layout, settings, async || session.run(&doing, &statements).await).await {
        Err(error) if error.sqlstate() == Some(NOT_NULL_VIOLATION) => Err(without_key(session, layout, &table.name)),
        outcome => outcome,
    }
}

/// Builds the index of a key under a name of its own, outside of a transaction.
async fn build_index(
    session: &Session,
    layout: &Layout,
    at: &Qualified,
    name: &str,
    keys: &[String],
) -> Result<(), PgError> {
    let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {}", session.relation(name)?);
    let doing = format!("building the key of {at}");
    // One that was interrupted is there, and is not valid.
    session.run(&doing, &drop).await?;
    let build = format!("CREATE UNIQUE INDEX CONCURRENTLY {} ON {at} ({})", quote_identifier(name)?, keys.join(", "));
    let Err(error) = session.run(&doing, &build).await else { return Ok(()) };
    session.run(&doing, &drop).await?;
    match error.sqlstate() {
        Some(UNIQUE_VIOLATION) => Err(with_one_key(session, layout, at.name())),
        _ => Err(error),
    }
}
