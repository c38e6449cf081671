//! The oplogs of all shards, followed as one stream of changes.
//!
//! ```text
//!   RawLog (tail)  ──OplogBatch──▶ Shard ─┐
//!   RawLog …                       Shard ─┼─▶ Merged ──ChangeEvent──▶
//!                                    …   ─┘     │ ▲
//!                  pieces of undecided          ▼ │ when they are decided
//!                  transactions                HeldBack (memory, then SpillFile)
//! ```
//!
//! # Order
//! Entries are looked at by time, at equal times by the shard's name, and one is looked at only when no log can still give one that
//! comes before it. Each shard has one batch in memory at most: where one has much to give and another one nothing, the first waits.
//! All logs that have nothing left are waited for at once.
//!
//! # The watermark
//! W is a time up to which every entry of every shard has been looked at, and at which nobody can see half of a
//! transaction. A transaction that is prepared becomes visible at its commit timestamp, which lies between its prepare entry and its
//! commit entry, and is not known before the commit is read. Documents as they were at a W in
//! between would have its writes or not, while its changes are given with the commit entry, so after W: the documents that other
//! changes have touched would show it, and the others would not. So there is no watermark from the prepare entry to the decision. Changes of
//! other entries in between are given as they come, and belong to the batch that the decision ends. Transactions that touch nothing
//! of interest hold nothing back.
//!
//! # Positions
//! A saved position may lie behind the first pieces of a transaction whose last one lies after it: a large transaction that was not
//! prepared takes effect with its last entry, and nothing of it can be seen at a W before that, so nothing is held back. Where an entry
//! leads back (`prevOpTime`) to one that was not read, that one is looked up in the log. So nothing has to be saved but
//! positions, and a crash loses nothing. The same goes for a commit whose prepare entry lies before a position that was taken while the
//! transaction was in progress. No watermark can have been such a position, but the beginning of a load can: whoever begins there opens
//! the source before the entries of those transactions (see [`Oplog::before_undecided`]), else watermarks may come
//! between their prepare and their decision, and of no others.
//!
//! # Memory
//! A batch a shard, what [`FollowOptions::held_back_bytes`] allows, and one piece of a transaction. What is held back beyond that
//! lies in a file without a name in [`FollowOptions::spill_dir`].

mod giving;
mod interest;
mod log;
mod merge;
mod shard;
mod spill;
mod transactions;

use std::fmt;
use std::path::PathBuf;

use futures::future::try_join_all;
use gizer_flatten::change::Positions;

pub use interest::Interest;

use self::log::ShardLog;
use self::merge::{Limits, Merged};
use self::spill::SpillFile;
use self::transactions::HeldBack;
use crate::changes::{ChangeEvent, ChangeSource};
use crate::error::MongoError;
use crate::position::Oplog;
use crate::position::OplogPosition;
use crate::tail::TailOptions;

/// How oplogs are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowOptions {
    /// How each log is read.
    pub tail: TailOptions,
    /// Bytes of undecided transactions' operations in memory, over all shards; what is beyond that goes to disk.
    pub held_back_bytes: usize,
    /// The folder for that; it is made when it is needed.
    pub spill_dir: PathBuf,
    /// A watermark is due after so many changes: it comes as soon as there can be one.
    pub watermark_changes: usize,
    /// A watermark is due after changes of so many bytes of BSON.
    pub watermark_bytes: usize,
}

impl FollowOptions {
    /// The defaults, which need a folder.
    pub fn new(spill_dir: impl Into<PathBuf>) -> FollowOptions {
        FollowOptions {
            tail: TailOptions::default(),
            held_back_bytes: 16 << 20,
            spill_dir: spill_dir.into(),
            watermark_changes: 50_000,
            watermark_bytes: 64 << 20,
        }
    }
}

/// The changes of the collections of one database, out of the oplogs of all its shards.
///
/// What it owes is in the contract of [`ChangeSource`]. Beyond that:
/// * A change of a collection as a whole (DDL) has a watermark before it, if anything was looked at since the latest one, and one after it, unless
///   another entry has the same time, a prepared transaction is undecided, or it is part of a transaction itself: then the
///   next one comes as soon as there can be one.
/// * Watermarks come after [`FollowOptions::watermark_changes`] and [`FollowOptions::watermark_bytes`], and whenever all that
///   has been read was given.
/// * No watermark lies before the latest of the positions where it began.
pub struct OplogChanges {
    merged: Merged<ShardLog>,
}

impl OplogChanges {
    /// Opens the oplogs at saved positions.
    ///
    /// # Errors
    /// [`MongoError::ShardAdded`] if an oplog has no position, [`MongoError::ShardGone`] if a position has no oplog: in both cases there are
    /// changes that nothing will ever give. [`MongoError::NoUri`] if there is no oplog. A caller who knows where the added shard's log begins to matter can add that position. Else as
    /// [`OplogTail::open`](crate::OplogTail::open).
    pub async fn open(
        oplogs: &[Oplog],
        from: &Positions,
        interest: Interest,
        options: FollowOptions,
    ) -> Result<OplogChanges, MongoError> {
        if oplogs.is_empty() {
            return Err(MongoError::NoUri);
        }
        let opened = pair(oplogs, from)?.into_iter().map(async |(oplog, from)| {
            let log = ShardLog::open(oplog, from, options.tail).await?;
            Ok::<_, MongoError>((log, from))
        });
        let logs = try_join_all(opened.collect::<Vec<_>>()).await?;
        let held = HeldBack::new(options.held_back_bytes, SpillFile::new(options.spill_dir));
        let limits = Limits { changes: options.watermark_changes, bytes: options.watermark_bytes };
        Ok(OplogChanges { merged: Merged::new(logs, interest, held, limits) })
    }

    /// Other collections matter from the next entry on. Transactions that are not decided yet are read again when they are.
    pub fn set_interest(&mut self, interest: Interest) {
        self.merged.set_interest(interest);
    }
}

impl ChangeSource for OplogChanges {
    async fn next(&mut self) -> Result<ChangeEvent, MongoError> {
        self.merged.next().await
    }
}

impl fmt::Debug for OplogChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OplogChanges").finish_non_exhaustive()
    }
}

/// Each oplog with its position.
fn pair<'o>(oplogs: &'o [Oplog], from: &Positions) -> Result<Vec<(&'o Oplog, OplogPosition)>, MongoError> {
    if let Some((shard, saved)) = from.iter().find(|(shard, _)| oplogs.iter().all(|oplog| oplog.name() != **shard)) {
        return Err(MongoError::ShardGone { shard: shard.clone(), saved: saved.clone() });
    }
    let position = |oplog: &'o Oplog| {
        let shard = || oplog.name().to_owned();
        let saved = from.get(oplog.name()).ok_or_else(|| MongoError::ShardAdded { shard: shard() })?;
        let position = OplogPosition::of(saved);
        Ok((oplog, position.ok_or_else(|| MongoError::OtherSource { shard: shard(), saved: saved.clone() })?))
    };
    oplogs.iter().map(position).collect()
}

#[cfg(test)]
mod tests;
