//! Reads one shard's log: batch by batch, entry by entry.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::change::ClusterTime;

use super::log::RawLog;
use crate::decode::{DecodedEntry, Piece, PieceEnd, TransactionId, decode};
use crate::error::MongoError;
use crate::position::OplogPosition;
use crate::tail::{OplogBatch, RawEntry};

/// A shard's log and its progress.
pub(super) struct ShardReader<L> {
    pub(super) name: Arc<str>,
    pub(super) log: L,
    batch: Option<OplogBatch>,
    /// Positions of the batch's entries.
    positions: Vec<OplogPosition>,
    /// Number of processed entries of the batch.
    next: usize,
    /// Whether the batch prepares a transaction and does not decide it.
    leaves_undecided: bool,
    /// The last processed entry.
    position: OplogPosition,
    reached: ClusterTime,
}

impl<L: RawLog> ShardReader<L> {
    pub(super) fn new(log: L, from: OplogPosition) -> ShardReader<L> {
        ShardReader {
            name: log.name().into(),
            log,
            batch: None,
            positions: Vec::new(),
            next: 0,
            leaves_undecided: false,
            position: from,
            reached: ClusterTime::default(),
        }
    }

    /// Reads the next batch. Cancel-safe.
    pub(super) async fn read(&mut self) -> Result<(), MongoError> {
        let batch = self.log.next_batch().await?;
        let mut undecided = HashSet::new();
        self.positions.clear();
        for entry in batch.entries() {
            self.positions.push(entry.position());
            if entry.operation() == b"c" {
                note_decision(&entry, &mut undecided);
            }
        }
        self.leaves_undecided = !undecided.is_empty();
        self.reached = self.reached.max(batch.reached());
        self.next = 0;
        self.batch = Some(batch);
        self.leave_at_end();
        Ok(())
    }

    /// Position of the next entry; `None` if it must be read first.
    pub(super) fn head(&self) -> Option<OplogPosition> {
        self.positions.get(self.next).copied()
    }

    /// The next entry; it shares the batch's memory.
    pub(super) fn entry(&self) -> Option<Bytes> {
        self.batch.as_ref()?.entry(self.next)
    }

    /// Marks the next entry as processed.
    pub(super) fn advance(&mut self) {
        if let Some(head) = self.head() {
            self.position = head;
            self.next += 1;
        }
        self.leave_at_end();
    }

    /// Frees the batch at its end.
    fn leave_at_end(&mut self) {
        if self.next >= self.positions.len() {
            self.batch = None;
        }
    }

    /// The last processed entry; at first the start position.
    pub(super) fn position(&self) -> OplogPosition {
        self.position
    }

    /// The log has been read up to and at this time; zero before the first batch.
    pub(super) fn reached(&self) -> ClusterTime {
        self.reached
    }

    /// Whether a transaction prepared in the batch is still undecided at its end.
    pub(super) fn leaves_undecided(&self) -> bool {
        self.leaves_undecided
    }
}

/// Tracks prepared transactions. A malformed entry is reported in its turn.
fn note_decision(entry: &RawEntry<'_>, undecided: &mut HashSet<TransactionId>) {
    match decode(entry) {
        Ok(DecodedEntry::Operations(Piece { transaction: Some(transaction), end: PieceEnd::Prepared, .. })) => {
            undecided.insert(transaction);
        }
        Ok(DecodedEntry::Commit { transaction, .. } | DecodedEntry::Abort { transaction }) => {
            undecided.remove(&transaction);
        }
        _ => {}
    }
}
