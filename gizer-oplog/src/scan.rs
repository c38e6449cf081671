//! The stage that gives a collection's documents, and the scan that does it with a cursor.

use std::collections::VecDeque;
use std::fmt;

use bson::{Document, doc};
use bytes::Bytes;
use futures::StreamExt;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::Namespace;
use gizer_schema::raw::{RawDoc, Value};
use mongodb::options::{FindOptions, Hint, ReadConcern};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};

use crate::collections::{Collection, CollectionSize};
use crate::connect::{Cluster, Deployment, Topology};
use crate::error::{MalformedReply, MongoError};

/// Bytes of documents that a reply of the server is to have, unless told: large enough that the way to the server
/// and back does not count, small enough that several fit into any budget.
const BATCH_BYTES: usize = 4 << 20;

/// Documents asked for at once where their size is not known.
const BATCH_DOCUMENTS: u32 = 1_000;

/// The most documents that a request may ask for: the server takes a 32-bit signed number.
const MOST_DOCUMENTS: u32 = i32::MAX as u32;

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
        let namespace = cluster.namespace(&collection.name);
        if let Some(reason) = collection.skip {
            return Err(MongoError::NotFollowable { namespace: namespace.to_string(), reason });
        }
        // To the server, a limit of 0 is no limit.
        let existing = match options.portion {
            Portion::Newest(0) | Portion::Sample(0) => [].iter().zip(&[]),
            _ => cluster.deployments().iter().zip(&collection.sources),
        };
        let parts = existing.filter_map(|(deployment, source)| {
            let source = source.as_ref()?;
            Some(Part {
                deployment: deployment.clone(),
                namespace: namespace.clone(),
                uuid: source.uuid,
                size: source.size,
            })
        });
        Ok(CollectionScan { parts: parts.collect(), namespace, options, open: None, failed: false })
    }

    /// Nothing is lost when this is dropped half-way: a cursor that has given nothing is opened anew, the driver keeps a
    /// request under way in the cursor, and a part is left only once it has been checked.
    async fn step(&mut self) -> Result<Option<DocumentBatch>, MongoError> {
        while let Some(part) = self.parts.front() {
            let cursor = match &mut self.open {
                Some(cursor) => cursor,
                None => self.open.insert(part.open(&self.options).await?),
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

/// A collection in one deployment.
struct Part {
    deployment: Deployment,
    namespace: Namespace,
    uuid: Option<[u8; 16]>,
    size: Option<CollectionSize>,
}

impl Part {
    async fn open(&self, options: &ScanOptions) -> Result<OpenCursor, MongoError> {
        self.deployment.wait_for_majority(&self.namespace).await?;
        let collection = self.deployment.database(&self.namespace.database);
        let collection = collection.collection::<Document>(&self.namespace.collection);
        if let Portion::Sample(count) = options.portion {
            return self.open_sample(&collection, options, count).await;
        }
        let find = collection.find(options.filter.clone().unwrap_or_default()).with_options(self.find_options(options));
        let replies = find.batch().await.map_err(|error| self.explain(&error, "find"))?;
        Ok(OpenCursor { replies, closed: false })
    }

    async fn open_sample(
        &self,
        collection: &mongodb::Collection<Document>,
        options: &ScanOptions,
        count: u64,
    ) -> Result<OpenCursor, MongoError> {
        let size = i64::try_from(count).unwrap_or(i64::MAX);
        let stages =
            [doc! { "$match": options.filter.clone().unwrap_or_default() }, doc! { "$sample": { "size": size } }];
        let sample = collection.aggregate(stages).batch_size(self.batch_documents(options.batch_bytes));
        let sample = sample.read_concern(self.read_concern());
        let replies = sample.batch().await.map_err(|error| self.explain(&error, "aggregate"))?;
        Ok(OpenCursor { replies, closed: false })
    }

    /// What a majority has cannot be rolled back after it was copied. A standalone server has no majority.
    fn read_concern(&self) -> ReadConcern {
        let majority = *self.deployment.topology() != Topology::Standalone;
        if majority { ReadConcern::majority() } else { ReadConcern::local() }
    }

    fn find_options(&self, options: &ScanOptions) -> FindOptions {
        let by_id = |direction: i32| doc! { "_id": direction };
        let (direction, limit) = match options.portion {
            Portion::Newest(count) => (-1, Some(i64::try_from(count).unwrap_or(i64::MAX))),
            Portion::All | Portion::Sample(_) => (1, None),
        };
        let mut find = FindOptions::default();
        find.hint = Some(Hint::Keys(by_id(1)));
        find.sort = Some(by_id(direction));
        find.limit = limit;
        find.batch_size = Some(self.batch_documents(options.batch_bytes));
        // Downstream may hold a scan up for longer than the ten minutes after which the server closes an idle cursor. It still
        // goes with its session, half an hour after the last request, so a killed gizer leaves nothing behind.
        find.no_cursor_timeout = Some(true);
        find.read_concern = Some(self.read_concern());
        find
    }

    /// How many documents of average size make up a batch. Whatever comes of it, the server ends a reply at 16 MiB.
    fn batch_documents(&self, bytes: usize) -> u32 {
        match self.size.map(|size| size.average()) {
            Some(average @ 1..) => {
                u32::try_from(bytes as u64 / average).unwrap_or(MOST_DOCUMENTS).clamp(1, MOST_DOCUMENTS)
            }
            _ => BATCH_DOCUMENTS,
        }
    }

    /// Whether the name has stood for the same collection all the time.
    async fn check_unchanged(&self) -> Result<(), MongoError> {
        let uuid = self.deployment.uuid_of(&self.namespace.database, &self.namespace.collection).await?;
        if uuid == self.uuid {
            return Ok(());
        }
        Err(MongoError::CollectionChanged {
            hosts: self.deployment.hosts().clone(),
            namespace: self.namespace.to_string(),
        })
    }

    /// Why the server ended a cursor: a drop or a rename kills it, but so do other things.
    async fn diagnose(&self, error: MongoError) -> MongoError {
        if !matches!(error, MongoError::CursorLost { .. }) {
            return error;
        }
        match self.check_unchanged().await {
            Err(changed @ MongoError::CollectionChanged { .. }) => changed,
            _ => error,
        }
    }

    fn explain(&self, error: &mongodb::error::Error, command: &'static str) -> MongoError {
        self.deployment.explain(error, command, &self.namespace.to_string())
    }

    fn malformed(&self, expected: &'static str, found: MalformedReply) -> MongoError {
        MongoError::MalformedReply { hosts: self.deployment.hosts().clone(), command: "find", expected, found }
    }
}

struct OpenCursor {
    replies: RawBatchCursor,
    /// Whether the latest reply has closed the cursor: there is nothing after it.
    closed: bool,
}

impl OpenCursor {
    /// The documents of the next reply; `None` after the one that closed the cursor.
    async fn next(&mut self, part: &Part) -> Result<Option<DocumentBatch>, MongoError> {
        let reply = match self.replies.next().await {
            Some(Ok(reply)) => reply,
            Some(Err(error)) => return Err(part.explain(&error, "getMore")),
            None if self.closed => return Ok(None),
            None => return Err(part.malformed("a last batch, with cursor id 0,", MalformedReply::EndedBefore)),
        };
        let reply = Reply::read(reply).map_err(|found| part.malformed("a cursor with id and documents", found))?;
        self.closed = reply.closes_cursor;
        let documents = DocumentBatch::from_array(Bytes::from_owner(reply.bytes), reply.documents_at);
        let documents = documents.map_err(|found| part.malformed("an array of documents", found.into()))?;
        Ok(Some(documents))
    }
}

/// A reply to `find` or `getMore` (MongoDB manual, "Database Commands"):
/// `{cursor: {firstBatch | nextBatch: […], id, ns}, ok: 1, …}`.
struct Reply {
    bytes: ReplyBytes,
    /// Where the array of documents begins.
    documents_at: usize,
    closes_cursor: bool,
}

/// The bytes of a reply where the driver has put them: a [`Bytes`] can own this, so that no document is copied.
struct ReplyBytes(RawBatch);

impl AsRef<[u8]> for ReplyBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_raw_document().as_bytes()
    }
}

impl Reply {
    fn read(reply: RawBatch) -> Result<Reply, MalformedReply> {
        let bytes = ReplyBytes(reply);
        let (documents_at, closes_cursor) = find_documents(bytes.as_ref())?;
        Ok(Reply { bytes, documents_at, closes_cursor })
    }
}

/// Where the array of documents lies in a reply, and whether the cursor's id is 0, which closes it.
fn find_documents(reply: &[u8]) -> Result<(usize, bool), MalformedReply> {
    let cursor = RawDoc::new(reply)?.get(b"cursor")?.ok_or(MalformedReply::Missing)?;
    let Value::Document(cursor) = cursor.value()? else { return Err(MalformedReply::Missing) };
    let mut documents_at = None;
    let mut closes_cursor = None;
    for element in cursor.elements() {
        let element = element?;
        match element.name {
            // The array borrows from the reply, so the distance between the two is its place.
            b"firstBatch" | b"nextBatch" => documents_at = Some(element.bytes.as_ptr().addr() - reply.as_ptr().addr()),
            b"id" => closes_cursor = Some(element.value()? == Value::Int64(0)),
            _ => {}
        }
    }
    documents_at.zip(closes_cursor).ok_or(MalformedReply::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_of_a_reply_are_found_where_they_lie() {
        for (batch, id) in [("firstBatch", 77_i64), ("nextBatch", 0)] {
            let reply = doc! { "cursor": { batch: [{ "_id": 1 }, { "_id": 2 }], "id": id, "ns": "a.b" }, "ok": 1.0 };
            let reply = reply.to_vec().unwrap();
            let (at, closes) = find_documents(&reply).unwrap();
            assert_eq!(closes, id == 0);
            assert_eq!(DocumentBatch::from_array(Bytes::from(reply), at).unwrap().len(), 2);
        }
    }

    #[test]
    fn a_reply_without_documents_or_without_an_id_is_malformed() {
        for reply in [doc! { "ok": 1 }, doc! { "cursor": { "id": 0_i64 } }, doc! { "cursor": { "firstBatch": [] } }] {
            assert_eq!(find_documents(&reply.to_vec().unwrap()), Err(MalformedReply::Missing));
        }
        assert!(matches!(find_documents(&[1, 2, 3]), Err(MalformedReply::Bson(_))));
    }
}
