//! Logs that are made up.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, Timestamp, doc};
use bytes::Bytes;
use futures::FutureExt;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::{ChangeKind, ClusterTime, Positions};

use super::super::interest::Interest;
use super::super::log::RawLog;
use super::super::merge::{Limits, MergedLog};
use super::super::spill::SpillFile;
use super::super::transactions::OpenTransactions;
use crate::changes::ChangeEvent;
use crate::error::MongoError;
use crate::position::OplogPosition;
use crate::tail::OplogBatch;

pub(super) const TERM: i64 = 3;

pub(super) fn at(tick: u32) -> ClusterTime {
    ClusterTime { seconds: tick, increment: 1 }
}

pub(super) fn place(tick: u32) -> OplogPosition {
    OplogPosition { time: at(tick), term: TERM }
}

fn ts(tick: u32) -> Timestamp {
    Timestamp { time: tick, increment: if tick == 0 { 0 } else { 1 } }
}

fn uuid(name: &str) -> Bson {
    let mut bytes = vec![7; 16];
    bytes[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes })
}

/// An insert as it stands in `applyOps`.
pub(super) fn insert(collection: &str, id: i32) -> Document {
    doc! { "op": "i", "ns": format!("shop.{collection}"), "ui": uuid(collection), "o": { "_id": id } }
}

/// An entry of its own.
pub(super) fn entry(tick: u32, mut what: Document) -> Document {
    what.extend(doc! { "ts": ts(tick), "t": TERM, "v": 2_i64 });
    what
}

pub(super) fn no_op(tick: u32) -> Document {
    entry(tick, doc! { "op": "n", "ns": "", "o": { "msg": "periodic noop" } })
}

pub(super) fn create(tick: u32, collection: &str) -> Document {
    entry(tick, doc! { "op": "c", "ns": "shop.$cmd", "ui": uuid(collection), "o": { "create": collection } })
}

/// An entry of a transaction; `previous` is 0 for the first.
pub(super) fn of_transaction(tick: u32, session: i32, number: i64, previous: u32, command: Document) -> Document {
    let previous = doc! { "ts": ts(previous), "t": if previous == 0 { -1 } else { TERM } };
    let head = doc! { "lsid": { "id": session }, "txnNumber": number, "op": "c", "ns": "admin.$cmd" };
    let mut all = entry(tick, head);
    all.extend(doc! { "o": command, "prevOpTime": previous });
    all
}

pub(super) fn pieces(operations: Vec<Document>, flag: Option<&str>) -> Document {
    let mut command = doc! { "applyOps": operations };
    command.extend(flag.map(|flag| (flag.to_owned(), Bson::Boolean(true))));
    command
}

pub(super) fn commit() -> Document {
    doc! { "commitTransaction": 1, "commitTimestamp": ts(1) }
}

pub(super) fn abort() -> Document {
    doc! { "abortTransaction": 1 }
}

/// The entries of one shard, and up to when there is nothing more.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    pub(super) entries: Vec<(OplogPosition, Bytes)>,
    pub(super) end: u32,
}

impl Written {
    pub(super) fn new(entries: Vec<Document>, end: u32) -> Written {
        let entries = entries.into_iter().map(|entry| {
            let ts = entry.get_timestamp("ts").unwrap();
            let time = ClusterTime { seconds: ts.time, increment: ts.increment };
            (OplogPosition { time, term: TERM }, Bytes::from(entry.to_vec().unwrap()))
        });
        Written { entries: entries.collect(), end }
    }

    /// The last entry at or before a time.
    pub(super) fn last_at(&self, time: ClusterTime) -> Option<OplogPosition> {
        self.entries.iter().map(|(position, _)| *position).take_while(|position| position.time <= time).last()
    }
}

/// Gives what was written in batches of given sizes, one after the other and over again, and then nothing more.
pub(super) struct MadeUp {
    name: String,
    written: Arc<Written>,
    next: usize,
    sizes: Vec<usize>,
    calls: usize,
    /// How often it is still not ready before it gives the next batch.
    pending: usize,
    ready_every: usize,
    ended: bool,
    /// Entries before this are gone from the log.
    oldest: u32,
}

