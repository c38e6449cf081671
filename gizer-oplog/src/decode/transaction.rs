//! Operations that take effect together.

use gizer_schema::raw::{Elements, Malformed, RawDoc, Value};

use super::Statement;
use super::error::DecodeError;
use super::fields::{EntryFields, find, nested, position};
use super::operation::Operation;
use crate::position::OplogPosition;

/// A transaction: a session and a number within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId {
    /// The session, `lsid`, as the raw document that its entries repeat.
    pub session: Box<[u8]>,
    /// `txnNumber`.
    pub number: i64,
}

impl TransactionId {
    fn read(fields: &EntryFields<'_>) -> Option<TransactionId> {
        let (session, number) = (fields.session?, fields.number?);
        Some(TransactionId { session: session.as_bytes().into(), number })
    }

    pub(super) fn expect(fields: &EntryFields<'_>) -> Result<TransactionId, DecodeError> {
        TransactionId::read(fields).ok_or(DecodeError::Missing { expected: "lsid and txnNumber of a transaction" })
    }
}

/// An `applyOps` entry: a transaction, a piece of one, or operations applied together otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'b> {
    /// Its transaction; `None` if it stands alone, and then it is committed and has no `previous`.
    pub transaction: Option<TransactionId>,
    /// The piece before it in the transaction's chain (`prevOpTime`); `None` for the first.
    pub previous: Option<OplogPosition>,
    /// What comes after it.
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

/// `multiOpType` of retryable inserts, which MongoDB 8.0 logs in one entry: `prevOpTime` leads to
/// the session's previous write, which is not part of them.
const APPLIED_SEPARATELY: i64 = 1;

impl<'b> Piece<'b> {
    /// `command` is all of `o`, and `operations` the array in it.
    pub(super) fn read(
        fields: &EntryFields<'b>,
        command: RawDoc<'b>,
        operations: RawDoc<'b>,
    ) -> Result<Piece<'b>, DecodeError> {
        let alone = Piece { transaction: None, previous: None, end: PieceEnd::Committed, operations };
        let transaction = TransactionId::read(fields).filter(|_| fields.multi != APPLIED_SEPARATELY);
        // `partialTxn` and `prepare` count in a transaction only.
        let Some(transaction) = transaction else { return Ok(alone) };
        let previous = fields.previous.map(position).transpose()?.flatten();
        let end = match (is_true(command, b"partialTxn")?, is_true(command, b"prepare")?) {
            (true, _) => PieceEnd::Partial,
            (false, true) => PieceEnd::Prepared,
            (false, false) => PieceEnd::Committed,
        };
        Ok(Piece { transaction: Some(transaction), previous, end, ..alone })
    }

    /// The operations in order, with those of a nested `applyOps`, without those on no data.
    pub fn operations(&self) -> Operations<'b> {
        Operations { open: vec![self.operations.elements()] }
    }
}

fn is_true(command: RawDoc<'_>, name: &[u8]) -> Result<bool, Malformed> {
    let value = find(command, name)?.map(|element| element.value()).transpose()?;
    Ok(value == Some(Value::Boolean(true)))
}

/// Operations of a [`Piece`]; ends after an error.
#[derive(Debug, Clone)]
pub struct Operations<'b> {
    /// Nested arrays; the last one is being read.
    open: Vec<Elements<'b>>,
}

impl<'b> Operations<'b> {
    /// The next operation and its raw form, for [`read_operation`](super::read_operation).
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
            match Statement::read(&EntryFields::read(entry)?)? {
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
