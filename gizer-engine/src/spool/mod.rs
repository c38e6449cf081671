//! While a load runs, the oplog of every shard is kept aside, so that a small oplog cannot roll over under a long load.
//!
//! ```text
//!   Capture::start ── T0 and a spool a shard; from here on, one task a shard:  OplogTail ──▶ spool
//!        │
//!        │   the load, which needs nothing of it until it is aligned
//!        │
//!   Capture::readers ── what was kept so far, and what is kept while that is read
//!        │
//!   Capture::stop ── how far each spool goes; from there on the log itself has the rest. finish, once every load is done, removes them
//! ```
//!
//! A capture that breaks off (no room on the disk, a log that rolls over faster than it is read) does not end the load:
//! it is told once, and the report says how far the spool goes. If the log still reaches back to there, nothing is lost.

mod kept;
mod settings;
mod shard;
mod store;

use std::collections::HashMap;
use std::time::Duration;

use gizer_flatten::change::Positions;
use gizer_oplog::spool::Span;
use gizer_oplog::{ErrorClass, KeptLog, MongoError, Oplog, OplogPosition, OplogTail, TailOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::failure::Failure;
use kept::Kept;
use shard::Shard;
use store::Store;

pub use settings::{SpoolSettings, of_cache};

/// The oplogs of all shards, being kept aside.
///
/// Dropping it ends it where it stands, as a crash would: what is then missing in the spools shows when they are opened again.
#[derive(Debug)]
pub struct Capture {
    settings: SpoolSettings,
    t0: Positions,
    shards: Vec<Watched>,
    stop: watch::Sender<Option<SpoolEnd>>,
    tasks: JoinSet<ShardCapture>,
}

/// What is seen from outside of a shard's task.
#[derive(Debug)]
struct Watched {
    name: String,
    start: OplogPosition,
    state: watch::Receiver<State>,
}

/// How far a task has got.
#[derive(Debug, Clone, Copy)]
struct State {
    reached: OplogPosition,
    ended: bool,
}

/// What became of a capture.
#[derive(Debug)]
pub struct CaptureReport {
    /// One a shard, in alphabetical order.
    pub shards: Vec<ShardCapture>,
}

impl CaptureReport {
    /// Whether every spool covers the log up to the end of the capture.
    pub fn is_whole(&self) -> bool {
        self.shards.iter().all(|shard| matches!(shard.end, CaptureEnd::Stopped))
    }

    /// How far the spools reach: from here on the log itself is needed.
    pub fn reached(&self) -> Positions {
        self.shards.iter().map(|shard| (shard.shard.clone(), shard.span.reached.into())).collect()
    }
}

/// What became of the capture of one shard.
#[derive(Debug)]
pub struct ShardCapture {
    /// The oplog's name.
    pub shard: String,
    /// The part of the log that the spool covers.
    pub span: Span,
    /// Entries that this capture has kept; an earlier one may have kept others.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Why it ended.
    pub end: CaptureEnd,
}

/// What becomes of the spools when a capture ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpoolEnd {
    /// A load that did not finish needs them to go on.
    Kept,
    /// Nobody needs them any more.
    Removed,
}

/// Why the capture of a shard ended.
#[derive(Debug)]
pub enum CaptureEnd {
    /// It was stopped.
    Stopped,
    /// The spool is as large as it may be.
    LimitReached,
    /// The log cannot be read or kept any more.
    BrokenOff(Failure),
}

impl Capture {
    /// Opens a spool for each oplog and begins to keep them aside, from the newest position (T0) on or from an earlier
    /// one.
    ///
    /// `needed` is from where on unfinished loads and followed collections still need the log. A spool that covers it,
    /// and whose end the log still holds, is continued; else it begins anew at `needed` if the log still holds that, and else at T0.
    /// [`reaches`](Capture::reaches) tells which. Without `needed` it begins anew.
    ///
    /// # Errors
    /// [`Failure`] before MongoDB is read, if a spool cannot be written or another run writes it; afterwards if MongoDB
    /// cannot be read.
    pub async fn start(
        settings: SpoolSettings,
        oplogs: &[Oplog],
        needed: Option<&Positions>,
    ) -> Result<Capture, Failure> {
        let mut stores = Vec::new();
        for oplog in oplogs {
            stores.push(Store::open(&settings, settings.identity(oplog.name())).await?);
        }
        let (stop, stopped) = watch::channel(None);
        let database = settings.database.clone();
        let (t0, tasks) = (Positions::new(), JoinSet::new());
        let mut capture = Capture { settings, t0, shards: Vec::new(), stop, tasks };
        for (oplog, mut store) in oplogs.iter().zip(stores) {
            let name = oplog.name().to_owned();
            let (earliest, t0) = newest(oplog).await?;
            let needed = needed.and_then(|needed| needed.get(&name));
            let needed = needed.and_then(OplogPosition::of).map(|needed| earliest.min(needed));
            let (tail, span) = open(oplog, &mut store, needed, earliest).await?;
            tracing::info!(shard = name, start = %span.start.time, from = %span.reached.time, "the oplog is kept aside");
            let (shard, state) = Shard::new(tail, store, database.clone(), span, stopped.clone());
            capture.t0.insert(name.clone(), t0.into());
            capture.shards.push(Watched { name, start: span.start, state });
            capture.tasks.spawn(shard.run());
        }
        Ok(capture)
    }

    /// The newest positions at the start: whatever is read from MongoDB after the start is as of then or later.
    pub fn t0(&self) -> &Positions {
        &self.t0
    }

    /// Where each spool begins: T0 or earlier.
    pub fn start_positions(&self) -> Positions {
        self.shards.iter().map(|shard| (shard.name.clone(), shard.start.into())).collect()
    }

