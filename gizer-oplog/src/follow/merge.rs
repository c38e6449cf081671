//! Merges the logs of all shards into one stream.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::future::select_all;
use gizer_flatten::change::{ClusterTime, Positions};
use gizer_schema::raw::RawDoc;

use super::interest::{Interest, NamespaceCache, Relevance};
use super::log::RawLog;
use super::replay::{TransactionReplay, malformed, operations_of};
use super::shard::ShardReader;
use super::transactions::{DecidedTransaction, OpenTransactions, TransactionKey};
use crate::changes::ChangeEvent;
use crate::decode::{DecodedEntry, Operation, Piece, PieceEnd, TransactionId, decode, read_operation};
use crate::error::MongoError;
use crate::position::OplogPosition;
use crate::tail::RawEntry;

/// How many changes and bytes make a watermark due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) changes: usize,
    pub(super) bytes: usize,
}

/// The logs of all shards, merged by time.
pub(super) struct MergedLog<L> {
    /// By name.
    shards: Vec<ShardReader<L>>,
    interest: Interest,
    names: NamespaceCache,
    held: OpenTransactions,
    limits: Limits,
    /// The transaction being given.
    replay: Option<TransactionReplay>,
    /// All entries up to and at this time are processed, unless the next one has the same time.
    processed_to: ClusterTime,
    /// Start positions and their earliest time, reported until the first watermark.
    from: (ClusterTime, Positions),
    latest: Watermark,
    since: SinceWatermark,
}

/// The latest watermark; before the first one only its time is set.
struct Watermark {
    time: ClusterTime,
    positions: Option<Positions>,
    read_to: ClusterTime,
}

/// Changes given since the latest watermark.
#[derive(Default)]
struct SinceWatermark {
    changes: usize,
    bytes: usize,
    /// DDL was given: the next watermark is due at once.
    ddl: bool,
}

/// The next step.
enum MergeStep {
    Give(ChangeEvent),
    /// Fetch an earlier entry of this shard.
    Fetch(usize, OplogPosition),
    Read,
}

impl<L: RawLog> MergedLog<L> {
    /// Merges `logs`, each read from its position.
    pub(super) fn new(
        logs: Vec<(L, OplogPosition)>,
        interest: Interest,
        held: OpenTransactions,
        limits: Limits,
    ) -> MergedLog<L> {
        let times = logs.iter().map(|(_, from)| from.time);
        // No watermark before the latest start: that shard's earlier changes are not given.
        let (start, earliest) = (times.clone().max().unwrap_or_default(), times.min().unwrap_or_default());
        let from: Positions = logs.iter().map(|(log, from)| (log.name().to_owned(), (*from).into())).collect();
        let mut shards: Vec<ShardReader<L>> = logs.into_iter().map(|(log, from)| ShardReader::new(log, from)).collect();
        shards.sort_by(|a, b| a.name.cmp(&b.name));
        MergedLog {
            shards,
            interest,
            names: NamespaceCache::default(),
            held,
            limits,
            replay: None,
            processed_to: start,
            from: (earliest, from),
            latest: Watermark { time: start, positions: None, read_to: start },
            since: SinceWatermark::default(),
        }
    }

    pub(super) fn set_interest(&mut self, interest: Interest) {
        if !self.interest.covers(&interest) {
            self.held.forget_operations();
        }
        self.interest = interest;
    }

    /// The next event. Cancel-safe: everything awaited can be requested again.
    pub(super) async fn next(&mut self) -> Result<ChangeEvent, MongoError> {
        loop {
            match self.step()? {
                MergeStep::Give(event) => return Ok(event),
                MergeStep::Fetch(shard, at) => {
                    let entry = self.shards[shard].log.entry_at(at).await?;
                    if let Some(replay) = &mut self.replay {
                        replay.fetched(&self.shards[shard].name, at, &entry)?;
                    }
                }
                MergeStep::Read => self.read().await?,
            }
        }
    }

    /// Waits until one of the exhausted logs has more.
    async fn read(&mut self) -> Result<(), MongoError> {
        let waiting = self.shards.iter_mut().filter(|shard| shard.head().is_none());
        let waiting: Vec<_> = waiting.map(|shard| Box::pin(shard.read())).collect();
        select_all(waiting).await.0
    }

