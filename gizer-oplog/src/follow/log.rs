//! Where the entries of one shard come from: its oplog, or what was kept of it aside and then the oplog.

use bytes::Bytes;

use super::kept::KeptLog;
use crate::error::MongoError;
use crate::position::Oplog;
use crate::position::OplogPosition;
use crate::tail::{OplogBatch, OplogTail, Patience, TailOptions};

/// Entries of one shard, from a position on, in the log's order.
pub(super) trait RawLog: Send {
    /// The shard's name.
    fn name(&self) -> &str;

    /// The next entries. It may begin with entries at or before the position where reading was to begin. A call may be dropped before it is
    /// ready; no entry is lost.
    fn next_batch(&mut self) -> impl Future<Output = Result<OplogBatch, MongoError>> + Send;

    /// One entry, wherever it stands. A call may be dropped before it is ready.
    fn entry_at(&mut self, position: OplogPosition) -> impl Future<Output = Result<Bytes, MongoError>> + Send;
}

/// A shard's log.
pub(super) struct ShardLog {
    oplog: Oplog,
    options: TailOptions,
    from: OplogPosition,
    source: Source,
    patience: Patience,
}

enum Source {
    /// Once its end has been read the log itself is to go on from there.
    Kept {
        kept: Box<dyn KeptLog>,
        ended: bool,
    },
    Tail(Box<OplogTail>),
}

impl ShardLog {
    /// From the log itself.
    pub(super) async fn open(oplog: &Oplog, from: OplogPosition, options: TailOptions) -> Result<ShardLog, MongoError> {
        let tail = OplogTail::open(oplog, from, options).await?;
        Ok(ShardLog::new(oplog, from, options, Source::Tail(Box::new(tail))))
    }

    /// From what was kept first, as far as that goes.
    pub(super) fn with_kept(
        oplog: &Oplog,
        kept: Box<dyn KeptLog>,
        from: OplogPosition,
        options: TailOptions,
    ) -> Result<ShardLog, MongoError> {
        // What lies before the position tells which transactions are under way there.
        let start = kept.start();
        if from < start {
            return Err(MongoError::KeptFromLater { shard: oplog.name().to_owned(), start, wanted: from });
        }
        Ok(ShardLog::new(oplog, from, options, Source::Kept { kept, ended: false }))
    }

    fn new(oplog: &Oplog, from: OplogPosition, options: TailOptions, source: Source) -> ShardLog {
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
                Source::Kept { kept, ended: ended @ false } => match kept.next_batch().await? {
                    Some(batch) => return Ok(batch),
                    None => *ended = true,
                },
                Source::Kept { kept, ended } => {
                    let position = kept.reached().max(self.from);
                    match OplogTail::open(&self.oplog, position, self.options).await {
                        Ok(tail) => self.source = Source::Tail(Box::new(tail)),
                        // It has rolled over since: whoever keeps it may have been there in time.
                        Err(error @ MongoError::RolledOver { .. }) => {
                            let batch = kept.wait_for_batch().await?.ok_or(error)?;
                            *ended = false;
                            return Ok(batch);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    async fn entry_at(&mut self, position: OplogPosition) -> Result<Bytes, MongoError> {
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
