//! `gizer load`: collections into staging tables, swapped in when they are whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gizer_flatten::change::{Position, Positions};
use gizer_flatten::{Mismatch, Tally};
use gizer_oplog::{Cluster, Collection, CollectionScan, Oplog, ScanOptions, newest_positions};
use gizer_pg::load::{KeySettings, Load, LoadRequest, LoadSource, SwapSettings, Written};
use gizer_pg::state::{self, Ledger, Run, RunKind, RunOutcome};
use gizer_pg::{PgError, Session, Target};
use gizer_schema::{KeySource, Layout};

use super::Context;
use super::load_report::{CollectionReport, print};
use crate::args::LoadArgs;
use crate::exit::{ExitCode, Failure};
use crate::pipeline::{self, Flow};
use crate::progress::{Counters, Progress};
use crate::report;

/// Loads the collections, one after the other.
///
/// # Errors
/// [`Failure`] of the first collection that could not be loaded; those before it are loaded, those after it are not.
pub async fn run(context: &Context, args: &LoadArgs) -> Result<ExitCode, Failure> {
    let layouts = context.layouts(&args.collections)?;
    let target = context.target()?;
    let signals = &context.signals;
    let connect = async { tokio::try_join!(context.mongo(), context.postgres()) };
    let (cluster, session) = signals.unless_interrupted(connect).await?;
    let prepare = prepare(&cluster, &session, &layouts);
    let (oplogs, collections) = signals.unless_interrupted(prepare).await?;
    let (run, positions) = signals.unless_interrupted(start_run(&session, &oplogs)).await?;

    let job = Job { context, args, cluster: &cluster, oplogs: &oplogs, session: &session, target: &target };
    let mut reports = Vec::new();
    let mut failure = None;
    for (layout, collection) in layouts.iter().zip(&collections) {
        match job.load(layout, collection).await {
            Ok(report) => reports.push(report),
            Err(failed) => {
                failure = Some(failed);
                break;
            }
        }
    }
    tracing::info!(collections = reports.len(), ?positions, "load ended");
    close_run(run, &session, &reports, failure.as_ref()).await?;
    print(context.format, &reports, failure.as_ref());
    match failure {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::Done),
    }
}

/// What must hold before anything is written: the oplogs can be read, every collection is there.
async fn prepare(
    cluster: &Cluster,
    session: &Session,
    layouts: &[Layout],
) -> Result<(Vec<Oplog>, Vec<Collection>), Failure> {
    let oplogs = cluster.oplogs().await?;
    let mut collections = Vec::new();
    for layout in layouts {
        collections.push(cluster.collection(&layout.collection).await?);
    }
    state::prepare(session).await?;
    Ok((oplogs, collections))
}

async fn start_run<'s>(session: &'s Session, oplogs: &[Oplog]) -> Result<(Run<'s>, Positions), Failure> {
    let positions = newest_positions(oplogs).await?;
    let followed = state::read_status(session, 0).await?.is_some_and(|status| status.applied);
    let kind = if followed { RunKind::OplogResync } else { RunKind::InitLoad };
    let shards = positions.iter().map(|(shard, at): (&String, &Position)| (shard.clone(), Some(*at))).collect();
    Ok((Run::start(session, kind, &shards).await?, positions))
}

/// How long a failed load tries to leave everything in order: an operator who has pressed Ctrl-C waits for it.
const TIDYING_LIMIT: Duration = Duration::from_secs(5);

/// Closes the run's row. After a failure, what cannot be written any more the next run puts right.
async fn close_run(
    run: Run<'_>,
    session: &Session,
    reports: &[CollectionReport],
    failure: Option<&Failure>,
) -> Result<(), Failure> {
    let records = reports.iter().map(|report| report.ledger.loaded).sum();
    let queries = reports.iter().map(|report| report.written.copies).sum();
    let Some(failure) = failure else {
        return Ok(run.finish(&RunOutcome::Done { records, queries }).await?);
    };
    let closed = tokio::time::timeout(TIDYING_LIMIT, close_failed(run, session, failure)).await;
    if !matches!(closed, Ok(Ok(()))) {
        tracing::warn!("the run's row stays open; the next run closes it");
    }
    Ok(())
}

/// A load is due only where no collection has tables of an earlier one.
async fn close_failed(run: Run<'_>, session: &Session, failure: &Failure) -> Result<(), PgError> {
    let reason = failure.message.clone();
    let status = state::read_status(session, 0).await?;
    let any_live = status.is_some_and(|status| status.collections.iter().any(|collection| collection.live));
    let outcome = if any_live { RunOutcome::Failed { reason } } else { RunOutcome::LoadDue { reason } };
    run.finish(&outcome).await
}

