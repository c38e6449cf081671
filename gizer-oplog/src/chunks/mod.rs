//! The stage that reads a collection chunk by chunk as of a time.
//!
//! ```text
//!   stretch, and when ──▶ read ──▶ Chunk: documents, and where they end
//!      ▲                            │ last
//!      └── after = last ◀───────────┘ None: all of the stretch was read
//! ```

mod command;
mod reads;

use gizer_flatten::DocumentBatch;
use gizer_flatten::change::ClusterTime;
use gizer_flatten::range::IdBound;

pub use reads::ClusterChunks;

/// The `_id`s behind `after` and not behind `upto`; `None` is no boundary.
///
/// This way round, and not as an [`IdRange`](gizer_flatten::range::IdRange), because nobody can name what comes after the last `_id` of a
/// chunk: the next chunk begins behind it. Stretches of which each begins where the one before has ended leave no
/// `_id` out and have none in common, of whatever BSON type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Stretch {
    /// The last `_id` before it.
    pub after: Option<IdBound>,
    /// The last `_id` that may be in it.
    pub upto: Option<IdBound>,
}

/// The first documents of a stretch.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The documents; those of one batch are of one source, in the order of `_id`. None of them is empty.
    pub documents: Vec<DocumentBatch>,
    /// The `_id` that the chunk ends with, where more may come behind it; `None`: all of the stretch was read.
    pub last: Option<IdBound>,
    /// Every document was read at this time or before it.
    pub read_until: ClusterTime,
}
