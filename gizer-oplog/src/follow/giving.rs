//! The changes of a transaction that has been decided, one after the other.

use std::collections::VecDeque;

use bytes::Bytes;
use gizer_schema::raw::RawDoc;

use super::transactions::{Decided, HeldBack, Operations};
use crate::decode::{DecodeError, Decoded, Piece, PieceEnd, TransactionId, decode};
use crate::error::MongoError;
use crate::position::OplogPosition;
use crate::tail::RawEntry;

/// A transaction whose operations are being given: those of pieces that have to be fetched from the log, those that were held back, and
/// those of the entry with which it takes effect.
pub(super) struct Giving {
    /// The shard's place.
    pub(super) shard: usize,
    /// Where it takes effect.
    pub(super) position: OplogPosition,
    transaction: Option<TransactionId>,
    /// The piece that is to be fetched next on the way back to the first one.
    back: Option<OplogPosition>,
    /// Pieces that were passed on the way back, the earliest last: each is fetched again when its turn comes, since all of them
    /// may not fit in memory.
    ahead: Vec<OplogPosition>,
    held: Operations,
    own: VecDeque<Bytes>,
    /// What is given now.
    current: VecDeque<Bytes>,
}

impl Giving {
    pub(super) fn new(
        shard: usize,
        position: OplogPosition,
        transaction: Option<TransactionId>,
        earlier: Decided,
        own: VecDeque<Bytes>,
    ) -> Giving {
        let Decided { missing: back, operations: held } = earlier;
        let (ahead, current) = (Vec::new(), VecDeque::new());
        Giving { shard, position, transaction, back, ahead, held, own, current }
    }

    /// The next raw operation; `None` at the end, and where a piece has to be [fetched](Giving::wanted) first.
    pub(super) fn next(&mut self, from: &mut HeldBack) -> Result<Option<Bytes>, MongoError> {
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

    /// The entry that is needed next.
    pub(super) fn wanted(&self) -> Option<OplogPosition> {
        self.back.or_else(|| self.ahead.last().copied())
    }

    /// The entry that was needed.
    pub(super) fn fetched(&mut self, shard: &str, at: OplogPosition, entry: &Bytes) -> Result<(), MongoError> {
        let malformed = |found| malformed(shard, at, found);
        let read = RawDoc::new(entry).and_then(RawEntry::read).map_err(|found| malformed(found.into()))?;
        let piece = match decode(&read).map_err(malformed)? {
            Decoded::Operations(piece) if self.is_followed_by_more(&piece) => piece,
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

/// The operations of a piece as they stand in the log, which share the entry's memory.
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
