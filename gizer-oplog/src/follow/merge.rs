//! The logs of all shards as one stream.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::future::select_all;
use gizer_flatten::change::{ClusterTime, Positions};
use gizer_schema::raw::RawDoc;

use super::giving::{Giving, malformed, operations_of};
use super::interest::{Interest, Names, Verdict};
use super::log::RawLog;
use super::shard::Shard;
use super::transactions::{Decided, HeldBack, Undecided};
use crate::changes::ChangeEvent;
use crate::decode::{Decoded, Operation, Piece, PieceEnd, TransactionId, decode, read_operation};
use crate::error::MongoError;
use crate::position::OplogPosition;
use crate::tail::RawEntry;

/// After how much a watermark is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) changes: usize,
    pub(super) bytes: usize,
}

/// The entries of all shards by time, and what was made of them.
pub(super) struct Merged<L> {
    /// By name.
    shards: Vec<Shard<L>>,
    interest: Interest,
    names: Names,
    held: HeldBack,
    limits: Limits,
    /// The transaction whose changes are being given.
    giving: Option<Giving>,
    /// Every entry up to and at this time has been looked at, unless the next one has the same.
    looked_to: ClusterTime,
    /// Where reading began, and the earliest time of that: until the first watermark nothing else is known to be given.
    from: (ClusterTime, Positions),
    latest: Watermark,
    since: Since,
}

/// The latest watermark; before the first one only its time counts.
struct Watermark {
    time: ClusterTime,
    positions: Option<Positions>,
    read_to: ClusterTime,
}

/// What was given since the latest watermark.
#[derive(Default)]
struct Since {
    changes: usize,
    bytes: usize,
    /// DDL: the next watermark is to come at once.
    ddl: bool,
}

/// What is to be done next.
enum Step {
    Give(ChangeEvent),
    /// An earlier entry of this shard is needed.
    Fetch(usize, OplogPosition),
    Read,
}

impl<L: RawLog> Merged<L> {
    /// `logs` with the positions from which they are read.
    pub(super) fn new(logs: Vec<(L, OplogPosition)>, interest: Interest, held: HeldBack, limits: Limits) -> Merged<L> {
        let times = logs.iter().map(|(_, from)| from.time);
        // Before the latest of the positions there can be no watermark: that shard's changes up to there are not given.
        let (start, earliest) = (times.clone().max().unwrap_or_default(), times.min().unwrap_or_default());
        let from: Positions = logs.iter().map(|(log, from)| (log.name().to_owned(), (*from).into())).collect();
        let mut shards: Vec<Shard<L>> = logs.into_iter().map(|(log, from)| Shard::new(log, from)).collect();
        shards.sort_by(|a, b| a.name.cmp(&b.name));
        Merged {
            shards,
            interest,
            names: Names::default(),
            held,
            limits,
            giving: None,
            looked_to: start,
            from: (earliest, from),
            latest: Watermark { time: start, positions: None, read_to: start },
            since: Since::default(),
        }
    }

    pub(super) fn set_interest(&mut self, interest: Interest) {
        if !self.interest.covers(&interest) {
            self.held.forget_operations();
        }
        self.interest = interest;
    }

    /// Nothing is lost when this is dropped half-way: all that is awaited can be asked for again.
    pub(super) async fn next(&mut self) -> Result<ChangeEvent, MongoError> {
        loop {
            match self.step()? {
                Step::Give(event) => return Ok(event),
                Step::Fetch(shard, at) => {
                    let entry = self.shards[shard].log.entry_at(at).await?;
                    if let Some(giving) = &mut self.giving {
                        giving.fetched(&self.shards[shard].name, at, &entry)?;
                    }
                }
                Step::Read => self.read().await?,
            }
        }
    }

    /// Waits until one of the logs that have been looked at to their end has given more.
    async fn read(&mut self) -> Result<(), MongoError> {
        let waiting = self.shards.iter_mut().filter(|shard| shard.head().is_none());
        let waiting: Vec<_> = waiting.map(|shard| Box::pin(shard.read())).collect();
        select_all(waiting).await.0
    }

