//! Who holds locks that a load waits for.

use crate::connect::Session;
use crate::error::PgError;

/// The processes that hold locks on these tables, as far as this role may see them; at most five.
pub(crate) async fn holders(session: &Session, tables: &[&str]) -> Result<Vec<String>, PgError> {
    let sql = "SELECT DISTINCT pg_catalog.format('process %s (%s%s)', a.pid, \
                   coalesce(nullif(a.application_name, ''), a.backend_type, '?'), \
                   coalesce(', ' || a.state, '')) \
               FROM pg_catalog.pg_locks l \
               JOIN pg_catalog.pg_class c ON c.oid = l.relation \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
               WHERE l.granted AND n.nspname = $1 AND c.relname = ANY ($2) AND l.pid <> pg_catalog.pg_backend_pid() \
               ORDER BY 1 LIMIT 5";
    let rows = session.query("asking who holds the tables", sql, &[&session.schema(), &tables]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
