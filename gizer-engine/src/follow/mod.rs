//! Following the oplog: from a stream of changes to committed, compared rows. `docs/architecture/exactness.md` says why it is exact.
//!
//! ```text
//!   ChangeSource ──▶ Collector ──▶ Batch ──▶ LookUp ──Delivery──▶ Isolation ──▶ reconcile ──▶ commit
//!   └─────────────────── Reader ─────────────────┘                └──────────── Writer ────────────┘
//!                          ▲                                                       │
//!                          └───────── what to read again: Repairs, StoredIds ──────┘
//! ```
//!
//! Data flows one way, from source to commit. Against it goes only what the writer wants read again, through a channel of its own; the
//! channels are bounded, and `channels.rs` says why neither side can wait for the other for ever. While PostgreSQL takes one batch, the
//! documents of the next are read. [`Follow`] is one way along the stream, for live tables ([`Purpose::Stream`]) and for the staging
//! tables of a load that is being aligned ([`Purpose::Load`]).

mod batch;
mod channels;
mod fail_point;
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

use crate::failure::Failure;
use crate::observer::Observer;
use batch::Mark;
use reader::{Collector, Reader};
use writer::Writer;

/// How far to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Everything up to this time has been applied.
    Time(ClusterTime),
    /// Somebody says stop.
    Stopped,
}

/// Why following has paused.
#[derive(Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// It has come as far as it was to.
    Done,
    /// These collections have to be reloaded.
    Reload(Vec<String>),
    /// Collections have been loaded meanwhile: what is followed has to be read again.
    Changed,
}

/// Settings of following.
#[derive(Debug, Clone, Copy)]
pub struct FollowSettings {
    /// A batch ends at the first watermark after so many documents.
    pub batch_documents: usize,
    /// Bytes of documents that are compared at once. Three times as many are under way: read, delivered, written.
    pub part_bytes: usize,
    /// What is read back and compared of what was written.
    pub checks: Checks,
    /// A collection of which more documents than this have to be repaired is reloaded.
    pub max_repairs: u64,
    /// Whether the log names what the schema has no place for, because nobody reports it soon.
    pub logs_unfit: bool,
    /// A collection of which PostgreSQL refuses more documents than this is failing.
    pub max_rejects: u64,
}

/// How often to look whether a collection has been loaded meanwhile, or anything is to be repaired.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One way along the stream of changes.
pub struct Follow<'f, S, L> {
    reader: Reader<'f, S, L>,
    writer: Writer<'f>,
}

/// Where a run begins in the stream.
#[derive(Debug, Clone)]
pub struct FollowStart {
    /// The positions where the source begins.
    pub positions: Positions,
    /// Some documents were read as they were up to this time.
    pub ahead: Option<ClusterTime>,
}

/// What a run is made of.
pub struct FollowSetup<'f, S, L> {
    /// The session that the tables are written by.
    pub session: &'f Session,
    /// The oplogs of all shards.
    pub oplogs: &'f [Oplog],
    /// Gives the changes.
    pub source: S,
    /// Reads the documents that they touch.
    pub look_up: L,
    /// The settings.
    pub settings: FollowSettings,
    /// What it is for.
    pub purpose: Purpose<'f>,
    /// The collections.
    pub members: Vec<Member<'f>>,
    /// Where it begins.
    pub start: FollowStart,
    /// Observes what happens.
    pub observer: Arc<dyn Observer>,
}

impl<'f, S: ChangeSource, L: LookUp> Follow<'f, S, L> {
    /// A run that has not begun yet.
    pub fn new(setup: FollowSetup<'f, S, L>) -> Follow<'f, S, L> {
        let FollowSetup { session, oplogs, source, look_up, settings, purpose, members, start, observer } = setup;
        let (collections, tables) = members.into_iter().map(Member::split).unzip();
        let time = start.positions.values().map(|position| position.time()).min().unwrap_or_default();
        let mark = Mark { time, positions: start.positions, read_to: time };
        let collector = Collector::new(source, collections, mark.clone(), settings.batch_documents);
        Follow {
            reader: Reader::new(collector, look_up, oplogs, settings, start.ahead, Arc::clone(&observer)),
            writer: Writer::new(session, settings, purpose, tables, mark, start.ahead, observer),
        }
    }

    /// Follows, once. When it ends, what was committed is exact or said not to be; what was read beyond that is forgotten.
    ///
    /// # Errors
    /// [`Failure`]; what was committed stays.
    pub async fn run(&mut self, until: Until, stop: impl Fn() -> bool) -> Result<PauseReason, Failure> {
        let (reader_end, writer_end) = channels::channels();
        let mut reading = pin!(self.reader.run(until, stop, reader_end));
        let mut writing = pin!(self.writer.run(writer_end));
        tokio::select! {
            biased;
            written = &mut writing => written,
            // What was delivered whole is still written.
            read = &mut reading => match (writing.await, read) {
                (Ok(PauseReason::Done), Err(failure)) => Err(failure),
                (written, _) => written,
            },
        }
    }

    /// What was done.
    pub fn progress(&self) -> &FollowProgress {
        self.writer.progress()
    }

    /// Ends following; gives what it was for.
    pub fn into_purpose(self) -> Purpose<'f> {
        self.writer.into_purpose()
    }

    /// Up to when documents have been read, where that is later than the last watermark.
    pub fn ahead(&self) -> Option<ClusterTime> {
        self.writer.ahead()
    }

    /// What did not fit, by collection, with its layout.
    pub fn tallies(&self) -> impl Iterator<Item = (&str, &Tally, &Layout)> {
        let tallies = self.progress().tallies.iter();
        tallies.filter_map(|(name, tally)| Some((name.as_str(), tally, self.writer.layout(name)?)))
    }

    /// Whether all that is written is read back and compared.
    pub fn reads_all_back(&self) -> bool {
        self.writer.reads_all_back()
    }

    /// Where the tables stand.
    pub fn positions(&self) -> &Positions {
        self.writer.positions()
    }
}