    fn step(&mut self) -> Result<MergeStep, MongoError> {
        loop {
            if self.replay.is_some() {
                if let Some(step) = self.give()? {
                    return Ok(step);
                }
                continue;
            }
            let Some((shard, position)) = self.next_entry() else {
                let watermark = self.watermark(self.reached()).or_else(|| self.repeated_watermark());
                return Ok(watermark.map_or(MergeStep::Read, MergeStep::Give));
            };
            let SinceWatermark { changes, bytes, ddl } = self.since;
            let due = ddl || changes >= self.limits.changes || bytes >= self.limits.bytes;
            if due && let Some(watermark) = self.watermark_before(position.time) {
                return Ok(MergeStep::Give(watermark));
            }
            if let Some(event) = self.process(shard, position)? {
                return Ok(MergeStep::Give(event));
            }
        }
    }

    /// The next entry by time and shard name, if no log can still give an earlier one.
    fn next_entry(&self) -> Option<(usize, OplogPosition)> {
        let heads = || self.shards.iter().enumerate().filter_map(|(place, shard)| Some((place, shard.head()?)));
        let first = heads().min_by_key(|(place, head)| (head.time, *place))?;
        let known = |shard: &ShardReader<L>| shard.head().is_some() || shard.reached() >= first.1.time;
        self.shards.iter().all(known).then_some(first)
    }

    /// All shards have been read up to this time.
    fn reached(&self) -> ClusterTime {
        self.shards.iter().map(ShardReader::reached).min().unwrap_or_default()
    }

    /// A watermark after everything processed, if the next entry is later.
    fn watermark_before(&mut self, next: ClusterTime) -> Option<ChangeEvent> {
        if next > self.processed_to { self.watermark(self.processed_to) } else { None }
    }

    /// A watermark at a time, if possible and new.
    fn watermark(&mut self, time: ClusterTime) -> Option<ChangeEvent> {
        let is_new = time > self.latest.time || (self.since.changes > 0 && time == self.latest.time);
        if self.held.blocks_watermark() || !is_new {
            return None;
        }
        let position = |shard: &ShardReader<L>| (shard.name.to_string(), shard.position().into());
        let positions: Positions = self.shards.iter().map(position).collect();
        // More may have been read but not given.
        let read_to = time;
        self.since = SinceWatermark::default();
        self.latest = Watermark { time, positions: Some(positions.clone()), read_to };
        Some(ChangeEvent::Watermark { time, positions, read_to })
    }

    /// Repeats the watermark with reading progress while a prepared transaction blocks a new one.
    fn repeated_watermark(&mut self) -> Option<ChangeEvent> {
        let read_to = self.reached();
        if !self.held.blocks_watermark() || read_to <= self.latest.read_to {
            return None;
        }
        let (time, positions) = match &self.latest.positions {
            Some(positions) => (self.latest.time, positions.clone()),
            None => self.from.clone(),
        };
        self.latest.read_to = read_to;
        Some(ChangeEvent::Watermark { time, positions, read_to })
    }

    /// Processes the next entry, or gives a watermark that is due before it.
    fn process(&mut self, place: usize, position: OplogPosition) -> Result<Option<ChangeEvent>, MongoError> {
        let Some(bytes) = self.shards[place].entry() else { return Ok(None) };
        let malformed = |found| malformed(&self.shards[place].name, position, found);
        let entry = RawDoc::new(&bytes).and_then(RawEntry::read).map_err(|found| malformed(found.into()))?;
        match decode(&entry).map_err(malformed)? {
            DecodedEntry::Operation(operation) => {
                let may_come_in = entry.operation() == b"c";
                return self.process_operation(place, position, &operation, may_come_in, bytes.len());
            }
            DecodedEntry::Nothing => self.pass(place, position),
            DecodedEntry::Operations(piece) => return self.process_piece(place, position, &bytes, &piece),
            DecodedEntry::Commit { transaction, prepare } => {
                self.decided(place, position, Some(transaction), Some(prepare), VecDeque::new());
            }
            DecodedEntry::Abort { transaction } => {
                self.held.remove(&TransactionKey { shard: place, transaction });
                self.pass(place, position);
            }
        }
        Ok(None)
    }

    fn process_operation(
        &mut self,
        place: usize,
        position: OplogPosition,
        operation: &Operation<'_>,
        may_come_in: bool,
        bytes: usize,
    ) -> Result<Option<ChangeEvent>, MongoError> {
        let relevance = self.interest.relevance(operation, may_come_in);
        let relevance = relevance.map_err(|found| malformed(&self.shards[place].name, position, found))?;
        if relevance == Relevance::Unwanted {
            self.pass(place, position);
            return Ok(None);
        }
        if relevance == Relevance::Ddl
            && let Some(watermark) = self.watermark_before(position.time)
        {
            return Ok(Some(watermark));
        }
        let namespace = self.names.shared(operation.database, operation.collection);
        let name = &self.shards[place].name;
        let change =
            operation.to_change(name, position, namespace).map_err(|found| malformed(name, position, found))?;
        self.pass(place, position);
        self.since.add(bytes, relevance);
        Ok(Some(ChangeEvent::Change(change)))
    }

