//! The stages, joined by channels.
//!
//! ```text
//!   source (tokio) ══▶ flatten + encode (threads) ══▶ sinks (tokio)
//!                  └▶ infer (threads)
//! ```
//!
//! `══▶` is a channel of gizer-channel with a budget of its own; both budgets together with what a stage holds while it
//! works stay within `[run] memory`. The first stage that fails ends the others: its channels close, they stop
//! quietly, and its error is the pipeline's.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use gizer_channel::{AsyncReceiver, AsyncSender, Budget, ThreadReceiver, ThreadSender, to_threads, to_tokio};
use gizer_flatten::{DocumentBatch, Flattener, RejectReason, Rejection, Row, RowSink, Tally};
use gizer_oplog::DocumentSource;
use gizer_pg::copy::{Buffers, CopyEncoder, EncodedUnit, Reject};
use gizer_pg::load::{UnitSink, Written};
use gizer_schema::Layout;
use gizer_schema::infer::Inference;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::exit::Failure;
use crate::progress::Counters;

/// Bytes of documents that a source should give at once, of a budget of `memory` bytes.
pub fn batch_bytes(memory: usize) -> usize {
    (memory / 64).clamp(256 << 10, 4 << 20)
}

/// Encoded bytes that make up a unit, about: one transaction. Large enough that the COPY commands of a unit's tables
/// do not count, small enough that every worker can have several under way.
fn unit_bytes(memory: usize) -> usize {
    (memory / 32).clamp(512 << 10, 8 << 20)
}

/// What went through a load's pipeline.
#[derive(Debug)]
pub struct Flow {
    /// What the flatteners read, and what did not fit.
    pub tally: Tally,
    /// What the sinks wrote.
    pub written: Written,
}

impl Flow {
    /// Whether every document that was read was either written or kept aside.
    ///
    /// # Errors
    /// The counts that do not agree.
    pub fn check(&self, read: u64) -> Result<(), String> {
        let Flow { tally, written } = self;
        let counts = [
            ("documents read", read, "documents flattened", tally.read),
            ("documents flattened", tally.read, "loaded and rejected", tally.loaded + tally.rejected),
            ("documents loaded", tally.loaded, "documents written", written.documents),
            ("documents rejected", tally.rejected, "rejects written", written.rejected),
        ];
        match counts.into_iter().find(|(_, one, _, other)| one != other) {
            Some((what, one, than, other)) => Err(format!("{one} {what}, but {other} {than}")),
            None => Ok(()),
        }
    }
}

/// How many documents of a load may be rejected; its threads count together.
///
/// Once there are more the load cannot be swapped in any more: whatever is still read is read in vain.
#[derive(Debug)]
pub struct RejectLimit {
    most: u64,
    count: AtomicU64,
    first: OnceLock<String>,
}

impl RejectLimit {
    /// At most this many.
    pub fn new(most: u64) -> RejectLimit {
        RejectLimit { most, count: AtomicU64::new(0), first: OnceLock::new() }
    }

    /// Whether there were more.
    pub fn exceeded(&self) -> bool {
        self.count.load(Ordering::Relaxed) > self.most
    }

    /// Why the first one was rejected. No values.
    pub fn first_reason(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }

    fn count(&self, reason: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.first.get_or_init(|| reason.to_owned());
    }
}

