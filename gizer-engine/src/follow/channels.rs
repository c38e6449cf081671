//! The channels between reader and writer: deliveries one way, questions the other way.
//!
//! ```text
//!   ReaderEnd ──Delivery, one──▶ WriterEnd
//!       ▲                            │
//!       └──Repairs, StoredIds, one───┘   once for each Turn that was delivered
//! ```
//!
//! Deadlock-free: the reader waits for room among the deliveries, which the writer makes by taking
//! them, and for the answer to a turn. The writer sends one answer for each turn and gets the next
//! turn of its kind only after the reader took the answer, so there is always room for it: the
//! writer waits only for deliveries and PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gizer_flatten::change::ClusterTime;
use gizer_flatten::{DocumentBatch, Scope};
use gizer_pg::state::RepairKey;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::LOOK_INTERVAL;
use super::batch::{Batch, Effect, Mark, Repairs};
use super::layout::LayoutVersion;
use crate::failure::Failure;
use crate::observer::{InFlight, Observer};

/// A message from reader to writer.
pub(super) enum Delivery {
    /// Effects on whole collections: the first of a batch.
    Effects(Vec<Effect>),
    /// Touched documents of one collection.
    Documents(FoundDocuments),
    /// Discard the batch so far: it is read again.
    Restart,
    /// The batch is complete.
    End(Box<BatchEnd>),
    /// Nothing was touched up to `mark`; `must` says whether it must be recorded at once.
    Mark { mark: Mark, ahead: Option<ClusterTime>, must: bool },
    /// A question that the writer answers when it gets to it.
    Turn(Turn),
}

/// A question of the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// What needs repair? Earlier deliveries are committed when the answer comes.
    Repairs,
    /// Which documents of this collection have rows?
    StoredIds(usize),
}

/// The `_id`s of the documents that have rows; `None` if they are too many to look up each time.
pub(super) type StoredIds = Option<Vec<Bytes>>;

/// Documents found for some touched ids.
pub(super) struct FoundDocuments {
    /// Collection number.
    pub(super) member: usize,
    /// The layout used for them.
    pub(super) layout: LayoutVersion,
    pub(super) found: Vec<DocumentBatch>,
    /// With the first delivery: the requested ids, each with the tables whose rows may have
    /// changed.
    pub(super) ids: Vec<(Bytes, Scope)>,
    /// With the first delivery: the repairs done with them, with or without ids.
    pub(super) repairs: Vec<RepairKey>,
    /// Whether these are the last for the ids.
    pub(super) is_last: bool,
    /// Counts their bytes while in flight.
    pub(super) in_flight: Option<InFlight>,
}

impl FoundDocuments {
    /// An empty delivery.
    pub(super) fn new(member: usize, layout: LayoutVersion, repairs: Vec<RepairKey>) -> FoundDocuments {
        let (found, ids) = (Vec::new(), Vec::new());
        FoundDocuments { member, layout, found, ids, repairs, is_last: false, in_flight: None }
    }

    /// Takes out the documents found so far, of this many bytes.
    pub(super) fn take_part(&mut self, bytes: usize, observer: &Arc<dyn Observer>) -> FoundDocuments {
        let rest = FoundDocuments::new(self.member, self.layout.clone(), Vec::new());
        FoundDocuments { in_flight: Some(InFlight::of(observer, bytes)), ..std::mem::replace(self, rest) }
    }
}

pub(super) struct BatchEnd {
    pub(super) batch: Batch,
    pub(super) mark: Mark,
    /// Latest read time, if later than the mark.
    pub(super) ahead: Option<ClusterTime>,
    /// Collections that were not read.
    pub(super) skipped: BTreeSet<usize>,
    /// Those without an explaining entry so far, and the time by which it must come.
    pub(super) unexplained: BTreeMap<usize, ClusterTime>,
    /// Collections that could not be read, with the reason.
    pub(super) unreadable: BTreeMap<usize, Failure>,
}

/// Why reading ended early.
#[derive(Debug)]
pub(super) enum Interruption {
    /// Another plan may help.
    Replan,
    /// The writer has ended.
    WriterGone,
    Failed(Failure),
}

impl From<Failure> for Interruption {
    fn from(failure: Failure) -> Interruption {
        Interruption::Failed(failure)
    }
}

/// The reader's end of both channels.
pub(super) struct ReaderEnd {
    deliveries: Sender<Delivery>,
    repairs: Receiver<Repairs>,
    stored: Receiver<StoredIds>,
    /// When the writer was last asked for repairs, and whether the answer is pending.
    asked: Instant,
    is_asked: bool,
}

/// The writer's end of both channels.
pub(super) struct WriterEnd {
    deliveries: Receiver<Delivery>,
    repairs: Sender<Repairs>,
    stored: Sender<StoredIds>,
}

/// Creates both ends. One delivery is in the channel while one is written and one is read.
pub(super) fn channels() -> (ReaderEnd, WriterEnd) {
    let (deliver, deliveries) = mpsc::channel(1);
    let (send_repairs, repairs) = mpsc::channel(1);
    let (send_stored, stored) = mpsc::channel(1);
    let reader = ReaderEnd { deliveries: deliver, repairs, stored, asked: Instant::now(), is_asked: false };
    (reader, WriterEnd { deliveries, repairs: send_repairs, stored: send_stored })
}

impl ReaderEnd {
    pub(super) async fn deliver(&self, delivery: Delivery) -> Result<(), Interruption> {
        self.deliveries.send(delivery).await.map_err(|_| Interruption::WriterGone)
    }

    /// Pending repairs, if the writer has answered. It is asked now and then, or at once with
    /// `must`; an `idle` reader waits for the answer.
    pub(super) async fn next_repairs(&mut self, idle: bool, must: bool) -> Result<Repairs, Interruption> {
        if !self.is_asked && (must || self.asked.elapsed() >= LOOK_INTERVAL) {
            self.deliver(Delivery::Turn(Turn::Repairs)).await?;
            (self.asked, self.is_asked) = (Instant::now(), true);
        }
        if !self.is_asked {
            return Ok(Repairs::new());
        }
        let repairs = match idle || must {
            true => self.repairs.recv().await.ok_or(Interruption::WriterGone)?,
            false => match self.repairs.try_recv() {
                Ok(repairs) => repairs,
                Err(TryRecvError::Empty) => return Ok(Repairs::new()),
                Err(TryRecvError::Disconnected) => return Err(Interruption::WriterGone),
            },
        };
        self.is_asked = false;
        Ok(repairs)
    }

    /// Documents of a collection that have rows, before any further delivery.
    pub(super) async fn stored_ids(&mut self, member: usize) -> Result<StoredIds, Interruption> {
        self.deliver(Delivery::Turn(Turn::StoredIds(member))).await?;
        self.stored.recv().await.ok_or(Interruption::WriterGone)
    }
}

impl WriterEnd {
    /// The next delivery; `None` once the reader has ended.
    pub(super) async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }

    /// Answers [`Turn::Repairs`].
    pub(super) async fn send_repairs(&self, repairs: Repairs) {
        // The reader may have ended.
        let _ = self.repairs.send(repairs).await;
    }

    /// Answers [`Turn::StoredIds`].
    pub(super) async fn send_stored(&self, ids: StoredIds) {
        let _ = self.stored.send(ids).await;
    }
}
