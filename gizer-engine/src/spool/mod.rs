//! What is touched while a load runs is spooled, so that a small oplog cannot roll over under a long load.
//!
//! ```text
//!   ChangeSource ──▶ Capture ──pages──▶ dyn Spool: FileSpool, or PostgresSpool ([cache])
//!                                           │
//!                                           └──pages──▶ SpooledChanges ──▶ whoever follows; after the spool's end the log itself
//! ```
//!
//! A capture reads the source as following does: decoded, transactions whole and decided, shards merged. What it spools of a change is what
//! following needs: where it is, of which collection, which `_id`, which paths. Documents are read again anyway, so none is in a
//! spool. Between the changes stand marks: the source's watermarks. A spool **covers** the source from its start (not
//! included) to its last mark; what was spooled after that belongs to a mark that has not come, and is not read.
//!
//! A capture that breaks off (no room on the disk, a log that rolls over faster than it is read) does not end the load: it is said
//! once, and the report says how far the spool goes. If the log still reaches back to there, nothing is lost.
//!
//! A transaction that is prepared at the last mark and decided after it is read again from there after a crash. So the log has to
//! hold it from its first entry on until it is decided, which the running capture takes care of.

mod capture;
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
pub use changes::SpooledChanges;
pub use file::{Cut, FileSpool, SpoolError, file_name};
pub use gizer_pg::spool::SpoolIdentity;
pub use postgres::PostgresSpool;
pub use record::{MalformedRecord, Mark, Page, PageWriter, Record, RecordReader};
pub use settings::{SpoolSettings, of_cache};

/// Pages of records, written by one run, and read by it meanwhile.
///
/// # What an implementation owes
/// * **Complete, in order.** [`read`](Spool::read) gives every page that was appended, once, in its order and unchanged, up to the
///   last that ends with a mark.
/// * **Durable.** A page that ends with a mark survives a crash of the machine once [`append`](Spool::append) has returned, and so do
///   those before it. When the spool is opened again it holds these pages and no others.
/// * **Bounded.** It never takes more bytes than its limit: a page that does not fit is not taken, nor is any after it.
/// * **Its own.** As long as it lives no other run writes it; another identity's is never taken for it, nor one of another version.
/// * **Cancel-safe.** A call that is dropped happens as a whole or not at all.
/// * **Errors.** After one the spool covers what it did before, or less; [`span`](Spool::span) says how far.
pub trait Spool: Send + Sync {
    /// What it covers; `None` before it has a start.
    fn span(&self) -> Option<SpoolSpan>;

    /// Adds a page.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be written.
    fn append(&self, page: Page) -> BoxFuture<'_, Result<Appended, Failure>>;

    /// The page after a place; `None` at the end of what it covers. More may be there when it is asked again.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be read.
    fn read(&self, after: Cursor) -> BoxFuture<'_, Result<Option<(Bytes, Cursor)>, Failure>>;

    /// Drops all pages. It covers nothing after `start` from here on; without a start nothing of it is left. Nobody may be reading it.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be written.
    fn trim(&self, start: Option<Positions>) -> BoxFuture<'_, Result<(), Failure>>;
}

/// The part of the source that a spool covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSpan {
    /// Everything that matters after these positions …
    pub start: Positions,
    /// … up to and at these is in the spool.
    pub reached: Positions,
}

/// A place between two pages, as the spool has given it; the default is before all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor(u64);

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It takes so many bytes.
    Taken(u64),
    /// It would go beyond the limit: neither it nor what comes after it is taken.
    Full,
}
