//! Buffers the operations of undecided transactions.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use gizer_schema::raw::RawDoc;

use super::spill::{SpillExtent, SpillFile};
use crate::decode::TransactionId;
use crate::error::MongoError;
use crate::position::OplogPosition;

/// Operations are buffered, written and read in chunks of about this size.
const CHUNK_BYTES: usize = 256 << 10;

/// A transaction of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TransactionKey {
    /// The shard's index.
    pub(super) shard: usize,
    pub(super) transaction: TransactionId,
}

/// An undecided transaction.
#[derive(Debug)]
struct OpenTransaction {
    /// The piece before the first buffered one: it is before the start of reading, or was dropped.
    missing: Option<OplogPosition>,
    /// The latest piece.
    last: OplogPosition,
    prepared: bool,
    operations: BufferedOperations,
}

impl OpenTransaction {
    /// Whether it blocks the watermark: it is prepared and has wanted operations.
    fn blocks_watermark(&self) -> bool {
        self.prepared && (self.missing.is_some() || !self.operations.is_empty())
    }
}

/// Raw operations in order, concatenated: those in the file come first, then those in memory.
#[derive(Debug, Default)]
pub(super) struct BufferedOperations {
    spilled: VecDeque<SpillExtent>,
    memory: VecDeque<Vec<u8>>,
    memory_bytes: usize,
}

impl BufferedOperations {
    fn is_empty(&self) -> bool {
        self.spilled.is_empty() && self.memory.is_empty()
    }

    fn push(&mut self, operation: &[u8]) {
        match self.memory.back_mut() {
            Some(chunk) if chunk.len() + operation.len() <= CHUNK_BYTES => chunk.extend_from_slice(operation),
            _ => self.memory.push_back(operation.to_vec()),
        }
        self.memory_bytes += operation.len();
    }
}

/// What a decision makes effective.
#[derive(Debug, Default)]
pub(super) struct DecidedTransaction {
    /// The last piece to fetch from the log first.
    pub(super) missing: Option<OplogPosition>,
    pub(super) operations: BufferedOperations,
}

/// Undecided transactions of all shards, within a memory limit.
#[derive(Debug)]
pub(super) struct OpenTransactions {
    open: HashMap<TransactionKey, OpenTransaction>,
    memory_bytes: usize,
    limit: usize,
    spill: SpillFile,
    /// Number of transactions that block the watermark.
    blocking: usize,
}

impl OpenTransactions {
    pub(super) fn new(limit: usize, spill: SpillFile) -> OpenTransactions {
        OpenTransactions { open: HashMap::new(), memory_bytes: 0, limit, spill, blocking: 0 }
    }

    /// Whether a prepared transaction blocks the watermark.
    pub(super) fn blocks_watermark(&self) -> bool {
        self.blocking > 0
    }

    /// Starts a piece that continues the one at `previous`; its operations are pushed next.
    pub(super) fn begin_piece(&mut self, key: &TransactionKey, at: OplogPosition, previous: Option<OplogPosition>) {
        match self.open.get_mut(key) {
            Some(transaction) if previous == Some(transaction.last) => transaction.last = at,
            _ => {
                self.remove(key);
                let operations = BufferedOperations::default();
                self.open
                    .insert(key.clone(), OpenTransaction { missing: previous, last: at, prepared: false, operations });
            }
        }
    }

    /// Buffers an operation of the current piece.
    pub(super) fn push(&mut self, key: &TransactionKey, operation: &[u8]) -> Result<(), MongoError> {
        let Some(transaction) = self.open.get_mut(key) else { return Ok(()) };
        transaction.operations.push(operation);
        self.memory_bytes += operation.len();
        // A transaction being given counts too, and only shrinks.
        while self.memory_bytes > self.limit && self.spill_largest()? {}
        Ok(())
    }

    /// Marks the current piece as a prepare entry.
    pub(super) fn prepared(&mut self, key: &TransactionKey) {
        let Some(transaction) = self.open.get_mut(key) else { return };
        transaction.prepared = true;
        self.blocking += usize::from(transaction.blocks_watermark());
    }

    /// Takes the transaction decided by the piece or prepare entry at `last`.
    pub(super) fn decide(&mut self, key: &TransactionKey, last: OplogPosition) -> DecidedTransaction {
        match self.open.remove(key) {
            Some(transaction) if transaction.last == last => {
                self.blocking -= usize::from(transaction.blocks_watermark());
                DecidedTransaction { missing: transaction.missing, operations: transaction.operations }
            }
            other => {
                if let Some(transaction) = other {
                    self.drop_transaction(transaction);
                }
                DecidedTransaction { missing: Some(last), operations: BufferedOperations::default() }
            }
        }
    }