/// Loads all documents of a source through flatteners on `workers` threads into the sinks, with at most `memory` bytes
/// under way. Stops early, and then without an error, once more documents are rejected than `rejects` allows.
///
/// # Errors
/// Those of the source and the sinks; which units have been written then is the sinks' to know.
pub async fn load<K: UnitSink + 'static>(
    layout: &Layout,
    source: impl DocumentSource,
    sinks: Vec<K>,
    workers: usize,
    memory: usize,
    rejects: &Arc<RejectLimit>,
    counters: &Arc<Counters>,
) -> Result<Flow, Failure> {
    // A quarter for documents, a half for rows; the rest is what the stages hold while they work.
    let (batch_sender, batch_receiver) = to_threads(&Budget::new(memory / 4));
    let (unit_sender, unit_receiver) = to_tokio(&Budget::new(memory / 2));
    let mut threads = Vec::new();
    let mut spares = Vec::new();
    for _ in 0..workers {
        let (spare, returned) = mpsc::channel();
        spares.push(spare);
        let stage = UnitBuilder::new(layout, unit_bytes(memory), unit_sender.clone(), returned);
        let (flattener, batches, rejects) = (Flattener::new(layout), batch_receiver.clone(), Arc::clone(rejects));
        threads.push(on_thread(move || flatten(flattener, &batches, stage, &rejects)));
    }
    drop((batch_receiver, unit_sender));

    let mut writers = JoinSet::new();
    for (i, sink) in sinks.into_iter().enumerate() {
        let spare = spares[i % spares.len()].clone();
        writers.spawn(drain(sink, unit_receiver.clone(), spare, Arc::clone(counters)));
    }
    drop((unit_receiver, spares));
    let ((), written) = tokio::try_join!(pump(source, batch_sender, counters), all_written(writers))?;
    let mut tally = Tally::default();
    for part in threads {
        tally.add(joined(part).await?);
    }
    Ok(Flow { tally, written })
}

fn flatten(
    mut flattener: Flattener,
    batches: &ThreadReceiver<DocumentBatch>,
    units: UnitBuilder,
    rejects: &RejectLimit,
) -> Tally {
    // Rows and rejects come by two ways and go into one unit.
    let units = RefCell::new(units);
    // Why it ends: the sinks have failed, and say why; or the load is in vain.
    let ended = || units.borrow().closed || rejects.exceeded();
    while let Some(batch) = batches.recv() {
        let documents = batch.documents().take_while(|_| !ended());
        flattener.flatten(documents, &mut Rows(&units), |document, Rejection { id, reason }| {
            let reason = reason.to_string();
            rejects.count(&reason);
            units.borrow_mut().reject(Reject { id, reason, document: document.as_bytes().to_vec() });
        });
        if ended() {
            break;
        }
    }
    units.into_inner().send();
    flattener.take_tally()
}

/// Encodes rows and sends a unit whenever one is full: always whole documents.
struct UnitBuilder {
    encoder: CopyEncoder,
    /// What rejects take beside their documents, which the encoder does not count: with small documents most of it.
    beside_rejects: usize,
    full_at: usize,
    units: ThreadSender<EncodedUnit>,
    spare: mpsc::Receiver<Buffers>,
    closed: bool,
}

impl UnitBuilder {
    fn new(
        layout: &Layout,
        full_at: usize,
        units: ThreadSender<EncodedUnit>,
        spare: mpsc::Receiver<Buffers>,
    ) -> UnitBuilder {
        UnitBuilder { encoder: CopyEncoder::new(layout), beside_rejects: 0, full_at, units, spare, closed: false }
    }

    /// Keeps a document aside; between documents.
    fn reject(&mut self, reject: Reject) {
        self.send_if_full();
        self.beside_rejects += size_of::<Reject>() + reject.id.len() + reject.reason.len();
        self.encoder.reject(reject);
    }

    /// Between documents: a unit holds whole ones.
    fn send_if_full(&mut self) {
        if self.encoder.bytes() + self.beside_rejects >= self.full_at {
            self.send();
        }
    }

    fn send(&mut self) {
        let unit = self.encoder.take();
        self.beside_rejects = 0;
        if unit.documents > 0 || !unit.is_empty() {
            let memory = unit.memory_bytes();
            self.closed |= self.units.send(unit, memory).is_err();
        }
        self.spare.try_iter().for_each(|buffers| self.encoder.reuse(buffers));
    }
}

/// The rows' way into a unit.
struct Rows<'u>(&'u RefCell<UnitBuilder>);

