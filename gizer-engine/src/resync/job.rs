//! The resync of one collection after the other.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gizer_flatten::change::Positions;
use gizer_oplog::{Cluster, Collection, MongoError, Oplog, WatchedCollection, newest_positions};
use gizer_pg::load::{LoadRequest, LoadSource, Resync, SwapSettings};
use gizer_pg::rows::{RowStore, WhichTables};
use gizer_pg::state::{self, AuditSegment, CollectionState, Standing, UnfinishedResync};
use gizer_pg::{PgError, Session};
use gizer_schema::{KeySource, Layout};

use super::counts::{ResyncReport, resynced};
use super::worker::{CountedSegment, Pass, work};
use super::{ResyncOptions, ResyncedCollection};
use crate::audit::{self, Audit, AuditReaders, AuditTables, AuditTarget, Extent, KEYS_OF_TABLES, on_threads, workers};
use crate::counters::{Counters, ExpectedWork, WorkDone};
use crate::due::record_failures;
use crate::env::Env;
use crate::fail_point::fail_point;
use crate::failure::{Failure, FailureKind};
use crate::failures::Failures;
use crate::follow::{self, SyncOptions};
use crate::load::{Alignment, LoadRunRow, TIDYING_LIMIT, drop_leftovers, identity};
use crate::notice::Notice;
use crate::observer::Activity;
use crate::retry::Retry;
use crate::spool::{Capture, end_capture, start_capture};
use crate::wording::command;

/// How often a resync starts over because its collection was dropped, created or renamed.
const MAX_ATTEMPTS: usize = 5;

/// Resyncs the collections; one that lost a server is resumed if the server comes back in time.
pub(super) async fn resync_all(
    env: &Env,
    options: &ResyncOptions,
    wanted: Vec<Layout>,
    resynced: &mut Vec<ResyncedCollection>,
    failures: &mut Failures,
) {
    let (mut retry, mut options, mut begun, mut left) = (Retry::once(env), options.clone(), false, wanted);
    loop {
        let (before, mut attempt) = (resynced.len(), Failures::default());
        attempt_all(env, &options, &left, &mut begun, resynced, &mut attempt).await;
        if resynced.len() > before {
            retry.reset();
        }
        let all = attempt.clone();
        match attempt.take_passing() {
            Some((failure, names)) if begun && retry.wait(env, &failure).await => {
                left.retain(|layout| names.contains(&layout.collection));
                options.restart = false;
                failures.extend(attempt);
            }
            _ => return failures.extend(all),
        }
    }
}

/// `begun` is set once both servers answered.
async fn attempt_all(
    env: &Env,
    options: &ResyncOptions,
    wanted: &[Layout],
    begun: &mut bool,
    resynced: &mut Vec<ResyncedCollection>,
    failures: &mut Failures,
) {
    let names = |wanted: &[Layout]| wanted.iter().map(|layout| layout.collection.clone()).collect::<Vec<_>>();
    let connect = async {
        let (cluster, session) = tokio::try_join!(env.mongo(), env.postgres())?;
        let oplogs = cluster.oplogs().await?;
        state::prepare(&session).await?;
        Ok((cluster, session, oplogs))
    };
    let (cluster, session, oplogs) = match env.stop.or_done(connect).await {
        Ok(connected) => connected,
        Err(failure) => return failures.end_run(Some(failure), names(wanted)),
    };
    *begun = true;
    let capture = match start_capture(env, &session, &oplogs, &names(wanted), options.restart).await {
        Ok(capture) => capture,
        Err(failure) => return failures.end_run(Some(failure), names(wanted)),
    };
    let run = LoadRunRow::of_resync(&session, &oplogs);
    let (cluster, oplogs) = (&cluster, &oplogs);
    let job = ResyncJob { env, options, cluster, oplogs, session: &session, run: &run, capture };
    for (at, layout) in wanted.iter().enumerate() {
        match job.collection(layout).await {
            Ok(done) => resynced.push(done),
            Err(failure) => {
                let ends_run = failure.ends_run;
                // It is named next to its failure.
                let named = format!("{}: ", layout.collection);
                let message = failure.message.strip_prefix(&named).unwrap_or(&failure.message).to_owned();
                failures.add(&layout.collection, Failure { message, ..failure });
                if ends_run {
                    failures.end_run(None, names(&wanted[at + 1..]));
                    break;
                }
            }
        }
    }
    end_capture(env, &session, job.capture).await;
    if !resynced.is_empty() {
        // A load may have been interrupted before.
        drop_leftovers(env, &session).await;
    }
    record_outcome(env, &session, resynced, failures).await;
    let work = (resynced.iter().map(|each| each.ledger.read).sum(), resynced.iter().map(rows_written).sum());
    if let Err(failure) = run.close(work, failures).await {
        failures.end_run(Some(failure), None);
    }
}

