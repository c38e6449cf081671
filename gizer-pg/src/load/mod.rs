//! A load: fills staging tables next to the live ones, then swaps them in by rename.
//!
//! ```text
//!   Load::begin ── refused by name if something prevents it; lock, epoch, empty staging tables
//!   Load::resume ── or: the staging tables of an interrupted load, and what is left of it
//!        │
//!        ├── Load::sink ──▶ CopySink: copy … commit, copy … commit, finish     (any number of connections at once)
//!        │
//!        ├── Load::text_sink ──▶ TextSink: the classic text files, a transaction each
//!        │
//!   Load::build_keys ── primary keys, the indexes and constraints that people have added to the live tables, ANALYZE
//!        │
//!   Load::swap ── live tables dropped, staging tables renamed, state rows: one transaction
//! ```
//!
//! [`swap_together`] is the last step for several loads, in one transaction.
//!
//! Until the swap has committed the live tables are as they were. A load that dies leaves its staging tables behind, and
//! next to them which ranges are in them; the next load of that collection resumes there, or drops them first. Where none is
//! due, [`drop_leftovers`] drops what a failed load has left.
//!
//! [`Retyping`] does the same for some tables of a collection, from their own rows.
//!
//! What people have made of the live tables is not lost in silence: indexes, constraints, rights, storage parameters and
//! comments on columns are carried over, views are recreated, and anything else is refused by name before the first row
//! is read.

mod additions;
mod adopt;
mod cancels;
mod dependents;
pub(crate) mod description;
pub(crate) mod grants;
pub(crate) mod holders;
mod leftovers;
mod lifecycle;
pub(crate) mod locks;
mod names;
mod remake;
mod resync;
mod retype;
mod settings;
mod sink;
mod staging;
mod standing;
mod survey;
mod swap;
mod table_style;
mod text;
mod views;

pub use leftovers::drop_leftovers;
pub use lifecycle::{Earlier, Load, LoadRequest, LoadSource};
pub use resync::Resync;
pub use retype::{AnyKey, RetypedVersion, Retyping, retyping_statements};
pub(crate) use sink::amount;
pub use sink::{CopySink, LoadFence};
pub use staging::KeySettings;
pub use standing::{Standing, changed_tables, standing};
pub use survey::{LiveTable, Origin, Survey, survey};
pub use swap::{SwapPart, SwapSettings, Swapped, swap_together};
pub use text::TextSink;

use gizer_flatten::Tally;
use gizer_flatten::range::Place;

use crate::copy::{Buffers, EncodedUnit, UnitEncoder};
use crate::error::PgError;

/// The last stage of a load: takes encoded rows and makes them the database's, range by range.
///
/// # Contract
/// * A range is one transaction. [`copy`](RangeSink::copy) begins it where none is open; [`commit`](RangeSink::commit) ends it.
///   After `commit` has returned `Ok` all of the range's rows and rejects are committed, and where it has a place, that
///   it is written; after any `Err` nothing of it is, with one exception: if the connection is lost during the commit itself
///   ([`PgError::is_connection_lost`]), nobody knows which of the two it is.
/// * What is committed outlives gizer at once. It outlives a crash of the server from the moment on at which a later
///   transaction, the swap above all, has been committed durably. A crash of the server loses the last ranges as a whole: their
///   rows, and that they are written.
/// * The fence is checked in the same transaction: a range of a load that another run has taken over is rolled back,
///   and `commit` fails with [`PgError::Fenced`].
/// * Every error rolls the whole range back. After one that the data are at fault for ([`PgError::is_data_rejected`]) the
///   next `copy` begins another range; after any other nothing more may be written to the sink.
/// * Ranges of one load may be written by several sinks at once and in any order.
/// * Cancelling (dropping a future) rolls the range back.
pub trait RangeSink: Send {
    /// What encodes rows in the form that this sink takes.
    type Encoder: UnitEncoder;

    /// Copies some rows of the current range, and gives their buffers back for others.
    ///
    /// # Errors
    /// See the contract.
    fn copy(&mut self, rows: EncodedUnit) -> impl Future<Output = Result<Buffers, PgError>> + Send;

    /// Commits the current range; gives the number of its rows.
    ///
    /// # Errors
    /// See the contract.
    fn commit(&mut self, done: RangeDone<'_>) -> impl Future<Output = Result<u64, PgError>> + Send;

    /// Nothing more comes. Says how much was written.
    ///
    /// # Errors
    /// If what was written cannot be relied on.
    fn finish(self) -> impl Future<Output = Result<Written, PgError>> + Send;

    /// Writes a range without a place, whose rows are all here.
    ///
    /// # Errors
    /// See the contract.
    fn write(&mut self, rows: EncodedUnit) -> impl Future<Output = Result<Buffers, PgError>> + Send {
        async move {
            let buffers = self.copy(rows).await?;
            self.commit(RangeDone::default()).await?;
            Ok(buffers)
        }
    }
}

/// What a range was.
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeDone<'a> {
    /// Where it lies, and what was counted; `None` if it cannot be read from there again: then nothing is recorded.
    pub place: Option<(&'a Place, &'a Tally)>,
    /// Bytes of its documents.
    pub bytes: u64,
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
    /// Rejected documents.
    pub rejected: u64,
    /// Ranges: transactions.
    pub ranges: u64,
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
        self.ranges += other.ranges;
        self.copies += other.copies;
    }
}
