//! Document sources, and the scan of a collection by a cursor.

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
use self::part::ScanPart;
use crate::collections::Collection;
use crate::connect::Cluster;
use crate::error::MongoError;

pub use draws::{draw_boundaries, draw_ids};
pub use ranges::{RangeScan, RangeSource, UnplacedSource};
pub use segments::{can_be_read, plan_segments};

/// Default bytes of a batch: enough to hide the round trip, little enough for any budget.
const BATCH_BYTES: usize = 4 << 20;

/// A stream of documents: a collection scan, a dump, a test.
///
/// # What an implementation owes
/// * **Exactly once.** Every document that is in the source from the first call to the end is given
///   exactly once; that includes everything acknowledged before the first call. One inserted,
///   changed or deleted meanwhile is given at most once, in one of its states; its change is in the
///   oplog after any position taken before the first call.
/// * **Untouched bytes.** Documents are given as stored, with duplicate names and text that is not
///   UTF-8.
/// * **No empty batch**, and none larger than a server reply of 16 MiB and one document.
///
/// # What ends the stream
/// Only `Ok(None)`: all documents have been given. It is repeated on further calls.
///
/// # What an error means
/// The stream is incomplete and stays so: further calls fail too. A lost connection, a killed
/// server or a dropped collection is an error, never the end.
///
/// Cancel-safe: no document is lost, and the next call continues.
pub trait DocumentSource: Send {
    /// The next documents.
    ///
    /// # Errors
    /// See the contract of the trait.
    fn next_batch(&mut self) -> impl Future<Output = Result<Option<DocumentBatch>, MongoError>> + Send;
}

/// Options of a scan.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanOptions {
    /// Bytes of a batch, about. Documents count at their average size, so a batch can be smaller or
    /// larger, but never larger than 16 MiB and one document.
    pub batch_bytes: usize,
    /// A filter (MongoDB manual, "Query Documents"); `None` for all documents.
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
    /// This many documents of each deployment, greatest `_id` first. Ids made by drivers grow with
    /// time, so these are the newest: best for inferring a schema.
    Newest(u64),
    /// This many random documents of each deployment (MongoDB manual, "$sample"), rarely repeated.
    /// For inspecting a collection, not for copying it.
    Sample(u64),
}

/// A scan of one collection, deployment after deployment, in whole server replies.
///
/// The first call of [`DocumentSource::next_batch`] sends the first request.
///
/// # Why in the order of `_id`
/// A scan in natural order may repeat or miss a document that an update moves. The `_id` never
/// changes, and its index has one entry a document, so a scan along it passes each document once
/// despite concurrent writes (MongoDB manual, "Read Concern, Concurrency and Order").
///
/// # Why nothing can be missed at the end
/// MongoDB answers a read of a missing collection with no documents and no error. So the end counts
/// only if the last reply closed the cursor, and the name still has the collection's UUID after it.
pub struct CollectionScan {
    namespace: Namespace,
    options: ScanOptions,
    /// Parts to read; the first one may be open.
    parts: VecDeque<ScanPart>,
    open: Option<OpenCursor>,
    failed: bool,
}

impl CollectionScan {
    /// A scan of a collection of the catalog.
    ///
    /// # Errors
    /// [`MongoError::NotFollowable`] for a view and the like.
    pub fn new(cluster: &Cluster, collection: &Collection, options: ScanOptions) -> Result<CollectionScan, MongoError> {
        let mut parts = ScanPart::all(cluster, collection)?;
        if matches!(options.portion, Portion::Newest(0) | Portion::Sample(0)) {
            // To the server, limit 0 is no limit.
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

    /// Cancel-safe: a cursor that has given nothing is reopened, the driver keeps a pending request
    /// in the cursor, and a part is left only once checked.
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
