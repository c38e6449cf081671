//! Spools changes while a load runs.
//!
//! ```text
//!   Capture::start ── T0 and a spool; from here on, in a task of its own:  OplogChanges ──▶ pages ──▶ spool
//!        │
//!        │   the load, which needs nothing of it until it is aligned
//!        │
//!   Capture::changes ── what was spooled so far, what is spooled meanwhile, and then the log
//!        │
//!   Capture::stop ── how far the spool goes. finish, once every load is done, removes it
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gizer_flatten::change::{ClusterTime, Positions, SourcePosition};
use gizer_oplog::{ChangeEvent, ChangeSource, ErrorClass, FollowOptions, Interest, MongoError, Oplog, OplogChanges};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::changes::SpoolReader;
use super::record::{PageWriter, SpoolMark};
use super::{AppendOutcome, Spool, SpoolSettings, SpoolSpan, SpooledChanges};
use crate::failure::Failure;

/// Bytes after which a page is written, with or without a mark at its end.
const PAGE_BYTES: usize = 256 << 10;

/// Longest delay of a mark.
const MARK_WAIT: Duration = Duration::from_millis(250);

/// Changes between two marks.
const MARK_CHANGES: usize = 5_000;

/// Memory for undecided transactions, in bytes.
const TRANSACTION_BYTES: usize = 4 << 20;

/// A running capture: it spools the changes of a database.
///
/// Dropping it is like a crash: what is missing in the spool shows when it is opened again.
pub struct Capture {
    settings: SpoolSettings,
    t0: Positions,
    start: Positions,
    spool: Arc<dyn Spool>,
    state: watch::Receiver<CaptureState>,
    stop: watch::Sender<Option<SpoolEnd>>,
    task: JoinSet<CaptureReport>,
}

/// Progress of the task.
#[derive(Debug, Clone)]
pub(super) struct CaptureState {
    pub(super) reached: Positions,
    /// The task has ended by itself.
    pub(super) ended: bool,
}

/// What happens to the spool when a capture ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpoolEnd {
    /// An unfinished load needs it.
    Stays,
    /// No load needs it.
    Removed,
}

/// Result of a capture.
#[derive(Debug)]
pub struct CaptureReport {
    /// What the spool covers.
    pub span: SpoolSpan,
    /// Changes spooled by this capture; an earlier one may have spooled more.
    pub changes: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Why it ended.
    pub end: CaptureEnd,
}

/// Why a capture ended.
#[derive(Debug)]
pub enum CaptureEnd {
    /// It was stopped.
    Stopped,
    /// The spool has reached its limit.
    LimitReached,
    /// The source cannot be read, or the spool cannot be written.
    BrokenOff(Failure),
}

impl CaptureReport {
    /// Whether the spool covers the source to the end of the capture.
    pub fn is_whole(&self) -> bool {
        matches!(self.end, CaptureEnd::Stopped)
    }
}

impl Capture {
    /// Opens the spool and fills it, from the newest positions (T0) or from earlier ones.
    ///
    /// `needed` is where unfinished loads and followed collections start to need changes. A spool
    /// that covers it and ends in the log is continued. Otherwise it starts over: at `needed` if
    /// the log still holds that, else at T0; [`reaches`](Capture::reaches) tells which. Without
    /// `needed` it starts over.
    ///
    /// # Errors
    /// [`Failure`] if the spool cannot be written or another run uses it, before MongoDB is read;
    /// later if MongoDB cannot be read.
    pub async fn start(
        settings: SpoolSettings,
        oplogs: &[Oplog],
        needed: Option<&Positions>,
    ) -> Result<Capture, Failure> {
        let spool = settings.open(oplogs).await?;
        let (mut earliest, mut t0) = (Positions::new(), Positions::new());
        for oplog in oplogs {
            let (first, newest) = newest(oplog).await?;
            earliest.insert(oplog.name().to_owned(), first);
            t0.insert(oplog.name().to_owned(), newest);
        }
        let needed = needed.map(|needed| {
            let from = |(shard, first): (&String, &SourcePosition)| {
                (shard.clone(), needed.get(shard).map_or(first, |needed| needed.min(first)).clone())
            };
            earliest.iter().map(from).collect::<Positions>()
        });
        let opening = SourceOpener { oplogs, settings: &settings };
        let (source, span) = opening.source(&*spool, needed, earliest).await?;
        let (start, from) = (times(&span.start), times(&span.reached));
        tracing::info!(start, from, "changes are spooled");
        let (stop, stopped) = watch::channel(None);
        let (state, seen) = watch::channel(CaptureState { reached: span.reached.clone(), ended: false });
        let start = span.start.clone();
        let task = CaptureTask {
            source,
            spool: Arc::clone(&spool),
            stopped,
            state,
            span,
            page: PageWriter::default(),
            marked: None,
            mark_due: None,
            unwritten: 0,
            changes: 0,
            bytes: 0,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run());
        Ok(Capture { settings, t0, start, spool, state: seen, stop, task: tasks })
    }

