//! `gizer load`: collections into staging tables, swapped in when they are whole.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gizer_flatten::change::Positions;
use gizer_flatten::{Mismatch, Tally};
use gizer_oplog::{Cluster, Collection, Dump, Oplog, RangeScan, RangeSource, ScanOptions, newest_positions};
use gizer_pg::load::{KeySettings, Load, LoadRequest, LoadSource, SwapSettings, Swapped, Written};
use gizer_pg::state::{self, Ledger, Resumed};
use gizer_pg::{Session, Target};
use gizer_schema::{KeySource, Layout};

use super::load_begin::{begin, identity};
use super::load_report::{CollectionReport, print};
use super::run_row::{RunRow, TIDYING_LIMIT};
use super::{Context, Failures, Layouts, load_dump};
use crate::args::LoadArgs;
use crate::exit::{ExitCode, Failure};
use crate::pipeline::{self, Flow, RejectLimit};
use crate::progress::{Counters, Done, Expected, Progress};
use crate::report;

/// Loads the collections, one after the other. One that cannot be loaded does not keep the others from it.
///
/// # Errors
/// [`Failure`] if there is no schema file at all. What becomes of single collections, or keeps all of them from being
/// loaded, is printed, and the exit code is that of the first failure.
pub async fn run(context: &Context, args: &LoadArgs) -> Result<ExitCode, Failure> {
    let dump = args.dump.as_deref().map(Dump::open).transpose()?;
    if dump.is_some() {
        load_dump::refuse_with_dump("--filter", args.filter.is_some())?;
    }
    let Layouts { usable, mut failures } = match &dump {
        Some(dump) => load_dump::layouts(context, dump, &args.collections)?,
        None => context.layouts(&args.collections)?,
    };
    let mut reports = Vec::new();
    match &dump {
        _ if usable.is_empty() => {}
        Some(dump) => load_dump::load_all(context, args, dump, &usable, &mut reports, &mut failures).await,
        None => load_all(context, args, &usable, &mut reports, &mut failures).await,
    }
    print(context.format, &reports, &failures);
    Ok(failures.exit())
}

async fn load_all(
    context: &Context,
    args: &LoadArgs,
    layouts: &[Layout],
    reports: &mut Vec<CollectionReport>,
    failures: &mut Failures,
) {
    let names = |layouts: &[Layout]| layouts.iter().map(|layout| layout.collection.clone()).collect::<Vec<String>>();
    let (target, cluster, session, oplogs) = match connect(context).await {
        Ok(connected) => connected,
        Err(failure) => return failures.end_run(Some(failure), names(layouts)),
    };
    let run = RunRow::new(&session, &oplogs);
    let job = Job { context, args, cluster: &cluster, oplogs: &oplogs, session: &session, target: &target, run: &run };
    for (i, layout) in layouts.iter().enumerate() {
        match job.load(layout).await {
            Ok(report) => reports.push(report),
            Err(failure) => {
                let ends_run = failure.ends_run;
                failures.add(&layout.collection, failure);
                if ends_run {
                    failures.end_run(None, names(&layouts[i + 1..]));
                    break;
                }
            }
        }
    }
    if let Err(failure) = run.close(reports, failures).await {
        failures.end_run(Some(failure), None);
    }
}

/// Everything that is needed before the first collection: both servers, the oplogs, the state tables.
async fn connect(context: &Context) -> Result<(Target, Cluster, Session, Vec<Oplog>), Failure> {
    let target = context.target()?;
    let connect = async {
        let (cluster, session) = tokio::try_join!(context.mongo(), context.postgres())?;
        let oplogs = cluster.oplogs().await?;
        state::prepare(&session).await?;
        Ok((cluster, session, oplogs))
    };
    let (cluster, session, oplogs) = context.signals.unless_interrupted(connect).await?;
    Ok((target, cluster, session, oplogs))
}

/// When somebody is told that a swap waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all collections of one load share.
pub(super) struct Job<'j, 's> {
    pub(super) context: &'j Context,
    pub(super) args: &'j LoadArgs,
    pub(super) cluster: &'j Cluster,
    oplogs: &'j [Oplog],
    pub(super) session: &'j Session,
    target: &'j Target,
    run: &'j RunRow<'s>,
}

