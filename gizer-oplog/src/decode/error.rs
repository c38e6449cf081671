//! What can be wrong with an entry.

use gizer_schema::raw::Malformed;

/// Why an entry could not be decoded.
///
/// Messages hold no contents of documents; names of commands and of databases they may hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are no BSON, or not where the format has them.
    #[error(transparent)]
    Malformed(#[from] Malformed),

    /// A part that the format asks for is not there, or is of another type.
    #[error("expected an oplog entry with {expected}, found one without")]
    Missing {
        /// The part, and what it belongs to.
        expected: &'static str,
    },

    /// A kind of entry that is not known. It may have changed documents, so it must not be passed over.
    #[error("expected an oplog entry of kind i, u, d, c or n, found {found:?}")]
    UnknownOperation {
        /// The entry's `op`.
        found: String,
    },

    /// A command that is not known. It may have changed documents, so it must not be passed over.
    #[error("expected a command that gizer knows in the oplog, found {command:?} on database {database:?}")]
    UnknownCommand {
        /// Name of the command.
        command: String,
        /// Name of the database.
        database: String,
    },
}

impl DecodeError {
    /// What the operator can do, as a sentence.
    pub fn remedy(&self) -> String {
        match self {
            DecodeError::Malformed(_) | DecodeError::Missing { .. } => {
                "look whether the oplog is damaged (the collection local.oplog.rs), then load anew"
            }
            _ => {
                "gizer knows the oplog of MongoDB 4.4 to 6.0: look whether a later version of gizer knows this server's, or load anew"
            }
        }
        .into()
    }
}
