//! The stage that reads single documents by their `_id`.

use bytes::Bytes;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::{ClusterTime, Namespace};

use crate::error::MongoError;

/// Documents as they were at one time.
#[derive(Debug, Clone)]
pub struct Found {
    /// The time at which all of them were read.
    pub at: ClusterTime,
    /// Those that were there, in no particular order. An `_id` that was asked for and is in none of them belongs to no
    /// document at that time.
    pub batches: Vec<DocumentBatch>,
}

/// Reads documents by `_id` as of a time of the cluster's clock.
///
/// # What an implementation owes
/// * **One time.** All documents of an answer are as of [`Found::at`]: the time that was asked for, or, where none was,
///   one that the implementation chose and that is not before the request.
/// * **Complete.** Each `_id` is looked for on every shard. A document is in the answer exactly once; where
///   a migration has left two copies, it is the one that its shard owns.
/// * **"Not there" means deleted.** A read under the name of a dropped collection gives nothing and no error (tried on 4.4, 5.0 and
///   6.0). So an answer is given only if the collection's UUID was the same before and after the read.
/// * **Ids by value.** An `_id` is compared as MongoDB compares it: 1 and 1.0 are the same, and a collection with
///   a collation compares its own way.
///
/// # What an error means
/// Nothing was read. [`MongoError::TimeOutOfReach`]: the server no longer keeps that time, ask without one.
/// [`MongoError::CollectionChanged`]: dropped, renamed or replaced.
pub trait LookUp: Send {
    /// Reads the documents of `namespace` with these ids: documents of one field `_id`, each.
    ///
    /// # Errors
    /// See the contract of the trait.
    fn look_up(
        &mut self,
        namespace: &Namespace,
        ids: &[Bytes],
        at: Option<ClusterTime>,
    ) -> impl Future<Output = Result<Found, MongoError>> + Send;
}