impl RowSink for Rows<'_> {
    fn begin_document(&mut self) {
        let mut units = self.0.borrow_mut();
        units.send_if_full();
        units.encoder.begin_document();
    }

    fn row(&mut self, row: Row<'_>) {
        self.0.borrow_mut().encoder.row(row);
    }

    fn discard_document(&mut self) {
        self.0.borrow_mut().encoder.discard_document();
    }
}

/// Writes units until no more come.
async fn drain(
    mut sink: impl UnitSink,
    units: AsyncReceiver<EncodedUnit>,
    spare: mpsc::Sender<Buffers>,
    counters: Arc<Counters>,
) -> Result<Written, Failure> {
    while let Some(held) = units.recv().await {
        let (unit, lease) = held.into_parts();
        let rows = unit.rows();
        let buffers = sink.write(unit).await?;
        drop(lease);
        counters.add_rows(rows);
        // The flattener may have ended by now, and its buffers with it.
        let _ = spare.send(buffers);
    }
    Ok(sink.finish().await?)
}

async fn all_written(mut writers: JoinSet<Result<Written, Failure>>) -> Result<Written, Failure> {
    let mut sum = Written::default();
    while let Some(ended) = writers.join_next().await {
        let written = ended.map_err(|error| Failure::failed(format!("a writer ended without a result: {error}")))?;
        sum += &written?;
    }
    Ok(sum)
}

/// Looks at all documents of a source, on `workers` threads, with at most `memory` bytes under way.
///
/// # Errors
/// Those of the source; a document that is no BSON.
pub async fn infer(
    source: impl DocumentSource,
    workers: usize,
    memory: usize,
    counters: Arc<Counters>,
) -> Result<Inference, Failure> {
    let (sender, receiver) = to_threads(&Budget::new(memory / 2));
    let threads: Vec<_> = (0..workers)
        .map(|_| {
            let batches = receiver.clone();
            on_thread(move || observe(&batches))
        })
        .collect();
    drop(receiver);
    pump(source, sender, &counters).await?;
    let mut whole = Inference::default();
    for part in threads {
        whole.merge(joined(part).await??);
    }
    Ok(whole)
}

fn observe(batches: &ThreadReceiver<DocumentBatch>) -> Result<Inference, Failure> {
    let mut inference = Inference::default();
    while let Some(batch) = batches.recv() {
        for document in batch.documents() {
            inference.observe(document).map_err(|error| Failure::failed(RejectReason::from(error).to_string()))?;
        }
    }
    Ok(inference)
}

/// Sends all batches of a source to threads, and counts them.
async fn pump(
    mut source: impl DocumentSource,
    sender: AsyncSender<DocumentBatch>,
    counters: &Counters,
) -> Result<(), Failure> {
    while let Some(batch) = source.next_batch().await? {
        let (documents, document_bytes) = (batch.len() as u64, batch.document_bytes() as u64);
        let memory = batch.memory_bytes();
        if sender.send(batch, memory).await.is_err() {
            // The stage after this one has failed; it says why.
            return Ok(());
        }
        counters.add_documents(documents, document_bytes);
    }
    Ok(())
}

/// Runs a stage on a thread of its own; what it gives comes through the receiver.
fn on_thread<O: Send + 'static>(stage: impl FnOnce() -> O + Send + 'static) -> oneshot::Receiver<O> {
    let (done, output) = oneshot::channel();
    thread::spawn(move || {
        // Nobody waits for it any more: the pipeline was dropped.
        let _ = done.send(stage());
    });
    output
}

/// Waits for a stage on a thread.
///
/// # Errors
/// [`Failure`] if the thread panicked.
async fn joined<O>(stage: oneshot::Receiver<O>) -> Result<O, Failure> {
    stage.await.map_err(|_| Failure::failed("a worker thread ended without a result; this is a fault in gizer"))
}
