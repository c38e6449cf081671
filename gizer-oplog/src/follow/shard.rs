//! One shard's log: a batch at a time, entry by entry.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::change::ClusterTime;

use super::log::RawLog;
use crate::decode::{Decoded, Piece, PieceEnd, TransactionId, decode};
use crate::error::MongoError;
use crate::position::OplogPosition;
use crate::tail::{OplogBatch, RawEntry};

/// A shard's log and how far it has been looked at.
pub(super) struct Shard<L> {
    pub(super) name: Arc<str>,
    pub(super) log: L,
    batch: Option<OplogBatch>,
    /// Places of the batch's entries.
    positions: Vec<OplogPosition>,
    /// How many of them have been looked at.
    next: usize,
    /// Whether a transaction that the batch prepares is not decided in it.
    leaves_undecided: bool,
    /// The last entry that was looked at.
    position: OplogPosition,
    reached: ClusterTime,
}

impl<L: RawLog> Shard<L> {
    pub(super) fn new(log: L, from: OplogPosition) -> Shard<L> {
        Shard {
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

    /// Reads the next batch. Nothing is lost when this is dropped half-way.
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

    /// Where the next entry stands; `None` if it has to be read first.
    pub(super) fn head(&self) -> Option<OplogPosition> {
        self.positions.get(self.next).copied()
    }

    /// The next entry, which shares the batch's memory.
    pub(super) fn entry(&self) -> Option<Bytes> {
        self.batch.as_ref()?.entry(self.next)
    }

    /// The next entry has been looked at.
    pub(super) fn advance(&mut self) {
        if let Some(head) = self.head() {
            self.position = head;
            self.next += 1;
        }
        self.leave_at_end();
    }

    /// At its end a batch is let go of.
    fn leave_at_end(&mut self) {
        if self.next >= self.positions.len() {
            self.batch = None;
        }
    }

    /// The last entry that was looked at; at first where reading began.
    pub(super) fn position(&self) -> OplogPosition {
        self.position
    }

    /// Everything up to and at this time has been read; zero before the first batch.
    pub(super) fn reached(&self) -> ClusterTime {
        self.reached
    }

    /// Whether a transaction that is prepared in the batch is not decided in it: that may take its time.
    pub(super) fn leaves_undecided(&self) -> bool {
        self.leaves_undecided
    }
}

/// Keeps account of prepared transactions. What cannot be decoded is told when it is that entry's turn: what lies before
/// it can still be given.
fn note_decision(entry: &RawEntry<'_>, undecided: &mut HashSet<TransactionId>) {
    match decode(entry) {
        Ok(Decoded::Operations(Piece { transaction: Some(transaction), end: PieceEnd::Prepared, .. })) => {
            undecided.insert(transaction);
        }
        Ok(Decoded::Commit { transaction, .. } | Decoded::Abort { transaction }) => {
            undecided.remove(&transaction);
        }
        _ => {}
    }
}
