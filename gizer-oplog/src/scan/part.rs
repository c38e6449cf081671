//! A collection in one deployment, and its cursors.

use bson::{Bson, Document, doc};
use gizer_flatten::change::Namespace;
use gizer_flatten::range::{IdBound, IdRange};
use mongodb::options::{FindOptions, Hint, ReadConcern};

use super::cursor::OpenCursor;
use super::{Portion, ScanOptions};
use crate::collections::{Collection, CollectionSize};
use crate::connect::{Cluster, Deployment, Topology};
use crate::error::{MalformedReply, MongoError};
use crate::waiting::ReplyLimit;

/// Documents per batch where their size is unknown.
const BATCH_DOCUMENTS: u32 = 1_000;

/// The largest batch size that the server accepts.
const MAX_LIMIT: u32 = i32::MAX as u32;

/// A collection in one deployment.
#[derive(Clone)]
pub(super) struct ScanPart {
    pub(super) deployment: Deployment,
    pub(super) namespace: Namespace,
    uuid: Option<[u8; 16]>,
    pub(super) size: Option<CollectionSize>,
}

impl ScanPart {
    /// The collection in each deployment, in the order of the URIs; `None` where it does not exist.
    ///
    /// # Errors
    /// [`MongoError::NotFollowable`] for a view and the like.
    pub(super) fn all(cluster: &Cluster, collection: &Collection) -> Result<Vec<Option<ScanPart>>, MongoError> {
        let namespace = cluster.namespace(&collection.name);
        if let Some(reason) = collection.skip {
            return Err(MongoError::NotFollowable { namespace: namespace.to_string(), reason });
        }
        let parts = cluster.deployments().iter().zip(&collection.sources).map(|(deployment, source)| {
            let source = source.as_ref()?;
            let (deployment, namespace) = (deployment.clone(), namespace.clone());
            Some(ScanPart { deployment, namespace, uuid: source.uuid, size: source.size })
        });
        Ok(parts.collect())
    }

    /// Opens a cursor over `range`.
    pub(super) async fn open(&self, options: &ScanOptions, range: &IdRange) -> Result<OpenCursor, MongoError> {
        self.deployment.wait_for_majority(&self.namespace).await?;
        let collection = self.deployment.database(&self.namespace.database);
        let collection = collection.collection::<Document>(&self.namespace.collection);
        if let Portion::Sample(count) = options.portion {
            return self.open_sample(&collection, options, count).await;
        }
        let find_options = self.find_options(options, range)?;
        let find = collection.find(options.filter.clone().unwrap_or_default()).with_options(find_options);
        let limit = limit(options);
        Ok(OpenCursor::new(self.answered("find", limit, find.batch()).await?, limit))
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
        let replies = self.answered("aggregate", ReplyLimit::Long, sample.batch()).await?;
        Ok(OpenCursor::new(replies, ReplyLimit::Long))
    }

    /// Majority reads cannot be rolled back. A standalone server has no majority.
    pub(super) fn read_concern(&self) -> ReadConcern {
        let majority = *self.deployment.topology() != Topology::Standalone;
        if majority { ReadConcern::majority() } else { ReadConcern::local() }
    }

    /// `min` and `max` are index bounds over all BSON types, under the index's collation; `$gte`
    /// and `$lt` would compare within one type only (MongoDB manual, "cursor.min()",
    /// "Comparison/Sort Order").
    fn find_options(&self, options: &ScanOptions, range: &IdRange) -> Result<FindOptions, MongoError> {
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
        // Downstream may stall a scan beyond the server's cursor timeout of ten minutes. The cursor
        // still goes with its session, half an hour after the last request, so a killed gizer
        // leaves nothing behind.
        find.no_cursor_timeout = Some(true);
        find.read_concern = Some(self.read_concern());
        find.min = range.lower.as_ref().map(|bound| self.boundary(bound)).transpose()?;
        find.max = match &range.upper {
            Some(bound) => Some(self.boundary(bound)?),
            // An unbounded `find` ends before MaxKey (seen on 4.4 to 6.0); see `open_last`.
            None => range.lower.as_ref().map(|_| doc! { "_id": Bson::MaxKey }),
        };
        Ok(find)
    }

    /// Opens a cursor over the document with `_id` MaxKey, which open-ended ranges omit.
    pub(super) async fn open_last(&self, options: &ScanOptions) -> Result<OpenCursor, MongoError> {
        let collection = self.deployment.database(&self.namespace.database);
        let collection = collection.collection::<Document>(&self.namespace.collection);
        let last = doc! { "_id": Bson::MaxKey };
        let filter = match &options.filter {
            Some(filter) => doc! { "$and": [last, filter] },
            None => last,
        };
        let find = collection.find(filter).read_concern(self.read_concern());
        let limit = limit(options);
        Ok(OpenCursor::new(self.answered("find", limit, find.batch()).await?, limit))
    }

    fn boundary(&self, bound: &IdBound) -> Result<Document, MongoError> {
        document(bound).ok_or_else(|| self.malformed("an _id to go on from", MalformedReply::Missing))
    }

    /// Documents of average size per batch. The server ends a reply at 16 MiB anyway.
    fn batch_documents(&self, bytes: usize) -> u32 {
        match self.size.map(|size| size.average()) {
            Some(average @ 1..) => u32::try_from(bytes as u64 / average).unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT),
            _ => BATCH_DOCUMENTS,
        }
    }

    /// Checks that the name still has the collection's UUID.
    pub(super) async fn check_unchanged(&self) -> Result<(), MongoError> {
        let uuid = self.deployment.uuid_of(&self.namespace.database, &self.namespace.collection).await?;
        if uuid == self.uuid {
            return Ok(());
        }
        Err(MongoError::CollectionChanged {
            hosts: self.deployment.hosts().clone(),
            namespace: self.namespace.to_string(),
        })
    }

    /// Explains a lost cursor: drops and renames kill it, but so do other things.
    pub(super) async fn diagnose(&self, error: MongoError) -> MongoError {
        if !matches!(error, MongoError::CursorLost { .. }) {
            return error;
        }
        match self.check_unchanged().await {
            Err(changed @ MongoError::CollectionChanged { .. }) => changed,
            _ => error,
        }
    }

    pub(super) async fn answered<T>(
        &self,
        command: &'static str,
        limit: ReplyLimit,
        work: impl IntoFuture<Output = Result<T, mongodb::error::Error>>,
    ) -> Result<T, MongoError> {
        self.deployment.answered(command, &self.namespace.to_string(), limit, work).await
    }

    pub(super) fn malformed(&self, expected: &'static str, found: MalformedReply) -> MongoError {
        MongoError::MalformedReply { hosts: self.deployment.hosts().clone(), command: "find", expected, found }
    }
}

/// A filter may skip many documents.
fn limit(options: &ScanOptions) -> ReplyLimit {
    if options.filter.is_some() { ReplyLimit::Long } else { ReplyLimit::Short }
}

/// A bound in the driver's types; `None` for text that is not UTF-8, which they cannot hold.
pub(super) fn document(bound: &IdBound) -> Option<Document> {
    let document = Document::from_reader(bound.as_bytes()).ok()?;
    // The driver must send the stored bytes, or it is another bound.
    (document.to_vec().ok()? == bound.as_bytes()).then_some(document)
}
