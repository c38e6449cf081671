//! What people do to the tables: indexes, constraints, triggers, locks.

use std::time::Duration;

use super::plan::{BackendFault, LockMode, TargetChange};
use crate::world::World;

/// Nobody who changes a table waits for long.
const PATIENCE: &str = "SET lock_timeout = '3s'";

/// Changes a table, unless that was done before or its lock cannot be had.
pub(super) async fn change(world: &World<'_>, change: &TargetChange) {
    let sql = match change {
        TargetChange::Index => "CREATE INDEX people_state ON things (state)",
        TargetChange::Unique => "CREATE UNIQUE INDEX people_slot ON slots (slot)",
        TargetChange::Check => {
            "ALTER TABLE things ADD CONSTRAINT people_any CHECK (count IS NULL OR count > -9999999999)"
        }
        TargetChange::Trigger => {
            "CREATE SCHEMA people; CREATE TABLE people.log (id bigint); \
             CREATE FUNCTION people.note() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO people.log VALUES (coalesce(NEW.id, OLD.id)); RETURN NULL; END $$; \
             CREATE TRIGGER people_note AFTER INSERT OR UPDATE OR DELETE ON counts \
             FOR EACH ROW EXECUTE FUNCTION people.note()"
        }
        TargetChange::Refusing => "ALTER TABLE things ADD CONSTRAINT people_small CHECK (count < 900) NOT VALID",
        TargetChange::NotNull => "ALTER TABLE things ADD CONSTRAINT people_name CHECK (name IS NOT NULL) NOT VALID",
    };
    let done = world.client().await.batch_execute(&format!("{PATIENCE}; {sql}")).await;
    if let Err(error) = done {
        println!("    not done: {}", error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string));
    }
}

/// Holds a lock in the background.
pub(super) async fn hold(
    world: &World<'_>,
    collection: &str,
    mode: LockMode,
    time: Duration,
) -> tokio::task::JoinHandle<()> {
    let client = world.client().await;
    let table = format!("\"{}\"", collection.replace('"', "\"\""));
    let lock = match mode {
        LockMode::Exclusive => format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"),
        LockMode::Rows => format!("SELECT FROM {table} FOR UPDATE"),
        LockMode::Reading => format!("SELECT FROM {table}"),
    };
    tokio::spawn(async move {
        // The server may go meanwhile, and the lock with it.
        if client.batch_execute(&format!("{PATIENCE}; BEGIN; {lock}")).await.is_ok() {
            tokio::time::sleep(time).await;
            let _ = client.batch_execute("ROLLBACK").await;
        }
    })
}

/// What an administrator does to sessions that are in the way.
pub(super) async fn end_sessions(world: &World<'_>, fault: BackendFault) {
    let function = match fault {
        BackendFault::Terminated => "pg_terminate_backend",
        BackendFault::Canceled => "pg_cancel_backend",
    };
    let sql = format!(
        "SELECT {function}(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'gizer%'"
    );
    world.client().await.batch_execute(&sql).await.unwrap();
}