impl MadeUp {
    pub(super) fn new(name: &str, written: &Arc<Written>, from: OplogPosition, sizes: &[usize]) -> MadeUp {
        let next = written.entries.partition_point(|(position, _)| *position <= from);
        let (name, written, sizes) = (name.to_owned(), Arc::clone(written), sizes.to_vec());
        MadeUp { name, written, next, sizes, calls: 0, pending: 0, ready_every: 3, ended: false, oldest: 0 }
    }

    pub(super) fn ready_every(mut self, polls: usize) -> MadeUp {
        self.ready_every = polls;
        self
    }

    pub(super) fn forget_before(mut self, tick: u32) -> MadeUp {
        self.oldest = tick;
        self
    }
}

impl RawLog for MadeUp {
    fn name(&self) -> &str {
        &self.name
    }

    async fn next_batch(&mut self) -> Result<OplogBatch, MongoError> {
        // Each batch takes a while, and whoever drops the call has not lost it.
        poll_fn(|context| {
            self.pending += 1;
            context.waker().wake_by_ref();
            if self.pending.is_multiple_of(self.ready_every) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let size = self.sizes[self.calls % self.sizes.len()];
        let entries = &self.written.entries[self.next..];
        let given = &entries[..size.min(entries.len())];
        if given.is_empty() {
            if self.ended {
                std::future::pending::<()>().await;
            }
            self.ended = true;
        }
        self.calls += 1;
        self.next += given.len();
        let position = self.next.checked_sub(1).map_or(OplogPosition::default(), |last| self.written.entries[last].0);
        let reached = if self.ended { at(self.written.end).max(position.time) } else { position.time };
        let bytes: Vec<u8> = given.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let documents = DocumentBatch::from_sequence(Bytes::from(bytes)).unwrap();
        Ok(OplogBatch::new(documents, 0, position, reached))
    }

    async fn entry_at(&mut self, position: OplogPosition) -> Result<Bytes, MongoError> {
        if position.time < at(self.oldest) {
            return Err(MongoError::RolledOver { shard: self.name.clone(), saved: position, oldest: at(self.oldest) });
        }
        let found = self.written.entries.iter().find(|(each, _)| *each == position);
        found.map(|(_, bytes)| bytes.clone()).ok_or(MongoError::Diverged { shard: self.name.clone(), saved: position })
    }
}

pub(super) fn orders() -> Interest {
    Interest { database: "shop".into(), collections: Some(["orders".to_owned()].into()), ..Interest::default() }
}

/// With room for so many bytes of what is held back.
pub(super) fn merged(
    logs: Vec<(MadeUp, OplogPosition)>,
    transaction_memory: usize,
    limits: Limits,
) -> MergedLog<MadeUp> {
    let held = OpenTransactions::new(transaction_memory, SpillFile::new(std::env::temp_dir()));
    MergedLog::new(logs, orders(), held, limits)
}

pub(super) const FEW: Limits = Limits { changes: 3, bytes: 1 << 20 };
pub(super) const MANY: Limits = Limits { changes: 1_000_000, bytes: 1 << 30 };

/// What came, in a form that is easily compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Time, shard, `_id`; of DDL -1.
    Change(u32, String, i32),
    Watermark(u32, BTreeMap<String, u32>),
}

pub(super) fn seen(event: ChangeEvent) -> Seen {
    match event {
        ChangeEvent::Change(change) => {
            let id = match change.kind {
                ChangeKind::Insert { document } => {
                    Document::from_reader(document.as_ref()).unwrap().get_i32("_id").unwrap()
                }
                _ => -1,
            };
            Seen::Change(change.position.time().seconds, change.shard.to_string(), id)
        }
        ChangeEvent::Watermark { time, positions, read_to } => {
            assert!(read_to >= time, "{read_to} before {time}");
            Seen::Watermark(time.seconds, ticks(&positions))
        }
    }
}

fn ticks(positions: &Positions) -> BTreeMap<String, u32> {
    positions.iter().map(|(shard, position)| (shard.clone(), position.time().seconds)).collect()
}

/// The next event; `None` once nothing comes any more. Each call is dropped where it has to wait.
pub(super) fn next(merged: &mut MergedLog<MadeUp>) -> Result<Option<ChangeEvent>, MongoError> {
    for _ in 0..100 {
        if let Some(event) = merged.next().now_or_never() {
            return event.map(Some);
        }
    }
    Ok(None)
}

pub(super) fn all(merged: &mut MergedLog<MadeUp>) -> Vec<Seen> {
    std::iter::from_fn(|| next(merged).unwrap()).map(seen).collect()
}
