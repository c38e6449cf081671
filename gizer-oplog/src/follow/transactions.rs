//! Operations of transactions that are not decided yet.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use gizer_schema::raw::RawDoc;

use super::spill::{Extent, SpillFile};
use crate::decode::TransactionId;
use crate::error::MongoError;
use crate::position::OplogPosition;

/// Operations lie together in memory in pieces of about this size: so is the file written and read.
const CHUNK_BYTES: usize = 256 << 10;

/// A transaction in the log of one of several shards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Undecided {
    /// The shard's place.
    pub(super) shard: usize,
    pub(super) transaction: TransactionId,
}

/// What is known of a transaction that is not decided.
#[derive(Debug)]
struct Chain {
    /// The piece before the first that is held: it lies before the place where reading began, or was let go of.
    missing: Option<OplogPosition>,
    /// The latest piece.
    last: OplogPosition,
    prepared: bool,
    operations: Operations,
}

impl Chain {
    /// Whether it holds back the watermark. It does not if it touches nothing that anybody has asked for.
    fn caps(&self) -> bool {
        self.prepared && (self.missing.is_some() || !self.operations.is_empty())
    }
}

/// Raw operations in their order, one BSON document after the other: at first those in the file, then those in memory.
#[derive(Debug, Default)]
pub(super) struct Operations {
    spilled: VecDeque<Extent>,
    memory: VecDeque<Vec<u8>>,
    memory_bytes: usize,
}

impl Operations {
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

/// What takes effect with a decision.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// The last of the pieces that have to be fetched from the log first.
    pub(super) missing: Option<OplogPosition>,
    pub(super) operations: Operations,
}

/// The undecided transactions of all shards, with no more in memory than was allowed.
#[derive(Debug)]
pub(super) struct HeldBack {
    chains: HashMap<Undecided, Chain>,
    memory_bytes: usize,
    limit: usize,
    spill: SpillFile,
    /// How many of the chains hold back the watermark.
    capping: usize,
}

impl HeldBack {
    pub(super) fn new(limit: usize, spill: SpillFile) -> HeldBack {
        HeldBack { chains: HashMap::new(), memory_bytes: 0, limit, spill, capping: 0 }
    }

    /// Whether a transaction that was asked for is prepared, and not decided.
    pub(super) fn caps(&self) -> bool {
        self.capping > 0
    }

    /// Begins a piece at a position, which goes on where `previous` ends; its operations are pushed after this.
    pub(super) fn begin_piece(&mut self, key: &Undecided, at: OplogPosition, previous: Option<OplogPosition>) {
        match self.chains.get_mut(key) {
            Some(chain) if previous == Some(chain.last) => chain.last = at,
            _ => {
                self.remove(key);
                let operations = Operations::default();
                self.chains.insert(key.clone(), Chain { missing: previous, last: at, prepared: false, operations });
            }
        }
    }

    /// Holds an operation of the piece that was begun last.
    pub(super) fn push(&mut self, key: &Undecided, operation: &[u8]) -> Result<(), MongoError> {
        let Some(chain) = self.chains.get_mut(key) else { return Ok(()) };
        chain.operations.push(operation);
        self.memory_bytes += operation.len();
        // What is being given counts as well, and only becomes less.
        while self.memory_bytes > self.limit && self.spill_largest()? {}
        Ok(())
    }

    /// The piece that was begun last was a prepare entry.
    pub(super) fn prepared(&mut self, key: &Undecided) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        chain.prepared = true;
        self.capping += usize::from(chain.caps());
    }

    /// Takes a transaction that takes effect with the piece or the prepare entry at `last`.
    pub(super) fn decide(&mut self, key: &Undecided, last: OplogPosition) -> Decided {
        match self.chains.remove(key) {
            Some(chain) if chain.last == last => {
                self.capping -= usize::from(chain.caps());
                Decided { missing: chain.missing, operations: chain.operations }
            }
            other => {
                if let Some(chain) = other {
                    self.drop_chain(chain);
                }
                Decided { missing: Some(last), operations: Operations::default() }
            }
        }
    }

    /// Lets go of a transaction that never takes effect, or did before anything was asked for.
    pub(super) fn remove(&mut self, key: &Undecided) {
        if let Some(chain) = self.chains.remove(key) {
            self.drop_chain(chain);
        }
    }

    fn drop_chain(&mut self, chain: Chain) {
        self.capping -= usize::from(chain.caps());
        self.drop_operations(chain.operations);
    }

    #[allow(clippy::needless_pass_by_value)] // They are gone after this.
    fn drop_operations(&mut self, operations: Operations) {
        self.memory_bytes -= operations.memory_bytes;
        if !operations.spilled.is_empty() {
            self.spill.release(operations.spilled.len());
        }
    }

    /// Other operations may be wanted from here on than those that were held: all are read again when they are decided.
    pub(super) fn forget_operations(&mut self) {
        let mut chains = std::mem::take(&mut self.chains);
        for chain in chains.values_mut() {
            self.drop_operations(std::mem::take(&mut chain.operations));
            chain.missing = Some(chain.last);
        }
        self.capping = chains.values().filter(|chain| chain.caps()).count();
        self.chains = chains;
    }

    /// The next of the operations of a transaction that was decided; empty at the end.
    pub(super) fn next_chunk(&mut self, operations: &mut Operations) -> Result<VecDeque<Bytes>, MongoError> {
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

    /// Whether the counts are those of what is there, and no more is in memory than that. A transaction that is being given is not
    /// counted here.
    #[cfg(test)]
    pub(super) fn is_within(&self, bytes: usize) -> bool {
        let held: usize = self.chains.values().flat_map(|chain| &chain.operations.memory).map(Vec::len).sum();
        let capping = self.chains.values().filter(|chain| chain.caps()).count();
        let spilled = self.chains.values().any(|chain| !chain.operations.spilled.is_empty());
        held <= bytes && held <= self.memory_bytes && capping == self.capping && (!spilled || self.spill.is_open())
    }

    /// The operations in memory of the transaction that has most of them go to the file; `false` if there are none.
    fn spill_largest(&mut self) -> Result<bool, MongoError> {
        let largest = self.chains.values_mut().max_by_key(|chain| chain.operations.memory_bytes);
        let Some(Chain { operations, .. }) = largest.filter(|chain| chain.operations.memory_bytes > 0) else {
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

/// The documents that lie one after the other in a chunk.
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

    /// A member that became primary in the midst of a transaction may begin it anew.
    #[test]
    fn a_transaction_that_begins_anew_is_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut held = HeldBack::new(20, SpillFile::new(folder.path().to_owned()));
        let transaction = TransactionId { session: Box::new([1]), number: 1 };
        let key = Undecided { shard: 0, transaction };
        let operation = bson::doc! { "o": 1 }.to_vec().unwrap();
        for _ in 0..3 {
            held.begin_piece(&key, OplogPosition::default(), None);
            held.push(&key, &operation).unwrap();
            held.push(&key, &operation).unwrap();
            held.prepared(&key);
        }
        assert!(held.caps() && held.is_within(20));
        let mut decided = held.decide(&key, OplogPosition::default());
        assert_eq!(held.next_chunk(&mut decided.operations).unwrap().len(), 2);
        assert!(!held.caps() && !held.spill.is_open() && held.memory_bytes == 0);
    }
}