    /// Drops a transaction that was aborted or started over.
    pub(super) fn remove(&mut self, key: &TransactionKey) {
        if let Some(transaction) = self.open.remove(key) {
            self.drop_transaction(transaction);
        }
    }

    fn drop_transaction(&mut self, transaction: OpenTransaction) {
        self.blocking -= usize::from(transaction.blocks_watermark());
        self.drop_operations(transaction.operations);
    }

    #[allow(clippy::needless_pass_by_value)] // They are gone after this.
    fn drop_operations(&mut self, operations: BufferedOperations) {
        self.memory_bytes -= operations.memory_bytes;
        if !operations.spilled.is_empty() {
            self.spill.release(operations.spilled.len());
        }
    }

    /// Drops all buffered operations for a new interest: they are read again when decided.
    pub(super) fn forget_operations(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        for transaction in open.values_mut() {
            self.drop_operations(std::mem::take(&mut transaction.operations));
            transaction.missing = Some(transaction.last);
        }
        self.blocking = open.values().filter(|transaction| transaction.blocks_watermark()).count();
        self.open = open;
    }

    /// The next operations of a decided transaction; empty at the end.
    pub(super) fn next_chunk(&mut self, operations: &mut BufferedOperations) -> Result<VecDeque<Bytes>, MongoError> {
        let chunk = if let Some(extent) = operations.spilled.pop_front() {
            self.spill.take(extent)?
        } else if let Some(chunk) = operations.memory.pop_front() {
            operations.memory_bytes -= chunk.len();
            self.memory_bytes -= chunk.len();
            chunk
        } else {
            return Ok(VecDeque::new());
        };
        Ok(documents(Bytes::from(chunk)))
    }

    /// Whether counters and memory limit hold, without the transaction being given.
    #[cfg(test)]
    pub(super) fn is_within(&self, bytes: usize) -> bool {
        let held: usize = self.open.values().flat_map(|transaction| &transaction.operations.memory).map(Vec::len).sum();
        let blocking = self.open.values().filter(|transaction| transaction.blocks_watermark()).count();
        let spilled = self.open.values().any(|transaction| !transaction.operations.spilled.is_empty());
        held <= bytes && held <= self.memory_bytes && blocking == self.blocking && (!spilled || self.spill.is_open())
    }

    /// Spills the transaction with most operations in memory; `false` if there are none.
    fn spill_largest(&mut self) -> Result<bool, MongoError> {
        let largest = self.open.values_mut().max_by_key(|transaction| transaction.operations.memory_bytes);
        let Some(OpenTransaction { operations, .. }) =
            largest.filter(|transaction| transaction.operations.memory_bytes > 0)
        else {
            return Ok(false);
        };
        while let Some(chunk) = operations.memory.pop_front() {
            operations.spilled.push_back(self.spill.write(&chunk)?);
            operations.memory_bytes -= chunk.len();
            self.memory_bytes -= chunk.len();
        }
        Ok(true)
    }
}

/// Splits concatenated documents.
fn documents(chunk: Bytes) -> VecDeque<Bytes> {
    let (mut rest, mut documents) = (chunk, VecDeque::new());
    while let Ok(document) = RawDoc::first_in(&rest) {
        let length = document.as_bytes().len();
        documents.push_back(rest.split_to(length));
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member that became primary during a transaction may restart it.
    #[test]
    fn a_restarted_transaction_is_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut held = OpenTransactions::new(20, SpillFile::new(folder.path().to_owned()));
        let transaction = TransactionId { session: Box::new([1]), number: 1 };
        let key = TransactionKey { shard: 0, transaction };
        let operation = bson::doc! { "o": 1 }.to_vec().unwrap();
        for _ in 0..3 {
            held.begin_piece(&key, OplogPosition::default(), None);
            held.push(&key, &operation).unwrap();
            held.push(&key, &operation).unwrap();
            held.prepared(&key);
        }
        assert!(held.blocks_watermark() && held.is_within(20));
        let mut decided = held.decide(&key, OplogPosition::default());
        assert_eq!(held.next_chunk(&mut decided.operations).unwrap().len(), 2);
        assert!(!held.blocks_watermark() && !held.spill.is_open() && held.memory_bytes == 0);
    }
}
