//! Operations that take effect together.

use gizer_schema::raw::{Elements, Malformed, RawDoc, Value};

use super::Statement;
use super::error::DecodeError;
use super::fields::{Fields, find, nested, position};
use super::operation::Operation;
use crate::position::OplogPosition;

/// A transaction: a session and a number within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId {
    /// The session, `lsid`, as the raw document that all entries of a transaction repeat.
    pub session: Box<[u8]>,
    /// `txnNumber`.
    pub number: i64,
}

impl TransactionId {
    fn read(fields: &Fields<'_>) -> Option<TransactionId> {
        let (session, number) = (fields.session?, fields.number?);
        Some(TransactionId { session: session.as_bytes().into(), number })
    }

    pub(super) fn expect(fields: &Fields<'_>) -> Result<TransactionId, DecodeError> {
        TransactionId::read(fields).ok_or(DecodeError::Missing { expected: "lsid and txnNumber of a transaction" })
    }
}

/// An `applyOps` entry: a transaction, a piece of one, or operations that were applied together in another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'b> {
    /// The transaction it belongs to; `None` if it stands alone, and then it has no `previous` and is committed.
    pub transaction: Option<TransactionId>,
    /// The piece before it in the transaction's chain (`prevOpTime`); `None` for the first.
    pub previous: Option<OplogPosition>,
    /// What follows.
    pub end: PieceEnd,
    operations: RawDoc<'b>,
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

/// `multiOpType` of inserts that a session may try again, which MongoDB 8.0 logs in one entry: `prevOpTime` leads to the session's write before
/// them, which is no part of them.
const APPLIED_SEPARATELY: i64 = 1;

impl<'b> Piece<'b> {
    /// `command` is all of `o`, and `operations` the array in it.
    pub(super) fn read(
        fields: &Fields<'b>,
        command: RawDoc<'b>,
        operations: RawDoc<'b>,
    ) -> Result<Piece<'b>, DecodeError> {
        let alone = Piece { transaction: None, previous: None, end: PieceEnd::Committed, operations };
        let transaction = TransactionId::read(fields).filter(|_| fields.multi != APPLIED_SEPARATELY);
        // `partialTxn` and `prepare` mean something in a transaction only.
        let Some(transaction) = transaction else { return Ok(alone) };
        let previous = fields.previous.map(position).transpose()?.flatten();
        let end = match (is_true(command, b"partialTxn")?, is_true(command, b"prepare")?) {
            (true, _) => PieceEnd::Partial,
            (false, true) => PieceEnd::Prepared,
            (false, false) => PieceEnd::Committed,
        };
        Ok(Piece { transaction: Some(transaction), previous, end, ..alone })
    }

    /// The operations in their order; those of an `applyOps` within it stand in its place, and what changes no data is
    /// left out.
    pub fn operations(&self) -> Operations<'b> {
        Operations { open: vec![self.operations.elements()] }
    }
}

fn is_true(command: RawDoc<'_>, name: &[u8]) -> Result<bool, Malformed> {
    let value = find(command, name)?.map(|element| element.value()).transpose()?;
    Ok(value == Some(Value::Boolean(true)))
}

/// The operations of a [`Piece`]; after an error it ends.
#[derive(Debug, Clone)]
pub struct Operations<'b> {
    /// The array that is being read, behind those that hold it.
    open: Vec<Elements<'b>>,
}

impl<'b> Operations<'b> {
    /// The next operation, and as it stands in the log, where [`read_operation`](super::read_operation) finds it again.
    pub(crate) fn next_with_source(&mut self) -> Option<Result<(Operation<'b>, RawDoc<'b>), DecodeError>> {
        let step = self.step();
        if step.is_err() {
            self.open.clear();
        }
        step.transpose()
    }

    fn step(&mut self) -> Result<Option<(Operation<'b>, RawDoc<'b>)>, DecodeError> {
        while let Some(array) = self.open.last_mut() {
            let Some(element) = array.next() else {
                self.open.pop();
                continue;
            };
            let entry = nested(&element?)?.ok_or(DecodeError::Missing { expected: "operations in applyOps" })?;
            match Statement::read(&Fields::read(entry)?)? {
                Statement::Nothing => {}
                Statement::Operation(operation) => return Ok(Some((operation, entry))),
                Statement::Operations { operations, .. } => self.open.push(operations.elements()),
                Statement::Commit | Statement::Abort => {
                    return Err(DecodeError::Missing { expected: "only operations on collections in applyOps" });
                }
            }
        }
        Ok(None)
    }
}

impl<'b> Iterator for Operations<'b> {
    type Item = Result<Operation<'b>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_with_source()?.map(|(operation, _)| operation))
    }
}
