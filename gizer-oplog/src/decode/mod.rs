//! Decodes oplog entries, without I/O.
//!
//! [`decode`] reads an entry's outer fields only and allocates nothing for an operation on a
//! collection: most entries of a busy log are about other collections. An operation is decoded on
//! demand: [`Operation::kind`], [`Operation::key`], [`Operation::to_change`].
//!
//! The forms are those of MongoDB 4.4 to 6.0. Nothing that could change documents is skipped:
//! commands without data are known by name; unknown commands and kinds of entries are errors.

mod command;
mod error;
mod fields;
mod operation;
mod transaction;
mod update;

use gizer_schema::raw::RawDoc;

pub use error::DecodeError;
pub use operation::{Operation, OperationKind};
pub use transaction::{Operations, Piece, PieceEnd, TransactionId};

use self::fields::EntryFields;
use crate::position::OplogPosition;
use crate::tail::RawEntry;

/// A decoded entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodedEntry<'b> {
    /// `n`, and commands that change no data: only the position moves.
    Nothing,
    /// One operation on a collection: `i`, `u`, `d`, or DDL.
    Operation(Operation<'b>),
    /// `applyOps`: operations that take effect together.
    Operations(Piece<'b>),
    /// `commitTransaction`: the prepare entry and the pieces before it take effect with this entry.
    Commit {
        /// Which transaction.
        transaction: TransactionId,
        /// Where its prepare entry is (`prevOpTime`).
        prepare: OplogPosition,
    },
    /// `abortTransaction`: the transaction never takes effect.
    Abort {
        /// Which transaction.
        transaction: TransactionId,
    },
}

/// Decodes an entry.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode<'b>(entry: &RawEntry<'b>) -> Result<DecodedEntry<'b>, DecodeError> {
    if entry.operation() == b"n" {
        return Ok(DecodedEntry::Nothing);
    }
    let fields = EntryFields::read(entry.document())?;
    Ok(match Statement::read(&fields)? {
        Statement::Nothing => DecodedEntry::Nothing,
        Statement::Operation(operation) => DecodedEntry::Operation(operation),
        Statement::Operations { command, operations } => {
            DecodedEntry::Operations(Piece::read(&fields, command, operations)?)
        }
        Statement::Commit => {
            let transaction = TransactionId::expect(&fields)?;
            let prepare = fields.previous.map(fields::position).transpose()?.flatten();
            let expected = "prevOpTime of commitTransaction";
            DecodedEntry::Commit { transaction, prepare: prepare.ok_or(DecodeError::Missing { expected })? }
        }
        Statement::Abort => DecodedEntry::Abort { transaction: TransactionId::expect(&fields)? },
    })
}

/// Reads an operation that [`Operations::next_with_source`] gave.
///
/// # Errors
/// See [`DecodeError`].
pub(crate) fn read_operation(source: RawDoc<'_>) -> Result<Operation<'_>, DecodeError> {
    match Statement::read(&EntryFields::read(source)?)? {
        Statement::Operation(operation) => Ok(operation),
        _ => Err(DecodeError::Missing { expected: "an operation on a collection" }),
    }
}

/// An entry, or an operation within `applyOps`, decoded without allocation.
enum Statement<'b> {
    Nothing,
    Operation(Operation<'b>),
    Operations {
        /// All of `o`.
        command: RawDoc<'b>,
        /// The array in it.
        operations: RawDoc<'b>,
    },
    Commit,
    Abort,
}

impl<'b> Statement<'b> {
    fn read(fields: &EntryFields<'b>) -> Result<Statement<'b>, DecodeError> {
        match fields.operation {
            b"i" | b"u" | b"d" => Ok(Operation::of_document(fields)?.map_or(Statement::Nothing, Statement::Operation)),
            b"c" => command::read(fields),
            b"n" => Ok(Statement::Nothing),
            other => Err(DecodeError::UnknownOperation { found: String::from_utf8_lossy(other).into_owned() }),
        }
    }
}
