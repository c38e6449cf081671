//! Following the oplog: from a stream of changes to committed, compared rows. `docs/architecture/exactness.md` says why it is exact.
//!
//! ```text
//!   Reader:  ChangeSource ──▶ collect: Batch of touched ids, up to a watermark ──▶ LookUp
//!                                                                                    │ Delivery, one ahead
//!   Writer:  reconcile ──▶ Commit (checkpoint, or the fence of a load)  ◀────────────┘
//! ```
//!
//! While PostgreSQL takes one batch, the documents of the next are read. [`Follow`] is one way along the stream, for live tables
//! ([`Purpose::Stream`]) and for the staging tables of a load that is being aligned ([`Purpose::Load`]).

mod apart;
mod asked;
mod capped;
mod collect;
mod commit;
mod fail_point;
mod isolate;
mod layout;
mod layouts;
mod member;
mod members;
mod monitors;
mod read;
mod repair;
mod report;
mod session;
mod touched;
mod unfit;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gizer_flatten::Tally;
use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{ChangeSource, LookUp, Oplog};
use gizer_pg::Session;
use gizer_pg::rows::TableCounts;
use gizer_schema::Layout;
use gizer_verify::{Checks, ReadBack};
use tokio::sync::mpsc;

pub use capped::DELETIONS_UNKNOWN;
pub use commit::Purpose;
pub use layout::{LayoutSlot, LayoutVersion};
pub use layouts::layouts_of;
pub(crate) use layouts::{audit_settings, settings, source_options};
pub use member::Member;
pub(crate) use member::{earliest, interest, members_of, read_ahead};
pub use report::SyncReport;
pub use session::{SyncOptions, sync, sync_once};
pub use touched::ChangeCounts;
pub use unfit::Rejects;
pub use write::replaced;

use crate::failure::Failure;
use crate::observer::Observer;
use read::Reader;
use touched::Mark;
use write::Writer;

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
    /// These collections have to be loaded anew.
    Reload(Vec<String>),
    /// Collections have been loaded meanwhile: what is followed has to be read again.
    Changed,
}

/// What a way along the stream has done so far.
#[derive(Debug, Default)]
pub struct FollowProgress {
    /// Changes applied.
    pub changes: ChangeCounts,
    /// Documents read, each counted once a batch.
    pub documents: u64,
    /// Rows written.
    pub rows: TableCounts,
    /// Transactions committed.
    pub batches: u64,
    /// Those of them that were not exact.
    pub catching_up: u64,
    /// Documents whose rows were made equal because somebody has found them different, or were written a second time.
    pub repaired: u64,
    /// Documents that were rejected: without a usable key, or refused by PostgreSQL.
    pub rejected: u64,
    /// Documents that had been rejected, and are no longer: their rows are stored, or they are gone.
    pub accepted: u64,
    /// Collections that are failing, and why.
    pub failing: BTreeMap<String, Failure>,
    /// Collections that were failing, and are followed again.
    pub followed_again: Vec<String>,
    /// Statements that it took.
    pub statements: u64,
    /// What happened to collections as such, a line each.
    pub events: Vec<String>,
    /// Values that did not fit, by collection.
    pub tallies: BTreeMap<String, Tally>,
    /// Documents that were rejected, by collection.
    pub rejects: BTreeMap<String, Rejects>,
    /// Collections of which the oplog does not tell what is gone, and nobody has looked.
    pub deletions_unknown: BTreeSet<String>,
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
    /// A collection of which more documents than this have to be repaired is loaded anew.
    pub max_repairs: u64,
    /// Whether the log names what the schema has no place for, because nobody reports it soon.
    pub logs_unfit: bool,
    /// A collection of which PostgreSQL refuses more documents than this is failing.
    pub max_rejects: u64,
}

/// How long a batch waits for more once everything there is has been given.
const LINGER: Duration = Duration::from_millis(2);

/// How long changes are gathered at most, while there are always more.
const GATHERING_LIMIT: Duration = Duration::from_secs(1);

/// How often a position is written down to which nothing has happened.
const IDLE_CHECKPOINT: Duration = Duration::from_secs(10);

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
    /// Whoever is told what happens.
    pub observer: Arc<dyn Observer>,
}

