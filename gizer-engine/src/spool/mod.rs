//! Spools changes during a load, so that a small oplog cannot roll over under a long load.
//!
//! ```text
//!   ChangeSource ──▶ Capture ──pages──▶ dyn Spool: FileSpool, or PostgresSpool ([cache])
//!                                           │
//!                                           └──pages──▶ SpooledChanges ──▶ whoever follows; after the spool's end the log itself
//! ```
//!
//! A capture reads the source as following does: decoded, shards merged, transactions complete. Of
//! each change it spools what following needs: position, collection, `_id`, paths. Documents are
//! read again anyway, so none is spooled. Between changes are marks, the source's watermarks. A
//! spool **covers** the source from its start (exclusive) to its last mark; changes after that mark
//! are not read.
//!
//! A capture that fails (disk full, log rolled over) does not end the load: it is logged once, and
//! the report says how far the spool reaches. The log may still have the rest.
//!
//! A transaction prepared at the last mark and decided later is read again after a crash. So the
//! log must hold it from its first entry until the decision, which the running capture ensures.

mod capture;
mod captured;
mod changes;
mod file;
mod postgres;
mod record;
mod settings;

use bytes::Bytes;
use futures::future::BoxFuture;
use gizer_flatten::change::Positions;

use crate::failure::Failure;

pub use capture::{Capture, CaptureEnd, CaptureReport};
pub(crate) use captured::{end_capture, start_capture};
pub use changes::SpooledChanges;
pub use file::{FileSpool, SpoolError, TruncatedTail, file_name};
pub use gizer_pg::spool::SpoolIdentity;
pub use postgres::PostgresSpool;
pub use record::{MalformedRecord, Page, PageWriter, RecordReader, SpoolMark, SpoolRecord};
pub use settings::{SpoolSettings, of_cache};

/// Pages of records that one run writes and reads at the same time.
///
/// # What an implementation owes
/// * **Complete, ordered.** [`read`](Spool::read) gives every appended page once, in order and
///   unchanged, up to the last one that ends with a mark.
/// * **Durable.** A page that ends with a mark survives a crash of the machine once
///   [`append`](Spool::append) has returned, with all pages before it. A reopened spool holds
///   exactly these.
/// * **Bounded.** It never exceeds its limit: a page that does not fit is refused, and so is every
///   later one.
/// * **Exclusive.** While it lives no other run writes it. It never takes a spool of another
///   identity or version for its own.
/// * **Cancel-safe.** A dropped call happens completely or not at all.
/// * **Errors.** After one the spool covers as much as before or less; see [`span`](Spool::span).
pub trait Spool: Send + Sync {
    /// What it covers; `None` before it has a start.
    fn span(&self) -> Option<SpoolSpan>;

    /// Adds a page.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be written.
    fn append(&self, page: Page) -> BoxFuture<'_, Result<AppendOutcome, Failure>>;

    /// The page after a cursor; `None` at the end of what it covers. A later call may give more.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be read.
    fn read(&self, after: Cursor) -> BoxFuture<'_, Result<Option<(Bytes, Cursor)>, Failure>>;

    /// Drops all pages. With `start` it becomes an empty spool from there; without, it is removed.
    /// Nobody may be reading it.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be written.
    fn trim(&self, start: Option<Positions>) -> BoxFuture<'_, Result<(), Failure>>;
}

/// The part of the source that a spool covers: changes after `start`, up to and at `reached`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSpan {
    /// Its start, exclusive.
    pub start: Positions,
    /// Its end, inclusive.
    pub reached: Positions,
}

/// A place between two pages; the default is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor(u64);

/// Result of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The page was written and takes this many bytes.
    Taken(u64),
    /// The page would exceed the limit: neither it nor any later one is written.
    Full,
}
