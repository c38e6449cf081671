//! Follows the oplogs of all shards as one stream of changes.
//!
//! ```text
//!   RawLog (tail)  ──OplogBatch──▶ ShardReader ─┐
//!   RawLog …                       ShardReader ─┼─▶ MergedLog ──ChangeEvent──▶
//!                                          …   ─┘     │ ▲
//!                        pieces of undecided          ▼ │ when they are decided
//!                        transactions          OpenTransactions (memory, then SpillFile)
//! ```
//!
//! # Order
//! Entries are processed by time, then by shard name, once no log can still give an earlier one.
//! Each shard has at most one batch in memory: a busy shard waits for a silent one. All exhausted
//! logs are awaited at once.
//!
//! # The watermark
//! W is a time up to which all entries of all shards are processed, and at which no transaction is
//! half visible. A prepared transaction becomes visible at its commit timestamp, between its
//! prepare and commit entries, which only the commit entry tells. Its changes are given with the
//! commit entry. Documents read at a W in between would show its writes where other changes touched
//! them, and not elsewhere. So no watermark lies between a prepare entry and its decision; changes
//! in between are given and belong to the batch that the decision ends. Transactions without wanted
//! operations block nothing.
//!
//! # Positions
//! A saved position may be after the first pieces of a transaction whose last one follows. An
//! unprepared transaction takes effect with its last entry and is invisible before, so it does not
//! block watermarks. Where an entry leads back (`prevOpTime`) to unread ones, they are looked up in
//! the log, so only positions need saving. The same goes for a commit whose prepare entry is before
//! a position taken while the transaction was open. No watermark is such a position, but the start
//! of a load can be: a load opens the source before the entries of those transactions (see
//! [`Oplog::before_undecided`]), or watermarks could come between their prepare and their decision.
//!
//! # Memory
//! One batch per shard, [`FollowOptions::transaction_memory`], and one piece of a transaction.
//! Further operations of open transactions go to an unnamed file in [`FollowOptions::spill_dir`].

mod interest;
mod log;
mod merge;
mod replay;
mod shard;
mod spill;
mod transactions;

use std::fmt;
use std::path::PathBuf;

use futures::future::try_join_all;
use gizer_flatten::change::Positions;

pub use interest::Interest;

use self::log::ShardLog;
use self::merge::{Limits, MergedLog};
use self::spill::SpillFile;
use self::transactions::OpenTransactions;
use crate::changes::{ChangeEvent, ChangeSource};
use crate::error::MongoError;
use crate::position::Oplog;
use crate::position::OplogPosition;
use crate::tail::TailOptions;

/// Options of following.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowOptions {
    /// How each log is read.
    pub tail: TailOptions,
    /// Bytes of undecided transactions in memory, over all shards; the rest is spilled.
    pub transaction_memory: usize,
    /// The folder of the spill file, created when needed.
    pub spill_dir: PathBuf,
    /// Number of changes after which a watermark is due.
    pub watermark_changes: usize,
    /// Bytes of BSON after which a watermark is due.
    pub watermark_bytes: usize,
}

impl FollowOptions {
    /// The defaults, with a spill folder.
    pub fn new(spill_dir: impl Into<PathBuf>) -> FollowOptions {
        FollowOptions {
            tail: TailOptions::default(),
            transaction_memory: 16 << 20,
            spill_dir: spill_dir.into(),
            watermark_changes: 50_000,
            watermark_bytes: 64 << 20,
        }
    }
}

/// Changes of one database's collections, from the oplogs of all shards.
///
/// Beyond the contract of [`ChangeSource`]:
/// * DDL has a watermark before it, if anything was processed since the latest one, and one after
///   it. If another entry has the same time, a prepared transaction is open, or the DDL is part of
///   a transaction, the watermark follows as soon as possible.
/// * Watermarks come after [`FollowOptions::watermark_changes`] and
///   [`FollowOptions::watermark_bytes`], and whenever all read entries have been given.
/// * No watermark is before the latest start position.
pub struct OplogChanges {
    merged: MergedLog<ShardLog>,
}

impl OplogChanges {
    /// Opens the oplogs at saved positions.
    ///
    /// # Errors
    /// [`MongoError::ShardAdded`] if an oplog has no position, [`MongoError::ShardGone`] if a
    /// position has no oplog: changes would be missing. A caller that knows where the added shard
    /// matters can add that position. [`MongoError::NoUri`] without oplogs. Otherwise as
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
        let held = OpenTransactions::new(options.transaction_memory, SpillFile::new(options.spill_dir));
        let limits = Limits { changes: options.watermark_changes, bytes: options.watermark_bytes };
        Ok(OplogChanges { merged: MergedLog::new(logs, interest, held, limits) })
    }

    /// Changes the interest from the next entry on. Undecided transactions are read again.
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
