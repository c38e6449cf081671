//! Room on the disk of a server that runs on this machine.

use std::path::PathBuf;

use crate::connect::Session;
use crate::error::PgError;

/// Bytes that are free where the server keeps its data; `None` where that is not known: on another
/// machine, or to a role that may not read `data_directory` (PostgreSQL documentation, "File
/// Locations").
///
/// # Errors
/// Whatever the server says.
pub async fn free_disk(session: &Session) -> Result<Option<u64>, PgError> {
    let sql = "SELECT pg_catalog.inet_server_addr() IS NOT DISTINCT FROM pg_catalog.inet_client_addr(), setting \
               FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_settings ON name = 'data_directory'";
    let row = session.query_one("asking where the server keeps its data", sql, &[]).await?;
    let (is_here, folder): (bool, Option<String>) = (row.get(0), row.get(1));
    let Some(folder) = folder.filter(|_| is_here).map(PathBuf::from) else { return Ok(None) };
    // A server in a container may have the same address, and not this folder.
    let Ok(room) = rustix::fs::statvfs(&folder) else { return Ok(None) };
    Ok(Some(room.f_bavail.saturating_mul(room.f_frsize)))
}
