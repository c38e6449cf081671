//! The last stage: writes parts into a sink, each range in its own transaction.
//!
//! A refused range does not end the load. It is halved, and each half encoded and written as its
//! own range, down to a single document, which is rejected with PostgreSQL's reason.

use std::cell::RefCell;
use std::sync::{Arc, mpsc};

use gizer_channel::{AsyncReceiver, Budget, to_tokio};
use gizer_flatten::change::id_document;
use gizer_flatten::range::DocumentRange;
use gizer_flatten::{Flattener, Tally, id_text};
use gizer_pg::PgError;
use gizer_pg::copy::{Buffers, EncodedUnit, Reject, RetryKey};
use gizer_pg::load::{RangeDone, RangeSink, Written};
use gizer_pg::rows::Keys;
use gizer_schema::Layout;
use gizer_schema::raw::RawDoc;

use super::RejectLimit;
use super::encode::{PartBuilder, RangeEnd, RangePart, encode_range};
use crate::counters::Counters;
use crate::failure::Failure;

/// Shared by all writers of a load.
pub(super) struct WriterContext {
    pub(super) layout: Layout,
    pub(super) part_bytes: usize,
    pub(super) rejects: Arc<RejectLimit>,
    pub(super) counters: Arc<Counters>,
}

/// Writes ranges into one sink.
pub(super) struct RangeWriter<K> {
    sink: K,
    shared: Arc<WriterContext>,
    tally: Tally,
}

impl<K: RangeSink> RangeWriter<K> {
    pub(super) fn new(sink: K, shared: Arc<WriterContext>) -> RangeWriter<K> {
        RangeWriter { sink, shared, tally: Tally::default() }
    }

    /// Writes ranges until the end or too many rejects.
    pub(super) async fn drain(
        mut self,
        parts: AsyncReceiver<RangePart>,
        spare: mpsc::Sender<Buffers>,
    ) -> Result<(Written, Tally), Failure> {
        while let Some(outcome) = self.write_range(&parts, &spare).await? {
            if let RangeOutcome::Refused(refused) = outcome {
                self.divide(*refused).await?;
            }
            if self.shared.rejects.exceeded() {
                break;
            }
        }
        Ok((self.sink.finish().await?, self.tally))
    }

    /// Takes parts until one ends its range; `None` at the end.
    async fn write_range(
        &mut self,
        parts: &AsyncReceiver<RangePart>,
        spare: &mpsc::Sender<Buffers>,
    ) -> Result<Option<RangeOutcome>, Failure> {
        let mut refused = None;
        while let Some(held) = parts.recv().await {
            let (RangePart { rows, end }, lease) = held.into_parts();
            if refused.is_none() && !rows.is_empty() {
                match self.sink.copy(rows).await {
                    // The encoder may have ended.
                    Ok(buffers) => drop(spare.send(buffers)),
                    Err(error) if error.is_data_rejected() => refused = Some(error),
                    Err(error) => return Err(error.into()),
                }
            }
            drop(lease);
            let Some(end) = end else { continue };
            return match refused {
                None => self.commit(end).await.map(Some),
                Some(error) => Ok(Some(RangeOutcome::Refused(Box::new(RefusedRange { end, error })))),
            };
        }
        Ok(None)
    }

    async fn commit(&mut self, end: RangeEnd) -> Result<RangeOutcome, Failure> {
        let bytes = end.range.documents.document_bytes() as u64;
        let place = end.range.place.as_ref().map(|place| (place, &end.tally));
        match self.sink.commit(RangeDone { place, bytes }).await {
            Ok(rows) => {
                self.shared.counters.add_written(end.tally.read, bytes, rows);
                self.shared.rejects.count(end.tally.rejected);
                self.tally.add(end.tally);
                Ok(RangeOutcome::Written)
            }
            // A deferred constraint.
            Err(error) if error.is_data_rejected() => Ok(RangeOutcome::Refused(Box::new(RefusedRange { end, error }))),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a refused range in pieces.
    async fn divide(&mut self, refused: RefusedRange) -> Result<(), Failure> {
        let RefusedRange { end: RangeEnd { range, lease, .. }, error } = refused;
        let mut open = vec![(range, Some(error))];
        while let Some((range, error)) = open.pop() {
            let error = match error {
                Some(error) => error,
                None => match self.write_again(range.clone()).await? {
                    Some(RangeOutcome::Written) => continue,
                    Some(RangeOutcome::Refused(refused)) => refused.error,
                    // Too many rejects elsewhere: the rest is left to another load.
                    None => break,
                },
            };
            match range.split_at(range.documents.len() / 2) {
                Some((first, second)) => open.extend([(second, None), (first, None)]),
                None => self.reject(range, &error).await?,
            }
        }
        drop(lease);
        Ok(())
    }

    /// Encodes and writes some documents of a refused range; `None` after too many rejects.
    async fn write_again(&mut self, range: DocumentRange) -> Result<Option<RangeOutcome>, Failure> {
        // It needs no budget: the refused range has returned its own.
        let (sender, parts) = to_tokio(&Budget::new(self.shared.part_bytes));
        let (spare, returned) = mpsc::channel();
        let shared = Arc::clone(&self.shared);
        let encoder = tokio::task::spawn_blocking(move || {
            let parts =
                RefCell::new(PartBuilder::<K::Encoder>::new(&shared.layout, shared.part_bytes, sender, returned));
            encode_range(&mut Flattener::new(&shared.layout), &parts, range, None, &shared.rejects);
        });
        let outcome = self.write_range(&parts, &spare).await?;
        encoder.await.map_err(|_| Failure::failed("a worker thread ended without a result; this is a bug in gizer"))?;
        Ok(outcome)
    }

    /// Rejects the only document of a range, in its own transaction.
    async fn reject(&mut self, range: DocumentRange, error: &PgError) -> Result<(), Failure> {
        let Some(document) = range.documents.documents().next() else { return Ok(()) };
        let reason = format!("PostgreSQL refused it: {error}");
        self.shared.rejects.note(&reason);
        let retry = retry_key(&self.shared.layout, document, error);
        let (id, document) = (id_text(document), document.as_bytes().to_vec());
        let reject = Reject { id, reason, document, retry, is_unfit_key: false };
        self.sink.copy(EncodedUnit { rejects: vec![reject], ..EncodedUnit::default() }).await?;
        let mut tally = Tally::default();
        (tally.read, tally.rejected) = (1, 1);
        match self.commit(RangeEnd { range, tally, lease: None }).await? {
            RangeOutcome::Written => Ok(()),
            RangeOutcome::Refused(refused) => Err(refused.error.into()),
        }
    }
}

/// The key by which following retries a refused document; `None` if it has none, and following
/// could not write it either.
fn retry_key(layout: &Layout, document: RawDoc<'_>, error: &PgError) -> Option<RetryKey> {
    let mut keys = Keys::new(layout);
    keys.insert(&Flattener::new(layout).key_of(document).ok()?)?;
    let lookup = id_document(document).ok().flatten()?.to_vec();
    let sqlstate = error.sqlstate().unwrap_or_default().to_owned();
    Some(RetryKey { key: keys.field(0).to_vec(), lookup, sqlstate })
}

/// A range that was not written, and why.
struct RefusedRange {
    end: RangeEnd,
    error: PgError,
}

/// Result of writing a range.
enum RangeOutcome {
    Written,
    /// Nothing was written.
    Refused(Box<RefusedRange>),
}