impl Job<'_, '_> {
    fn steps(&self) -> Steps<'_> {
        let Job { context, session, target, args, .. } = *self;
        Steps { context, session, target, max_rejects: args.max_rejects }
    }

    async fn load(&self, layout: &Layout) -> Result<CollectionReport, Failure> {
        let signals = &self.context.signals;
        let look = async {
            let collection = self.cluster.collection(&layout.collection).await?;
            // Before the first document is read: whatever changes from here on is in the oplog after it.
            Ok((collection, newest_positions(self.oplogs).await?))
        };
        let (collection, captured) = signals.unless_interrupted(look).await?;
        let namespace = self.cluster.namespace(&collection.name);
        let identity = identity(&collection, self.args.filter.as_ref());
        let request = LoadRequest {
            layout,
            namespace: Some(&namespace),
            uuid: collection.sources.iter().flatten().find_map(|source| source.uuid),
            source: self.source_of(layout, captured),
            resumable_as: Some(&identity),
        };
        let begin = self.begin(request, &collection);
        let (load, plan) = signals.unless_interrupted(begin).await?;
        let work = async {
            self.run.open().await?;
            self.steps().fill_and_swap(&load, layout, self.input(&collection, &plan)?, plan).await
        };
        match signals.unless_interrupted(work).await {
            Ok(report) => Ok(report),
            Err(failure) => {
                self.steps().abandon(load, &failure).await;
                Err(failure)
            }
        }
    }

    /// What can be done later with what is loaded.
    fn source_of(&self, layout: &Layout, captured: Positions) -> LoadSource {
        let copy = |reason: &str| LoadSource::Copy { reason: reason.to_owned() };
        match (layout.key.source, &self.args.filter) {
            (_, Some(_)) => copy("it was loaded with --filter, so that it is only a part of the collection"),
            (KeySource::Id, None) => copy("its schema has no _id, without which changes cannot be followed"),
            (KeySource::UnderscoreId, None) => LoadSource::Followable { captured },
        }
    }

    async fn begin<'l>(
        &'l self,
        request: LoadRequest<'l>,
        collection: &Collection,
    ) -> Result<(Load<'l>, Resumed), Failure> {
        match begin(self, request, collection).await {
            Ok(begun) => Ok(begun),
            Err(failure) => {
                if failure.exit != ExitCode::Locked && !failure.ends_run {
                    // What stands in the way is for monitors to see. The failure itself counts more than this one's.
                    if let Err(error) = self.run.open().await {
                        tracing::warn!(%error, "the run has no row");
                    }
                }
                Err(failure)
            }
        }
    }

    /// What is left to read of a collection.
    fn input(&self, collection: &Collection, plan: &Resumed) -> Result<Input<RangeScan>, Failure> {
        let config = &self.context.config;
        let options = ScanOptions {
            batch_bytes: pipeline::range_bytes(config.memory),
            filter: self.args.filter.clone(),
            ..ScanOptions::default()
        };
        let segments = plan.segments.clone();
        // What a filter leaves of it is not known.
        let expected = collection.size().filter(|_| self.args.filter.is_none()).map(|size| size.documents);
        Ok(Input {
            sources: RangeScan::cursors(self.cluster, collection, segments, options, config.load_workers)?,
            expected: expected.map(Expected::Documents),
        })
    }
}

/// Documents on their way.
pub(super) struct Input<S> {
    pub(super) sources: Vec<S>,
    /// An estimate.
    pub(super) expected: Option<Expected>,
}

/// What is the same wherever the documents come from.
pub(super) struct Steps<'j> {
    pub(super) context: &'j Context,
    pub(super) session: &'j Session,
    pub(super) target: &'j Target,
    pub(super) max_rejects: u64,
}