    /// The newest positions at the start: everything read later is at least as new.
    pub fn t0(&self) -> &Positions {
        &self.t0
    }

    /// Start of the spool: T0 or earlier.
    pub fn start_positions(&self) -> &Positions {
        &self.start
    }

    /// Current end of the spool.
    pub fn reached(&self) -> Positions {
        self.state.borrow().reached.clone()
    }

    fn begins_before(&self, positions: &Positions) -> bool {
        positions.iter().all(|(shard, position)| self.start.get(shard).is_some_and(|start| start <= position))
    }

    /// Whether spool and log together hold everything after these positions. `false` for a capture
    /// that has ended early: only the log can tell.
    pub fn reaches(&self, positions: &Positions) -> bool {
        self.begins_before(positions) && !self.state.borrow().ended
    }

    /// As [`reaches`](Capture::reaches), but asks the log if the capture has ended early.
    ///
    /// # Errors
    /// [`Failure`] if MongoDB cannot be read.
    pub async fn still_reaches(&self, oplogs: &[Oplog], positions: &Positions) -> Result<bool, Failure> {
        let CaptureState { reached, ended } = self.state.borrow().clone();
        if !ended || !self.begins_before(positions) {
            return Ok(self.begins_before(positions));
        }
        let oplogs = oplogs.iter().filter(|oplog| positions.contains_key(oplog.name()));
        log_holds(oplogs, &reached).await
    }

    /// Whether what comes after these positions is in the spool, and no longer in the log: nobody can follow from there once
    /// the spool is gone.
    ///
    /// # Errors
    /// [`Failure`] if MongoDB cannot be read.
    pub async fn alone_reaches(&self, oplogs: &[Oplog], positions: &Positions) -> Result<bool, Failure> {
        Ok(self.reaches(positions) && !log_holds(oplogs, positions).await?)
    }

    /// The changes after these positions: first from the spool, including what is still being
    /// spooled, then from the log. If the spool starts later, all of them come from the log.
    ///
    /// # Errors
    /// [`MongoError`] if the spool or the log cannot be read.
    pub async fn changes(
        &self,
        oplogs: &[Oplog],
        from: &Positions,
        interest: Interest,
        options: FollowOptions,
    ) -> Result<SpooledChanges, MongoError> {
        if !self.begins_before(from) {
            return SpooledChanges::of_log(oplogs, from, interest, options).await;
        }
        let reader = SpoolReader::new(Arc::clone(&self.spool), self.start.clone(), self.state.clone());
        SpooledChanges::of_spool(reader, oplogs, from, interest, options).await
    }

    /// Stops the capture; the spool survives a crash.
    ///
    /// # Errors
    /// [`Failure`] only if the task panicked; other errors are in the report.
    pub async fn stop(self) -> Result<CaptureReport, Failure> {
        self.end(SpoolEnd::Stays).await
    }

    /// Stops the capture and removes the spool: no load needs it.
    ///
    /// # Errors
    /// As [`stop`](Capture::stop).
    pub async fn finish(self) -> Result<CaptureReport, Failure> {
        self.end(SpoolEnd::Removed).await
    }

