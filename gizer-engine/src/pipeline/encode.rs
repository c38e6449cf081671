//! The threads between the source and the sinks: ranges of documents in, parts of encoded rows out.

use std::cell::{Cell, RefCell};
use std::sync::mpsc;

use gizer_channel::{Held, Lease, ThreadReceiver, ThreadSender};
use gizer_flatten::range::DocumentRange;
use gizer_flatten::{Flattener, Rejection, Row, RowSink, Tally};
use gizer_pg::copy::{Buffers, EncodedUnit, Reject, UnitEncoder};
use gizer_schema::Layout;

use super::RejectLimit;

const LARGE_DOCUMENT_PARTS: usize = 4;

/// Size from which a document's rows may be sent in several parts. Sent parts cannot be taken back,
/// so it is checked first.
const LARGE_DOCUMENT_BYTES: usize = 64 << 10;

/// Encoded rows of a range; the last part ends it.
#[derive(Debug)]
pub(super) struct RangePart {
    pub(super) rows: EncodedUnit,
    pub(super) end: Option<RangeEnd>,
}

/// The end of a range, once all of its rows are encoded.
#[derive(Debug)]
pub(super) struct RangeEnd {
    /// The documents, in case the sink refuses them.
    pub(super) range: DocumentRange,
    pub(super) tally: Tally,
    /// Charges their bytes to the budget until committed.
    pub(super) lease: Option<Lease>,
}

/// Flattens and encodes ranges until the end or the sink's failure.
pub(super) fn encode_ranges<E: UnitEncoder>(
    layout: &Layout,
    ranges: &ThreadReceiver<DocumentRange>,
    parts: PartBuilder<E>,
    rejects: &RejectLimit,
) {
    let mut flattener = Flattener::new(layout);
    let parts = RefCell::new(parts);
    while let Some(range) = ranges.recv() {
        if rejects.exceeded() {
            return;
        }
        let (range, lease) = Held::into_parts(range);
        encode_range(&mut flattener, &parts, range, Some(lease), rejects);
        // The sink failed and reports why.
        if parts.borrow().closed {
            return;
        }
    }
}

/// Flattens and encodes one range, or a part of it once too many documents are rejected.
pub(super) fn encode_range<E: UnitEncoder>(
    flattener: &mut Flattener,
    parts: &RefCell<PartBuilder<E>>,
    range: DocumentRange,
    lease: Option<Lease>,
    rejects: &RejectLimit,
) {
    let rejected = Cell::new(0);
    let documents = range.documents.documents().take_while(|_| rejects.allows(rejected.get())).inspect(|document| {
        let large = document.as_bytes().len() >= LARGE_DOCUMENT_BYTES;
        parts.borrow_mut().divisible = large && document.check().is_ok();
    });
    flattener.flatten(documents, &mut PartSink(parts), |document, Rejection { id, reason }| {
        let (is_unfit_key, reason) = (reason.is_unfit_key(), reason.to_string());
        rejects.note(&reason);
        rejected.set(rejected.get() + 1);
        let document = document.as_bytes().to_vec();
        parts.borrow_mut().reject(Reject { id, reason, document, retry: None, is_unfit_key });
    });
    let tally = flattener.take_tally();
    let flattened = usize::try_from(tally.read).unwrap_or(usize::MAX);
    let whole = flattened == range.documents.len();
    // The rest is left to a load that allows more rejects.
    let range = if whole { Some(range) } else { range.split_at(flattened).map(|(flattened, _)| flattened) };
    match range {
        Some(range) => parts.borrow_mut().send(Some(RangeEnd { range, tally, lease })),
        // Too many rejects elsewhere: without an end the transaction is rolled back.
        None => parts.borrow_mut().closed = true,
    }
}

/// Encodes rows and sends full parts.
pub(super) struct PartBuilder<E> {
    encoder: E,
    /// Bytes of rejects besides their documents, which the encoder does not count.
    reject_overhead: usize,
    full_at: usize,
    parts: ThreadSender<RangePart>,
    spare: mpsc::Receiver<Buffers>,
    /// Whether rows of the current document may be sent before its end.
    divisible: bool,
    closed: bool,
}

impl<E: UnitEncoder> PartBuilder<E> {
    pub(super) fn new(
        layout: &Layout,
        full_at: usize,
        parts: ThreadSender<RangePart>,
        spare: mpsc::Receiver<Buffers>,
    ) -> PartBuilder<E> {
        let encoder = E::new(layout);
        PartBuilder { encoder, reject_overhead: 0, full_at, parts, spare, divisible: false, closed: false }
    }

    /// Adds a rejected document, between documents.
    fn reject(&mut self, reject: Reject) {
        self.send_if_full();
        self.reject_overhead += size_of::<Reject>() + reject.id.len() + reject.reason.len();
        self.encoder.reject(reject);
    }

    fn send_if_full(&mut self) {
        let full_at = if self.divisible { self.full_at / LARGE_DOCUMENT_PARTS } else { self.full_at };
        if self.encoder.bytes() + self.reject_overhead >= full_at {
            self.send(None);
        }
    }

    fn send(&mut self, end: Option<RangeEnd>) {
        let rows = self.encoder.take();
        self.reject_overhead = 0;
        if !self.closed {
            let memory = rows.memory_bytes();
            self.closed = self.parts.send(RangePart { rows, end }, memory).is_err();
        }
        self.spare.try_iter().for_each(|buffers| self.encoder.reuse(buffers));
    }
}

/// Adds rows to parts.
struct PartSink<'p, E>(&'p RefCell<PartBuilder<E>>);

impl<E: UnitEncoder> RowSink for PartSink<'_, E> {
    fn begin_document(&mut self) {
        let mut parts = self.0.borrow_mut();
        parts.send_if_full();
        parts.encoder.begin_document();
    }

    fn row(&mut self, row: Row<'_>) {
        let mut parts = self.0.borrow_mut();
        if parts.divisible {
            parts.send_if_full();
        }
        parts.encoder.row(row);
    }

    fn discard_document(&mut self) {
        let mut parts = self.0.borrow_mut();
        // A checked document is never discarded, so nothing of it was sent.
        debug_assert!(!parts.divisible, "a document that was checked is discarded");
        parts.encoder.discard_document();
    }
}
