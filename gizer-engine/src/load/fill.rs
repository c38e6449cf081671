//! The PostgreSQL side of a load, wherever its documents come from: fill, keys, swap.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gizer_flatten::{Mismatch, Tally};
use gizer_oplog::{RangeSource, WatchedCollection};
use gizer_pg::load::{KeySettings, Load, SwapPart, SwapSettings, Swapped, Written, swap_together};
use gizer_pg::state::{Ledger, Resumed, Standing};
use gizer_pg::{Session, Target};
use gizer_schema::Layout;

use super::Loaded;
use super::run_row::TIDYING_LIMIT;
use crate::counters::{Counters, Done, Expected};
use crate::env::Env;
use crate::failure::{Failure, FailureKind};
use crate::failures::Failures;
use crate::layouts::prefixed;
use crate::notice::Notice;
use crate::observer::Activity;
use crate::pipeline::{self, Flow, RejectLimit};
use crate::unfit::UnfitReport;
use crate::wording::counted;

/// When somebody is told that a swap waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all loads of a run share.
pub(super) struct Filling<'f> {
    pub(super) env: &'f Env,
    pub(super) session: &'f Session,
    pub(super) target: &'f Target,
    pub(super) max_rejects: u64,
    /// Whether the next load can go on where one of these ends.
    pub(super) goes_on: bool,
}

/// A collection that is to be loaded.
#[derive(Clone)]
pub(super) struct Wanted {
    /// Its name in MongoDB.
    pub(super) name: String,
    /// The tables that it goes into.
    pub(super) layout: Layout,
}

impl Wanted {
    /// These collections, each under the prefix if there is one; apart from them those that cannot have it.
    pub(super) fn all(layouts: Vec<Layout>, prefix: Option<&str>, failures: &mut Failures) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for layout in layouts {
            let name = layout.collection.clone();
            match prefixed(&layout, prefix) {
                Ok(layout) => wanted.push(Wanted { name, layout }),
                Err(failure) => failures.add(name, failure),
            }
        }
        wanted
    }
}

/// The names of collections.
pub(super) fn names(wanted: &[Wanted]) -> Vec<String> {
    wanted.iter().map(|one| one.name.clone()).collect()
}

/// Documents on their way.
pub(super) struct Input<S> {
    pub(super) sources: Vec<S>,
    /// How much there is in all, as far as that is known.
    pub(super) expected: Option<Expected>,
}

/// What is in the tables of a load that are whole.
pub(super) struct Whole {
    pub(super) report: Loaded,
    pub(super) started: Instant,
    /// How it stands to the oplog; `None` of a copy.
    pub(super) standing: Option<Standing>,
}

/// A load whose tables are whole, and yet to be swapped in.
pub(super) struct Filled<'l> {
    pub(super) load: Load<'l>,
    pub(super) whole: Whole,
    /// What has changed meanwhile is that of this collection; `None` of a copy.
    pub(super) watched: Option<WatchedCollection>,
}

impl Filled<'_> {
    /// The collection's name in MongoDB.
    pub(super) fn name(&self) -> &str {
        &self.whole.report.name
    }
}

