//! Servers that all tests of a process share, since a start costs a second and a database nothing.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

use super::{Error, Mongod, Postgres, Version};

/// The process's own mongod of a version: a replica set of one, started when first asked for.
///
/// Tests take a database name of their own from [`unique_name`]. They must not kill or restart a
/// shared server; that is what [`Mongod::start`] is for.
///
/// # Errors
/// As [`Mongod::start`]; the next caller tries again.
pub async fn shared_mongod(version: Version) -> Result<&'static Mongod, Error> {
    static SERVERS: [OnceCell<Mongod>; Version::ALL.len()] = [const { OnceCell::const_new() }; Version::ALL.len()];
    SERVERS[version as usize].get_or_try_init(|| Mongod::start(version)).await
}

/// The process's own PostgreSQL, started when first asked for.
///
/// Tests take a database of their own from [`Postgres::create_database`]. They must not kill or restart a shared server;
/// that is what [`Postgres::start`] is for.
///
/// # Errors
/// As [`Postgres::start`]; the next caller tries again.
pub async fn shared_postgres() -> Result<&'static Postgres, Error> {
    static SERVER: OnceCell<Postgres> = OnceCell::const_new();
    SERVER.get_or_try_init(Postgres::start).await
}

/// A name that no other test uses: `prefix`, this process's id, and a number. It is an identifier to both
/// MongoDB and PostgreSQL, without quotes, if `prefix` is.
pub fn unique_name(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}_{}_{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
