//! Reads a collection by several cursors, as ranges of `_id`s.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gizer_flatten::DocumentBatch;
use gizer_flatten::range::{DocumentRange, IdBound, IdRange, Place, Segment};

use super::cursor::OpenCursor;
use super::part::ScanPart;
use super::{DocumentSource, Portion, ScanOptions};
use crate::collections::Collection;
use crate::connect::Cluster;
use crate::error::{MalformedReply, MongoError};

/// A stream of document ranges, each of which is loaded in one transaction.
///
/// # What an implementation owes
/// The contract of a [`DocumentSource`], and:
/// * **Disjoint.** A document whose `_id` is in a given range is in that batch, or was not in the
///   collection when it was read.
/// * **Complete.** At the end the ranges make up the requested segments that have documents.
///
/// A source that cannot be resumed gives batches without a range.
pub trait RangeSource: Send {
    /// The next documents.
    ///
    /// # Errors
    /// As [`DocumentSource::next_batch`].
    fn next_range(&mut self) -> impl Future<Output = Result<Option<DocumentRange>, MongoError>> + Send;
}

/// A [`DocumentSource`] whose batches have no range.
#[derive(Debug)]
pub struct UnplacedSource<S>(pub S);

impl<S: DocumentSource> RangeSource for UnplacedSource<S> {
    async fn next_range(&mut self) -> Result<Option<DocumentRange>, MongoError> {
        let documents = self.0.next_batch().await?;
        Ok(documents.map(|documents| DocumentRange { documents, place: None }))
    }
}

/// One of several cursors that share a collection's segments: each takes the next free one.
///
/// It reads as [`CollectionScan`](super::CollectionScan) does, lazily.
pub struct RangeScan {
    parts: Arc<Vec<Option<ScanPart>>>,
    namespace: String,
    options: Arc<ScanOptions>,
    segments: Arc<Mutex<VecDeque<Segment>>>,
    reading: Option<SegmentScan>,
    failed: bool,
}

/// A segment being read.
struct SegmentScan {
    segment: Segment,
    cursor: Option<OpenCursor>,
    /// Whether the cursor is over MaxKey.
    at_last: bool,
    /// Number of the batch after the held one.
    sequence: u32,
    /// A batch whose end is unknown until the next one starts.
    held: Option<(DocumentBatch, Option<IdBound>)>,
}

impl RangeScan {
    /// Cursors over these segments of a collection; the portion is always all of it.
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
        let parts = Arc::new(ScanPart::all(cluster, collection)?);
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

    /// Cancel-safe, as [`CollectionScan`](super::CollectionScan).
    async fn step(&mut self) -> Result<Option<DocumentRange>, MongoError> {
        loop {
            let reading = match &mut self.reading {
                Some(reading) => reading,
                None => {
                    let Some(segment) = self.segments.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
                        return Ok(None);
                    };
                    self.reading.insert(SegmentScan { segment, cursor: None, at_last: false, sequence: 0, held: None })
                }
            };
            // The collection is missing: the segment is of another topology, and empty.
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

impl SegmentScan {
    /// Whether it has a start and runs to the collection's end, which `min` alone does not reach.
    fn has_open_end(&self) -> bool {
        self.segment.range.lower.is_some() && self.segment.range.upper.is_none()
    }

    /// Whether it holds MaxKey only.
    fn begins_at_last(&self) -> bool {
        self.segment.range.lower.as_ref().is_some_and(IdBound::is_max_key)
    }

    /// Holds a batch and gives the previous one, whose end is now known.
    fn begin(&mut self, batch: DocumentBatch, first: IdBound) -> Option<DocumentRange> {
        // The first batch starts where the segment does: later inserts there are in the oplog.
        let lower = if self.held.is_some() { Some(first.clone()) } else { self.segment.range.lower.clone() };
        let before = self.held.replace((batch, lower))?;
        Some(self.give(before, Some(first)))
    }

    /// Gives the last batch, which ends where the segment does.
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

/// The first `_id` of a batch.
fn first_id(part: &ScanPart, batch: &DocumentBatch) -> Result<IdBound, MongoError> {
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
