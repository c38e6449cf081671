//! The stage that gives a collection's documents, and the scan that does it with a cursor.

mod cursor;
mod draws;
mod part;
mod ranges;
mod segments;

use std::collections::VecDeque;
use std::fmt;

use bson::Document;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::Namespace;
use gizer_flatten::range::IdRange;

use self::cursor::OpenCursor;
use self::part::Part;
use crate::collections::Collection;
use crate::connect::Cluster;
use crate::error::MongoError;

pub use draws::{draw_boundaries, draw_ids};
pub use ranges::{RangeScan, RangeSource, Unplaced};
pub use segments::{can_be_read, plan_segments};

/// Bytes of documents that a reply of the server is to have, unless told: large enough that the way to the server
/// and back does not count, small enough that several fit into any budget.
const BATCH_BYTES: usize = 4 << 20;

/// A stream of documents: the scan of a collection, a dump, a test's own.
///
/// # What an implementation owes
/// * **Exactly once.** Every document that is in the source from the first call to the end is given exactly once.
///   That is at least what was acknowledged before the first call. One that is inserted, changed or deleted meanwhile is given at most once, in one of its states; its change is
///   in the oplog after a position that was taken before the first call.
/// * **Untouched bytes.** Documents are given as they are stored, whatever is in them: duplicate names, text that is not UTF-8.
/// * **No empty batch**, and no batch that keeps more than the server's 16 MiB for a reply and one document.
///
/// # What ends the stream
/// `Ok(None)`, and only that, means that all documents have been given. It is given again if asked again.
///
/// # What an error means
/// The stream is not complete and never will be: nothing comes after it, and whoever asks again gets an error again. A
/// lost connection, a killed server or a dropped collection is an error, and never looks like the end.
///
/// The future may be dropped before it is ready; no document is lost, and the next call goes on.
pub trait DocumentSource: Send {
    /// The next documents.
    ///
    /// # Errors
    /// See the contract of the trait.
    fn next_batch(&mut self) -> impl Future<Output = Result<Option<DocumentBatch>, MongoError>> + Send;
}

/// How a collection is to be scanned.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanOptions {
    /// Bytes of documents that a batch is to have, about. Documents are counted by their average size, so a batch can be
    /// smaller or larger, but never larger than 16 MiB and one document.
    pub batch_bytes: usize,
    /// Only documents that match (MongoDB manual, "Query Documents"); all if there is none.
    pub filter: Option<Document>,
    /// Which part of the collection.
    pub portion: Portion,
}

impl Default for ScanOptions {
    fn default() -> Self {
        ScanOptions { batch_bytes: BATCH_BYTES, filter: None, portion: Portion::All }
    }
}

/// Which part of a collection is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Portion {
    /// All of it, in ascending order of `_id`.
    All,
    /// So many documents of each deployment with the greatest `_id`, greatest first. Ids that the driver makes grow with
    /// time, so these are the newest: what a schema is best inferred from.
    Newest(u64),
    /// So many documents of each deployment, chosen by chance (MongoDB manual, "$sample"); rarely one of them twice. For
    /// looking at a collection, not for copying it.
    Sample(u64),
}

/// A scan of one collection, over all deployments one after the other, as whole replies of the server.
///
/// Nothing is sent before the first call of [`DocumentSource::next_batch`].
///
/// # Why in the order of `_id`
/// A scan in natural order may meet a document again that an update has moved, or miss it. The `_id` of a document never changes,
/// and its index has one entry a document, so a scan along that index passes each document once, however
/// much is written beside it (MongoDB manual, "Read Concern, Concurrency and Order").
///
/// # Why nothing can be missed at the end
/// MongoDB answers a read of a name that does not exist with no documents and no error. So an end counts only if the
/// server's last reply has closed the cursor, and if the name still stands for the collection's UUID after it.
pub struct CollectionScan {
    namespace: Namespace,
    options: ScanOptions,
    /// What is yet to be read; the first one may be open.
    parts: VecDeque<Part>,
    open: Option<OpenCursor>,
    failed: bool,
}

impl CollectionScan {
    /// A scan of a collection as the catalog had it.
    ///
    /// # Errors
    /// [`MongoError::NotFollowable`] for a view and the like.
    pub fn new(cluster: &Cluster, collection: &Collection, options: ScanOptions) -> Result<CollectionScan, MongoError> {
        let mut parts = Part::all(cluster, collection)?;
        if matches!(options.portion, Portion::Newest(0) | Portion::Sample(0)) {
            // To the server, a limit of 0 is no limit.
            parts.clear();
        }
        let namespace = cluster.namespace(&collection.name);
        Ok(CollectionScan {
            parts: parts.into_iter().flatten().collect(),
            namespace,
            options,
            open: None,
            failed: false,
        })
    }

    /// Nothing is lost when this is dropped half-way: a cursor that has given nothing is opened anew, the driver keeps a
    /// request under way in the cursor, and a part is left only once it has been checked.
    async fn step(&mut self) -> Result<Option<DocumentBatch>, MongoError> {
        while let Some(part) = self.parts.front() {
            let cursor = match &mut self.open {
                Some(cursor) => cursor,
                None => self.open.insert(part.open(&self.options, &IdRange::default()).await?),
            };
            match cursor.next(part).await? {
                Some(batch) if batch.is_empty() => {}
                Some(batch) => return Ok(Some(batch)),
                None => {
                    part.check_unchanged().await?;
                    self.open = None;
                    self.parts.pop_front();
                }
            }
        }
        Ok(None)
    }
}

impl DocumentSource for CollectionScan {
    async fn next_batch(&mut self) -> Result<Option<DocumentBatch>, MongoError> {
        if self.failed {
            return Err(MongoError::FailedBefore { namespace: self.namespace.to_string() });
        }
        let step = self.step().await;
        let Err(error) = step else { return step };
        self.failed = true;
        self.open = None;
        let part = self.parts.pop_front();
        match part {
            Some(part) => Err(part.diagnose(error).await),
            None => Err(error),
        }
    }
}

impl fmt::Debug for CollectionScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectionScan")
            .field("namespace", &self.namespace)
            .field("parts", &self.parts.len())
            .field("open", &self.open.is_some())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
