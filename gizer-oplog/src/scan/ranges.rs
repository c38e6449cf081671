//! A collection as ranges: several cursors, each batch with its place.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gizer_flatten::DocumentBatch;
use gizer_flatten::range::{DocumentRange, IdBound, IdRange, Place, Segment};

use super::cursor::OpenCursor;
use super::part::Part;
use super::{DocumentSource, Portion, ScanOptions};
use crate::collections::Collection;
use crate::connect::Cluster;
use crate::error::{MalformedReply, MongoError};

/// A stream of documents as ranges, each of which is loaded in one transaction.
///
/// # What an implementation owes
/// What a [`DocumentSource`] owes, and:
/// * **Places do not overlap.** A document whose `_id` lies in a range that was given is in that range or was not in the
///   collection when it was read.
/// * **Nothing is left out.** When the stream has ended, the ranges with a place make up the segments that it was to read,
///   but for segments without documents.
///
/// The ranges without a place are those of a source that cannot be read from there again.
pub trait RangeSource: Send {
    /// The next documents.
    ///
    /// # Errors
    /// As [`DocumentSource::next_batch`].
    fn next_range(&mut self) -> impl Future<Output = Result<Option<DocumentRange>, MongoError>> + Send;
}

/// A [`DocumentSource`] whose batches have no place.
#[derive(Debug)]
pub struct Unplaced<S>(pub S);

impl<S: DocumentSource> RangeSource for Unplaced<S> {
    async fn next_range(&mut self) -> Result<Option<DocumentRange>, MongoError> {
        let documents = self.0.next_batch().await?;
        Ok(documents.map(|documents| DocumentRange { documents, place: None }))
    }
}

/// One of several cursors that share the segments of a collection: whoever has read one takes the next.
///
/// How it reads, and why it misses nothing, is that of a [`CollectionScan`](super::CollectionScan). Nothing is sent before the first call.
pub struct RangeScan {
    parts: Arc<Vec<Option<Part>>>,
    namespace: String,
    options: Arc<ScanOptions>,
    segments: Arc<Mutex<VecDeque<Segment>>>,
    reading: Option<Reading>,
    failed: bool,
}

/// A segment under way.
struct Reading {
    segment: Segment,
    cursor: Option<OpenCursor>,
    /// Whether the cursor is the one over the last `_id` that there can be.
    at_last: bool,
    /// The number of the batch after the one that is held.
    sequence: u32,
    /// The batch whose end is not known yet: it ends where the next begins.
    held: Option<(DocumentBatch, Option<IdBound>)>,
}

impl RangeScan {
    /// So many cursors over these segments of a collection; its portion is always all of it.
    ///
    /// # Errors
    /// [`MongoError::NotFollowable`] for a view and the like.
    pub fn cursors(
        cluster: &Cluster,
        collection: &Collection,
        segments: Vec<Segment>,
        options: ScanOptions,
        cursors: usize,
    ) -> Result<Vec<RangeScan>, MongoError> {
        let parts = Arc::new(Part::all(cluster, collection)?);
        let options = Arc::new(ScanOptions { portion: Portion::All, ..options });
        let segments = Arc::new(Mutex::new(VecDeque::from(segments)));
        let cursor = |_| RangeScan {
            parts: Arc::clone(&parts),
            namespace: cluster.namespace(&collection.name).to_string(),
            options: Arc::clone(&options),
            segments: Arc::clone(&segments),
            reading: None,
            failed: false,
        };
        Ok((0..cursors.max(1)).map(cursor).collect())
    }

