//! The source's changes as a stream.

use gizer_flatten::change::{Change, ClusterTime, Positions};

use crate::error::MongoError;

/// One item of a [`ChangeSource`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ChangeEvent {
    /// A change of one collection.
    Change(Change),
    /// All changes up to and including this time have been given, on all shards.
    Watermark {
        /// The watermark (`docs/architecture/oplog.md`).
        time: ClusterTime,
        /// The last entry of each shard at or before `time`: where reading resumes after a restart.
        positions: Positions,
        /// All shards have been read up to here. It is later than `time` while read changes have
        /// not all been given, and while a prepared transaction is undecided: its operations and
        /// the watermark wait for the decision. Then the same watermark is repeated (before the
        /// first one: the start of the source) with a newer `read_to`; changes given since are
        /// later than `time` and belong to the next watermark.
        read_to: ClusterTime,
    },
}

/// A stream of changes, merged over all shards.
///
/// # What an implementation owes
/// * **Complete.** Between two watermarks it gives every committed change of the wanted collections
///   that is later than the first and not later than the second, exactly once.
/// * **Ordered.** Changes come by time, then by the shard's name, then in their order within the
///   entry. No change after a watermark is at or before its time, and watermarks never go back.
/// * **Atomic.** All changes of a multi-document transaction stand between the same two watermarks,
///   at the time of its commit entry. An aborted transaction gives nothing. No watermark lies
///   between a prepare entry and its decision, on any shard, if the transaction touches wanted
///   collections. Other changes in between are given as they come; where such transactions overlap
///   without a gap, the next watermark waits for one.
/// * **Bounded.** Memory stays within the configured limit, whatever the size of a transaction:
///   that is why changes come one by one.
/// * **Live.** While the source is idle, watermarks advance with the shards' no-op entries.
///
/// # What ends the stream
/// Nothing: a source is followed until it is dropped. [`ChangeSource::next`] waits while there is
/// nothing new, and is cancel-safe.
///
/// # What an error means
/// The implementation has already retried what can be retried (elections, restarts). Changes given
/// since the last watermark must not be committed, and the source is to be dropped. After
/// [`MongoError::RolledOver`] and [`MongoError::Diverged`] no source can resume from these
/// positions: the collections must be reloaded. After any other error a new source may be opened at
/// the last watermark's positions.
pub trait ChangeSource: Send {
    /// The next change or watermark.
    ///
    /// # Errors
    /// See the contract of the trait.
    fn next(&mut self) -> impl Future<Output = Result<ChangeEvent, MongoError>> + Send;
}
