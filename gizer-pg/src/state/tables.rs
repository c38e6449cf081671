//! The state tables themselves: made where they are missing, and given the columns they lack.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::lock::{self, AdvisoryKey};
use crate::connect::Session;
use crate::error::PgError;
use crate::ident::quote_identifier;
use crate::sqlstate::grant_for;

/// A state table: its name, its columns with their types and constraints, and constraints of the whole table.
struct StateTable {
    name: &'static str,
    /// A column that a later version adds needs a default or must be nullable.
    columns: &'static [(&'static str, &'static str)],
    constraint: Option<&'static str>,
    comment: &'static str,
}

pub(super) const RUNS: &str = "qmetlstatus";
pub(super) const COLLECTIONS: &str = "gizer_collection";
pub(super) const STREAM: &str = "gizer_stream";
pub(super) const REJECTS: &str = "gizer_reject";

const TABLES: [StateTable; 4] = [
    StateTable {
        name: RUNS,
        // The first nine are the classic tool's, in its order; monitors read them.
        columns: &[
            ("comment", "TEXT"),
            ("time_start", "TIMESTAMP"),
            ("time_end", "TIMESTAMP"),
            ("recs_count", "INT"),
            ("queries_count", "INT"),
            ("ts", "TEXT"),
            ("status", "INT"),
            ("attempt", "INT"),
            ("error", "BOOLEAN"),
            ("reason", "TEXT"),
            ("run", "BIGINT"),
        ],
        constraint: None,
        comment: "gizer state: one row a run",
    },
    StateTable {
        name: COLLECTIONS,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("namespace", "TEXT"),
            ("collection_uuid", "UUID"),
            ("state", "TEXT NOT NULL CHECK (state IN ('loading', 'following', 'load due', 'copy'))"),
            ("live", "BOOLEAN NOT NULL DEFAULT false"),
            ("tables", "TEXT[] NOT NULL DEFAULT '{}'"),
            ("layout_hash", "TEXT"),
            ("captured", "JSONB"),
            ("exact_at", "JSONB"),
            ("loaded_at", "TIMESTAMPTZ"),
            ("ledger", "JSONB"),
            ("rejected", "BIGINT NOT NULL DEFAULT 0"),
            ("load_epoch", "BIGINT NOT NULL DEFAULT 0"),
            ("load_started", "TIMESTAMPTZ"),
            ("load_captured", "JSONB"),
            ("reason", "TEXT"),
        ],
        constraint: Some("PRIMARY KEY (collection)"),
        comment: "gizer state: one row a collection",
    },
    StateTable {
        name: STREAM,
        columns: &[
            // There is one row, whose key is true.
            ("singleton", "BOOLEAN NOT NULL DEFAULT true CHECK (singleton)"),
            ("position", "JSONB NOT NULL DEFAULT '{}'"),
            ("epoch", "BIGINT NOT NULL DEFAULT 0"),
            ("applied", "BOOLEAN NOT NULL DEFAULT false"),
            ("updated_at", "TIMESTAMPTZ"),
        ],
        constraint: Some("PRIMARY KEY (singleton)"),
        comment: "gizer state: how far changes have been applied",
    },
    StateTable {
        name: REJECTS,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("id", "TEXT"),
            ("reason", "TEXT"),
            ("document", "BYTEA"),
            ("load_epoch", "BIGINT NOT NULL"),
            ("at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
        ],
        constraint: None,
        comment: "gizer state: documents that could not be loaded",
    },
];

/// Makes the state tables where they are missing, and adds the columns that a classic `qmetlstatus`, or one of an
/// older version, lacks. Safe when two runs start at once. Where all is there, nothing is locked and no right to
/// create tables is needed.
///
/// # Errors
/// [`PgError::NoRights`] if the role may not create tables in the schema (or alter a `qmetlstatus` of the classic
/// tool), with the GRANT that helps; [`PgError::ForeignTable`] if a view or the like has the name of a state table.
pub async fn prepare(session: &Session) -> Result<(), PgError> {
    session.begin().await?;
    let outcome = prepare_in_transaction(session).await;
    session.end(outcome).await
}

async fn prepare_in_transaction(session: &Session) -> Result<(), PgError> {
    if missing(session).await?.is_empty() {
        return Ok(());
    }
    // Somebody else may be at it: whoever gets the lock second looks again.
    lock::wait_in_transaction(session, &AdvisoryKey::state(session.schema())).await?;
    let missing = missing(session).await?;
    require_rights(session, &missing).await?;
    for (found, columns) in missing {
        let statement = if found.exists { add_columns(session, &found, &columns)? } else { create(session, &found)? };
        session.run(format!("preparing {}.{}", session.schema(), found.table.name), &statement).await?;
    }
    let stream = session.relation(STREAM)?;
    let first_row = format!("INSERT INTO {stream} (singleton) VALUES (true) ON CONFLICT DO NOTHING");
    session.run("preparing the stream position", &first_row).await
}

struct Found {
    table: &'static StateTable,
    exists: bool,
    /// Whether this role may alter it.
    owned: bool,
}

/// State tables that are missing or lack columns.
async fn missing(session: &Session) -> Result<Vec<(Found, Vec<usize>)>, PgError> {
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
        (!lacking.is_empty()).then_some((Found { table, exists: columns.is_some(), owned }, lacking))
    };
    Ok(TABLES.iter().filter_map(lacks).collect())
}

/// A right that is missing is told before anything else, with the statement that gives it.
async fn require_rights(session: &Session, missing: &[(Found, Vec<usize>)]) -> Result<(), PgError> {
    let server = session.server();
    let no_rights = |doing, reason: &str, grant| {
        Err(PgError::NoRights { server: Arc::clone(server), doing, reason: reason.to_owned(), grant })
    };
    if let Some((found, _)) = missing.iter().find(|(found, _)| found.exists && !found.owned) {
        let table = session.relation(found.table.name)?;
        let grant = format!("ALTER TABLE {table} OWNER TO {}", quote_identifier(&server.user)?);
        return no_rights(format!("adding columns to {table}"), "it belongs to another role", grant);
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
            no_rights(doing, "the right CREATE is missing", grant_for(session.schema(), &server.user))
        }
    }
}

fn create(session: &Session, found: &Found) -> Result<String, PgError> {
    let (table, name) = (found.table, session.relation(found.table.name)?);
    let mut parts = Vec::new();
    for (column, definition) in table.columns {
        parts.push(format!("{} {definition}", quote_identifier(column)?));
    }
    parts.extend(table.constraint.map(str::to_owned));
    // The comments hold no quotes.
    Ok(format!("CREATE TABLE {name} ({}); COMMENT ON TABLE {name} IS '{}'", parts.join(", "), table.comment))
}

fn add_columns(session: &Session, found: &Found, columns: &[usize]) -> Result<String, PgError> {
    let mut parts = Vec::new();
    for &column in columns {
        let (column, definition) = found.table.columns[column];
        parts.push(format!("ADD COLUMN IF NOT EXISTS {} {definition}", quote_identifier(column)?));
    }
    Ok(format!("ALTER TABLE {} {}", session.relation(found.table.name)?, parts.join(", ")))
}

/// Whether this schema has been prepared, by this version or an older one.
pub(super) async fn exist(session: &Session) -> Result<bool, PgError> {
    Ok(missing(session).await?.is_empty())
}
