//! Gives the changes of a decided transaction, one by one.

use std::collections::VecDeque;

use bytes::Bytes;
use gizer_schema::raw::RawDoc;

use super::transactions::{BufferedOperations, DecidedTransaction, OpenTransactions};
use crate::decode::{DecodeError, DecodedEntry, Piece, PieceEnd, TransactionId, decode};
use crate::error::MongoError;
use crate::position::OplogPosition;
use crate::tail::RawEntry;

/// A decided transaction that is being given: pieces still to fetch from the log, then its buffered
/// operations, then those of the deciding entry.
pub(super) struct TransactionReplay {
    /// The shard's index.
    pub(super) shard: usize,
    /// Where it takes effect.
    pub(super) position: OplogPosition,
    transaction: Option<TransactionId>,
    /// The next piece to fetch on the way back to the first one.
    back: Option<OplogPosition>,
    /// Pieces seen on the way back, the earliest last. Each is fetched again in its turn, since all
    /// of them may not fit in memory.
    ahead: Vec<OplogPosition>,
    held: BufferedOperations,
    own: VecDeque<Bytes>,
    current: VecDeque<Bytes>,
}

impl TransactionReplay {
    pub(super) fn new(
        shard: usize,
        position: OplogPosition,
        transaction: Option<TransactionId>,
        earlier: DecidedTransaction,
        own: VecDeque<Bytes>,
    ) -> TransactionReplay {
        let DecidedTransaction { missing: back, operations: held } = earlier;
        let (ahead, current) = (Vec::new(), VecDeque::new());
        TransactionReplay { shard, position, transaction, back, ahead, held, own, current }
    }

    /// The next raw operation; `None` at the end, and when a piece must be
    /// [fetched](TransactionReplay::wanted) first.
    pub(super) fn next(&mut self, from: &mut OpenTransactions) -> Result<Option<Bytes>, MongoError> {
        loop {
            if let Some(operation) = self.current.pop_front() {
                return Ok(Some(operation));
            }
            if self.wanted().is_some() {
                return Ok(None);
            }
            self.current = from.next_chunk(&mut self.held)?;
            if self.current.is_empty() {
                self.current = std::mem::take(&mut self.own);
            }
            if self.current.is_empty() {
                return Ok(None);
            }
        }
    }

    /// The entry to fetch next.
    pub(super) fn wanted(&self) -> Option<OplogPosition> {
        self.back.or_else(|| self.ahead.last().copied())
    }

    pub(super) fn fetched(&mut self, shard: &str, at: OplogPosition, entry: &Bytes) -> Result<(), MongoError> {
        let malformed = |found| malformed(shard, at, found);
        let read = RawDoc::new(entry).and_then(RawEntry::read).map_err(|found| malformed(found.into()))?;
        let piece = match decode(&read).map_err(malformed)? {
            DecodedEntry::Operations(piece) if self.is_followed_by_more(&piece) => piece,
            _ => return Err(MongoError::NotOfTransaction { shard: shard.to_owned(), position: at }),
        };
        if self.back.take().is_some() {
            self.back = piece.previous;
            if let Some(previous) = piece.previous {
                if previous >= at {
                    return Err(MongoError::NotOfTransaction { shard: shard.to_owned(), position: previous });
                }
                self.ahead.push(at);
                return Ok(());
            }
        } else {
            self.ahead.pop();
        }
        self.current = operations_of(entry, &piece).map_err(malformed)?;
        Ok(())
    }

    fn is_followed_by_more(&self, piece: &Piece<'_>) -> bool {
        piece.transaction == self.transaction && piece.end != PieceEnd::Committed
    }
}

/// Raw operations of a piece; they share the entry's memory.
pub(super) fn operations_of(entry: &Bytes, piece: &Piece<'_>) -> Result<VecDeque<Bytes>, DecodeError> {
    let (mut operations, mut shared) = (piece.operations(), VecDeque::new());
    while let Some(operation) = operations.next_with_source() {
        shared.push_back(entry.slice_ref(operation?.1.as_bytes()));
    }
    Ok(shared)
}

/// An entry that cannot be decoded.
pub(super) fn malformed(shard: &str, position: OplogPosition, found: DecodeError) -> MongoError {
    MongoError::MalformedEntry { shard: shard.to_owned(), position, found }
}
