//! The state tables themselves: made where they are missing, and given the columns they lack.

use std::collections::{HashMap, HashSet};

use super::lock::{self, AdvisoryKey};
use super::{positions, stream};
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
    /// The rights that a load needs on it.
    rights: &'static [&'static str],
    /// Whether the status does without it: the first versions have not made it, nor were rights given on it.
    optional: bool,
}

/// What it takes to read the state.
const READING: &[&str] = &["SELECT"];

/// What it takes to keep the state of runs, collections and the stream.
const KEEPING: &[&str] = &["SELECT", "INSERT", "UPDATE"];

/// What it takes to keep rejected documents, the ranges of loads and what is to be repaired, and to clear them away.
const REPLACING: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE"];

pub(super) const RUNS: &str = "qmetlstatus";
pub(super) const COLLECTIONS: &str = "gizer_collection";
pub(super) const STREAM: &str = "gizer_stream";
pub(super) const REJECTS: &str = "gizer_reject";
pub(super) const RANGES: &str = "gizer_range";
pub(super) const REPAIRS: &str = "gizer_repair";
pub(super) const RESYNC: &str = "gizer_resync";
pub(super) const HISTORY: &str = "gizer_history";
pub(super) const SCHEMA_HISTORY: &str = "gizer_schema_history";

pub(super) const UNFIT: &str = "gizer_unfit";
pub(super) const EXPECTED: &str = "gizer_expected";
pub(super) const AUDITS: &str = "gizer_audit";
pub(super) const AUDIT_SEGMENTS: &str = "gizer_audit_segment";