fn rows_written(each: &ResyncedCollection) -> u64 {
    each.written.inserted + each.written.updated + each.written.deleted
}

/// Records obstacles of collections, and clears those of resynced ones.
async fn record_outcome(env: &Env, session: &Session, resynced: &[ResyncedCollection], failures: &Failures) {
    if env.stop.is_asked() {
        return;
    }
    for ResyncedCollection { name, .. } in resynced {
        if let Err(error) = state::clear_obstacle(session, name).await {
            tracing::warn!(%error, "that {name} is resynced could not be recorded");
            return;
        }
    }
    record_failures(session, failures.by_collection()).await;
}

/// Shared by all collections of one resync.
struct ResyncJob<'j, 's> {
    env: &'j Env,
    options: &'j ResyncOptions,
    cluster: &'j Cluster,
    oplogs: &'j [Oplog],
    session: &'j Session,
    run: &'j LoadRunRow<'s>,
    capture: Option<Capture>,
}

/// A collection with what is compared of it.
struct Source {
    collection: Collection,
    watched: WatchedCollection,
    /// Where each shard was before it was looked for: what becomes of it later is in the oplog after that.
    captured: Positions,
}

impl ResyncJob<'_, '_> {
    /// Resyncs one collection; over again if it was dropped, created or renamed meanwhile.
    async fn collection(&self, layout: &Layout) -> Result<ResyncedCollection, Failure> {
        let name = &layout.collection;
        let may_be_empty = self.options.empties_gone && self.has_tables(name).await?;
        let mut source = self.env.stop.or_done(self.source(name, may_be_empty)).await?;
        for attempt in 1.. {
            let failure = match Box::pin(self.attempt(layout, &source, attempt == 1)).await {
                Err(failure) if !failure.ends_run && attempt < MAX_ATTEMPTS => failure,
                outcome => return outcome,
            };
            // It was there, so that it is gone by now is known.
            let now = self.env.stop.or_done(self.source(name, true)).await?;
            // Renamed away and back it is the same one.
            if !is_replaced(name, &failure) && audit::same_uuids(&now.watched.uuids, &source.watched.uuids) {
                return Err(failure);
            }
            self.env.notice(&Notice::ResyncStartsOver { collection: name.clone() });
            source = now;
        }
        unreachable!("the last attempt returns")
    }

    /// The collection in MongoDB; an empty one if it is gone and its tables may be emptied.
    async fn source(&self, name: &str, may_be_empty: bool) -> Result<Source, Failure> {
        let captured = newest_positions(self.oplogs).await?;
        let collection = match self.cluster.collection(name).await {
            Err(MongoError::NoSuchCollection { .. } | MongoError::NoSuchDatabase { .. }) if may_be_empty => {
                self.env.notice(&Notice::Emptied { collection: name.to_owned() });
                self.cluster.absent_collection(name)
            }
            found => found?,
        };
        let uuids = self.cluster.uuids(&collection, self.oplogs);
        let watched = WatchedCollection { namespace: self.cluster.namespace(name), uuids };
        Ok(Source { collection, watched, captured })
    }

    /// Whether the collection has tables that were followed.
    async fn has_tables(&self, name: &str) -> Result<bool, Failure> {
        let status = state::read_status(self.session, 0).await?.unwrap_or_default();
        let followed = |state| matches!(state, CollectionState::Following | CollectionState::LoadDue);
        Ok(status.collections.iter().any(|known| known.collection == name && known.live && followed(known.state)))
    }

