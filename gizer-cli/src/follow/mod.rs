//! Following the oplog: from a stream of changes to committed, compared rows. `docs/follow.md` says why it is exact.
//!
//! ```text
//!   ChangeSource ──▶ collect: Batch of touched ids, up to a watermark
//!                       └──▶ apply: LookUp ──▶ reconcile ──▶ Commit (checkpoint, or the fence of a load)
//! ```
//!
//! [`Follow`] is one way along the stream, for live tables ([`Purpose::Stream`]) and for the staging tables of a load that
//! is being aligned ([`Purpose::Load`]).

mod apply;
mod collect;
mod commit;
mod ddl;
mod fail_point;
mod member;
mod open;
mod touched;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gizer_flatten::Tally;
use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{ChangeEvent, ChangeSource, LookUp, Oplog};
use gizer_pg::Session;
use gizer_pg::rows::TableCounts;
use gizer_schema::Layout;

pub(crate) use commit::Purpose;
pub(crate) use member::Member;
pub(crate) use open::{earliest, interest, layouts_of, members_of, read_ahead, settings, source_options};
pub(crate) use touched::ChangeCounts;

use collect::Collected;
use member::Members;
use touched::{Batch, Mark};

use crate::exit::Failure;

/// How far to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Everything up to this time has been applied.
    Time(ClusterTime),
    /// Somebody says stop.
    Stopped,
}

/// Why following has paused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Paused {
    /// It has come as far as it was to.
    Done,
    /// These collections have to be loaded anew.
    Reload(Vec<String>),
    /// Collections have been loaded meanwhile: what is followed has to be read again.
    Changed,
}

/// What a way along the stream has done so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Changes applied.
    pub(crate) changes: ChangeCounts,
    /// Documents read, each counted once a batch.
    pub(crate) documents: u64,
    /// Rows written.
    pub(crate) rows: TableCounts,
    /// Transactions committed.
    pub(crate) batches: u64,
    /// Those of them that were not exact.
    pub(crate) catching_up: u64,
    /// Documents without a usable key, kept aside.
    pub(crate) rejected: u64,
    /// Statements that it took.
    pub(crate) statements: u64,
    /// What happened to collections as such, a line each.
    pub(crate) events: Vec<String>,
    /// Values that did not fit, by collection.
    pub(crate) tallies: BTreeMap<String, Tally>,
}

/// Settings of following.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FollowSettings {
    /// A batch ends at the first watermark after so many documents.
    pub(crate) batch_documents: usize,
    /// Bytes of documents that are compared at once.
    pub(crate) part_bytes: usize,
    /// Whether what was written is read back and compared.
    pub(crate) read_back: bool,
}

/// How long a batch waits for more once everything there is has been given.
const LINGER: Duration = Duration::from_millis(2);

/// How long changes are gathered at most, while there are always more.
const GATHERING_LIMIT: Duration = Duration::from_secs(1);

/// How often a position is written down to which nothing has happened.
const IDLE_CHECKPOINT: Duration = Duration::from_secs(10);

/// How often to look whether a collection has been loaded meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One way along the stream of changes.
pub(crate) struct Follow<'f, S, L> {
    pub(crate) session: &'f Session,
    pub(crate) oplogs: &'f [Oplog],
    pub(crate) settings: FollowSettings,
    pub(crate) source: S,
    pub(crate) look_up: L,
    pub(crate) purpose: Purpose<'f>,
    members: Members<'f>,
    /// Some documents were read as they were up to this time: until then the tables are catching up.
    ahead: Option<ClusterTime>,
    /// Collections that were passed over because another one has their name, and up to when the entry that tells why must
    /// have come.
    unexplained: BTreeMap<usize, ClusterTime>,
    /// The last watermark.
    mark: Mark,
    /// An event that came when the batch before it had to end.
    pending: Option<ChangeEvent>,
    committed: Instant,
    looked: Instant,
    pub(crate) progress: Progress,
}

