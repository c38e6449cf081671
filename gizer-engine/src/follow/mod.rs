//! Follows the oplog: from a change stream to committed, compared rows.
//! `docs/architecture/exactness.md` says why it is exact.
//!
//! ```text
//!   ChangeSource ──▶ Collector ──▶ Batch ──▶ LookUp ──Delivery──▶ Isolation ──▶ reconcile ──▶ commit
//!   └─────────────────── Reader ─────────────────┘                └──────────── Writer ────────────┘
//!                          ▲                                                       │
//!                          └───────── what to read again: Repairs, StoredIds ──────┘
//! ```
//!
//! Data flows one way, from source to commit; only requests to read again flow back, through a
//! channel of their own. The channels are bounded and deadlock-free (`channels.rs`). While
//! PostgreSQL takes one batch, the next one's documents are read. [`Follow`] is one run, for live
//! tables ([`Purpose::Stream`]) or for the staging tables of a load ([`Purpose::Load`]).

mod batch;
mod channels;
mod layout;
mod layouts;
mod member;
mod progress;
mod reader;
mod report;
mod session;
mod writer;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gizer_flatten::Tally;
use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{ChangeSource, LookUp, Oplog};
use gizer_pg::Session;
use gizer_schema::Layout;
use gizer_verify::Checks;

pub use layout::{LayoutSlot, LayoutVersion};
pub use layouts::layouts_of;
pub(crate) use layouts::{audit_settings, settings, source_options};
pub use member::Member;
pub(crate) use member::{earliest, interest, members_of, read_ahead};
pub use progress::{ChangeCounts, FollowProgress, RejectCount, Rejects};
pub use report::SyncReport;
pub use session::{SyncOptions, sync, sync_once};
pub use writer::{DELETIONS_UNKNOWN, Purpose, replaced};
pub(crate) use writer::{Isolation, IsolationOutcome, WriteFailure, sequence, write_failure};

use crate::failure::Failure;
use crate::observer::Observer;
use batch::Mark;
use reader::{ChangeReader, Collector};
use writer::BatchWriter;

/// How far to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until everything up to this time is applied.
    Time(ClusterTime),
    /// Until stopped.
    Stopped,
}

/// Why following has paused.
#[derive(Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// The goal is reached.
    Done,
    /// These collections must be reloaded.
    Reload(Vec<String>),
    /// Collections were loaded meanwhile: what is followed must be read again.
    Changed,
}

/// Settings of following.
#[derive(Debug, Clone, Copy)]
pub struct FollowSettings {
    /// A batch ends at the first watermark after this many documents.
    pub batch_documents: usize,
    /// Bytes of documents compared at once; three times as many are in memory.
    pub part_bytes: usize,
    /// Which writes are read back and compared.
    pub checks: Checks,
    /// Limit of repaired documents; beyond it the collection is reloaded.
    pub max_repairs: u64,
    /// Whether values without a place in the schema are logged, because no report follows soon.
    pub logs_unfit: bool,
    /// Limit of documents refused by PostgreSQL; beyond it the collection is failing.
    pub max_rejects: u64,
}

/// How often to check for loaded collections and repairs.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// One run along the change stream.
pub struct Follow<'f, S, L> {
    reader: ChangeReader<'f, S, L>,
    writer: BatchWriter<'f>,
}

/// Start of a run.
#[derive(Debug, Clone)]
pub struct FollowStart {
    /// Start positions of the source.
    pub positions: Positions,
    /// Latest time of documents already read.
    pub ahead: Option<ClusterTime>,
}

/// Parts of a run.
pub struct FollowSetup<'f, S, L> {
    /// The session that writes.
    pub session: &'f Session,
    /// The oplogs of all shards.
    pub oplogs: &'f [Oplog],
    /// The source of changes.
    pub source: S,
    /// Reads touched documents.
    pub look_up: L,
    /// The settings.
    pub settings: FollowSettings,
    /// Its purpose.
    pub purpose: Purpose<'f>,
    /// The collections.
    pub members: Vec<Member<'f>>,
    /// Its start.
    pub start: FollowStart,
    /// The observer.
    pub observer: Arc<dyn Observer>,
}

impl<'f, S: ChangeSource, L: LookUp> Follow<'f, S, L> {
    /// A run that has not started.
    pub fn new(setup: FollowSetup<'f, S, L>) -> Follow<'f, S, L> {
        let FollowSetup { session, oplogs, source, look_up, settings, purpose, members, start, observer } = setup;
        let (collections, tables) = members.into_iter().map(Member::split).unzip();
        let time = start.positions.values().map(|position| position.time()).min().unwrap_or_default();
        let mark = Mark { time, positions: start.positions, read_to: time };
        let collector = Collector::new(source, collections, mark.clone(), settings.batch_documents);
        Follow {
            reader: ChangeReader::new(collector, look_up, oplogs, settings, start.ahead, Arc::clone(&observer)),
            writer: BatchWriter::new(session, settings, purpose, tables, mark, start.ahead, observer),
        }
    }

    /// Follows, once. What is committed is exact or marked as not; the rest is discarded.
    ///
    /// # Errors
    /// [`Failure`]; committed batches stay.
    pub async fn run(&mut self, until: Until, stop: impl Fn() -> bool) -> Result<PauseReason, Failure> {
        let (reader_end, writer_end) = channels::channels();
        let mut reading = pin!(self.reader.run(until, stop, reader_end));
        let mut writing = pin!(self.writer.run(writer_end));
        tokio::select! {
            biased;
            written = &mut writing => written,
            // Complete deliveries are still written.
            read = &mut reading => match (writing.await, read) {
                (Ok(PauseReason::Done), Err(failure)) => Err(failure),
                (written, _) => written,
            },
        }
    }

    /// Progress so far.
    pub fn progress(&self) -> &FollowProgress {
        self.writer.progress()
    }

    /// Ends following and returns its purpose.
    pub fn into_purpose(self) -> Purpose<'f> {
        self.writer.into_purpose()
    }

    /// Latest read time, if later than the last watermark.
    pub fn ahead(&self) -> Option<ClusterTime> {
        self.writer.ahead()
    }

    /// Values that did not fit, by collection, with the layout.
    pub fn tallies(&self) -> impl Iterator<Item = (&str, &Tally, &Layout)> {
        let tallies = self.progress().tallies.iter();
        tallies.filter_map(|(name, tally)| Some((name.as_str(), tally, self.writer.layout(name)?)))
    }

    /// Whether all writes are read back and compared.
    pub fn reads_all_back(&self) -> bool {
        self.writer.reads_all_back()
    }

    /// Positions of the tables.
    pub fn positions(&self) -> &Positions {
        self.writer.positions()
    }
}
