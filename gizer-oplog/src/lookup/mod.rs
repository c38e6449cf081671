//! The stage that reads single documents by their `_id`.
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

/// An `_id` whose document is wanted, and on which shards to look first and last.
///
/// A migration leaves copies behind, and makes them ahead of time. A document belongs to the shard that wrote it last other than
/// by a migration. Behind a router this is of no account: it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedId {
    /// A document of one field, `_id`.
    pub id: Bytes,
    /// The shard that wrote it last, as far as that is known.
    pub first: Option<Arc<str>>,
    /// A shard that a migration has touched it on.
    pub last: Option<Arc<str>>,
}

/// Reads documents by `_id` as of a time of the cluster's clock.
///
/// # What an implementation owes
/// * **Complete.** Each `_id` is looked for on every shard. A document is given exactly once; where
///   a migration has left two copies, it is that of the shard that comes first for the `_id`.
/// * **In time.** As [`ReadAt`] says. [`LookUp::read_until`] tells by when all of them were read.
/// * **"Not there" means deleted.** A read under the name of a dropped collection gives nothing and no error (tried on 4.4, 5.0 and
///   6.0). So [`LookUp::next`] gives `None` only if the collection's UUID was the same before and after the reads, on every
///   shard; until then nothing of what it gave may be relied on.
/// * **Ids by value.** The server compares an `_id` as it compares any: 1 and 1.0 are the same, and a collection with
///   a collation compares its own way.
/// * **Bounded.** One reply of the server at a time.
///
/// # What an error means
/// The look-up is over. [`MongoError::TimeOutOfReach`]: the server no longer keeps that time, ask for
/// [`ReadAt::NotBefore`] or [`ReadAt::Committed`]. [`MongoError::CollectionChanged`]: dropped, renamed or replaced, now or by that time.
pub trait LookUp: Send {
    /// Begins to read the documents of a collection with these ids; a look-up that is not finished is given up.
    ///
    /// # Errors
    /// See the contract of the trait.
    fn begin(
        &mut self,
        collection: &WatchedCollection,
        ids: Vec<WantedId>,
        at: ReadAt,
    ) -> impl Future<Output = Result<(), MongoError>> + Send;

    /// The next documents, in no particular order; `None` once all were given. An `_id` that was asked for and is in
    /// none of them belongs to no document.
    ///
    /// # Errors
    /// See the contract of the trait.
    fn next(&mut self) -> impl Future<Output = Result<Option<DocumentBatch>, MongoError>> + Send;

    /// Whether the oplog does not tell which documents of the collection that was last asked for are gone: it is capped, on a server
    /// before 5.0.
    fn hides_deletions(&self) -> bool;

    /// Once [`LookUp::next`] has given `None`: every document was read at this time or before it.
    fn read_until(&self) -> ClusterTime;
}
