//! Malformed replies.

use gizer_schema::raw::Malformed;
use thiserror::Error;

/// What a reply had in place of the expected part.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MalformedReply {
    /// Bytes that are not BSON.
    #[error(transparent)]
    Bson(#[from] Malformed),
    /// Nothing.
    #[error("it is missing")]
    Missing,
    /// The end of the stream, with a cursor still open.
    #[error("the batches ended before it")]
    EndedBefore,
}
