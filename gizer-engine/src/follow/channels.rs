//! The two channels between reader and writer: deliveries one way, what to read again the other way.
//!
//! ```text
//!   ReaderEnd ──Delivery, one──▶ WriterEnd
//!       ▲                            │
//!       └──Repairs, StoredIds, one───┘   once for each Turn that was delivered
//! ```
//!
//! Neither side can wait for the other for ever. The reader waits for room among the deliveries, which the writer makes by taking them,
//! and for the answer to a turn. The writer sends one answer for each turn, and gets another turn of the same kind only after the
//! reader has taken the answer: there is always room for it, so that the writer waits for nothing but deliveries and PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gizer_flatten::change::ClusterTime;
use gizer_flatten::{DocumentBatch, Scope};
use gizer_pg::state::RepairKey;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::LOOK_EVERY;
use super::batch::{Batch, Effect, Mark, Repairs};
use super::layout::LayoutVersion;
use crate::failure::Failure;
use crate::observer::{InFlight, Observer};

/// What the reader gives the writer.
pub(super) enum Delivery {
    /// What happened to collections as such: the first of a batch.
    Effects(Vec<Effect>),
    /// Documents of one collection that were touched.
    Documents(FoundDocuments),
    /// What came of the batch so far is void: it is read again.
    Restart,
    /// The batch is whole.
    End(Box<BatchEnd>),
    /// Nothing was touched up to here. Whether it must be written down, or may wait.
    Mark { mark: Mark, ahead: Option<ClusterTime>, must: bool },
    /// The writer says what to read again, once it has come to this.
    Turn(Turn),
}

/// The question that a turn asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// What is there to repair? What was delivered before is committed when the answer comes.
    Repairs,
    /// Of which documents of this collection are there rows?
    StoredIds(usize),
}

/// The `_id`s of the documents that have rows; `None` if they are too many to look up each time.
pub(super) type StoredIds = Option<Vec<Bytes>>;

/// What was found of some documents that were touched.
pub(super) struct FoundDocuments {
    /// The number of the collection.
    pub(super) member: usize,
    /// The layout that they were read by.
    pub(super) layout: LayoutVersion,
    pub(super) found: Vec<DocumentBatch>,
    /// With the first of them the ids that were asked for, each with the tables in which rows of its document can have changed.
    pub(super) ids: Vec<(Bytes, Scope)>,
    /// With the first of them the repairs that are done with them, whether or not they have ids.
    pub(super) repairs: Vec<RepairKey>,
    /// Whether that is all that was found under those.
    pub(super) is_last: bool,
    /// Counts their bytes for as long as they are on their way.
    pub(super) in_flight: Option<InFlight>,
}

impl FoundDocuments {
    /// Nothing yet of what is looked for.
    pub(super) fn new(member: usize, layout: LayoutVersion, repairs: Vec<RepairKey>) -> FoundDocuments {
        let (found, ids) = (Vec::new(), Vec::new());
        FoundDocuments { member, layout, found, ids, repairs, is_last: false, in_flight: None }
    }

    /// Takes out what was found so far, of so many bytes.
    pub(super) fn take_part(&mut self, bytes: usize, observer: &Arc<dyn Observer>) -> FoundDocuments {
        let rest = FoundDocuments::new(self.member, self.layout.clone(), Vec::new());
        FoundDocuments { in_flight: Some(InFlight::of(observer, bytes)), ..std::mem::replace(self, rest) }
    }
}

/// The end of a batch.
pub(super) struct BatchEnd {
    pub(super) batch: Batch,
    pub(super) mark: Mark,
    /// Up to when documents were read, where that is later than the mark.
    pub(super) ahead: Option<ClusterTime>,
    /// Collections of which nothing was read.
    pub(super) skipped: BTreeSet<usize>,
    /// Those of them that no entry has explained yet, and up to when one must.
    pub(super) unexplained: BTreeMap<usize, ClusterTime>,
    /// Collections that could not be read, and why.
    pub(super) unreadable: BTreeMap<usize, Failure>,
}

/// Why reading has ended early.
#[derive(Debug)]
pub(super) enum Interruption {
    /// Another plan may help.
    Replan,
    /// The writer has ended.
    Unwanted,
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
    /// When the writer had its last turn to name repairs, and whether it has yet to answer.
    asked: Instant,
    is_asked: bool,
}

/// The writer's end of both channels.
pub(super) struct WriterEnd {
    deliveries: Receiver<Delivery>,
    repairs: Sender<Repairs>,
    stored: Sender<StoredIds>,
}

/// Both ends. One delivery is on its way while one is written and one is read.
pub(super) fn channels() -> (ReaderEnd, WriterEnd) {
    let (deliver, deliveries) = mpsc::channel(1);
    let (send_repairs, repairs) = mpsc::channel(1);
    let (send_stored, stored) = mpsc::channel(1);
    let reader = ReaderEnd { deliveries: deliver, repairs, stored, asked: Instant::now(), is_asked: false };
    (reader, WriterEnd { deliveries, repairs: send_repairs, stored: send_stored })
}

impl ReaderEnd {
    pub(super) async fn deliver(&self, delivery: Delivery) -> Result<(), Interruption> {
        self.deliveries.send(delivery).await.map_err(|_| Interruption::Unwanted)
    }

    /// What waits to be repaired, if the writer has said so. It gets its turn now and then, or at once if it `must`; its answer is
    /// waited for by a reader that is `idle`.
    pub(super) async fn next_repairs(&mut self, idle: bool, must: bool) -> Result<Repairs, Interruption> {
        if !self.is_asked && (must || self.asked.elapsed() >= LOOK_EVERY) {
            self.deliver(Delivery::Turn(Turn::Repairs)).await?;
            (self.asked, self.is_asked) = (Instant::now(), true);
        }
        if !self.is_asked {
            return Ok(Repairs::new());
        }
        let repairs = match idle || must {
            true => self.repairs.recv().await.ok_or(Interruption::Unwanted)?,
            false => match self.repairs.try_recv() {
                Ok(repairs) => repairs,
                Err(TryRecvError::Empty) => return Ok(Repairs::new()),
                Err(TryRecvError::Disconnected) => return Err(Interruption::Unwanted),
            },
        };
        self.is_asked = false;
        Ok(repairs)
    }

    /// The documents of a collection that have rows, before anything else is delivered.
    pub(super) async fn stored_ids(&mut self, member: usize) -> Result<StoredIds, Interruption> {
        self.deliver(Delivery::Turn(Turn::StoredIds(member))).await?;
        self.stored.recv().await.ok_or(Interruption::Unwanted)
    }
}

impl WriterEnd {
    /// The next delivery; `None` once the reader has ended.
    pub(super) async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }

    /// Answers [`Turn::Repairs`].
    pub(super) async fn send_repairs(&self, repairs: Repairs) {
        // A reader that has ended needs no answer.
        let _ = self.repairs.send(repairs).await;
    }

    /// Answers [`Turn::StoredIds`].
    pub(super) async fn send_stored(&self, ids: StoredIds) {
        let _ = self.stored.send(ids).await;
    }
}
