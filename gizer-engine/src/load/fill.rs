//! The PostgreSQL side of a load, for any source: fill, keys, swap.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gizer_flatten::{Mismatch, Tally};
use gizer_oplog::{RangeSource, WatchedCollection};
use gizer_pg::load::{KeySettings, Load, SwapPart, SwapSettings, Swapped, Written, swap_together};
use gizer_pg::state::{Ledger, Resumed, Standing};
use gizer_pg::{Session, Target};
use gizer_schema::Layout;

use super::LoadedCollection;
use super::run_row::TIDYING_LIMIT;
use crate::counters::{Counters, ExpectedWork, WorkDone};
use crate::env::Env;
use crate::failure::{Failure, FailureKind};
use crate::failures::Failures;
use crate::layouts::prefixed;
use crate::notice::Notice;
use crate::observer::Activity;
use crate::pipeline::{self, Flow, RejectLimit};
use crate::unfit::UnfitReport;
use crate::wording::counted;

/// How long a swap waits before it is reported.
const SWAP_REPORT_AFTER: Duration = Duration::from_secs(5);

/// Shared by all loads of a run.
pub(super) struct FillContext<'f> {
    pub(super) env: &'f Env,
    pub(super) session: &'f Session,
    pub(super) target: &'f Target,
    pub(super) max_rejects: u64,
    /// Whether the next run can resume these loads.
    pub(super) is_resumable: bool,
}

/// A collection to load.
#[derive(Clone)]
pub(super) struct WantedCollection {
    /// Name in MongoDB.
    pub(super) name: String,
    /// Its tables.
    pub(super) layout: Layout,
}

impl WantedCollection {
    /// These collections, with the prefix; those that cannot have it are failures.
    pub(super) fn all(layouts: Vec<Layout>, prefix: Option<&str>, failures: &mut Failures) -> Vec<WantedCollection> {
        let mut wanted = Vec::new();
        for layout in layouts {
            let name = layout.collection.clone();
            match prefixed(&layout, prefix) {
                Ok(layout) => wanted.push(WantedCollection { name, layout }),
                Err(failure) => failures.add(name, failure),
            }
        }
        wanted
    }
}

pub(super) fn names(wanted: &[WantedCollection]) -> Vec<String> {
    wanted.iter().map(|one| one.name.clone()).collect()
}

/// Documents to load.
pub(super) struct DocumentInput<S> {
    pub(super) sources: Vec<S>,
    /// Their total, if known.
    pub(super) expected: Option<ExpectedWork>,
}

/// Contents of a load's complete tables.
pub(super) struct CompleteTables {
    pub(super) report: LoadedCollection,
    pub(super) started: Instant,
    /// Their position in the oplog; `None` for a copy.
    pub(super) standing: Option<Standing>,
}

/// A load with complete tables that is not swapped in yet.
pub(super) struct FilledLoad<'l> {
    pub(super) load: Load<'l>,
    pub(super) whole: CompleteTables,
    /// The collection whose changes apply; `None` for a copy.
    pub(super) watched: Option<WatchedCollection>,
}

impl FilledLoad<'_> {
    /// Name in MongoDB.
    pub(super) fn name(&self) -> &str {
        &self.whole.report.name
    }
}