    /// Nothing is lost when this is dropped half-way: see [`CollectionScan`](super::CollectionScan).
    async fn step(&mut self) -> Result<Option<DocumentRange>, MongoError> {
        loop {
            let reading = match &mut self.reading {
                Some(reading) => reading,
                None => {
                    let Some(segment) = self.segments.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
                        return Ok(None);
                    };
                    self.reading.insert(Reading { segment, cursor: None, at_last: false, sequence: 0, held: None })
                }
            };
            // The collection is not there, so the segment was planned in another topology, and it is empty.
            let Some(Some(part)) = self.parts.get(reading.segment.source as usize) else {
                self.reading = None;
                continue;
            };
            let begins_at_last = reading.begins_at_last();
            let cursor = match &mut reading.cursor {
                Some(cursor) => cursor,
                None if begins_at_last => {
                    reading.at_last = true;
                    reading.cursor.insert(part.open_last(&self.options).await?)
                }
                None => reading.cursor.insert(part.open(&self.options, &reading.segment.range).await?),
            };
            match cursor.next(part).await? {
                Some(batch) if batch.is_empty() => {}
                Some(batch) => {
                    let first = first_id(part, &batch)?;
                    if let Some(range) = reading.begin(batch, first) {
                        return Ok(Some(range));
                    }
                }
                None if reading.has_open_end() && !reading.at_last => {
                    reading.cursor = Some(part.open_last(&self.options).await?);
                    reading.at_last = true;
                }
                None => {
                    part.check_unchanged().await?;
                    let last = reading.end();
                    self.reading = None;
                    if last.is_some() {
                        return Ok(last);
                    }
                }
            }
        }
    }
}

impl Reading {
    /// Whether it begins somewhere and goes on to the end of the collection, which `min` alone does not.
    fn has_open_end(&self) -> bool {
        self.segment.range.lower.is_some() && self.segment.range.upper.is_none()
    }

    /// Whether there is no more than the last `_id` in it.
    fn begins_at_last(&self) -> bool {
        self.segment.range.lower.as_ref().is_some_and(IdBound::is_max_key)
    }

    /// Holds a batch, and gives the one before it, whose end is known now.
    fn begin(&mut self, batch: DocumentBatch, first: IdBound) -> Option<DocumentRange> {
        // The segment's first batch begins where the segment does: what is inserted there meanwhile is in the oplog.
        let lower = if self.held.is_some() { Some(first.clone()) } else { self.segment.range.lower.clone() };
        let before = self.held.replace((batch, lower))?;
        Some(self.give(before, Some(first)))
    }

    /// The last batch, which ends where the segment does.
    fn end(&mut self) -> Option<DocumentRange> {
        let last = self.held.take()?;
        Some(self.give(last, self.segment.range.upper.clone()))
    }

    fn give(&mut self, (documents, lower): (DocumentBatch, Option<IdBound>), upper: Option<IdBound>) -> DocumentRange {
        let place =
            Place { segment: self.segment.number, sequence: self.sequence, part: 0, range: IdRange { lower, upper } };
        self.sequence += 1;
        DocumentRange { documents, place: Some(place) }
    }
}

/// Where a batch begins. Every document of a collection that has an index on `_id` has one.
fn first_id(part: &Part, batch: &DocumentBatch) -> Result<IdBound, MongoError> {
    let first = batch.documents().next().map(IdBound::of);
    match first {
        Some(Ok(Some(bound))) => Ok(bound),
        Some(Err(malformed)) => Err(part.malformed("a document with an _id", malformed.into())),
        Some(Ok(None)) | None => Err(part.malformed("a document with an _id", MalformedReply::Missing)),
    }
}

impl RangeSource for RangeScan {
    async fn next_range(&mut self) -> Result<Option<DocumentRange>, MongoError> {
        if self.failed {
            return Err(MongoError::FailedBefore { namespace: self.namespace.clone() });
        }
        let step = self.step().await;
        let Err(error) = step else { return step };
        self.failed = true;
        let part = self.reading.take().and_then(|reading| self.parts.get(reading.segment.source as usize)?.clone());
        match part {
            Some(part) => Err(part.diagnose(error).await),
            None => Err(error),
        }
    }
}

impl fmt::Debug for RangeScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeScan")
            .field("namespace", &self.namespace)
            .field("reading", &self.reading.as_ref().map(|reading| reading.segment.number))
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