    async fn attempt(&self, layout: &Layout, source: &Source, is_first: bool) -> Result<ResyncedCollection, Failure> {
        if layout.key.source == KeySource::Id {
            let message = "its schema has no _id, without which changes cannot be followed";
            return Err(Failure::usage(message).remedy(command("load", [&layout.collection], &[])));
        }
        if state::unfinished_version(self.session, &layout.collection).await?.is_some() {
            let message = format!("the schema of {} has begun to grow", layout.collection);
            return Err(Failure::failed(message).remedy("run `gizer schema evolve`, which finishes it, then resync"));
        }
        let started = Instant::now();
        let (resync, captured, segments, resumed) = self.env.stop.or_done(self.begin(layout, source, is_first)).await?;
        let work = async {
            self.run.open().await?;
            fail_point("resync.begun");
            tokio::select! {
                // The session holds the collection's lock.
                lost = self.session.ended() => Err(lost.into()),
                done = self.bring_up(&resync, source, captured, segments) => done,
            }
        };
        let (report, standing) = match self.env.stop.or_done(work).await {
            Ok(done) => done,
            Err(failure) => {
                self.abandon(resync, &failure).await;
                return Err(failure);
            }
        };
        let mut done = resynced(layout, report, resumed);
        done.took = started.elapsed();
        done.ledger.millis = self.millis_of_load(&done).await?;
        done.ledger.resync_millis = (resumed == 0).then(|| millis(done.took));
        fail_point("resync.before_finish");
        resync.finish(&done.ledger, &standing).await?;
        state::note_verified(self.session, &layout.collection).await?;
        Ok(done)
    }