    fn step(&mut self) -> Result<Step, MongoError> {
        loop {
            if self.giving.is_some() {
                if let Some(step) = self.give()? {
                    return Ok(step);
                }
                continue;
            }
            let Some((shard, position)) = self.next_entry() else {
                let watermark = self.watermark(self.reached()).or_else(|| self.standing_watermark());
                return Ok(watermark.map_or(Step::Read, Step::Give));
            };
            let Since { changes, bytes, ddl } = self.since;
            let due = ddl || changes >= self.limits.changes || bytes >= self.limits.bytes;
            if due && let Some(watermark) = self.watermark_before(position.time) {
                return Ok(Step::Give(watermark));
            }
            if let Some(event) = self.look_at(shard, position)? {
                return Ok(Step::Give(event));
            }
        }
    }

    /// The entry that is next by time and by name of its shard, if no log can still give one that comes before it.
    fn next_entry(&self) -> Option<(usize, OplogPosition)> {
        let heads = || self.shards.iter().enumerate().filter_map(|(place, shard)| Some((place, shard.head()?)));
        let first = heads().min_by_key(|(place, head)| (head.time, *place))?;
        let known = |shard: &Shard<L>| shard.head().is_some() || shard.reached() >= first.1.time;
        self.shards.iter().all(known).then_some(first)
    }

    /// Everything up to this time has been read, on all shards.
    fn reached(&self) -> ClusterTime {
        self.shards.iter().map(Shard::reached).min().unwrap_or_default()
    }

    /// The watermark after all that has been looked at, if the next entry comes later than that.
    fn watermark_before(&mut self, next: ClusterTime) -> Option<ChangeEvent> {
        if next > self.looked_to { self.watermark(self.looked_to) } else { None }
    }

    /// A watermark, if there can be one at that time and it says anything new.
    fn watermark(&mut self, time: ClusterTime) -> Option<ChangeEvent> {
        let is_new = time > self.latest.time || (self.since.changes > 0 && time == self.latest.time);
        if self.held.caps() || !is_new {
            return None;
        }
        let position = |shard: &Shard<L>| (shard.name.to_string(), shard.position().into());
        let positions: Positions = self.shards.iter().map(position).collect();
        // More may have been read, and is yet to be given.
        let read_to = time;
        self.since = Since::default();
        self.latest = Watermark { time, positions: Some(positions.clone()), read_to };
        Some(ChangeEvent::Watermark { time, positions, read_to })
    }

    /// While a prepared transaction holds the watermark back: how far has been read.
    fn standing_watermark(&mut self) -> Option<ChangeEvent> {
        let read_to = self.reached();
        if !self.held.caps() || read_to <= self.latest.read_to {
            return None;
        }
        let (time, positions) = match &self.latest.positions {
            Some(positions) => (self.latest.time, positions.clone()),
            None => self.from.clone(),
        };
        self.latest.read_to = read_to;
        Some(ChangeEvent::Watermark { time, positions, read_to })
    }

    /// Looks at the next entry. A watermark that has to be given before it leaves it where it is.
    fn look_at(&mut self, place: usize, position: OplogPosition) -> Result<Option<ChangeEvent>, MongoError> {
        let Some(bytes) = self.shards[place].entry() else { return Ok(None) };
        let malformed = |found| malformed(&self.shards[place].name, position, found);
        let entry = RawDoc::new(&bytes).and_then(RawEntry::read).map_err(|found| malformed(found.into()))?;
        match decode(&entry).map_err(malformed)? {
            Decoded::Operation(operation) => {
                let may_come_in = entry.operation() == b"c";
                return self.look_at_operation(place, position, &operation, may_come_in, bytes.len());
            }
            Decoded::Nothing => self.pass(place, position),
            Decoded::Operations(piece) => return self.look_at_piece(place, position, &bytes, &piece),
            Decoded::Commit { transaction, prepare } => {
                self.decided(place, position, Some(transaction), Some(prepare), VecDeque::new());
            }
            Decoded::Abort { transaction } => {
                self.held.remove(&Undecided { shard: place, transaction });
                self.pass(place, position);
            }
        }
        Ok(None)
    }

