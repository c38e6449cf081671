//! What a reply of a server is not.

use gizer_schema::raw::Malformed;
use thiserror::Error;

/// What stood in the place of an expected part of a reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MalformedReply {
    /// Bytes that are no BSON.
    #[error(transparent)]
    Bson(#[from] Malformed),
    /// Nothing.
    #[error("it is missing")]
    Missing,
    /// The end of the stream, with a cursor still open.
    #[error("the batches ended before it")]
    EndedBefore,
}