    /// Starts or resumes; returns what is left to do, and how many documents were done before.
    async fn begin<'l>(
        &'l self,
        layout: &'l Layout,
        source: &Source,
        is_first: bool,
    ) -> Result<(Resync<'l>, Positions, Vec<CountedSegment>, u64), Failure> {
        let captured = source.captured.clone();
        let mut request = LoadRequest {
            layout,
            namespace: Some(source.watched.namespace.clone()),
            uuids: source.watched.uuids.clone(),
            source: LoadSource::Followable { captured: captured.clone() },
            resumable_as: Some(identity(&source.collection, None)),
        };
        if is_first && let Some(unfinished) = self.earlier(&request).await? {
            request.source = LoadSource::Followable { captured: unfinished.captured.clone() };
            let segments = counted(&unfinished, layout)?;
            let documents = segments.iter().map(|(_, report)| report.found.documents).sum();
            let resync = Resync::resume(self.session, request, &unfinished).await?;
            self.env.notice(&Notice::ResyncResumes { collection: layout.collection.clone(), documents });
            return Ok((resync, unfinished.captured, segments, documents));
        }
        let settings = SwapSettings { limit: self.env.settings.swap_timeout, ..SwapSettings::default() };
        let resync = Resync::begin(self.session, request, &settings).await.map_err(|error| {
            let is_for_a_load = matches!(error, PgError::NotAdopted { .. });
            let failure = Failure::from(error);
            let load = command("load", [&layout.collection], &[]);
            let remedy = Some(format!("`{load}` makes new tables"));
            if is_for_a_load { Failure { kind: FailureKind::LoadDue, remedy, ..failure } } else { failure }
        })?;
        let segments = self.plan(layout, source).await?;
        resync.plan(&segments).await?;
        let segments = segments.into_iter().map(|segment| (segment, ResyncReport::new(layout))).collect();
        Ok((resync, captured, segments, 0))
    }

    /// An interrupted resync that can be resumed.
    async fn earlier(&self, request: &LoadRequest<'_>) -> Result<Option<UnfinishedResync>, Failure> {
        let Some(unfinished) = Resync::earlier(self.session, request).await? else { return Ok(None) };
        let over = |why: &str| {
            let (collection, why) = (request.layout.collection.clone(), why.to_owned());
            self.env.notice(&Notice::StartsOver { collection, why });
            Ok(None)
        };
        if self.options.restart {
            return over("--restart discards what an interrupted resync has done");
        }
        let reaches = match &self.capture {
            Some(capture) => capture.still_reaches(self.oplogs, &unfinished.captured).await?,
            None => false,
        };
        if !reaches || self.oplogs.iter().any(|oplog| !unfinished.captured.contains_key(oplog.name())) {
            return over("neither the oplog nor its spool reaches back to the start of the interrupted resync");
        }
        Ok(Some(unfinished))
    }

    async fn plan(&self, layout: &Layout, source: &Source) -> Result<Vec<AuditSegment>, Failure> {
        if source.watched.uuids.is_empty() {
            // There are no documents: all rows go at once.
            return Ok(vec![AuditSegment::default()]);
        }
        let order = self.audit(layout, source, 0).order;
        audit::plan(self.cluster, &source.collection, layout, order, Extent::Full).await
    }

    fn audit(&self, layout: &Layout, source: &Source, epoch: i64) -> Audit {
        let target = AuditTarget {
            layout: Arc::new(layout.clone()),
            watched: source.watched.clone(),
            tables: AuditTables::Live(epoch),
        };
        let settings = follow::audit_settings(self.env, self.cluster);
        Audit {
            named: self.options.named,
            ..Audit::of(settings, self.oplogs, target, Some(&source.collection), Extent::Full)
        }
    }

    /// Makes all rows equal to the documents, each as of some time, and then all as of one.
    async fn bring_up(
        &self,
        resync: &Resync<'_>,
        source: &Source,
        captured: Positions,
        segments: Vec<CountedSegment>,
    ) -> Result<(ResyncReport, Standing), Failure> {
        let layout = resync.layout();
        let report = if source.watched.uuids.is_empty() {
            self.empty(resync, segments).await?
        } else {
            self.pass(resync, source, &captured, segments).await?
        };
        fail_point("resync.before_align");
        let progress = self.env.observer.begin(Activity::step(&layout.collection, "catching up with the oplog"));
        let alignment = Alignment {
            env: self.env,
            cluster: self.cluster,
            oplogs: self.oplogs,
            session: self.session,
            capture: self.capture.as_ref(),
            fence: resync.fence(),
            layout,
            tables: WhichTables::Live,
            watched: &source.watched,
        };
        let standing =
            Box::pin(alignment.run(captured)).await.map_err(|failure| rolled_over(&layout.collection, failure))?;
        drop(progress);
        Ok((report, standing))
    }

    /// Compares and writes, several segments at once; the tables' keys come last.
    async fn pass(
        &self,
        resync: &Resync<'_>,
        source: &Source,
        captured: &Positions,
        segments: Vec<CountedSegment>,
    ) -> Result<ResyncReport, Failure> {
        let layout = resync.layout();
        let (mut sum, mut open, mut keys) = (ResyncReport::new(layout), Vec::new(), Vec::new());
        let before = WorkDone {
            documents: segments.iter().map(|(_, report)| report.found.documents).sum(),
            bytes: segments.iter().map(|(_, report)| report.bytes).sum(),
            rows: segments.iter().map(|(_, report)| report.found.rows).sum(),
        };
        for (segment, report) in segments {
            match segment.number {
                _ if segment.done => sum.add(report, self.options.named),
                KEYS_OF_TABLES => keys.push((segment, report)),
                _ => open.push((segment, report)),
            }
        }
        let counters = Arc::new(Counters::resuming(before));
        let expected = source.collection.size().map(|size| ExpectedWork::Documents(size.documents));
        let _progress = self.env.observer.begin(Activity::counted(&layout.collection, &counters, expected));
        let settings = follow::settings(self.env, SyncOptions::default());
        let pass = Pass {
            audit: Audit { counters, ..self.audit(layout, source, resync.fence().load_epoch) },
            fence: resync.fence().clone(),
            from: captured.values().map(|position| position.time()).max().unwrap_or_default(),
            checks: settings.checks,
            refusals_left: Arc::new(AtomicU64::new(settings.max_rejects)),
            turns: Arc::default(),
        };
        for part in [open, keys] {
            let count = workers(self.env.settings.load_workers).min(part.len());
            let queue = Arc::new(Mutex::new(VecDeque::from(part)));
            let readers = (0..count).map(|_| AuditReaders::new(self.cluster, self.oplogs)).collect();
            let (pass, env) = (pass.clone(), self.env.clone());
            let running =
                on_threads(readers, move |readers| work(env.clone(), pass.clone(), readers, Arc::clone(&queue)));
            let mut done: Vec<CountedSegment> = running.await?.into_iter().flatten().collect();
            // Sorted, so that timing does not decide which differences are named.
            done.sort_by_key(|(segment, _)| segment.number);
            done.into_iter().for_each(|(_, report)| sum.add(report, self.options.named));
        }
        Ok(sum)
    }

    /// Empties the tables of a collection that is gone.
    async fn empty(&self, resync: &Resync<'_>, segments: Vec<CountedSegment>) -> Result<ResyncReport, Failure> {
        let layout = Arc::new(resync.layout().clone());
        let mut report = ResyncReport::new(&layout);
        let Some((mut segment, _)) = segments.into_iter().next() else { return Ok(report) };
        let mut store = RowStore::open(self.session, &layout, WhichTables::Live).await?;
        segment.done = true;
        let empty = async {
            let deleted = store.empty().await?;
            let counts = gizer_pg::state::ResyncCounts { differed: deleted, ..Default::default() };
            state::save_resync(self.session, resync.fence(), &state::ResyncSegment { segment, counts }).await?;
            Ok(deleted)
        };
        report.written.deleted = self.session.in_transaction(empty).await?;
        Ok(report)
    }

    /// How long a load would take by the last one, scaled to the documents that there are now.
    async fn millis_of_load(&self, done: &ResyncedCollection) -> Result<Option<u64>, Failure> {
        let status = state::read_status(self.session, 0).await?.unwrap_or_default();
        let known = status.collections.into_iter().find(|known| known.collection == done.name);
        let Some(ledger) = known.and_then(|known| known.ledger).filter(|ledger| ledger.read > 0) else {
            return Ok(None);
        };
        Ok(ledger.millis.map(|millis| (millis as f64 * done.ledger.read as f64 / ledger.read as f64) as u64))
    }

    /// Records why it has ended; if that fails, the next run cleans up.
    async fn abandon(&self, resync: Resync<'_>, failure: &Failure) {
        if matches!(failure.kind, FailureKind::Interrupted | FailureKind::Terminated) {
            // The session's current statement is useless now.
            let _ = self.session.cancel_handle().cancel().await;
        }
        // What it would resume at is of no use any more.
        let lost = failure.kind == FailureKind::LoadDue || is_replaced(&resync.layout().collection, failure);
        let abandoned = tokio::time::timeout(TIDYING_LIMIT, resync.abandon(&failure.message, lost)).await;
        if !matches!(abandoned, Ok(Ok(()))) {
            tracing::warn!("could not record that the resync failed; the next run resumes it");
        }
    }
}

/// Whether an alignment came upon an entry that replaces the collection, which it cannot be aligned over.
fn is_replaced(collection: &str, failure: &Failure) -> bool {
    failure.message == follow::replaced(collection).message
}

/// Segments as an interrupted resync has left them.
fn counted(unfinished: &UnfinishedResync, layout: &Layout) -> Result<Vec<CountedSegment>, Failure> {
    let of = |each: &state::ResyncSegment| Some((each.segment.clone(), ResyncReport::read(&each.counts, layout)?));
    let all: Option<Vec<CountedSegment>> = unfinished.segments.iter().map(of).collect();
    all.ok_or_else(|| Failure::failed("an interrupted resync cannot be read").remedy("use --restart"))
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// The failure of a resync whose changes have left the oplog.
fn rolled_over(collection: &str, failure: Failure) -> Failure {
    if failure.kind != FailureKind::LoadDue {
        return failure;
    }
    let message = format!(
        "the oplog has rolled over during the resync of {collection}, and the spool does not hold all of it: what has changed \
         meanwhile is not known"
    );
    Failure::new(FailureKind::LoadDue, message).remedy(format!(
        "raise load.spool_limit or enlarge the oplog, then run `{}`, which starts over",
        command("resync", [collection], &[])
    ))
}