    fn look_at_operation(
        &mut self,
        place: usize,
        position: OplogPosition,
        operation: &Operation<'_>,
        may_come_in: bool,
        bytes: usize,
    ) -> Result<Option<ChangeEvent>, MongoError> {
        let verdict = self.interest.verdict(operation, may_come_in);
        let verdict = verdict.map_err(|found| malformed(&self.shards[place].name, position, found))?;
        if verdict == Verdict::Passed {
            self.pass(place, position);
            return Ok(None);
        }
        if verdict == Verdict::Ddl
            && let Some(watermark) = self.watermark_before(position.time)
        {
            return Ok(Some(watermark));
        }
        let namespace = self.names.shared(operation.database, operation.collection);
        let name = &self.shards[place].name;
        let change =
            operation.to_change(name, position, namespace).map_err(|found| malformed(name, position, found))?;
        self.pass(place, position);
        self.since.add(bytes, verdict);
        Ok(Some(ChangeEvent::Change(change)))
    }

    fn look_at_piece(
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
        let key = Undecided { shard: place, transaction };
        // A decision that has been read already is at hand; another one may take its time.
        if piece.end == PieceEnd::Prepared
            && self.since.changes > 0
            && self.shards.iter().any(Shard::leaves_undecided)
            && let Some(watermark) = self.watermark_before(position.time)
        {
            return Ok(Some(watermark));
        }
        self.hold(place, position, &key, piece)?;
        self.pass(place, position);
        Ok(None)
    }

    /// Holds back what a piece of an undecided transaction has of interest.
    fn hold(
        &mut self,
        place: usize,
        position: OplogPosition,
        key: &Undecided,
        piece: &Piece<'_>,
    ) -> Result<(), MongoError> {
        let malformed = |found| malformed(&self.shards[place].name, position, found);
        self.held.begin_piece(key, position, piece.previous);
        let mut operations = piece.operations();
        while let Some(operation) = operations.next_with_source() {
            let (operation, source) = operation.map_err(malformed)?;
            if self.interest.verdict(&operation, false).map_err(malformed)? != Verdict::Passed {
                self.held.push(key, source.as_bytes())?;
            }
        }
        if piece.end == PieceEnd::Prepared {
            self.held.prepared(key);
        }
        Ok(())
    }

    /// A transaction takes effect at a position of this shard.
    fn decided(
        &mut self,
        place: usize,
        position: OplogPosition,
        transaction: Option<TransactionId>,
        previous: Option<OplogPosition>,
        own: VecDeque<Bytes>,
    ) {
        let key = transaction.map(|transaction| Undecided { shard: place, transaction });
        let earlier = match (&key, previous) {
            (Some(key), Some(previous)) => self.held.decide(key, previous),
            _ => Decided::default(),
        };
        self.giving = Some(Giving::new(place, position, key.map(|key| key.transaction), earlier, own));
    }

    /// The next change of the transaction that is being given; `None` once there is none left.
    fn give(&mut self) -> Result<Option<Step>, MongoError> {
        let Some(giving) = &mut self.giving else { return Ok(None) };
        let (place, position) = (giving.shard, giving.position);
        let name = &self.shards[place].name;
        while let Some(source) = giving.next(&mut self.held)? {
            let malformed = |found| malformed(name, position, found);
            let operation = RawDoc::new(&source).map_err(|found| malformed(found.into()))?;
            let operation = read_operation(operation).map_err(malformed)?;
            let verdict = self.interest.verdict(&operation, false).map_err(malformed)?;
            if verdict != Verdict::Passed {
                let namespace = self.names.shared(operation.database, operation.collection);
                let change = operation.to_change(name, position, namespace).map_err(malformed)?;
                self.since.add(source.len(), verdict);
                return Ok(Some(Step::Give(ChangeEvent::Change(change))));
            }
        }
        if let Some(at) = giving.wanted() {
            return Ok(Some(Step::Fetch(place, at)));
        }
        self.giving = None;
        self.pass(place, position);
        Ok(None)
    }

    /// Whether what is held back in memory is no more than that, and what is said of it is true.
    #[cfg(test)]
    pub(super) fn is_within_its_bounds(&self, held_back_bytes: usize) -> bool {
        self.held.is_within(held_back_bytes)
    }

    /// An entry has been dealt with.
    fn pass(&mut self, place: usize, position: OplogPosition) {
        self.looked_to = self.looked_to.max(position.time);
        self.shards[place].advance();
    }
}

impl Since {
    fn add(&mut self, bytes: usize, verdict: Verdict) {
        self.changes += 1;
        self.bytes += bytes;
        self.ddl |= verdict == Verdict::Ddl;
    }
}
