//! The private servers.

use integration_tests::bench::{Bed, Result};
use integration_tests::rig::Mongod;
use serde_json::Value;

use crate::options::Options;

/// Settings that are shown with the figures.
const SHOWN: &[&str] = &[
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_compression",
    "max_wal_size",
    "checkpoint_timeout",
    "shared_buffers",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "autovacuum",
];

/// Starts both servers.
///
/// # Errors
/// The rig's.
pub(crate) async fn start(options: &Options) -> Result<Bed> {
    let config = format!("[load]\nworkers = {}\n", options.workers);
    Bed::start(Mongod::builder(options.mongod), Bed::CACHE_GB, &options.postgres, config).await
}

/// Versions and settings of both servers.
///
/// # Errors
/// PostgreSQL's.
pub(crate) async fn json(bed: &Bed) -> Result<Value> {
    bed.json(SHOWN).await
}
