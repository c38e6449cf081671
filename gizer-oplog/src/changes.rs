//! The stage that gives the source's changes.

use gizer_flatten::change::{Change, ClusterTime, Positions};

use crate::error::MongoError;

/// What a [`ChangeSource`] gives, one after the other.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ChangeEvent {
    /// A change of one collection.
    Change(Change),
    /// Everything up to and at this time has been given, on all shards.
    Watermark {
        /// The time up to which all shards are known (`docs/architecture/oplog.md`).
        time: ClusterTime,
        /// For each shard its last entry at or before `time`: where reading goes on after a restart.
        positions: Positions,
        /// Everything up to this has been read, on all shards. It lies after `time` where not all of that has been given yet, and while
        /// a transaction up to then is prepared and undecided: its operations are held back, and so is the watermark. The same
        /// watermark comes again then as this goes on (or, before the first one, where the source was opened), with nothing
        /// new: changes that were given since the first time lie after it, and wait for the next one.
        read_to: ClusterTime,
    },
}

/// A stream of changes, merged over all shards: the oplog, or later change streams.
///
/// # What an implementation owes
/// * **Complete.** Between two watermarks it gives every committed change whose time lies after the first and not
///   after the second, of every collection that it was made for, exactly once.
/// * **In order.** Changes come by time; at equal times by the shard's name; within one entry in their own order. No change
///   after a watermark is at or before its time, and watermarks never go back.
/// * **Whole transactions.** All changes of a multi-document transaction stand between the same two watermarks, at the
///   time of its commit entry. An aborted transaction gives nothing. No watermark lies between a prepare entry and
///   its decision, on any shard, if the transaction touches what the source was made for. Other changes in between are given as
///   they come; where such transactions overlap without a gap, the next watermark waits for one.
/// * **Bounded.** It keeps no more in memory than it was allowed to, whatever the size of a transaction: that is why
///   changes come one by one, and a transaction is not one value.
/// * **Alive.** While nothing happens in the source, watermarks go on with the shards' no-op entries.
///
/// # What ends the stream
/// Nothing: a source is followed until it is dropped. [`ChangeSource::next`] waits while there is nothing new, and
/// may be cancelled while it waits without losing anything.
///
/// # What an error means
/// The implementation has already tried what can be tried (reconnecting through elections and restarts). What was given since
/// the last watermark must not be committed, and the source is to be dropped.
/// [`MongoError::RolledOver`] and [`MongoError::Diverged`] mean that no source made at these positions can ever go on:
/// a load is due. After any other error a new source may be made at the last watermark's positions.
pub trait ChangeSource: Send {
    /// The next change or watermark.
    ///
    /// # Errors
    /// See the contract of the trait.
    fn next(&mut self) -> impl Future<Output = Result<ChangeEvent, MongoError>> + Send;
}
