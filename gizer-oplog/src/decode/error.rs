//! Errors of decoding an entry.

use gizer_schema::raw::Malformed;

/// Why an entry could not be decoded.
///
/// Messages may hold names of commands and databases, never document contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not BSON, or not in the format's places.
    #[error(transparent)]
    Malformed(#[from] Malformed),

    /// A required part is missing or of another type.
    #[error("expected an oplog entry with {expected}, found one without")]
    Missing {
        /// The part, and what it belongs to.
        expected: &'static str,
    },

    /// An unknown kind of entry. It may change documents, so it must not be skipped.
    #[error("expected an oplog entry of kind i, u, d, c or n, found {found:?}")]
    UnknownOperation {
        /// The entry's `op`.
        found: String,
    },

    /// An unknown command. It may change documents, so it must not be skipped.
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
                "check the collection local.oplog.rs for damage, then run `gizer load`"
            }
            _ => {
                "gizer supports oplogs of MongoDB 4.4 to 6.0: check for a newer gizer that supports this server, or run `gizer load`"
            }
        }
        .into()
    }
}
