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

use crate::error::MongoError;
use crate::sources::{ReadAt, WatchedCollection};

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

/// Reads a collection chunk by chunk.
///
/// # What an implementation owes
/// * **Complete.** A chunk has every document of the collection whose `_id` lies behind the stretch's `after` and not behind
///   [`Chunk::last`], or else its `upto`, and no other. A document that two shards have, because a migration has left a copy, is
///   given once for each.
/// * **It goes on.** A chunk that has no [`Chunk::last`] is the end of its stretch; any other has at least one document, whatever
///   its size.
/// * **In time.** As [`ReadAt`] says.
/// * **"Not there" means deleted.** The collection's UUID was the same before and after the reads, on every shard.
/// * **The server's order.** Which `_id` lies behind which is for the server to say: over all BSON types, under the
///   collation of the collection. Where two `_id`s are the same to it, as 1 and 1.0, so are the boundaries; a stretch whose `upto` lies
///   before its `after`, or is the same in other bytes, is an error of the server.
/// * **Bounded.** No more than so many documents (but one of each source), and no more than one reply of the server, of
///   16 MiB, and one document from each source.
///
/// # What an error means
/// Nothing was read. [`MongoError::TimeOutOfReach`]: the server no longer keeps that time, ask for
/// [`ReadAt::NotBefore`] or [`ReadAt::Committed`]. [`MongoError::CollectionChanged`]: dropped, renamed or replaced, now or by that time.
pub trait ChunkSource: Send {
    /// The first documents of a stretch, at most so many.
    ///
    /// # Errors
    /// See the contract of the trait.
    fn read(
        &mut self,
        collection: &WatchedCollection,
        stretch: &Stretch,
        at: ReadAt,
        most: usize,
    ) -> impl Future<Output = Result<Chunk, MongoError>> + Send;
}
