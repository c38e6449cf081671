//! A load: into staging tables beside the live ones, then swapped in by rename.
//!
//! ```text
//!   Load::begin ── what is in the way is told now; lock, epoch, empty staging tables
//!        │
//!        ├── Load::sink ──▶ CopySink::write … write ── finish     (any number of connections at once)
//!        │
//!   Load::build_keys ── primary keys, the indexes and constraints that people have added to the live tables, ANALYZE
//!        │
//!   Load::swap ── live tables dropped, staging tables renamed, state rows: one transaction
//! ```
//!
//! [`swap_together`] is the last step for several loads, in one transaction.
//!
//! Until the swap has committed the live tables are as they were. A load that dies leaves its staging tables behind;
//! the next load of that collection drops them first.
//!
//! What people have made of the live tables is not lost in silence: indexes, constraints, rights, storage parameters and
//! comments on columns are carried over, views are made again, and anything else is refused by name before the first row
//! is read.

mod additions;
mod cancels;
mod dependents;
mod description;
mod grants;
mod holders;
mod lifecycle;
mod locks;
mod names;
mod remake;
mod settings;
mod sink;
mod staging;
mod survey;
mod swap;
mod views;

pub use lifecycle::{Load, LoadRequest, LoadSource};
pub use sink::{CopySink, LoadFence};
pub use staging::KeySettings;
pub use survey::{LiveTable, Origin, Survey, survey};
pub use swap::{SwapPart, SwapSettings, Swapped, swap_together};

use crate::copy::{Buffers, EncodedUnit};
use crate::error::PgError;

/// The last stage of a load: takes units of encoded rows and makes them the database's.
///
/// # Contract
/// * A unit is one transaction: after `write` has returned `Ok` all of its rows and rejects are committed, after `Err`
///   none are, with one exception: if the connection is lost during the commit itself
///   ([`PgError::is_connection_lost`]), nobody knows which of the two it is.
/// * What is committed outlives gizer at once. It outlives a crash of the server from the moment on at which a later
///   transaction, the swap above all, has been committed durably; a server that crashes ends every connection, so no
///   load goes on over such a loss without knowing.
/// * The fence is checked in the same transaction: a unit of a load that another run has taken over is rolled back,
///   and `write` fails with [`PgError::Fenced`].
/// * After an error nothing more may be written to this sink. What the error means: data at fault
///   ([`PgError::is_data_rejected`]), another run ([`PgError::Fenced`]), or the server.
/// * Units of one load may be written by several sinks at once and in any order.
/// * Cancelling a `write` (dropping its future) rolls the unit back.
pub trait UnitSink: Send {
    /// Writes a unit in one transaction, and gives its buffers back for the next.
    ///
    /// # Errors
    /// See the contract.
    fn write(&mut self, unit: EncodedUnit) -> impl Future<Output = Result<Buffers, PgError>> + Send;

    /// Nothing more comes. Says how much was written.
    ///
    /// # Errors
    /// If what was written cannot be relied on.
    fn finish(self) -> impl Future<Output = Result<Written, PgError>> + Send;
}

/// How much a sink has written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Rows by table, in the order of the layout's tables.
    pub rows: Vec<u64>,
    /// Bytes of COPY data.
    pub bytes: u64,
    /// Documents whose rows these are.
    pub documents: u64,
    /// Documents kept aside.
    pub rejected: u64,
    /// Transactions.
    pub units: u64,
    /// COPY statements.
    pub copies: u64,
}

impl std::ops::AddAssign<&Written> for Written {
    fn add_assign(&mut self, other: &Written) {
        if self.rows.len() < other.rows.len() {
            self.rows.resize(other.rows.len(), 0);
        }
        for (sum, rows) in self.rows.iter_mut().zip(&other.rows) {
            *sum += rows;
        }
        self.bytes += other.bytes;
        self.documents += other.documents;
        self.rejected += other.rejected;
        self.units += other.units;
        self.copies += other.copies;
    }
}
