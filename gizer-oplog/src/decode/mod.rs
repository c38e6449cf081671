//! What oplog entries say, decoded without I/O.
//!
//! [`decode`] looks at an entry's outer fields only, and allocates nothing for an operation on a collection: most
//! entries of a busy log are about collections that nobody follows. What an operation does is decoded when it is asked
//! for: [`Operation::kind`], [`Operation::key`], [`Operation::to_change`].
//!
//! The forms are those that MongoDB 4.4 to 6.0 write. Nothing that could change documents is passed over: commands that
//! change none are known by name, and a command or a kind of entry that is not known is an error, which names it. On these
//! versions there is none; a later version's has to be looked at before it is followed.

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

use self::fields::Fields;
use crate::position::OplogPosition;
use crate::tail::RawEntry;

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<'b> {
    /// `n`, and commands that change no data: only the position moves.
    Nothing,
    /// One operation on a collection: `i`, `u`, `d`, or DDL.
    Operation(Operation<'b>),
    /// `applyOps`: operations that take effect together.
    Operations(Piece<'b>),
    /// `commitTransaction`: what the entry at `prepare` and those before it in its chain hold takes effect with this entry.
    Commit {
        /// Which transaction.
        transaction: TransactionId,
        /// Where its prepare entry is (`prevOpTime`).
        prepare: OplogPosition,
    },
    /// `abortTransaction`: what there is of the transaction never takes effect.
    Abort {
        /// Which transaction.
        transaction: TransactionId,
    },
}

/// Decodes an entry.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode<'b>(entry: &RawEntry<'b>) -> Result<Decoded<'b>, DecodeError> {
    if entry.operation() == b"n" {
        return Ok(Decoded::Nothing);
    }
    let fields = Fields::read(entry.document())?;
    Ok(match Statement::read(&fields)? {
        Statement::Nothing => Decoded::Nothing,
        Statement::Operation(operation) => Decoded::Operation(operation),
        Statement::Operations { command, operations } => {
            Decoded::Operations(Piece::read(&fields, command, operations)?)
        }
        Statement::Commit => {
            let transaction = TransactionId::expect(&fields)?;
            let prepare = fields.previous.map(fields::position).transpose()?.flatten();
            let expected = "prevOpTime beside commitTransaction, which leads back to what was prepared";
            Decoded::Commit { transaction, prepare: prepare.ok_or(DecodeError::Missing { expected })? }
        }
        Statement::Abort => Decoded::Abort { transaction: TransactionId::expect(&fields)? },
    })
}

/// An operation as [`Operations::next_with_source`] has given it.
///
/// # Errors
/// See [`DecodeError`].
pub(crate) fn read_operation(source: RawDoc<'_>) -> Result<Operation<'_>, DecodeError> {
    match Statement::read(&Fields::read(source)?)? {
        Statement::Operation(operation) => Ok(operation),
        _ => Err(DecodeError::Missing { expected: "an operation on a collection" }),
    }
}

/// What an entry says, or an operation within `applyOps`, as far as it takes no allocation.
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
    fn read(fields: &Fields<'b>) -> Result<Statement<'b>, DecodeError> {
        match fields.operation {
            b"i" | b"u" | b"d" => Ok(Operation::of_document(fields)?.map_or(Statement::Nothing, Statement::Operation)),
            b"c" => command::read(fields),
            b"n" => Ok(Statement::Nothing),
            other => Err(DecodeError::UnknownOperation { found: String::from_utf8_lossy(other).into_owned() }),
        }
    }
}
