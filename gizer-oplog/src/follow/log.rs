//! The source of a shard's entries.

use bytes::Bytes;

use crate::error::MongoError;
use crate::position::{Oplog, OplogPosition};
use crate::tail::{OplogBatch, OplogTail, Patience, TailOptions};

/// A shard's entries from a position on, in log order.
pub(super) trait RawLog: Send {
    /// The shard's name.
    fn name(&self) -> &str;

    /// The next entries. Cancel-safe.
    fn next_batch(&mut self) -> impl Future<Output = Result<OplogBatch, MongoError>> + Send;

    /// The entry at a position. Cancel-safe.
    fn entry_at(&mut self, position: OplogPosition) -> impl Future<Output = Result<Bytes, MongoError>> + Send;
}

pub(super) struct ShardLog {
    oplog: Oplog,
    tail: OplogTail,
    patience: Patience,
}

impl ShardLog {
    pub(super) async fn open(oplog: &Oplog, from: OplogPosition, options: TailOptions) -> Result<ShardLog, MongoError> {
        let tail = OplogTail::open(oplog, from, options).await?;
        Ok(ShardLog { oplog: oplog.clone(), tail, patience: Patience::new(options.patience) })
    }
}

impl RawLog for ShardLog {
    fn name(&self) -> &str {
        self.oplog.name()
    }

    async fn next_batch(&mut self) -> Result<OplogBatch, MongoError> {
        self.tail.next_batch().await
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
