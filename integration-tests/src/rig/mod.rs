//! Servers and programs for end-to-end tests.
//!
//! | wanted | use |
//! |---|---|
//! | a MongoDB or PostgreSQL server that many tests share | [`shared_mongod`], [`shared_postgres`], with [`unique_name`] |
//! | a server of one's own, to kill, restart or set up in a special way | [`Mongod::builder`], [`Postgres::builder`] |
//! | several members, to see a fail-over | [`ReplicaSet::start`] |
//! | a bad network before a server | [`Proxy`] |
//! | a network that loses packets | [`Island`] |
//! | a connection pooler before PostgreSQL | [`PgBouncer`] |
//! | the `gizer` program | [`Gizer`] |
//! | a condition that comes true a little later | [`wait_until`], [`wait_for`] |
//!
//! Servers listen on the loopback interface only, and keep everything in one temporary folder each. Server and folder
//! go when their handle is dropped, and also when the test process dies without dropping anything: statics,
//! `abort`, Ctrl-C or `kill -9` make no difference. Set `GIZER_RIG_KEEP` to keep the folders, with
//! the servers' logs in them.
//!
//! No handle holds anything of a tokio runtime, so a handle may be shared by tests that have a runtime each.
//! Clients are made per test.

mod error;
mod gizer;
mod guard;
mod install;
mod island;
mod mongod;
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod proxy;
mod replica_set;
mod server;
mod shared;
mod wait;

pub use error::Error;
pub use gizer::{Finished, Gizer, RunningGizer};
pub use install::Version;
pub use island::{Island, Strait};
pub use mongod::{Mongod, MongodBuilder, MongodTls};
pub use pgbouncer::PgBouncer;
pub use postgres::{POSTGRES_PASSWORD, POSTGRES_USER, Postgres, PostgresBuilder};
pub use process::Signal;
pub use proxy::{Proxy, ProxyMode};
pub use replica_set::ReplicaSet;
pub use shared::{shared_mongod, shared_postgres, unique_name};
pub use wait::{wait_for, wait_until};
