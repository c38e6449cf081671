//! Whether a server is ready for what gizer is about to do: rights, settings, sizes. Everything here only reads.

use std::collections::BTreeMap;

use crate::connect::Session;
use crate::error::PgError;
use crate::ident::quote_identifier;
use crate::sqlstate::grant_for;
use crate::state;

/// What a server says of itself and of a role's rights in a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// As `server_version` has it.
    pub version: String,
    /// It follows another server, so that nothing can be written.
    pub standby: bool,
    /// Rights that loading and following need, and that this role lacks.
    pub missing: Vec<MissingRight>,
    /// Settings by name, of those in [`SETTINGS`] that this version has, in their base unit (`pg_settings.setting`).
    pub settings: BTreeMap<String, String>,
    /// Connections that are left for roles without privileges of their own.
    pub free_connections: i64,
    /// Bytes of tables with their indexes and TOAST, by name, of those that were asked for and are there.
    pub sizes: BTreeMap<String, u64>,
}

/// A right that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRight {
    /// What cannot be done without it.
    pub what: String,
    /// The statement that gives it.
    pub grant: String,
}

/// The settings that are read: those by which a load or following may suffer (PostgreSQL documentation, "Server Configuration").
/// Time limits and read-only transactions are none of them: gizer's own transactions say what they need.
pub const SETTINGS: &[&str] = &["autovacuum", "fsync", "max_wal_size", "shared_buffers"];

impl Readiness {
    /// A setting that is a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.settings.get(name)?.parse().ok()
    }
}

/// Asks the server, about `tables` too: their sizes, and whether this role may replace them.
pub async fn readiness(session: &Session, tables: &[String]) -> Result<Readiness, PgError> {
    session.in_snapshot(look(session, tables)).await
}

async fn look(session: &Session, tables: &[String]) -> Result<Readiness, PgError> {
    let sql = "SELECT pg_catalog.current_setting('server_version'), pg_catalog.pg_is_in_recovery(), \
                      pg_catalog.has_schema_privilege($1, 'CREATE'), \
                      pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY'), \
                      pg_catalog.current_setting('max_connections')::pg_catalog.int8 \
                          - pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int8 \
                          - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')";
    let row = session.query_one("asking how the server stands", sql, &[&session.schema()]).await?;
    let user = quote_identifier(&session.server().user)?;
    let mut missing = Vec::new();
    match state::require_rights(session).await {
        Err(PgError::NoRights { doing, reason, grant, .. }) => {
            missing.push(MissingRight { what: format!("{doing} ({reason})"), grant });
        }
        outcome => outcome?,
    }
    let may_make = grant_for(session.schema(), &session.server().user);
    if !row.get::<_, bool>(2) && !missing.iter().any(|right: &MissingRight| right.grant == may_make) {
        let what = format!("making tables in schema {}", session.schema());
        missing.push(MissingRight { what, grant: may_make });
    }
    if !row.get::<_, bool>(3) {
        let database = quote_identifier(&session.server().database)?;
        let grant = format!("GRANT TEMPORARY ON DATABASE {database} TO {user}");
        missing.push(MissingRight { what: "following: its staging tables are temporary".to_owned(), grant });
    }
    let sql = "SELECT c.relname::pg_catalog.text, pg_catalog.pg_has_role(c.relowner, 'USAGE'), \
                      pg_catalog.pg_total_relation_size(c.oid) \
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND c.relname = ANY ($2) ORDER BY c.relname";
    let mut sizes = BTreeMap::new();
    for table in session.query("reading the sizes of tables", sql, &[&session.schema(), &tables]).await? {
        let (name, owned): (String, bool) = (table.get(0), table.get(1));
        if !owned {
            let grant = format!("ALTER TABLE {} OWNER TO {user}", session.relation(&name)?);
            missing.push(MissingRight { what: format!("replacing {name}, which belongs to another role"), grant });
        }
        sizes.insert(name, u64::try_from(table.get::<_, i64>(2)).unwrap_or_default());
    }
    let sql = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY ($1)";
    let settings = session.query("reading settings", sql, &[&SETTINGS]).await?;
    Ok(Readiness {
        version: row.get(0),
        standby: row.get(1),
        missing,
        settings: settings.iter().map(|row| (row.get(0), row.get::<_, Option<_>>(1).unwrap_or_default())).collect(),
        free_connections: row.get(4),
        sizes,
    })
}