impl FillContext<'_> {
    /// Loads the collections one by one and swaps each in, or all of them together. A failure of
    /// one stops the others only if they are swapped in together.
    pub(super) async fn load_all<'l>(
        &self,
        wanted: &'l [WantedCollection],
        together: bool,
        load: impl AsyncFn(&'l WantedCollection) -> Result<FilledLoad<'l>, Failure>,
        align: impl AsyncFn(&mut FilledLoad<'l>) -> Result<(), Failure>,
        loaded: &mut Vec<LoadedCollection>,
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

    /// Aligns these loads and swaps in all, or none: then `Err` says why.
    async fn align_and_swap<'l>(
        &self,
        mut filled: Vec<FilledLoad<'l>>,
        align: &impl AsyncFn(&mut FilledLoad<'l>) -> Result<(), Failure>,
    ) -> Result<Vec<LoadedCollection>, Failure> {
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

    /// Swaps in all or none.
    async fn swap_together<'l>(
        &self,
        filled: Vec<FilledLoad<'l>>,
        align: &impl AsyncFn(&mut FilledLoad<'l>) -> Result<(), Failure>,
        loaded: &mut Vec<LoadedCollection>,
        failures: &mut Failures,
    ) {
        if failures.is_empty() {
            let names = filled.iter().map(FilledLoad::name).collect::<Vec<_>>().join(", ");
            match self.align_and_swap(filled, align).await {
                Ok(swapped) => loaded.extend(swapped),
                Err(failure) => failures.add(names, failure),
            }
            return;
        }
        for each in filled {
            let name = each.name().to_owned();
            let failure = Failure::failed("loaded, but not swapped in: --together means all or none");
            let failure =
                if self.is_resumable { failure.remedy("the next load only has to swap it in") } else { failure };
            self.abandon(each.load, &failure).await;
            failures.add(name, failure);
        }
    }

    /// The load with complete tables, after this `work` on them. A failed load is abandoned.
    pub(super) async fn filled<'l>(
        &self,
        load: Load<'l>,
        watched: Option<WatchedCollection>,
        work: impl AsyncFnOnce(&Load<'l>) -> Result<CompleteTables, Failure>,
    ) -> Result<FilledLoad<'l>, Failure> {
        match self.env.stop.or_done(work(&load)).await {
            Ok(whole) => Ok(FilledLoad { load, whole, watched }),
            Err(failure) => {
                self.abandon(load, &failure).await;
                Err(failure)
            }
        }
    }

    /// Everything from source to keys; `before` is in the tables already.
    pub(super) async fn fill(
        &self,
        load: &Load<'_>,
        name: &str,
        input: DocumentInput<impl RangeSource + 'static>,
        before: Resumed,
    ) -> Result<CompleteTables, Failure> {
        let started = Instant::now();
        let (before, bytes_before) = flow_before(before);
        let done = WorkDone { documents: before.read, bytes: bytes_before, rows: before.written.rows.iter().sum() };
        let counters = Arc::new(Counters::resuming(done));
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
                .remedy("this is a bug in gizer; the live tables are as they were")
        })?;
        let read_now = flow.read;
        let flow = before.and(flow);
        self.build_keys(load, name).await?;
        tracing::debug!(collection = name, took = ?started.elapsed(), "keys built");
        let mut report = LoadedCollection::new(name, load.layout(), flow, counters.bytes(), read_now);
        report.sizes = load.table_sizes().await?;
        Ok(CompleteTables { report, started, standing: None })
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
            // The session holds the collection's lock, without which nothing can be swapped in.
            lost = self.session.ended() => Err(lost.into()),
            flow = filled => flow,
        }
    }

    /// Builds keys, indexes and statistics.
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

    /// Swaps these loads in, all or none. Otherwise they are abandoned; `Err` says why.
    pub(super) async fn swap(&self, mut filled: Vec<FilledLoad<'_>>) -> Result<Vec<LoadedCollection>, Failure> {
        for FilledLoad { whole: CompleteTables { report, started, .. }, .. } in &mut filled {
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
                let report =
                    |CompleteTables { report, started, .. }| LoadedCollection { took: started.elapsed(), ..report };
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

    async fn swap_or_wait(&self, filled: &[FilledLoad<'_>]) -> Result<Swapped, Failure> {
        let settings = SwapSettings { limit: self.env.settings.swap_timeout, ..SwapSettings::default() };
        let mut parts = Vec::new();
        for FilledLoad { load, whole, .. } in filled {
            parts.push(SwapPart { load, ledger: &whole.report.ledger, standing: whole.standing.as_ref() });
        }
        let mut swap = pin!(swap_together(&parts, &settings));
        tokio::select! {
            biased;
            swapped = &mut swap => return Ok(swapped?),
            () = tokio::time::sleep(SWAP_REPORT_AFTER) => {}
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
        let what_helps = if self.is_resumable {
            "fix the schema file, or load with a greater --max-rejects, which resumes from here, or fix the documents \
             and load with --restart"
        } else {
            "fix the schema file, or load with a greater --max-rejects"
        };
        let schema = self.target.schema();
        Failure::failed(message)
            .remedy(format!("SELECT reason, id FROM {schema}.gizer_reject shows some; {what_helps}"))
    }

    /// Records the failed load; if that fails, the next load cleans up.
    pub(super) async fn abandon(&self, load: Load<'_>, failure: &Failure) {
        let interrupted = matches!(failure.kind, FailureKind::Interrupted | FailureKind::Terminated);
        if interrupted {
            // The session's current statement is useless now.
            let _ = self.session.cancel_handle().cancel().await;
        }
        let abandoned =
            tokio::time::timeout(TIDYING_LIMIT, load.abandon(&failure.message, interrupted || failure.passes)).await;
        if matches!(abandoned, Ok(Ok(()))) {
            return;
        }
        tracing::warn!("could not record the failed load; the next run cleans it up");
        if abandoned.is_err() {
            // The row is locked. Waiting for it must not block this session.
            let _ = self.session.cancel_handle().cancel().await;
        }
    }
}

/// Counts and bytes of an earlier run.
fn flow_before(before: Resumed) -> (Flow, u64) {
    let Resumed { rows, bytes, tally, .. } = before;
    let written = Written { rows, documents: tally.loaded, rejected: tally.rejected, ..Written::default() };
    (Flow { read: tally.read, tally, written }, bytes)
}

impl LoadedCollection {
    fn new(name: &str, layout: &Layout, flow: Flow, bytes: u64, read_now: u64) -> LoadedCollection {
        let Flow { tally, written, .. } = flow;
        let tables = layout.tables.iter().map(|table| table.name.clone());
        LoadedCollection {
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
        resync_millis: None,
    }
}