/// What all collections of one load share.
struct Job<'j> {
    context: &'j Context,
    args: &'j LoadArgs,
    cluster: &'j Cluster,
    oplogs: &'j [Oplog],
    session: &'j Session,
    target: &'j Target,
}

impl Job<'_> {
    async fn load(&self, layout: &Layout, collection: &Collection) -> Result<CollectionReport, Failure> {
        let signals = &self.context.signals;
        let namespace = self.cluster.namespace(&collection.name);
        // Before the first document is read: whatever changes from here on is in the oplog after it.
        let captured = signals.unless_interrupted(async { Ok(newest_positions(self.oplogs).await?) }).await?;
        let source = match layout.key.source {
            KeySource::UnderscoreId => LoadSource::Followable { captured },
            KeySource::Id => LoadSource::Copy {
                reason: "its schema has no _id, without which changes cannot be followed".to_owned(),
            },
        };
        let uuid = collection.sources.iter().flatten().find_map(|source| source.uuid);
        let request = LoadRequest { layout, namespace: Some(&namespace), uuid, source };
        let load = Load::begin(self.session, request).await?;
        match signals.unless_interrupted(self.fill_and_swap(&load, layout, collection)).await {
            Ok(report) => Ok(report),
            Err(failure) => {
                self.abandon(load, &failure).await;
                Err(failure)
            }
        }
    }

    async fn fill_and_swap(
        &self,
        load: &Load<'_>,
        layout: &Layout,
        collection: &Collection,
    ) -> Result<CollectionReport, Failure> {
        let started = Instant::now();
        let (flow, counters) = self.fill(load, layout, collection).await?;
        flow.check(counters.documents()).map_err(|counts| {
            Failure::failed(format!("the counts of {} do not add up: {counts}", collection.name))
                .remedy("this is a fault in gizer; the live tables are as they were")
        })?;
        self.check_rejects(collection, &flow)?;
        self.build_keys(load).await?;
        let ledger = ledger(layout, &flow.tally, &flow.written);
        let swapped = load.swap(&SwapSettings::default(), &ledger, None).await?;
        if !swapped.dropped.is_empty() {
            report::note(format!("dropped, no longer in the schema: {}", swapped.dropped.join(", ")));
        }
        Ok(CollectionReport {
            name: collection.name.clone(),
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
            took: started.elapsed(),
            written: flow.written,
        })
    }

    /// Everything from the source to the staging tables.
    async fn fill(
        &self,
        load: &Load<'_>,
        layout: &Layout,
        collection: &Collection,
    ) -> Result<(Flow, Arc<Counters>), Failure> {
        let config = &self.context.config;
        let mut sinks = Vec::new();
        for _ in 0..config.load_workers {
            sinks.push(load.sink(gizer_pg::connect(self.target).await?)?);
        }
        let batch_bytes = pipeline::batch_bytes(config.memory);
        let scan =
            CollectionScan::new(self.cluster, collection, ScanOptions { batch_bytes, ..ScanOptions::default() })?;
        let counters = Arc::new(Counters::default());
        let expected = collection.size().map(|size| size.documents);
        let progress = Progress::start(&collection.name, Arc::clone(&counters), expected);
        let flow = pipeline::load(layout, scan, sinks, config.load_workers, config.memory, &counters).await?;
        drop(progress);
        Ok((flow, counters))
    }

    async fn build_keys(&self, load: &Load<'_>) -> Result<(), Failure> {
        let mut sessions = Vec::new();
        for _ in 0..self.context.config.load_workers {
            sessions.push(gizer_pg::connect(self.target).await?);
        }
        let sessions: Vec<&Session> = sessions.iter().collect();
        Ok(load.build_keys(&sessions, KeySettings::default()).await?)
    }

    fn check_rejects(&self, collection: &Collection, flow: &Flow) -> Result<(), Failure> {
        let rejected = flow.tally.rejected;
        if rejected <= self.args.max_rejects {
            return Ok(());
        }
        let documents = report::counted(rejected, "document", "documents");
        let message = format!(
            "{documents} of {} rejected, more than the {} of --max-rejects: not swapped in",
            collection.name, self.args.max_rejects
        );
        Err(Failure::failed(message).remedy(format!(
            "SELECT reason, id FROM {}.gizer_reject shows them; mend the schema file, or give --max-rejects {rejected}",
            self.context.config.postgres_schema
        )))
    }

    /// Writes down that the load failed; what cannot be written any more, the next load puts right.
    async fn abandon(&self, load: Load<'_>, failure: &Failure) {
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

fn ledger(layout: &Layout, tally: &Tally, written: &Written) -> Ledger {
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
