//! Reads single documents by their `_id`.
//!
//! ```text
//!   ids, and when ──▶ begin ──▶ next ──▶ DocumentBatch, …
//!                                └─▶ None: all were given, and the collection is the same as before
//! ```

mod command;
mod queue;
mod reads;

use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::ClusterTime;

pub use reads::ClusterLookUp;

use crate::error::MongoError;
use crate::sources::{ReadAt, WatchedCollection};

/// A wanted `_id`, and on which shards to look first and last.
///
/// Migrations leave copies behind and create them ahead of time. A document belongs to the shard
/// that last wrote it other than by migration. A router knows this by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedId {
    /// A document of one field, `_id`.
    pub id: Bytes,
    /// The shard that wrote it last, if known.
    pub first: Option<Arc<str>>,
    /// A shard on which a migration touched it.
    pub last: Option<Arc<str>>,
}

/// Reads documents by `_id` as of a cluster time.
///
/// # What an implementation owes
/// * **Complete.** Each `_id` is looked for on every shard. A document is given exactly once; of
///   two copies left by a migration, that of the first shard for the `_id`.
/// * **As of a time.** See [`ReadAt`]. [`LookUp::read_until`] gives the time by which all were
///   read.
/// * **Absent means deleted.** A read of a dropped collection gives nothing and no error (seen on
///   4.4, 5.0 and 6.0). So [`LookUp::next`] ends with `None` only if the collection's UUID was the
///   same before and after the reads, on every shard; until then its results are provisional.
/// * **Ids by value.** The server compares: 1 and 1.0 are equal, and a collation counts.
/// * **Bounded.** One server reply at a time.
///
/// # What an error means
/// The look-up is over. [`MongoError::TimeOutOfReach`]: the server no longer keeps that time; use
/// [`ReadAt::NotBefore`] or [`ReadAt::Committed`]. [`MongoError::CollectionChanged`]: dropped,
/// renamed or replaced, now or by that time.
pub trait LookUp: Send {
    /// Starts a look-up; an unfinished one is abandoned.
    ///
    /// # Errors
    /// See the contract of the trait.
    fn begin(
        &mut self,
        collection: &WatchedCollection,
        ids: Vec<WantedId>,
        at: ReadAt,
    ) -> impl Future<Output = Result<(), MongoError>> + Send;

    /// The next documents, in any order; `None` at the end. Ids without one have no document.
    ///
    /// # Errors
    /// See the contract of the trait.
    fn next(&mut self) -> impl Future<Output = Result<Option<DocumentBatch>, MongoError>> + Send;

    /// Whether the oplog lacks the collection's deletions: it is capped, before 5.0.
    fn hides_deletions(&self) -> bool;

    /// After [`LookUp::next`] gave `None`: every document was read at or before this time.
    fn read_until(&self) -> ClusterTime;
}