impl Filling<'_> {
    /// Loads the collections, one after the other, and swaps each in, or all of them together. One that cannot be loaded
    /// does not keep the others from it, unless they are to be swapped in together.
    pub(super) async fn load_all<'l>(
        &self,
        wanted: &'l [Wanted],
        together: bool,
        load: impl AsyncFn(&'l Wanted) -> Result<Filled<'l>, Failure>,
        align: impl AsyncFn(&mut Filled<'l>) -> Result<(), Failure>,
        loaded: &mut Vec<Loaded>,
        failures: &mut Failures,
    ) {
        let mut waiting = Vec::new();
        for (i, one) in wanted.iter().enumerate() {
            let outcome = match load(one).await {
                Ok(filled) if together => {
                    waiting.push(filled);
                    continue;
                }
                Ok(filled) => self.align_and_swap(vec![filled], &align).await,
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(swapped) => loaded.extend(swapped),
                Err(failure) => {
                    let ends_run = failure.ends_run;
                    failures.add(&one.name, failure);
                    if ends_run {
                        failures.end_run(None, names(&wanted[i + 1..]));
                        break;
                    }
                }
            }
        }
        if !waiting.is_empty() {
            self.swap_together(waiting, &align, loaded, failures).await;
        }
    }

    /// Brings these loads up to date and swaps them in, all or none. Those that are not are abandoned; `Err` says why.
    async fn align_and_swap<'l>(
        &self,
        mut filled: Vec<Filled<'l>>,
        align: &impl AsyncFn(&mut Filled<'l>) -> Result<(), Failure>,
    ) -> Result<Vec<Loaded>, Failure> {
        let all = async {
            for each in &mut filled {
                align(each).await?;
            }
            Ok(())
        };
        if let Err(failure) = self.env.stop.or_done(all).await {
            for each in filled {
                self.abandon(each.load, &failure).await;
            }
            return Err(failure);
        }
        self.swap(filled).await
    }

    /// All or none.
    async fn swap_together<'l>(
        &self,
        filled: Vec<Filled<'l>>,
        align: &impl AsyncFn(&mut Filled<'l>) -> Result<(), Failure>,
        loaded: &mut Vec<Loaded>,
        failures: &mut Failures,
    ) {
        if failures.is_empty() {
            let names = filled.iter().map(Filled::name).collect::<Vec<_>>().join(", ");
            match self.align_and_swap(filled, align).await {
                Ok(swapped) => loaded.extend(swapped),
                Err(failure) => failures.add(names, failure),
            }
            return;
        }
        for each in filled {
            let name = each.name().to_owned();
            let failure = Failure::failed("loaded, but not swapped in: --together means all or none");
            let failure = if self.goes_on { failure.remedy("the next load has only its swap to do") } else { failure };
            self.abandon(each.load, &failure).await;
            failures.add(name, failure);
        }
    }

    /// The load with its tables, once this `work` has made them whole. If it fails the load is abandoned.
    pub(super) async fn filled<'l>(
        &self,
        load: Load<'l>,
        watched: Option<WatchedCollection>,
        work: impl AsyncFnOnce(&Load<'l>) -> Result<Whole, Failure>,
    ) -> Result<Filled<'l>, Failure> {
        match self.env.stop.or_done(work(&load)).await {
            Ok(whole) => Ok(Filled { load, whole, watched }),
            Err(failure) => {
                self.abandon(load, &failure).await;
                Err(failure)
            }
        }
    }

    /// Everything from the source to the keys; `before` is what the tables hold already.
    pub(super) async fn fill(
        &self,
        load: &Load<'_>,
        name: &str,
        input: Input<impl RangeSource + 'static>,
        before: Resumed,
    ) -> Result<Whole, Failure> {
        let started = Instant::now();
        let (before, bytes_before) = flow_before(before);
        let done = Done { documents: before.read, bytes: bytes_before, rows: before.written.rows.iter().sum() };
        let counters = Arc::new(Counters::going_on(done));
        let rejects = Arc::new(RejectLimit::new(self.max_rejects, before.tally.rejected));
        let progress = self.env.observer.begin(Activity::counted(name, &counters, input.expected));
        let flow = self.run_pipeline(load, input.sources, &rejects, &counters).await?;
        drop(progress);
        tracing::debug!(collection = name, took = ?started.elapsed(), "tables filled");
        if rejects.exceeded() {
            return Err(self.too_many_rejects(name, &rejects));
        }
        flow.check().map_err(|counts| {
            Failure::failed(format!("the counts of {name} do not add up: {counts}"))
                .remedy("this is a fault in gizer; the live tables are as they were")
        })?;
        let read_now = flow.read;
        let flow = before.and(flow);
        self.build_keys(load, name).await?;
        tracing::debug!(collection = name, took = ?started.elapsed(), "keys built");
        let mut report = Loaded::new(name, load.layout(), flow, counters.bytes(), read_now);
        report.sizes = load.table_sizes().await?;
        Ok(Whole { report, started, standing: None })
    }

    async fn run_pipeline(
        &self,
        load: &Load<'_>,
        sources: Vec<impl RangeSource + 'static>,
        rejects: &Arc<RejectLimit>,
        counters: &Arc<Counters>,
    ) -> Result<Flow, Failure> {
        if rejects.exceeded() {
            return Ok(Flow::default());
        }
        let settings = &self.env.settings;
        let mut sinks = Vec::new();
        for _ in 0..settings.load_workers {
            sinks.push(load.sink(gizer_pg::connect(self.target).await?)?);
        }
        let filled = pipeline::load(load.layout(), sources, sinks, settings.memory, rejects, counters);
        tokio::select! {
            // It holds the collection's lock: without it nothing that is filled could be swapped in.
            lost = self.session.ended() => Err(lost.into()),
            flow = filled => flow,
        }
    }

    /// Keys, indexes, statistics.
    pub(super) async fn build_keys(&self, load: &Load<'_>, name: &str) -> Result<(), Failure> {
        let _progress = self.env.observer.begin(Activity::step(name, "keys and indexes"));
        let mut sessions = Vec::new();
        for _ in 0..self.env.settings.load_workers {
            sessions.push(gizer_pg::connect(self.target).await?);
        }
        let sessions: Vec<&Session> = sessions.iter().collect();
        let settings = KeySettings { parallel_workers: Some(self.env.settings.key_workers), ..KeySettings::default() };
        Ok(load.build_keys(&sessions, settings).await?)
    }

    /// Swaps these loads in, all or none. Those that are not are abandoned; `Err` says why.
    pub(super) async fn swap(&self, mut filled: Vec<Filled<'_>>) -> Result<Vec<Loaded>, Failure> {
        for Filled { whole: Whole { report, started, .. }, .. } in &mut filled {
            let whole = report.read_now == report.ledger.read;
            report.ledger.millis = whole.then(|| u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
        let swapped = self.env.stop.or_done(self.swap_or_wait(&filled)).await;
        match swapped {
            Ok(swapped) => {
                if !swapped.dropped.is_empty() {
                    self.env.notice(&Notice::DroppedTables(swapped.dropped));
                }
                if !swapped.views.is_empty() {
                    self.env.notice(&Notice::RecreatedViews(swapped.views));
                }
                let report = |Whole { report, started, .. }| Loaded { took: started.elapsed(), ..report };
                Ok(filled.into_iter().map(|filled| report(filled.whole)).collect())
            }
            Err(failure) => {
                for each in filled {
                    self.abandon(each.load, &failure).await;
                }
                Err(failure)
            }
        }
    }

    async fn swap_or_wait(&self, filled: &[Filled<'_>]) -> Result<Swapped, Failure> {
        let settings = SwapSettings { limit: self.env.settings.swap_timeout, ..SwapSettings::default() };
        let mut parts = Vec::new();
        for Filled { load, whole, .. } in filled {
            parts.push(SwapPart { load, ledger: &whole.report.ledger, standing: whole.standing.as_ref() });
        }
        let mut swap = pin!(swap_together(&parts, &settings));
        tokio::select! {
            biased;
            swapped = &mut swap => return Ok(swapped?),
            () = tokio::time::sleep(PATIENCE) => {}
        }
        let collections = filled.iter().map(|filled| filled.name().to_owned()).collect();
        self.env.notice(&Notice::WaitsForReaders { collections, limit: settings.limit });
        Ok(swap.await?)
    }

    fn too_many_rejects(&self, name: &str, rejects: &RejectLimit) -> Failure {
        let first = rejects.first_reason().map(|first| format!(" (the first: {first})")).unwrap_or_default();
        let message = format!(
            "more than {} of {name} rejected, which is what --max-rejects allows{first}: the load was stopped, nothing is \
             swapped in",
            counted(self.max_rejects, "document", "documents"),
        );
        let what_helps = if self.goes_on {
            "fix the schema file, or load with a greater --max-rejects, which goes on from here, or fix the documents \
             and load with --restart"
        } else {
            "fix the schema file, or load with a greater --max-rejects"
        };
        let schema = self.target.schema();
        Failure::failed(message)
            .remedy(format!("SELECT reason, id FROM {schema}.gizer_reject shows some; {what_helps}"))
    }

    /// Writes down that the load failed; what cannot be written any more, the next load puts right.
    pub(super) async fn abandon(&self, load: Load<'_>, failure: &Failure) {
        let interrupted = matches!(failure.kind, FailureKind::Interrupted | FailureKind::Terminated);
        if interrupted {
            // Whatever the session was doing for the load is of no use any more.
            let _ = self.session.cancel_handle().cancel().await;
        }
        let abandoned =
            tokio::time::timeout(TIDYING_LIMIT, load.abandon(&failure.message, interrupted || failure.passes)).await;
        if matches!(abandoned, Ok(Ok(()))) {
            return;
        }
        tracing::warn!("the failed load is not written down; the next one puts it right");
        if abandoned.is_err() {
            // Somebody holds the row. What waits for it must not hold up what comes after it on this session.
            let _ = self.session.cancel_handle().cancel().await;
        }
    }
}

/// What went through an earlier run, and its bytes of BSON.
fn flow_before(before: Resumed) -> (Flow, u64) {
    let Resumed { rows, bytes, tally, .. } = before;
    let written = Written { rows, documents: tally.loaded, rejected: tally.rejected, ..Written::default() };
    (Flow { read: tally.read, tally, written }, bytes)
}

impl Loaded {
    fn new(name: &str, layout: &Layout, flow: Flow, bytes: u64, read_now: u64) -> Loaded {
        let Flow { tally, written, .. } = flow;
        let tables = layout.tables.iter().map(|table| table.name.clone());
        Loaded {
            name: name.to_owned(),
            unfit: UnfitReport::of(&tally, layout),
            ledger: ledger(name, layout, &tally, &written),
            tables: tables.zip(written.rows.iter().copied()).collect(),
            sizes: Vec::new(),
            bytes,
            read_now,
            took: Duration::ZERO,
            written,
        }
    }
}

pub(super) fn ledger(name: &str, layout: &Layout, tally: &Tally, written: &Written) -> Ledger {
    let unfit = |mismatch: Mismatch| (mismatch.classic_warning(name), mismatch.count);
    Ledger {
        read: tally.read,
        loaded: tally.loaded,
        rejected: tally.rejected,
        filtered: 0,
        rows: layout.tables.iter().map(|table| table.name.clone()).zip(written.rows.iter().copied()).collect(),
        unfit: tally.mismatches(layout).into_iter().map(unfit).collect(),
        millis: None,
    }
}