const TABLES: [StateTable; 13] = [
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
        rights: KEEPING,
        optional: false,
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
            ("uuids", "JSONB"),
            ("read_until", "TEXT"),
            ("joined", "BOOLEAN NOT NULL DEFAULT false"),
            ("passed_over", "TEXT"),
            ("loaded_at", "TIMESTAMPTZ"),
            ("ledger", "JSONB"),
            ("rejected", "BIGINT NOT NULL DEFAULT 0"),
            ("load_epoch", "BIGINT NOT NULL DEFAULT 0"),
            ("load_started", "TIMESTAMPTZ"),
            ("load_captured", "JSONB"),
            ("load_identity", "TEXT"),
            // Of a load that is a resync.
            ("load_kind", "TEXT"),
            ("live_epoch", "BIGINT"),
            ("as_left", "JSONB"),
            // When it was last looked at which of its fields could get columns.
            ("looked_at", "TIMESTAMPTZ"),
            ("reason", "TEXT"),
        ],
        constraint: Some("PRIMARY KEY (collection)"),
        comment: "gizer state: one row a collection",
        rights: KEEPING,
        optional: false,
    },
    StateTable {
        name: STREAM,
        columns: &[
            // There is one row, whose key is true.
            ("singleton", "BOOLEAN NOT NULL DEFAULT true CHECK (singleton)"),
            ("position", "JSONB NOT NULL DEFAULT '{}'"),
            ("epoch", "BIGINT NOT NULL DEFAULT 0"),
            ("applied", "BOOLEAN NOT NULL DEFAULT false"),
            ("exact_at", "JSONB"),
            ("ahead", "TEXT"),
            ("updated_at", "TIMESTAMPTZ"),
            ("verified", "JSONB"),
        ],
        constraint: Some("PRIMARY KEY (singleton)"),
        comment: "gizer state: how far changes have been applied",
        rights: KEEPING,
        optional: false,
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
            // Of those that have a key: PostgreSQL has refused their rows, and they are tried again.
            ("key", "BYTEA"),
            ("lookup", "BYTEA"),
            ("sqlstate", "TEXT"),
            ("attempts", "INT NOT NULL DEFAULT 0"),
            ("tried_at", "TIMESTAMPTZ"),
            ("next_try", "TIMESTAMPTZ"),
            // Of those whose _id does not fit the key's column.
            ("unfit_key", "BOOLEAN"),
        ],
        constraint: None,
        comment: "gizer state: documents that could not be loaded",
        rights: REPLACING,
        optional: false,
    },
    StateTable {
        name: RANGES,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("load_epoch", "BIGINT NOT NULL"),
            ("kind", "TEXT NOT NULL CHECK (kind IN ('segment', 'range', 'before'))"),
            ("segment", "INT NOT NULL"),
            ("source", "INT"),
            ("sequence", "INT"),
            ("part", "INT"),
            ("lower", "BYTEA"),
            ("upper", "BYTEA"),
            ("documents", "BIGINT"),
            ("rows", "BIGINT[]"),
            ("bytes", "BIGINT"),
            // JSON, but with \u0000, which jsonb refuses.
            ("tally", "TEXT"),
        ],
        constraint: None,
        comment: "gizer state: what a load under way has written",
        rights: REPLACING,
        optional: false,
    },
    StateTable {
        name: REPAIRS,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            // In the binary form of the column of root keys.
            ("key", "BYTEA NOT NULL"),
            ("id", "BYTEA"),
            ("reason", "TEXT NOT NULL"),
            ("at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
        ],
        constraint: Some("PRIMARY KEY (collection, key)"),
        comment: "gizer state: documents whose rows are to be made equal by the next batch",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: RESYNC,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("load_epoch", "BIGINT NOT NULL"),
            ("segment", "INT NOT NULL"),
            ("after", "BYTEA"),
            ("after_key", "BYTEA"),
            ("upto", "BYTEA"),
            ("upto_key", "BYTEA"),
            ("done", "BOOLEAN NOT NULL"),
            ("documents", "BIGINT NOT NULL DEFAULT 0"),
            ("rows", "BIGINT NOT NULL DEFAULT 0"),
            ("differed", "BIGINT NOT NULL DEFAULT 0"),
            // JSON, but with \u0000, which jsonb refuses.
            ("report", "TEXT NOT NULL"),
        ],
        constraint: Some("PRIMARY KEY (collection, segment)"),
        comment: "gizer state: how far a resync has come",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: HISTORY,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("event", "TEXT NOT NULL CHECK (event IN ('repair', 'reload'))"),
            ("reason", "TEXT NOT NULL"),
            ("count", "BIGINT NOT NULL DEFAULT 0"),
            ("first_at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
            ("last_at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
        ],
        constraint: Some("PRIMARY KEY (collection, event, reason)"),
        comment: "gizer state: how often documents were repaired and collections loaded anew, and why",
        rights: KEEPING,
        optional: true,
    },
    StateTable {
        name: SCHEMA_HISTORY,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("version", "BIGINT NOT NULL"),
            ("began_at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
            ("finished_at", "TIMESTAMPTZ"),
            // Why it could not be done; the tables have no column of it.
            ("failed", "TEXT"),
            ("layout_before", "TEXT NOT NULL"),
            ("layout_after", "TEXT NOT NULL"),
            // The schema files before and after it, and what is new: JSON, but with \u0000, which jsonb refuses.
            ("schema_before", "TEXT NOT NULL"),
            ("schema", "TEXT NOT NULL"),
            ("changes", "TEXT NOT NULL"),
            // While rows are rewritten: the table that they are looked for in, and the last key that is done.
            ("in_table", "TEXT"),
            ("upto", "BYTEA"),
            ("documents", "BIGINT NOT NULL DEFAULT 0"),
            ("rows", "BIGINT NOT NULL DEFAULT 0"),
            // Whether numbers may be shown otherwise than in MongoDB, until an audit has repaired
            // that.
            ("to_verify", "BOOLEAN"),
        ],
        constraint: Some("PRIMARY KEY (collection, version)"),
        comment: "gizer state: how the schemas of collections have grown",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: EXPECTED,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("obstacle", "TEXT CHECK (obstacle IN ('waiting', 'failing', 'refused', 'paused'))"),
            ("reason", "TEXT"),
            ("remedy", "TEXT"),
            ("since", "TIMESTAMPTZ"),
            ("attempts", "INT NOT NULL DEFAULT 0"),
            ("next_try", "TIMESTAMPTZ"),
            ("chosen_by", "TEXT CHECK (chosen_by IN ('database', 'files'))"),
            // Of the schema file that `run` has made.
            ("inferred_hash", "TEXT"),
        ],
        constraint: Some("PRIMARY KEY (collection)"),
        comment: "gizer state: the collections that should be copied, and what keeps any of them from it",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: UNFIT,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            // Both are empty for all that has no row of its own.
            ("path", "TEXT NOT NULL"),
            ("came", "TEXT NOT NULL"),
            // NULL if the schema does not have the field.
            ("expected", "TEXT"),
            ("count", "BIGINT NOT NULL DEFAULT 0"),
            ("documents", "BIGINT NOT NULL DEFAULT 0"),
            ("first_at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
            ("last_at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
        ],
        constraint: Some("PRIMARY KEY (collection, path, came)"),
        comment: "gizer state: values that came since a collection was loaded and that its schema has no place for",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: AUDITS,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("audit", "BIGINT NOT NULL"),
            ("live_epoch", "BIGINT NOT NULL"),
            ("kind", "TEXT NOT NULL CHECK (kind IN ('full', 'sample'))"),
            ("identity", "TEXT NOT NULL"),
            ("started_at", "TIMESTAMPTZ NOT NULL"),
            ("finished_at", "TIMESTAMPTZ"),
            ("outcome", "TEXT"),
            ("report", "JSONB"),
        ],
        constraint: Some("PRIMARY KEY (collection, audit)"),
        comment: "gizer state: one row an audit of a collection",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: AUDIT_SEGMENTS,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("audit", "BIGINT NOT NULL"),
            ("segment", "INT NOT NULL"),
            ("after", "BYTEA"),
            ("after_key", "BYTEA"),
            ("upto", "BYTEA"),
            ("upto_key", "BYTEA"),
            ("done", "BOOLEAN NOT NULL"),
            ("report", "JSONB NOT NULL"),
        ],
        constraint: Some("PRIMARY KEY (collection, audit, segment)"),
        comment: "gizer state: how far an audit under way has come",
        rights: REPLACING,
        optional: true,
    },
];

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