    /// How far each spool has got by now.
    pub fn reached(&self) -> Positions {
        self.shards.iter().map(|shard| (shard.name.clone(), shard.state.borrow().reached.into())).collect()
    }

    /// Whether spool and log together hold everything after these positions. Of a capture that has ended early nobody
    /// knows without asking the log, so it does not.
    pub fn reaches(&self, positions: &Positions) -> bool {
        positions.iter().all(|(name, position)| {
            let shard = self.shards.iter().find(|shard| shard.name == *name);
            shard.is_some_and(|shard| {
                OplogPosition::of(position).is_some_and(|at| shard.start <= at) && !shard.state.borrow().ended
            })
        })
    }

    /// As [`reaches`](Capture::reaches), but where the capture of a shard has ended early the log is asked.
    ///
    /// # Errors
    /// [`Failure`] if MongoDB cannot be read.
    pub async fn still_reaches(&self, oplogs: &[Oplog], positions: &Positions) -> Result<bool, Failure> {
        for (name, position) in positions {
            let Some(shard) = self.shards.iter().find(|shard| shard.name == *name) else { return Ok(false) };
            if OplogPosition::of(position).is_none_or(|at| shard.start > at) {
                return Ok(false);
            }
            let State { reached, ended } = *shard.state.borrow();
            let Some(oplog) = oplogs.iter().find(|oplog| ended && oplog.name() == name) else { continue };
            if oplog.oldest().await?.time > reached.time {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What has been kept aside so far, by the names of the oplogs, to be read from these positions on, while the capture goes
    /// on. A spool that begins later is left out: then the log itself has to hold the rest.
    ///
    /// # Errors
    /// [`Failure`] if a spool cannot be read.
    pub async fn readers(&self, from: &Positions) -> Result<HashMap<String, Box<dyn KeptLog>>, Failure> {
        let mut readers: HashMap<String, Box<dyn KeptLog>> = HashMap::new();
        for shard in &self.shards {
            let Some(position) = from.get(&shard.name).and_then(OplogPosition::of) else { continue };
            let identity = self.settings.identity(&shard.name);
            let open = Kept::open(&self.settings, identity, position, shard.state.clone());
            match tokio::time::timeout(ANSWER_LIMIT, open).await {
                Ok(kept) => drop(kept?.map(|kept| readers.insert(shard.name.clone(), Box::new(kept)))),
                // As a rule the log still holds all of it.
                Err(_) => tracing::warn!("the spool of {} does not answer: the oplog itself is read", shard.name),
            }
        }
        Ok(readers)
    }

    /// Ends the capture, and makes sure that what was kept survives a crash.
    ///
    /// # Errors
    /// [`Failure`] only if a task has panicked; whatever else has gone wrong with a shard is in the report.
    pub async fn stop(self) -> Result<CaptureReport, Failure> {
        self.end(SpoolEnd::Kept).await
    }

    /// Ends the capture, and removes what was kept: no load needs it any more.
    ///
    /// # Errors
    /// As [`stop`](Capture::stop).
    pub async fn finish(self) -> Result<CaptureReport, Failure> {
        self.end(SpoolEnd::Removed).await
    }

    async fn end(mut self, spools: SpoolEnd) -> Result<CaptureReport, Failure> {
        let _ = self.stop.send(Some(spools));
        let mut shards = Vec::new();
        while let Some(shard) = self.tasks.join_next().await {
            shards.push(shard.map_err(|_| Failure::failed("the task that keeps the oplog aside has panicked"))?);
        }
        shards.sort_by(|one, other| one.shard.cmp(&other.shard));
        Ok(CaptureReport { shards })
    }
}

/// How long a spool in another server may take to say what it holds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// From where on the log is needed by whoever reads documents now, and the newest position. The first of them lies before
/// the second where a transaction is under way, whose entries a later commit leads back to.
async fn newest(oplog: &Oplog) -> Result<(OplogPosition, OplogPosition), Failure> {
    let before = oplog.newest().await?;
    let undecided = oplog.before_undecided().await?;
    // What was decided before this was asked for is in the log after the first position.
    Ok((undecided.map_or(before, |undecided| undecided.min(before)), oplog.newest().await?))
}

/// A tail, and a store that covers the log from somewhere up to where the tail goes on.
async fn open(
    oplog: &Oplog,
    store: &mut Store,
    needed: Option<OplogPosition>,
    earliest: OplogPosition,
) -> Result<(OplogTail, Span), Failure> {
    let covers = |span: &Span, needed: OplogPosition| span.start <= needed && needed <= span.reached;
    let continued = store.span().filter(|span| needed.is_some_and(|needed| covers(span, needed)));
    if let Some(span) = continued
        && let Some(tail) = open_if_there(oplog, span.reached).await?
    {
        return Ok((tail, span));
    }
    let from_needed = match needed {
        Some(needed) => open_if_there(oplog, needed).await?,
        None => None,
    };
    let tail = match from_needed {
        Some(tail) => tail,
        None => OplogTail::open(oplog, earliest, TailOptions::default()).await?,
    };
    let start = tail.position();
    store.begin(start).await?;
    Ok((tail, Span { start, reached: start }))
}

/// A tail from a position on, if the log still holds it.
async fn open_if_there(oplog: &Oplog, position: OplogPosition) -> Result<Option<OplogTail>, MongoError> {
    match OplogTail::open(oplog, position, TailOptions::default()).await {
        Ok(tail) => Ok(Some(tail)),
        Err(error) if error.class() == ErrorClass::LoadDue => {
            tracing::info!(%error, "the spool begins anew");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