impl Steps<'_> {
    pub(super) async fn fill_and_swap(
        &self,
        load: &Load<'_>,
        layout: &Layout,
        input: Input<impl RangeSource + 'static>,
        plan: Resumed,
    ) -> Result<CollectionReport, Failure> {
        let started = Instant::now();
        let before = Flow {
            read: plan.tally.read,
            written: Written {
                rows: plan.rows,
                documents: plan.tally.loaded,
                rejected: plan.tally.rejected,
                ..Written::default()
            },
            tally: plan.tally,
        };
        let (flow, counters) = self.fill(load, layout, input, &before, plan.bytes).await?;
        flow.check().map_err(|counts| {
            Failure::failed(format!("the counts of {} do not add up: {counts}", layout.collection))
                .remedy("this is a fault in gizer; the live tables are as they were")
        })?;
        let read = flow.read;
        let flow = before.and(flow);
        self.build_keys(load).await?;
        let ledger = ledger(layout, &flow.tally, &flow.written);
        let swapped = self.swap(load, layout, &ledger).await?;
        tell_dropped(&swapped);
        Ok(CollectionReport {
            name: layout.collection.clone(),
            mismatches: flow.tally.mismatches(layout),
            ledger,
            tables: layout
                .tables
                .iter()
                .map(|table| table.name.clone())
                .zip(flow.written.rows.iter().copied())
                .collect(),
            unknown: flow.tally.unknown_fields().into_iter().map(|(path, count)| (path.to_owned(), count)).collect(),
            unknown_beyond: flow.tally.unknown_beyond(),
            bytes: counters.bytes(),
            read_now: read,
            took: started.elapsed(),
            written: flow.written,
        })
    }

    /// Everything from the source to the staging tables.
    async fn fill(
        &self,
        load: &Load<'_>,
        layout: &Layout,
        input: Input<impl RangeSource + 'static>,
        before: &Flow,
        bytes_before: u64,
    ) -> Result<(Flow, Arc<Counters>), Failure> {
        let config = &self.context.config;
        let rejects = Arc::new(RejectLimit::new(self.max_rejects, before.tally.rejected));
        if rejects.exceeded() {
            return Err(self.too_many_rejects(&layout.collection, &rejects));
        }
        let mut sinks = Vec::new();
        for _ in 0..config.load_workers {
            sinks.push(load.sink(gizer_pg::connect(self.target).await?)?);
        }
        let done = Done { documents: before.read, bytes: bytes_before, rows: before.written.rows.iter().sum() };
        let counters = Arc::new(Counters::going_on(done));
        let Input { sources, expected } = input;
        let progress = Progress::start(&layout.collection, Arc::clone(&counters), expected);
        let filled = pipeline::load(layout, sources, sinks, config.memory, &rejects, &counters);
        let flow = tokio::select! {
            // It holds the collection's lock: without it nothing that is filled could be swapped in.
            lost = self.session.ended() => return Err(lost.into()),
            flow = filled => flow?,
        };
        drop(progress);
        if rejects.exceeded() {
            return Err(self.too_many_rejects(&layout.collection, &rejects));
        }
        Ok((flow, counters))
    }

    pub(super) async fn build_keys(&self, load: &Load<'_>) -> Result<(), Failure> {
        let mut sessions = Vec::new();
        for _ in 0..self.context.config.load_workers {
            sessions.push(gizer_pg::connect(self.target).await?);
        }
        let sessions: Vec<&Session> = sessions.iter().collect();
        Ok(load.build_keys(&sessions, KeySettings::default()).await?)
    }

    pub(super) async fn swap(&self, load: &Load<'_>, layout: &Layout, ledger: &Ledger) -> Result<Swapped, Failure> {
        let settings = SwapSettings { limit: self.context.config.swap_timeout, ..SwapSettings::default() };
        let mut swap = pin!(load.swap(&settings, ledger, None));
        tokio::select! {
            biased;
            swapped = &mut swap => return Ok(swapped?),
            () = tokio::time::sleep(PATIENCE) => {}
        }
        report::note(format!(
            "{}: loaded; waiting for readers of the live tables to finish, for {} s at most (load.swap_timeout)",
            layout.collection,
            settings.limit.as_secs()
        ));
        Ok(swap.await?)
    }

    fn too_many_rejects(&self, collection: &str, rejects: &RejectLimit) -> Failure {
        let first = rejects.first_reason().map(|first| format!(" (the first: {first})")).unwrap_or_default();
        let message = format!(
            "more than {} of {} rejected, which is what --max-rejects allows{first}: the load was stopped, nothing is \
             swapped in",
            report::counted(self.max_rejects, "document", "documents"),
            collection,
        );
        Failure::failed(message).remedy(format!(
            "SELECT reason, id FROM {}.gizer_reject shows some; mend the schema file, or load with a greater --max-rejects, \
             which goes on from here, or mend the documents and load with --restart",
            self.context.config.postgres_schema
        ))
    }

    /// Writes down that the load failed; what cannot be written any more, the next load puts right.
    pub(super) async fn abandon(&self, load: Load<'_>, failure: &Failure) {
        if matches!(failure.exit, ExitCode::Interrupted | ExitCode::Terminated) {
            // Whatever the session was doing for the load is of no use any more.
            let _ = self.session.cancel_handle().cancel().await;
        }
        let abandoned = tokio::time::timeout(TIDYING_LIMIT, load.abandon(&failure.message)).await;
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

/// Says which tables are there no longer.
pub(super) fn tell_dropped(swapped: &Swapped) {
    if !swapped.dropped.is_empty() {
        report::note(format!("dropped, no longer in the schema: {}", swapped.dropped.join(", ")));
    }
}

pub(super) fn ledger(layout: &Layout, tally: &Tally, written: &Written) -> Ledger {
    let unfit = |mismatch: Mismatch| (mismatch.classic_warning(&layout.collection), mismatch.count);
    Ledger {
        read: tally.read,
        loaded: tally.loaded,
        rejected: tally.rejected,
        filtered: 0,
        rows: layout.tables.iter().map(|table| table.name.clone()).zip(written.rows.iter().copied()).collect(),
        unfit: tally.mismatches(layout).into_iter().map(unfit).collect(),
    }
}