    fn process_piece(
        &mut self,
        place: usize,
        position: OplogPosition,
        entry: &Bytes,
        piece: &Piece<'_>,
    ) -> Result<Option<ChangeEvent>, MongoError> {
        let shard = &self.shards[place];
        let undecided = piece.transaction.clone().filter(|_| piece.end != PieceEnd::Committed);
        let Some(transaction) = undecided else {
            let own = operations_of(entry, piece).map_err(|found| malformed(&shard.name, position, found))?;
            self.decided(place, position, piece.transaction.clone(), piece.previous, own);
            return Ok(None);
        };
        let key = TransactionKey { shard: place, transaction };
        // A decision already read follows soon; another one may take long.
        if piece.end == PieceEnd::Prepared
            && self.since.changes > 0
            && self.shards.iter().any(ShardReader::leaves_undecided)
            && let Some(watermark) = self.watermark_before(position.time)
        {
            return Ok(Some(watermark));
        }
        self.hold(place, position, &key, piece)?;
        self.pass(place, position);
        Ok(None)
    }

    /// Buffers the wanted operations of an undecided transaction's piece.
    fn hold(
        &mut self,
        place: usize,
        position: OplogPosition,
        key: &TransactionKey,
        piece: &Piece<'_>,
    ) -> Result<(), MongoError> {
        let malformed = |found| malformed(&self.shards[place].name, position, found);
        self.held.begin_piece(key, position, piece.previous);
        let mut operations = piece.operations();
        while let Some(operation) = operations.next_with_source() {
            let (operation, source) = operation.map_err(malformed)?;
            if self.interest.relevance(&operation, false).map_err(malformed)? != Relevance::Unwanted {
                self.held.push(key, source.as_bytes())?;
            }
        }
        if piece.end == PieceEnd::Prepared {
            self.held.prepared(key);
        }
        Ok(())
    }

    /// Starts giving a transaction that takes effect at a position.
    fn decided(
        &mut self,
        place: usize,
        position: OplogPosition,
        transaction: Option<TransactionId>,
        previous: Option<OplogPosition>,
        own: VecDeque<Bytes>,
    ) {
        let key = transaction.map(|transaction| TransactionKey { shard: place, transaction });
        let earlier = match (&key, previous) {
            (Some(key), Some(previous)) => self.held.decide(key, previous),
            _ => DecidedTransaction::default(),
        };
        self.replay = Some(TransactionReplay::new(place, position, key.map(|key| key.transaction), earlier, own));
    }

    /// The next change of the transaction being given; `None` at its end.
    fn give(&mut self) -> Result<Option<MergeStep>, MongoError> {
        let Some(replay) = &mut self.replay else { return Ok(None) };
        let (place, position) = (replay.shard, replay.position);
        let name = &self.shards[place].name;
        while let Some(source) = replay.next(&mut self.held)? {
            let malformed = |found| malformed(name, position, found);
            let operation = RawDoc::new(&source).map_err(|found| malformed(found.into()))?;
            let operation = read_operation(operation).map_err(malformed)?;
            let relevance = self.interest.relevance(&operation, false).map_err(malformed)?;
            if relevance != Relevance::Unwanted {
                let namespace = self.names.shared(operation.database, operation.collection);
                let change = operation.to_change(name, position, namespace).map_err(malformed)?;
                self.since.add(source.len(), relevance);
                return Ok(Some(MergeStep::Give(ChangeEvent::Change(change))));
            }
        }
        if let Some(at) = replay.wanted() {
            return Ok(Some(MergeStep::Fetch(place, at)));
        }
        self.replay = None;
        self.pass(place, position);
        Ok(None)
    }

    /// Whether the buffer is within its limit and its counters are right.
    #[cfg(test)]
    pub(super) fn is_within_its_bounds(&self, transaction_memory: usize) -> bool {
        self.held.is_within(transaction_memory)
    }

    /// Marks an entry as processed.
    fn pass(&mut self, place: usize, position: OplogPosition) {
        self.processed_to = self.processed_to.max(position.time);
        self.shards[place].advance();
    }
}

impl SinceWatermark {
    fn add(&mut self, bytes: usize, relevance: Relevance) {
        self.changes += 1;
        self.bytes += bytes;
        self.ddl |= relevance == Relevance::Ddl;
    }
}
