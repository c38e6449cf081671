//! What failed loads have left next to tables that are in use.

use super::locks::set_lock_timeout;
use super::staging::{STAGING_LOCK_WAIT, staging_of};
use crate::connect::Session;
use crate::error::PgError;
use crate::state;

/// Drops the staging tables of failed loads that nothing will resume. Their collections have live tables, and no load
/// of them is due, running or interrupted. Gives the collections, each with the number of tables.
///
/// # Errors
/// `lock_timeout` if statements of that load still run; whatever else the server says. Nothing is dropped of that collection then.
pub async fn drop_leftovers(session: &Session) -> Result<Vec<(String, usize)>, PgError> {
    let mut dropped = Vec::new();
    for collection in state::without_load(session).await? {
        match session.in_transaction(drop_of(session, &collection)).await? {
            0 => {}
            tables => dropped.push((collection, tables)),
        }
    }
    Ok(dropped)
}

async fn drop_of(session: &Session, collection: &str) -> Result<usize, PgError> {
    // Also that it has not begun since.
    if !state::keep_from_loading(session, collection).await? {
        return Ok(0);
    }
    let stale = staging_of(session, collection).await?;
    set_lock_timeout(session, STAGING_LOCK_WAIT).await?;
    for table in &stale {
        let sql = format!("DROP TABLE {table}");
        session.run(format!("dropping {table}, which a failed load left behind"), &sql).await?;
    }
    if !stale.is_empty() {
        state::clear_ranges(session, collection).await?;
    }
    Ok(stale.len())
}