impl<'f, S: ChangeSource, L: LookUp> Follow<'f, S, L> {
    /// Begins at these positions, where the source begins, too.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        session: &'f Session,
        oplogs: &'f [Oplog],
        settings: FollowSettings,
        (source, look_up): (S, L),
        purpose: Purpose<'f>,
        members: Vec<Member<'f>>,
        ahead: Option<ClusterTime>,
        positions: Positions,
    ) -> Follow<'f, S, L> {
        let time = positions.values().map(|position| position.time).min().unwrap_or_default();
        let (now, members) = (Instant::now(), Members::new(members));
        let mark = Mark { time, positions, read_to: time };
        let (pending, progress) = (None, Progress::default());
        let (committed, looked) = (now, now);
        Follow {
            session,
            oplogs,
            settings,
            source,
            look_up,
            purpose,
            members,
            ahead,
            unexplained: BTreeMap::new(),
            mark,
            pending,
            committed,
            looked,
            progress,
        }
    }

    /// Follows. If the future is dropped while changes are collected, nothing is lost, and it can be called again; while
    /// they are applied, the transaction is rolled back by the next use of the session, and [`Follow`] must be made anew.
    ///
    /// # Errors
    /// [`Failure`]; what was committed stays.
    pub(crate) async fn run(&mut self, until: Until, stop: impl Fn() -> bool) -> Result<Paused, Failure> {
        loop {
            if stop() {
                return Ok(Paused::Done);
            }
            let unexplained = self.give_up_unexplained().await?;
            if !unexplained.is_empty() {
                return Ok(Paused::Reload(unexplained));
            }
            if let Until::Time(time) = until
                && self.mark.read_to >= time
                && self.pending.is_none()
            {
                self.commit_position().await?;
                return Ok(Paused::Done);
            }
            if self.looked.elapsed() >= LOOK_EVERY {
                self.looked = Instant::now();
                if self.purpose.has_changed(self.session, &self.members.all).await? {
                    return Ok(Paused::Changed);
                }
            }
            match self.collect(until, &stop).await? {
                Collected::Nothing => self.commit_if_due().await?,
                Collected::Batch(batch) => {
                    self.apply(&batch).await?;
                    let reload = self.to_reload(&batch);
                    if !reload.is_empty() {
                        return Ok(Paused::Reload(reload));
                    }
                }
            }
        }
    }

    /// Up to when documents have been read, where that is later than the last watermark.
    pub(crate) fn ahead(&self) -> Option<ClusterTime> {
        self.ahead.filter(|ahead| *ahead > self.mark.time)
    }

    /// What did not fit, by collection, with its layout.
    pub(crate) fn tallies(&self) -> impl Iterator<Item = (&str, &Tally, &Layout)> {
        let of = |name: &str| self.members.all.iter().find(|member| member.name == name).map(|member| member.layout);
        self.progress.tallies.iter().filter_map(move |(name, tally)| Some((name.as_str(), tally, of(name)?)))
    }

    /// Where the tables stand.
    pub(crate) fn positions(&self) -> &Positions {
        &self.mark.positions
    }
}

impl Progress {
    /// Adds what another way has done; what did not fit is not part of it.
    pub(crate) fn add(&mut self, other: &Progress) {
        self.changes.add(&other.changes);
        self.documents += other.documents;
        self.rows.inserted += other.rows.inserted;
        self.rows.updated += other.rows.updated;
        self.rows.deleted += other.rows.deleted;
        self.batches += other.batches;
        self.catching_up += other.catching_up;
        self.rejected += other.rejected;
        self.statements += other.statements;
        self.events.extend(other.events.iter().cloned());
    }

    fn count_batch(&mut self, batch: &Batch, exact: bool) {
        self.changes.add(&batch.counts);
        self.batches += 1;
        self.catching_up += u64::from(!exact);
    }
}
