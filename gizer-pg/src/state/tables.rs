//! The state tables themselves: made where they are missing, and given the columns they lack.

use std::collections::{HashMap, HashSet};

use super::definitions::{READING, StateTable, TABLES};
use super::lock::{self, AdvisoryKey};
use super::{positions, stream};
use crate::connect::Session;
use crate::error::PgError;
use crate::ident::quote_identifier;
use crate::sqlstate::grant_for;

/// Whether a name is that of a state table, or of the key of one.
pub(crate) fn is_own_name(name: &str) -> bool {
    let table = name.strip_suffix("_pkey").unwrap_or(name);
    TABLES.iter().any(|own| own.name == table) || crate::spool::TABLES.contains(&table)
}

/// Makes the state tables where they are missing, and adds the columns that a classic `qmetlstatus`, or one of an
/// older version, lacks. Safe when two runs start at once. Where all is there, nothing is locked and no right to
/// create tables is needed.
///
/// # Errors
/// [`PgError::NoRights`] if the role may not create tables in the schema (or alter a `qmetlstatus` of the classic
/// tool), or may not write to those that another role has made, with the GRANT that helps; [`PgError::ForeignTable`] if a view or the like has the name of a state table.
pub async fn prepare(session: &Session) -> Result<(), PgError> {
    session.in_transaction(prepare_in_transaction(session)).await
}

async fn prepare_in_transaction(session: &Session) -> Result<(), PgError> {
    if missing(session).await?.is_empty() {
        require_rights_on_all(session, |table| table.rights).await?;
        stream::restore_row(session).await?;
        return positions::rewrite_first_version(session).await;
    }
    // Somebody else may be at it: whoever gets the lock second looks again.
    lock::wait_in_transaction(session, &AdvisoryKey::state(session.schema())).await?;
    let missing = missing(session).await?;
    require_rights_to_make(session, &missing).await?;
    for (found, columns) in missing {
        let statement = if found.exists { add_columns(session, &found, &columns)? } else { create(session, &found)? };
        session.run(format!("preparing {}.{}", session.schema(), found.table.name), &statement).await?;
    }
    stream::restore_row(session).await?;
    require_rights_on_all(session, |table| table.rights).await?;
    positions::rewrite_first_version(session).await
}

struct StateTableFound {
    table: &'static StateTable,
    exists: bool,
    /// Whether this role may alter it.
    owned: bool,
}

/// State tables that are missing or lack columns.
async fn missing(session: &Session) -> Result<Vec<(StateTableFound, Vec<usize>)>, PgError> {
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let sql = "SELECT c.relname::pg_catalog.text, c.relkind IN ('r', 'p'), a.attname::pg_catalog.text, \
                      pg_catalog.pg_has_role(c.relowner, 'USAGE') \
               FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
               WHERE n.nspname = $1 AND c.relname = ANY ($2)";
    let rows = session.query("looking for the state tables", sql, &[&session.schema(), &names]).await?;
    let mut there: HashMap<String, HashSet<String>> = HashMap::new();
    let mut foreign: HashSet<String> = HashSet::new();
    for row in rows {
        let (table, is_table): (String, bool) = (row.get(0), row.get(1));
        if !is_table {
            let why = "expected gizer's own table of this name, found another kind of relation".to_owned();
            return Err(PgError::ForeignTable { schema: session.schema().to_owned(), table, why });
        }
        if !row.get::<_, bool>(3) {
            foreign.insert(table.clone());
        }
        there.entry(table).or_default().extend(row.get::<_, Option<String>>(2));
    }
    let lacks = |table: &'static StateTable| {
        let columns = there.get(table.name);
        let lacking: Vec<usize> = (0..table.columns.len())
            .filter(|&i| columns.is_none_or(|columns| !columns.contains(table.columns[i].0)))
            .collect();
        let owned = !foreign.contains(table.name);
        (!lacking.is_empty()).then_some((StateTableFound { table, exists: columns.is_some(), owned }, lacking))
    };
    Ok(TABLES.iter().filter_map(lacks).collect())
}

/// A right that is missing is told before anything else, with the statement that gives it.
async fn require_rights_to_make(session: &Session, missing: &[(StateTableFound, Vec<usize>)]) -> Result<(), PgError> {
    let server = session.server();
    if let Some((found, _)) = missing.iter().find(|(found, _)| found.exists && !found.owned) {
        let table = session.relation(found.table.name)?;
        let grant = format!("ALTER TABLE {table} OWNER TO {}", quote_identifier(&server.user)?);
        return Err(session.no_rights(format!("adding columns to {table}"), "it belongs to another role", grant));
    }
    if missing.iter().all(|(found, _)| found.exists) {
        return Ok(());
    }
    let sql =
        "SELECT pg_catalog.has_schema_privilege(n.oid, 'CREATE') FROM pg_catalog.pg_namespace n WHERE nspname = $1";
    match session.query_opt("checking rights", sql, &[&session.schema()]).await? {
        Some(row) if row.get(0) => Ok(()),
        _ => {
            let doing = format!("creating tables in schema {}", session.schema());
            let grant = grant_for(session.schema(), &server.user);
            Err(session.no_rights(doing, "the right CREATE is missing", grant))
        }
    }
}

