//! What gizer may not leave behind once it is at rest.

use integration_tests::rig::wait_for;
use serde_json::Value;

use crate::world::{LIMIT, World};

/// Everything in PostgreSQL that only a run in progress may have, a line each.
const IN_POSTGRES: &str = "\
    SELECT 'staging table ' || relname AS what FROM pg_class WHERE relname LIKE 'gizer\\_new\\_%' AND relkind IN ('r', 'v', 'm') \
    UNION ALL SELECT 'temporary table ' || relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r' \
    UNION ALL SELECT 'range of a load of ' || collection FROM gizer_range \
    UNION ALL SELECT 'repair of ' || collection FROM gizer_repair \
    UNION ALL SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts WHERE database = current_database() \
    UNION ALL SELECT 'run without an end, since ' || time_start FROM qmetlstatus WHERE time_end IS NULL";

/// Sessions and locks, which the server may take a moment to give up after the end of a process.
const SESSIONS: &str = "\
    SELECT format('session %s: %s', state, left(query, 80)) AS what FROM pg_stat_activity \
    WHERE datname = current_database() AND application_name LIKE 'gizer%' \
    UNION ALL SELECT 'advisory lock' FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
    WHERE l.locktype = 'advisory' AND d.datname = current_database()";

/// Whether nothing is left over. What a load that was killed has spooled may stay until the next load.
pub(crate) async fn expect_none(world: &World<'_>, was_killed: bool) {
    let mut sessions = Vec::new();
    let gone = wait_for("gizer's sessions to be gone", LIMIT, async || {
        sessions = world.rows(SESSIONS).await;
        sessions.is_empty().then_some(())
    });
    assert!(gone.await.is_ok(), "left over: {sessions:?}");
    let left: Vec<Value> = world.rows(IN_POSTGRES).await;
    assert!(left.is_empty(), "left over in PostgreSQL: {left:?}");
    let spool = world.gizer.folder().join("spool");
    let files: Vec<_> = std::fs::read_dir(spool).into_iter().flatten().flatten().map(|file| file.path()).collect();
    let most = if was_killed { world.databases.len() } else { 0 };
    assert!(files.len() <= most, "left over on disk: {files:?}");
}
