//! Where the entries of one shard come from: its oplog, or what was kept of it aside and then the oplog.

use bytes::Bytes;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::Position;
use tokio::task::JoinHandle;

use crate::error::MongoError;
use crate::position::Oplog;
use crate::spool::{SpoolError, SpoolReader};
use crate::tail::{OplogBatch, OplogTail, Patience, TailOptions};

/// Bytes of entries that are read from a spool at a time.
const SPOOL_BATCH_BYTES: usize = 4 << 20;

/// Entries of one shard, from a position on, in the log's order.
pub(super) trait RawLog: Send {
    /// The shard's name.
    fn name(&self) -> &str;

    /// The next entries. It may begin with entries at or before the position where reading was to begin. A call may be dropped before it is
    /// ready; no entry is lost.
    fn next_batch(&mut self) -> impl Future<Output = Result<OplogBatch, MongoError>> + Send;

    /// One entry, wherever it stands. A call may be dropped before it is ready.
    fn entry_at(&mut self, position: Position) -> impl Future<Output = Result<Bytes, MongoError>> + Send;
}

/// A shard's log.
pub(super) struct ShardLog {
    oplog: Oplog,
    options: TailOptions,
    from: Position,
    source: Source,
    patience: Patience,
}

enum Source {
    /// `None` while it is read on another thread, or if that has panicked.
    Spool {
        reader: Option<SpoolReader>,
        reading: Option<JoinHandle<(SpoolReader, SpoolBatch)>>,
    },
    /// The spool has been read: the log goes on from here.
    Ended(Position),
    Tail(Box<OplogTail>),
}

type SpoolBatch = Result<Option<OplogBatch>, SpoolError>;

impl ShardLog {
    /// From the log itself.
    pub(super) async fn open(oplog: &Oplog, from: Position, options: TailOptions) -> Result<ShardLog, MongoError> {
        let tail = OplogTail::open(oplog, from, options).await?;
        Ok(ShardLog::new(oplog, from, options, Source::Tail(Box::new(tail))))
    }

    /// From a spool first, as far as it goes.
    pub(super) fn with_spool(
        oplog: &Oplog,
        spool: SpoolReader,
        from: Position,
        options: TailOptions,
    ) -> Result<ShardLog, MongoError> {
        // What lies before the position tells which transactions are under way there.
        let reader = spool.with_what_lies_before(from).map_err(MongoError::Spool)?;
        Ok(ShardLog::new(oplog, from, options, Source::Spool { reader: Some(reader), reading: None }))
    }

    fn new(oplog: &Oplog, from: Position, options: TailOptions, source: Source) -> ShardLog {
        ShardLog { oplog: oplog.clone(), options, from, source, patience: Patience::new(options.patience) }
    }
}

impl RawLog for ShardLog {
    fn name(&self) -> &str {
        self.oplog.name()
    }

    async fn next_batch(&mut self) -> Result<OplogBatch, MongoError> {
        loop {
            match &mut self.source {
                Source::Tail(tail) => return tail.next_batch().await,
                Source::Spool { reader, reading } => {
                    if let Some(mut reader) = reader.take() {
                        *reading = Some(tokio::task::spawn_blocking(move || {
                            let batch = read_batch(&mut reader);
                            (reader, batch)
                        }));
                    }
                    let Some(handle) = reading else { return Err(thread_lost(&self.oplog)) };
                    let outcome = handle.await;
                    *reading = None;
                    let Ok((back, batch)) = outcome else { return Err(thread_lost(&self.oplog)) };
                    let reached = back.reached();
                    *reader = Some(back);
                    match batch.map_err(MongoError::Spool)? {
                        Some(batch) => return Ok(batch),
                        None => self.source = Source::Ended(reached.max(self.from)),
                    }
                }
                Source::Ended(position) => {
                    let tail = OplogTail::open(&self.oplog, *position, self.options).await?;
                    self.source = Source::Tail(Box::new(tail));
                }
            }
        }
    }

    async fn entry_at(&mut self, position: Position) -> Result<Bytes, MongoError> {
        loop {
            match self.oplog.entry_at(position).await {
                Ok(entry) => {
                    self.patience.reset();
                    return Ok(entry);
                }
                Err(error) => self.patience.pause(self.oplog.name(), error).await?,
            }
        }
    }
}

fn thread_lost(oplog: &Oplog) -> MongoError {
    MongoError::SpoolThreadLost { shard: oplog.name().to_owned() }
}

fn read_batch(reader: &mut SpoolReader) -> SpoolBatch {
    let mut bytes = Vec::new();
    while bytes.len() < SPOOL_BATCH_BYTES {
        match reader.next_entry()? {
            Some(entry) => bytes.extend_from_slice(entry.document.as_bytes()),
            None => break,
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let position = reader.reached();
    let documents = DocumentBatch::from_sequence(Bytes::from(bytes)).expect("a spool gives whole documents");
    Ok(Some(OplogBatch::new(documents, 0, position, position.time)))
}