fn create(session: &Session, found: &StateTableFound) -> Result<String, PgError> {
    let (table, name) = (found.table, session.relation(found.table.name)?);
    let mut parts = Vec::new();
    for (column, definition) in table.columns {
        parts.push(format!("{} {definition}", quote_identifier(column)?));
    }
    parts.extend(table.constraint.map(str::to_owned));
    // The comments hold no quotes.
    Ok(format!("CREATE TABLE {name} ({}); COMMENT ON TABLE {name} IS '{}'", parts.join(", "), table.comment))
}

fn add_columns(session: &Session, found: &StateTableFound, columns: &[usize]) -> Result<String, PgError> {
    let mut parts = Vec::new();
    for &column in columns {
        let (column, definition) = found.table.columns[column];
        parts.push(format!("ADD COLUMN IF NOT EXISTS {} {definition}", quote_identifier(column)?));
    }
    Ok(format!("ALTER TABLE {} {}", session.relation(found.table.name)?, parts.join(", ")))
}

/// Whether [`prepare`] could do what is left to do, in the open transaction, which may be one that only reads.
///
/// # Errors
/// Those of [`prepare`].
pub(crate) async fn require_rights(session: &Session) -> Result<(), PgError> {
    let missing = missing(session).await?;
    require_rights_to_make(session, &missing).await?;
    if missing.is_empty() { require_rights_on_all(session, |table| table.rights).await } else { Ok(()) }
}

/// Whether this schema has been prepared. An older version may have made fewer tables and columns.
///
/// # Errors
/// [`PgError::NoRights`] if it has been, and this role may not read its state, with the GRANT that helps.
pub(super) async fn exist(session: &Session) -> Result<bool, PgError> {
    if missing(session).await?.iter().any(|(found, _)| !found.exists && !found.table.optional) {
        return Ok(false);
    }
    if require_rights_on_all(session, |table| if table.optional { &[] } else { READING }).await.is_err() {
        // Who is given rights is given all of them.
        require_rights_on_all(session, |_| READING).await?;
    }
    Ok(true)
}

/// Whether an optional table exists and may be read. So a role that could read the state still can when a later
/// version adds a table.
pub(super) async fn may_read(session: &Session, table: &str) -> Result<bool, PgError> {
    let sql = "SELECT coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass($1), 'SELECT'), false)";
    let relation = session.relation(table)?.to_string();
    Ok(session.query_one("looking for what was repaired", sql, &[&relation]).await?.get(0))
}

/// Tells with one statement for each table which rights are missing. The state tables must be there.
async fn require_rights_on_all(
    session: &Session,
    rights: impl Fn(&StateTable) -> &'static [&'static str],
) -> Result<(), PgError> {
    let wanted = TABLES.iter().flat_map(|table| rights(table).iter().map(|right| (table.name, *right)));
    let (tables, rights): (Vec<&str>, Vec<&str>) = wanted.unzip();
    let sql = "SELECT c.relname::pg_catalog.text, pg_catalog.string_agg(wanted.lacks, ', ' ORDER BY wanted.at) \
               FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[])) \
                    WITH ORDINALITY AS wanted (name, lacks, at) \
               JOIN pg_catalog.pg_class c ON c.relname = wanted.name \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1 \
               WHERE NOT pg_catalog.has_table_privilege(c.oid, wanted.lacks) \
               GROUP BY c.relname ORDER BY 2, 1";
    let lacking = session.query("checking rights", sql, &[&session.schema(), &tables, &rights]).await?;
    if lacking.is_empty() {
        return Ok(());
    }
    let user = quote_identifier(&session.server().user)?;
    let mut grants: Vec<(String, Vec<String>)> = Vec::new();
    for row in lacking {
        let (table, rights): (String, String) = (session.relation(row.get(0))?.to_string(), row.get(1));
        match grants.last_mut() {
            Some((of, tables)) if *of == rights => tables.push(table),
            _ => grants.push((rights, vec![table])),
        }
    }
    let on = |(rights, tables): &(String, Vec<String>)| format!("{rights} ON {}", tables.join(", "));
    let grants: Vec<String> = grants.iter().map(on).collect();
    let doing = format!("using the state tables in schema {}", session.schema());
    let statements: Vec<String> = grants.iter().map(|grant| format!("GRANT {grant} TO {user}")).collect();
    Err(session.no_rights(doing, format!("it lacks {}", grants.join(" and ")), statements.join("; ")))
}
