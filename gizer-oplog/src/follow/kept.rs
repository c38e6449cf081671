//! What was kept of a log aside, wherever that is.

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;

use crate::error::MongoError;
use crate::position::OplogPosition;
use crate::spool::{SpoolError, SpoolReader};
use crate::tail::OplogBatch;

/// Bytes of entries that are read from a file at a time.
const BATCH_BYTES: usize = 4 << 20;

/// Entries of one shard's log that were kept aside, in the log's order, from the beginning of what was kept.
///
/// # What it owes
/// * Between [`start`](KeptLog::start) (not included) and [`reached`](KeptLog::reached) (included), every entry that may matter to
///   whoever reads it has been given, once.
/// * A call may be dropped before it is ready; no entry is lost.
/// * What it cannot read for a reason of its own is [`MongoError::Kept`].
pub trait KeptLog: Send {
    /// The position after which it begins.
    fn start(&self) -> OplogPosition;

    /// How far that which was given leads: after the last entry, where the log itself goes on.
    fn reached(&self) -> OplogPosition;

    /// The next entries; `None` at the end of what was kept. More may be there when it is asked again.
    fn next_batch(&mut self) -> BoxFuture<'_, Result<Option<OplogBatch>, MongoError>>;

    /// As [`next_batch`](KeptLog::next_batch), but at the end it waits for more, as long as somebody goes on keeping the log: for
    /// when the log itself has lost what comes next. What it gives may be empty, and only lead further.
    fn wait_for_batch(&mut self) -> BoxFuture<'_, Result<Option<OplogBatch>, MongoError>> {
        self.next_batch()
    }
}

/// What was kept in a file.
#[derive(Debug)]
pub struct KeptInFile {
    shard: String,
    start: OplogPosition,
    reached: OplogPosition,
    /// `None` while it is read on another thread, or if that has panicked.
    reader: Option<SpoolReader>,
    reading: Option<JoinHandle<(SpoolReader, SpoolBatch)>>,
}

type SpoolBatch = Result<Option<OplogBatch>, SpoolError>;

impl KeptInFile {
    /// All of a spool, of which nothing may have been read yet. `shard` is the oplog's name.
    pub fn new(shard: impl Into<String>, reader: SpoolReader) -> KeptInFile {
        let start = reader.start();
        let reader = Some(reader.rewound());
        KeptInFile { shard: shard.into(), start, reached: start, reader, reading: None }
    }

    /// Goes on with the same spool, opened again after what was [`reached`](KeptLog::reached): it may hold more by now.
    pub fn go_on_with(&mut self, reader: SpoolReader) {
        (self.reader, self.reading) = (Some(reader), None);
    }

    async fn read(&mut self) -> Result<Option<OplogBatch>, MongoError> {
        if let Some(mut reader) = self.reader.take() {
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let batch = read_batch(&mut reader);
                (reader, batch)
            }));
        }
        let lost = || MongoError::SpoolThreadLost { shard: self.shard.clone() };
        let outcome = self.reading.as_mut().ok_or_else(lost)?.await;
        self.reading = None;
        let (reader, batch) = outcome.map_err(|_| lost())?;
        // One that was opened again begins at the beginning of the file.
        self.reached = self.reached.max(reader.reached());
        self.reader = Some(reader);
        batch.map_err(MongoError::Spool)
    }
}

impl KeptLog for KeptInFile {
    fn start(&self) -> OplogPosition {
        self.start
    }

    fn reached(&self) -> OplogPosition {
        self.reached
    }

    fn next_batch(&mut self) -> BoxFuture<'_, Result<Option<OplogBatch>, MongoError>> {
        self.read().boxed()
    }
}

fn read_batch(reader: &mut SpoolReader) -> SpoolBatch {
    let mut bytes = Vec::new();
    while bytes.len() < BATCH_BYTES {
        match reader.next_entry()? {
            Some(entry) => bytes.extend_from_slice(entry.document.as_bytes()),
            None => break,
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let batch = OplogBatch::of_kept(bytes, reader.reached());
    Ok(Some(batch.expect("a spool gives whole entries")))
}