    async fn end(mut self, spool: SpoolEnd) -> Result<CaptureReport, Failure> {
        let _ = self.stop.send(Some(spool));
        let ended = self.task.join_next().await.and_then(Result::ok);
        ended.ok_or_else(|| Failure::failed("the task that spools changes has panicked"))
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").field("settings", &self.settings).field("start", &self.start).finish_non_exhaustive()
    }
}

/// Whether the logs still hold everything after these positions.
async fn log_holds(oplogs: impl IntoIterator<Item = &Oplog>, positions: &Positions) -> Result<bool, Failure> {
    for oplog in oplogs {
        let position = positions.get(oplog.name()).map(SourcePosition::time).unwrap_or_default();
        if oplog.oldest().await?.time > position {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Positions, for the log: `rs0 Timestamp(1454960732, 1)`.
fn times(positions: &Positions) -> String {
    let each = positions.iter().map(|(shard, position)| format!("{shard} {}", position.time()));
    each.collect::<Vec<_>>().join(", ")
}

/// Where readers of current documents start to need the log, and the newest position. The first is
/// earlier if a transaction is open: its commit leads back to earlier entries.
async fn newest(oplog: &Oplog) -> Result<(SourcePosition, SourcePosition), Failure> {
    let before = oplog.newest().await?;
    let undecided = oplog.before_undecided().await?;
    // Transactions decided before this query are in the log after the first position.
    let first = undecided.map_or(before, |undecided| undecided.min(before));
    Ok((first.into(), oplog.newest().await?.into()))
}

struct SourceOpener<'o> {
    oplogs: &'o [Oplog],
    settings: &'o SpoolSettings,
}

impl SourceOpener<'_> {
    /// The changes from some position, and a spool that covers the source up to it.
    async fn source(
        &self,
        spool: &dyn Spool,
        needed: Option<Positions>,
        earliest: Positions,
    ) -> Result<(OplogChanges, SpoolSpan), Failure> {
        if let Some(span) = spool.span()
            && needed.as_ref().is_some_and(|needed| covers(&span, needed))
            && let Some(source) = self.open_if_held(&span.reached).await?
        {
            return Ok((source, span));
        }
        let needed = match needed {
            Some(needed) => self.open_if_held(&needed).await?.map(|source| (source, needed)),
            None => None,
        };
        let (source, start) = match needed {
            Some(found) => found,
            None => (self.at(&earliest).await?, earliest),
        };
        spool.trim(Some(start.clone())).await?;
        Ok((source, SpoolSpan { reached: start.clone(), start }))
    }

    /// All changes of the database after these positions.
    async fn at(&self, from: &Positions) -> Result<OplogChanges, MongoError> {
        let interest = Interest { database: self.settings.database.clone(), ..Interest::default() };
        let options = FollowOptions {
            transaction_memory: TRANSACTION_BYTES,
            watermark_changes: MARK_CHANGES,
            ..FollowOptions::new(self.settings.folder.join("held-back"))
        };
        OplogChanges::open(self.oplogs, from, interest, options).await
    }

    /// The same; `None` if the log no longer holds them.
    async fn open_if_held(&self, from: &Positions) -> Result<Option<OplogChanges>, MongoError> {
        match self.at(from).await {
            Ok(source) => Ok(Some(source)),
            Err(error) if error.class() == ErrorClass::LoadDue => {
                tracing::info!(%error, "the spool starts over");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether these positions lie in a spool's span.
fn covers(span: &SpoolSpan, needed: &Positions) -> bool {
    needed.iter().all(|(shard, needed)| {
        let ends = span.start.get(shard).zip(span.reached.get(shard));
        ends.is_some_and(|(start, reached)| start <= needed && needed <= reached)
    })
}

struct CaptureTask {
    source: OplogChanges,
    spool: Arc<dyn Spool>,
    stopped: watch::Receiver<Option<SpoolEnd>>,
    state: watch::Sender<CaptureState>,
    span: SpoolSpan,
    page: PageWriter,
    /// The latest mark, written or not.
    marked: Option<(ClusterTime, Positions)>,
    /// When the page's last mark must be written.
    mark_due: Option<Instant>,
    /// Changes in the page.
    unwritten: u64,
    changes: u64,
    bytes: u64,
}

impl CaptureTask {
    /// Spools changes until stopped, or until it cannot continue.
    async fn run(mut self) -> CaptureReport {
        let mut end = self.spool_changes().await.unwrap_or_else(CaptureEnd::BrokenOff);
        self.page.cut_to_mark();
        match self.write().await {
            Ok(AppendOutcome::Full) => end = CaptureEnd::LimitReached,
            Err(failure) if matches!(end, CaptureEnd::Stopped) => end = CaptureEnd::BrokenOff(failure),
            Ok(AppendOutcome::Taken(_)) | Err(_) => {}
        }
        self.log_end(&end);
        self.state.send_modify(|state| state.ended = !matches!(end, CaptureEnd::Stopped));
        // A spool that ended early is still read.
        let end_of_spool = self.stopped.wait_for(Option::is_some).await.ok().and_then(|stopped| *stopped);
        if end_of_spool == Some(SpoolEnd::Removed)
            && let Err(failure) = self.spool.trim(None).await
        {
            tracing::warn!("the spool could not be removed: {failure}");
        }
        CaptureReport { span: self.span, changes: self.changes, bytes: self.bytes, end }
    }

    async fn spool_changes(&mut self) -> Result<CaptureEnd, Failure> {
        loop {
            let due = self.mark_due.unwrap_or_else(Instant::now);
            let event = tokio::select! {
                biased;
                // An error: the capture was dropped.
                _ = self.stopped.wait_for(Option::is_some) => return Ok(CaptureEnd::Stopped),
                () = sleep_until(due), if self.mark_due.is_some() && self.page.is_marked() => None,
                event = self.source.next() => Some(event?),
            };
            match event {
                Some(ChangeEvent::Change(change)) => {
                    self.page.change(&change).ok_or_else(|| {
                        Failure::failed(format!(
                            "a change of {} at {} has no _id",
                            change.namespace,
                            change.position.time()
                        ))
                    })?;
                    self.unwritten += 1;
                }
                Some(ChangeEvent::Watermark { time, positions, .. }) => self.mark(time, positions),
                _ => {}
            }
            let is_due = self.page.is_marked() && self.mark_due.is_some_and(|due| due <= Instant::now());
            if (is_due || self.page.len() >= PAGE_BYTES) && self.write().await? == AppendOutcome::Full {
                return Ok(CaptureEnd::LimitReached);
            }
        }
    }

    /// Notes a watermark; a repeated one, as during a prepared transaction, says nothing new.
    fn mark(&mut self, time: ClusterTime, positions: Positions) {
        if self.marked.as_ref().is_some_and(|(marked, at)| *marked == time && *at == positions) {
            return;
        }
        let mark = SpoolMark { time, positions };
        self.page.mark(&mark);
        self.marked = Some((time, mark.positions));
        self.mark_due = self.mark_due.or_else(|| Some(Instant::now() + MARK_WAIT));
    }

    /// Writes the page unless it is empty.
    async fn write(&mut self) -> Result<AppendOutcome, Failure> {
        if self.page.is_empty() {
            return Ok(AppendOutcome::Taken(0));
        }
        let page = self.page.take();
        let reached = page.reached.clone();
        let appended = self.spool.append(page).await?;
        if let AppendOutcome::Taken(bytes) = appended {
            self.bytes += bytes;
            self.changes += std::mem::take(&mut self.unwritten);
            if let Some(reached) = reached {
                self.span.reached.clone_from(&reached);
                self.mark_due = None;
                self.state.send_modify(|state| state.reached = reached);
            }
        }
        Ok(appended)
    }

    /// Logs once why a capture ended before the load.
    fn log_end(&self, end: &CaptureEnd) {
        let why = match end {
            CaptureEnd::Stopped => return,
            CaptureEnd::LimitReached => "load.spool_limit is reached".to_owned(),
            CaptureEnd::BrokenOff(failure) => failure.to_string(),
        };
        tracing::warn!(
            "spooling stopped at {}: {why}; the load continues, and can be followed if the oplog still holds the rest",
            times(&self.span.reached)
        );
    }
}
