//! Owner and rights of a table or a view, carried over to the one that takes its place.
//!
//! The new table ends up with exactly the rights of the old one: what default privileges gave it beyond them is taken
//! back, or a role that was shut out would be let in by a reload.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use super::survey::LiveTable;
use crate::connect::Session;
use crate::error::PgError;
use crate::ident::{Qualified, quote_identifier};

/// Who may do what with one table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grants {
    at: Qualified,
    owner: String,
    grants: Vec<Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    /// `None` for PUBLIC.
    grantee: Option<String>,
    /// `SELECT` and so on.
    privilege: String,
    /// The column that it is limited to.
    column: Option<String>,
    with_grant_option: bool,
}

/// Reads owners and rights of tables that the layout still has.
pub(super) async fn read(session: &Session, live: &[LiveTable]) -> Result<Vec<Grants>, PgError> {
    let mut all = Vec::new();
    for table in live.iter().filter(|table| table.in_layout) {
        all.push(read_one(session, &session.relation(&table.name)?, table.oid).await?);
    }
    Ok(all)
}

/// Reads owner and rights of one table or view.
pub(crate) async fn read_one(session: &Session, at: &Qualified, oid: u32) -> Result<Grants, PgError> {
    let doing = format!("reading the rights on {at}");
    let sql = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = $1";
    let owner: String = session.query_one(&doing, sql, &[&oid]).await?.get(0);
    let rows = session.query(&doing, ACL, &[&oid]).await?;
    Ok(Grants { at: at.clone(), owner, grants: rows.iter().map(grant).collect() })
}

impl Grants {
    /// Those of a table of the same collection: owner, and rights on the whole table.
    pub(crate) fn for_table(&self, at: Qualified) -> Grants {
        let whole = self.grants.iter().filter(|grant| grant.column.is_none()).cloned();
        Grants { at, owner: self.owner.clone(), grants: whole.collect() }
    }
}

/// Rights on the table `$1` and on its columns, without those of its owner, who has all of them anyway.
const ACL: &str = "\
    SELECT r.rolname::text, a.privilege_type, acl.attname::text, a.is_grantable \
    FROM (SELECT relowner, relacl AS acl, NULL::name AS attname FROM pg_class WHERE oid = $1 \
          UNION ALL \
          SELECT c.relowner, t.attacl, t.attname FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid \
          WHERE t.attrelid = $1 AND t.attnum > 0 AND NOT t.attisdropped) AS acl \
    CROSS JOIN LATERAL aclexplode(acl.acl) AS a \
    LEFT JOIN pg_roles r ON r.oid = a.grantee \
    WHERE a.grantee <> acl.relowner AND (a.grantee = 0 OR r.oid IS NOT NULL)";

fn grant(row: &Row) -> Grant {
    Grant { grantee: row.get(0), privilege: row.get(1), column: row.get(2), with_grant_option: row.get(3) }
}

/// Gives what now has these names the same owners and rights, in the open transaction.
pub(crate) async fn apply(session: &Session, all: &[&Grants]) -> Result<(), PgError> {
    for grants in all {
        let at = &grants.at;
        let current = current(session, at).await?;
        let statements = statements(grants, &current, &columns(session, at).await?)?;
        if !statements.is_empty() {
            session.run(format!("carrying the rights on {at} over"), &statements.join("; ")).await?;
        }
    }
    Ok(())
}

async fn current(session: &Session, at: &Qualified) -> Result<Grants, PgError> {
    let sql = "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2";
    let doing = format!("looking for {at}");
    let row = session.query_one(doing, sql, &[&at.schema(), &at.name()]).await?;
    read_one(session, at, row.get(0)).await
}

async fn columns(session: &Session, table: &Qualified) -> Result<BTreeSet<String>, PgError> {
    let sql = "SELECT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
    let doing = format!("reading the columns of {table}");
    let rows = session.query(doing, sql, &[&table.schema(), &table.name()]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What turns the rights that a new table has into those that it should have.
fn statements(wanted: &Grants, current: &Grants, columns: &BTreeSet<String>) -> Result<Vec<String>, PgError> {
    let table = &wanted.at;
    let mut statements = Vec::new();
    let grantees: BTreeSet<&Option<String>> = current.grants.iter().map(|grant| &grant.grantee).collect();
    for grantee in grantees {
        statements.push(format!("REVOKE ALL ON TABLE {table} FROM {}", role(grantee.as_deref())?));
    }
    if wanted.owner != current.owner {
        statements.push(format!("ALTER TABLE {table} OWNER TO {}", quote_identifier(&wanted.owner)?));
    }
    for grant in &wanted.grants {
        let column = match &grant.column {
            // A right on a column that is gone is gone with it.
            Some(column) if !columns.contains(column) => continue,
            Some(column) => format!(" ({})", quote_identifier(column)?),
            None => String::new(),
        };
        let option = if grant.with_grant_option { " WITH GRANT OPTION" } else { "" };
        let grantee = role(grant.grantee.as_deref())?;
        statements.push(format!("GRANT {}{column} ON TABLE {table} TO {grantee}{option}", grant.privilege));
    }
    Ok(statements)
}

fn role(grantee: Option<&str>) -> Result<String, PgError> {
    grantee.map_or_else(|| Ok("PUBLIC".to_owned()), quote_identifier)
}
