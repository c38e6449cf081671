//! Reads a collection chunk by chunk as of a time.
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

/// The `_id`s after `after`, up to and including `upto`; `None` is no bound.
///
/// Unlike an [`IdRange`](gizer_flatten::range::IdRange) it starts after an `_id`, because the
/// successor of a chunk's last `_id` cannot be named. Stretches that each start where the one
/// before ends cover every `_id` once, of any BSON type.
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
    /// The documents; each batch is of one source, by `_id`, and not empty.
    pub documents: Vec<DocumentBatch>,
    /// The chunk's last `_id`; `None` at the end of the stretch.
    pub last: Option<IdBound>,
    /// Every document was read at or before this time.
    pub read_until: ClusterTime,
}
