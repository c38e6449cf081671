//! What can be wrong with an entry.

use gizer_schema::raw::Malformed;

/// Why an entry could not be decoded. Messages hold no contents of documents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not what the format says.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}
