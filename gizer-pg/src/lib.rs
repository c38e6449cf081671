//! Everything gizer says to PostgreSQL: DDL, COPY, staging and state. PostgreSQL 13 or later.
//!
//! What talks to a server fails with whatever that says; errors are documented where there are others.

pub mod civil_time;
mod column_type;
pub mod connect;
pub mod copy;
pub mod csv;
pub mod ddl;
pub mod disk;
mod error;
pub mod growth;
pub mod ident;
pub mod load;
pub mod printable;
pub mod readiness;
pub mod rows;
pub mod spool;
mod sqlstate;
pub mod state;

pub use connect::{CancelHandle, Session, Target, TlsFault, connect};
pub use error::{Blame, ErrorKind, NameOwner, PgError, Said, Server};