impl<'f, S: ChangeSource, L: LookUp> Follow<'f, S, L> {
    /// A run that has not begun yet.
    pub fn new(setup: FollowSetup<'f, S, L>) -> Follow<'f, S, L> {
        let FollowSetup { session, oplogs, source, look_up, settings, purpose, members, start, observer } = setup;
        let deletions_unknown = members.iter().filter_map(Member::unknown_deletions).collect();
        let (collections, tables) = members.into_iter().map(Member::split).unzip();
        let time = start.positions.values().map(|position| position.time).min().unwrap_or_default();
        let mark = Mark { time, positions: start.positions, read_to: time };
        let reader_observer = Arc::clone(&observer);
        let reader =
            Reader::new(oplogs, settings, source, look_up, collections, mark.clone(), start.ahead, reader_observer);
        let mut writer = Writer::new(session, settings, purpose, tables, mark, start.ahead, observer);
        writer.progress.deletions_unknown = deletions_unknown;
        Follow { reader, writer }
    }

    /// The place of a collection's layout: another one that is put there counts from the next batch on.
    pub fn layout_slot(&self, collection: &str) -> Option<LayoutSlot> {
        self.reader.members.all.iter().find(|member| member.name == collection).map(|member| member.slot.clone())
    }

    /// Follows, once. When it ends, what was committed is exact or said not to be; what was read beyond that is forgotten.
    ///
    /// # Errors
    /// [`Failure`]; what was committed stays.
    pub async fn run(&mut self, until: Until, stop: impl Fn() -> bool) -> Result<PauseReason, Failure> {
        // One delivery is on its way while one is written and one is read.
        let (deliver, delivered) = mpsc::channel(1);
        let mut reading = pin!(self.reader.run(until, stop, deliver));
        let mut writing = pin!(self.writer.run(delivered));
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
        &self.writer.progress
    }

    /// Ends following; gives what it was for.
    pub fn into_purpose(self) -> Purpose<'f> {
        self.writer.purpose
    }

    /// Up to when documents have been read, where that is later than the last watermark.
    pub fn ahead(&self) -> Option<ClusterTime> {
        self.writer.ahead.filter(|ahead| *ahead > self.writer.mark.time)
    }

    /// What did not fit, by collection, with its layout.
    pub fn tallies(&self) -> impl Iterator<Item = (&str, &Tally, &Layout)> {
        let of =
            |name: &str| self.writer.tables.iter().find(|tables| tables.name == name).map(|tables| &*tables.layout);
        self.writer.progress.tallies.iter().filter_map(move |(name, tally)| Some((name.as_str(), tally, of(name)?)))
    }

    /// Whether all that is written is read back and compared.
    pub fn reads_all_back(&self) -> bool {
        self.writer.settings.checks.read_back == ReadBack::All
    }

    /// Where the tables stand.
    pub fn positions(&self) -> &Positions {
        &self.writer.mark.positions
    }
}

impl FollowProgress {
    /// The numbers that writing to a collection changes.
    fn counted(&self) -> FollowProgress {
        let FollowProgress { documents, rows, rejected, accepted, .. } = *self;
        FollowProgress { documents, rows, rejected, accepted, ..FollowProgress::default() }
    }

    /// What has been counted of a collection since then is taken back.
    fn take_back(&mut self, before: &FollowProgress, collection: &str) {
        let FollowProgress { documents, rows, rejected, accepted, .. } = *before;
        (self.documents, self.rows, self.rejected, self.accepted) = (documents, rows, rejected, accepted);
        self.tallies.remove(collection);
        self.rejects.remove(collection);
    }

    /// Adds what was done elsewhere.
    pub fn add(&mut self, other: &FollowProgress) {
        self.changes.add(&other.changes);
        self.documents += other.documents;
        self.rows.inserted += other.rows.inserted;
        self.rows.updated += other.rows.updated;
        self.rows.deleted += other.rows.deleted;
        self.batches += other.batches;
        self.catching_up += other.catching_up;
        self.repaired += other.repaired;
        self.rejected += other.rejected;
        self.accepted += other.accepted;
        other.followed_again.iter().for_each(|name| drop(self.failing.remove(name)));
        self.failing.extend(other.failing.iter().map(|(name, failure)| (name.clone(), failure.clone())));
        self.statements += other.statements;
        self.events.extend(other.events.iter().cloned());
        for (name, tally) in &other.tallies {
            self.tallies.entry(name.clone()).or_default().add(tally.clone());
        }
        // The later one knows all.
        self.deletions_unknown.clone_from(&other.deletions_unknown);
        for (name, rejects) in &other.rejects {
            self.rejects.entry(name.clone()).or_default().add(rejects);
        }
    }
}
