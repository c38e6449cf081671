//! `gizer sync`: the live tables are brought up to date with the oplog, once or for as long as it stays on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gizer_engine::follow::{self, Follow, FollowSetup, FollowStart, PauseReason, Purpose, Until};
use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{Oplog, OplogChanges, latest_time};
use gizer_pg::load::changed_tables;
use gizer_pg::state::{self, Followed, ObstacleKind, Run, RunKind, RunOutcome, ShardPositions, StreamFence};
use gizer_pg::{PgError, Session};
use gizer_schema::Layout;

use super::followed;
use super::retry::Retry;
use super::run_record::WAS_EXCLUDED;
use super::run_row::TIDYING_LIMIT;
use super::sync_report::SyncReport;
use super::{Context, load};
use crate::args::{LoadArgs, MetricsArgs, SyncArgs};
use crate::due::CopyStandings;
use crate::exit::{ExitCode, Failure, FailureKind};
use crate::report;

/// Follows until everything is applied, or until somebody says stop.
///
/// # Errors
/// [`Failure`] if nothing can be followed at all. What goes wrong later is printed with what was done before.
pub async fn run(context: &Context, args: &SyncArgs) -> Result<ExitCode, Failure> {
    let _published = match args.follow {
        true => Some(context.metrics.publish(args.metrics.address(&context.config)).await?),
        false => None,
    };
    let (mut report, failure) = perform(context, args, &AtomicBool::new(false)).await;
    // What is missing is told, whatever has happened to the rest.
    let standings = match context.signals.came() {
        None => context.signals.unless_interrupted(recorded_standings(context)).await.ok(),
        Some(_) => None,
    };
    report.missing = standings.as_ref().map(CopyStandings::missing_json);
    report.print(context.format, failure.as_ref());
    standings.iter().for_each(CopyStandings::print_missing);
    Ok(match failure {
        Some(failure) => ExitCode::of(&failure),
        None if standings.is_some_and(|standings| !standings.are_complete()) => ExitCode::NotAll,
        None => context.signals.came().unwrap_or(ExitCode::Done),
    })
}

/// How all that is expected stands, by the state tables.
///
/// # Errors
/// [`Failure`] if they cannot be read.
pub(super) async fn recorded_standings(context: &Context) -> Result<CopyStandings, Failure> {
    let status = state::read_status(&context.postgres().await?, 0).await?.unwrap_or_default();
    CopyStandings::recorded(context, &status)
}

/// As [`run`], without a word about how it ended; it pauses between batches when `pause` says so.
pub(super) async fn perform(context: &Context, args: &SyncArgs, pause: &AtomicBool) -> (SyncReport, Option<Failure>) {
    let mut report = SyncReport::default();
    let mut retry = if args.follow { Retry::for_good() } else { Retry::once(context) };
    let mut begun = args.follow;
    // A run begins with all of them.
    let mut with = Failing::All;
    let failure = loop {
        let applied = report.batches();
        if pause.load(Ordering::Relaxed) {
            break None;
        }
        match pass(context, args, with, &mut report, &mut begun, pause).await {
            Ok(PauseReason::Done) => break None,
            Ok(PauseReason::Changed) => with = Failing::Due,
            Ok(PauseReason::Reload(collections)) => {
                with = Failing::Due;
                match reload(context, &collections, &mut report).await {
                    Ok(()) => {}
                    // The others are followed on; this one's state says that a load is due.
                    Err(failure) if !failure.ends_run => report.failed_reload = Some(failure),
                    Err(failure) => break Some(failure),
                }
            }
            Err(failure) if begun && failure.passes => {
                if report.batches() > applied {
                    retry.reset();
                }
                if !retry.wait(context, &failure).await {
                    let stopped = args.follow || context.signals.came().is_some();
                    break (!stopped).then_some(failure);
                }
            }
            Err(failure) => break Some(failure),
        }
    };
    let failure = failure.or(report.failed_reload.take()).or_else(|| match context.signals.came() {
        None => report.failing(),
        Some(_) => None,
    });
    (report, failure)
}

/// One round of following, without a word about it.
///
/// # Errors
/// [`Failure`].
pub(super) async fn once(context: &Context) -> Result<(), Failure> {
    let (args, mut report) =
        (SyncArgs { follow: false, show_values: false, metrics: MetricsArgs::default() }, SyncReport::default());
    let mut with = Failing::All;
    loop {
        match pass(context, &args, with, &mut report, &mut false, &AtomicBool::new(false)).await? {
            // What is failing is told by `sync`.
            PauseReason::Done => return Ok(()),
            PauseReason::Changed => {}
            PauseReason::Reload(collections) => reload(context, &collections, &mut report).await?,
        }
        with = Failing::Due;
    }
}

/// Loads collections anew that were replaced in MongoDB.
async fn reload(context: &Context, collections: &[String], report: &mut SyncReport) -> Result<(), Failure> {
    let args = LoadArgs::due(collections.to_vec());
    let (loaded, failures) = load::perform(context, &args).await?;
    for each in &loaded {
        report.reloaded(&each.name, each.ledger.loaded);
    }
    let Some(kind) = failures.kind() else { return Ok(()) };
    let message = format!("could not be loaded anew: {}", failures.in_a_line());
    Err(Failure::new(kind, message).remedy(format!("`{}`", report::command("load", collections, &[]))))
}

/// Both servers, and what is followed.
struct Setting {
    session: Session,
    cluster: gizer_oplog::Cluster,
    oplogs: Vec<Oplog>,
    fence: StreamFence,
    followed: Vec<Followed>,
    newest: ClusterTime,
}

/// Which of the collections that are failing are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failing {
    All,
    /// Those whose next try has come.
    Due,
}

async fn set_up(context: &Context, with: Failing) -> Result<Setting, Failure> {
    let (cluster, session) = tokio::try_join!(context.mongo(), context.postgres())?;
    let oplogs = cluster.oplogs().await?;
    state::prepare(&session).await?;
    let fence = take_fence(&session).await?;
    let mut followed = state::read_followed(&session).await?;
    leave_excluded(context, &session, &mut followed).await?;
    if followed.is_empty() {
        return Err(nothing_to_follow(&session).await?);
    }
    if with == Failing::All {
        state::try_failing_now(&session).await?;
    }
    let newest = latest_time(&oplogs).await?;
    leave_paused(&session, &fence, &followed, newest).await?;
    let now = state::read_followed_now(&session).await?;
    followed.retain(|followed| now.contains(&(followed.collection.clone(), followed.live_epoch)));
    if context.metrics.are_read()
        && let Some(verified) = state::read_status(&session, 0).await?.and_then(|status| status.verified_up_to)
    {
        context.metrics.verified_up_to(&verified);
    }
    Ok(Setting { session, cluster, oplogs, fence, followed, newest })
}

/// Collections that `[schemas] include` and `exclude` leave out by now are followed no longer: a load is due before they are again.
async fn leave_excluded(context: &Context, session: &Session, followed: &mut Vec<Followed>) -> Result<(), PgError> {
    let is_excluded = |each: &mut Followed| context.config.excludes(&each.collection);
    for Followed { collection, live_epoch, .. } in followed.extract_if(.., is_excluded) {
        session.begin().await?;
        let outcome = state::mark_load_due(session, &collection, live_epoch, WAS_EXCLUDED).await;
        session.end(outcome).await?;
        report::note(format!("{}: excluded; its tables stay as they are", report::printable(&collection)));
    }
    Ok(())
}

/// Collections that were paused while they were in the stream stay behind at its position.
async fn leave_paused(
    session: &Session,
    fence: &StreamFence,
    followed: &[Followed],
    newest: ClusterTime,
) -> Result<(), Failure> {
    if followed.iter().all(|followed| !followed.joined) {
        return Ok(());
    }
    let expected = state::read_expected(session).await?;
    let is_paused = |followed: &&Followed| {
        let expected = expected.iter().find(|expected| expected.collection == followed.collection);
        let obstacle = expected.and_then(|expected| expected.obstacle.as_ref());
        followed.joined && obstacle.is_some_and(|obstacle| obstacle.kind == ObstacleKind::Paused)
    };
    for followed in followed.iter().filter(is_paused) {
        session.begin().await?;
        let outcome = leave_stream(session, fence, followed, newest).await;
        session.end(outcome).await?;
        report::note(format!("{}: paused; its tables stay as they are", report::printable(&followed.collection)));
    }
    Ok(())
}

/// A collection stays behind where it stands, in the open transaction.
async fn leave_stream(
    session: &Session,
    fence: &StreamFence,
    followed: &Followed,
    newest: ClusterTime,
) -> Result<(), PgError> {
    let position = fence.position();
    let loaded_until = followed.read_until.or((!followed.joined).then_some(newest));
    let read_until = position.values().map(|at| at.time).max().max(fence.ahead()).max(loaded_until);
    let (name, epoch) = (&followed.collection, followed.live_epoch);
    state::leave_stream(session, name, epoch, position, read_until.unwrap_or_default()).await
}

/// How long to wait where all collections are failing, before looking whether one is to be tried again.
const ALL_FAILING_PAUSE: Duration = Duration::from_secs(2);

/// How long to wait for the lock of a run that has just died: PostgreSQL learns of it when the statement ends that it was at.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// How often to ask for that lock.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

async fn take_fence(session: &Session) -> Result<StreamFence, PgError> {
    let began = Instant::now();
    loop {
        match state::take_fence(session).await {
            Err(PgError::Locked { .. }) if began.elapsed() < LOCK_PATIENCE => tokio::time::sleep(LOCK_PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// Follows until there is a reason to begin anew with what is followed, or to end. `begun` says whether the servers were there
/// and there was something to follow.
async fn pass(
    context: &Context,
    args: &SyncArgs,
    with: Failing,
    report: &mut SyncReport,
    begun: &mut bool,
    pause: &AtomicBool,
) -> Result<PauseReason, Failure> {
    let setting = context.signals.unless_interrupted(set_up(context, with)).await?;
    *begun = true;
    let Setting { session, cluster, oplogs, fence, followed, newest } = setting;
    if followed.is_empty() {
        // All of them are failing.
        if !args.follow || pause.load(Ordering::Relaxed) || context.signals.came().is_some() {
            return Ok(PauseReason::Done);
        }
        drop(session);
        let wait = async {
            tokio::time::sleep(ALL_FAILING_PAUSE).await;
            Ok::<(), Failure>(())
        };
        return Ok(context.signals.unless_interrupted(wait).await.map_or(PauseReason::Done, |()| PauseReason::Changed));
    }
    let (followed, layouts) = with_layouts(context, (&session, &fence, newest), followed, report).await?;
    if mark_changed_tables(&session, &followed, &layouts).await? {
        return Ok(PauseReason::Changed);
    }
    let joining = followed.iter().any(|followed| !followed.joined);
    let kind = if joining { RunKind::OplogSync } else { RunKind::OplogUse };
    let shown: ShardPositions = fence.position().iter().map(|(shard, at)| (shard.clone(), Some(*at))).collect();
    let run = Run::start(&session, kind, &shown).await?;
    let members = follow::members_of(&session, &oplogs, &fence, &followed, &layouts).await?;
    let mut from = follow::earliest(&members);
    add_new_shards(&oplogs, &mut from).await?;
    let ahead = follow::read_ahead(&fence, &followed, newest);
    let database = context.config.database()?;
    let interest = follow::interest(database, &members);
    let options = followed::source_options(&context.config);
    let open = async { Ok(OplogChanges::open(&oplogs, &from, interest, options).await?) };
    let source = match context.signals.unless_interrupted(open).await {
        Ok(source) => source,
        Err(failure) => {
            close(run, Err(&failure)).await;
            let behind = match failure.kind {
                FailureKind::LoadDue => behind_the_log(&session, &oplogs, &followed).await?,
                _ => Vec::new(),
            };
            behind.iter().for_each(|(name, failure)| report.set_apart(name, failure));
            return if behind.is_empty() { Err(failure) } else { Ok(PauseReason::Changed) };
        }
    };
    let metrics = &context.metrics;
    metrics.follows(followed.iter().map(|followed| followed.collection.as_str()));
    let from_time = from.values().map(|position| position.time).min();
    metrics.stands_at(&from, Some(joining || ahead > from_time));
    let mut settings = followed::settings(&context.config);
    settings.checks.show_values = args.show_values;
    settings.logs_unfit = args.follow;
    let mut follow = Follow::new(FollowSetup {
        session: &session,
        oplogs: &oplogs,
        source,
        look_up: cluster.look_up(&oplogs),
        settings,
        purpose: Purpose::Stream { fence, run },
        members,
        start: FollowStart { positions: from, ahead },
        observer: metrics.observer(),
    });
    let until = if args.follow { Until::Stopped } else { Until::Time(newest) };
    let outcome = tokio::select! {
        biased;
        outcome = follow.run(until, || context.signals.came().is_some() || pause.load(Ordering::Relaxed)) => outcome,
        never = metrics.watch(&oplogs) => match never {},
    };
    match outcome {
        // What a round leaves behind is told until the next one.
        Ok(_) if !args.follow => metrics.look(&oplogs, true).await,
        _ => metrics.look_away(&oplogs),
    }
    report.add(&follow);
    let (records, queries) = (follow.progress().changes.total(), follow.progress().statements);
    if let Purpose::Stream { run, .. } = follow.into_purpose() {
        close(run, outcome.as_ref().map(|_| (records, queries))).await;
    }
    outcome
}

/// Collections whose tables somebody has changed are due for a load, so that the others can be followed; gives whether any is.
async fn mark_changed_tables(
    session: &Session,
    followed: &[Followed],
    layouts: &[Arc<Layout>],
) -> Result<bool, Failure> {
    let changed = changed_tables(session, &layouts.iter().map(Arc::as_ref).collect::<Vec<_>>()).await?;
    for each in followed {
        let Some(difference) = changed.get(&each.collection) else { continue };
        let why = format!("its tables were changed: {difference}");
        session.begin().await?;
        let outcome = state::mark_load_due(session, &each.collection, each.live_epoch, &why).await;
        session.end(outcome).await?;
        report::note(format!("{}: a load is due: {why}", report::printable(&each.collection)));
    }
    Ok(!changed.is_empty())
}

/// The collections that can be followed by their schema files, with their layouts. The others stay where they stand, unless it is
/// all of them.
async fn with_layouts(
    context: &Context,
    (session, fence, newest): (&Session, &StreamFence, ClusterTime),
    followed: Vec<Followed>,
    report: &mut SyncReport,
) -> Result<(Vec<Followed>, Vec<Arc<Layout>>), Failure> {
    let found = followed::layouts_or_failures(context, &followed)?;
    let (mut with, mut layouts, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for (followed, found) in followed.into_iter().zip(found) {
        match found {
            Ok(layout) => {
                with.push(followed);
                layouts.push(layout);
            }
            Err(failure) => without.push((followed, failure)),
        }
    }
    if with.is_empty() {
        return Err(without
            .into_iter()
            .map(|(_, failure)| failure)
            .next()
            .unwrap_or_else(|| Failure::failed("nothing to follow")));
    }
    for (followed, failure) in without {
        let name = &followed.collection;
        session.begin().await?;
        let outcome = async {
            leave_stream(session, fence, &followed, newest).await?;
            let (reason, remedy) = (&failure.message, failure.remedy.as_deref());
            state::set_obstacle(session, name, ObstacleKind::Failing, reason, remedy).await
        };
        let outcome = outcome.await;
        session.end(outcome).await?;
        report.set_apart(name, &failure);
    }
    Ok((with, layouts))
}

/// Collections that stand at a position of their own to which the log no longer reaches back: a load of them is due, and the others
/// are followed.
async fn behind_the_log(
    session: &Session,
    oplogs: &[Oplog],
    followed: &[Followed],
) -> Result<Vec<(String, Failure)>, Failure> {
    let mut behind = Vec::new();
    for oplog in oplogs {
        let oldest = oplog.oldest().await?.time;
        for followed in followed.iter().filter(|followed| !followed.joined) {
            let name = &followed.collection;
            let is_behind = followed.applied_to.get(oplog.name()).is_some_and(|at| at.time < oldest);
            if is_behind && behind.iter().all(|(other, _)| other != name) {
                let reason = format!("the oplog of {} no longer reaches back to where its tables stand", oplog.name());
                session.begin().await?;
                let outcome = state::mark_load_due(session, name, followed.live_epoch, &reason).await;
                session.end(outcome).await?;
                let failure = Failure::new(FailureKind::LoadDue, format!("{name}: {reason}"));
                behind.push((name.clone(), failure.remedy(format!("`{}`", report::command("load", [name], &[])))));
            }
        }
    }
    Ok(behind)
}

/// A shard that was added since is read from its oldest entry on: whatever came to it came by entries of its own. Where the log
/// no longer holds all of them, its collections were created before, which shows when their documents are looked up.
async fn add_new_shards(oplogs: &[Oplog], from: &mut Positions) -> Result<(), Failure> {
    for oplog in oplogs.iter().filter(|oplog| !from.is_empty() && !from.contains_key(oplog.name())).collect::<Vec<_>>()
    {
        let oldest = oplog.oldest().await?;
        report::note(format!("{}: a new shard, followed from {} on", oplog.name(), report::utc(oldest.time)));
        from.insert(oplog.name().to_owned(), oldest);
    }
    Ok(())
}

/// Closes the run's row; what cannot be written any more, the next run puts right.
async fn close(run: Run<'_>, outcome: Result<(u64, u64), &Failure>) {
    let outcome = match outcome {
        Ok((records, queries)) => RunOutcome::Done { records, queries },
        Err(failure) if failure.kind == FailureKind::LoadDue => RunOutcome::LoadDue { reason: failure.message.clone() },
        Err(failure) => RunOutcome::Failed { reason: failure.message.clone() },
    };
    if !matches!(tokio::time::timeout(TIDYING_LIMIT, run.finish(&outcome)).await, Ok(Ok(()))) {
        tracing::warn!("the run's row stays open; the next run closes it");
    }
}

/// Why there is nothing to follow.
async fn nothing_to_follow(session: &Session) -> Result<Failure, Failure> {
    let status = state::read_status(session, 0).await?;
    let collections = status.map(|status| status.collections).unwrap_or_default();
    let why = |each: &state::CollectionStatus| match &each.reason {
        Some(reason) => format!("{} ({}: {reason})", each.collection, each.state.name()),
        None => format!("{} ({})", each.collection, each.state.name()),
    };
    let reasons: Vec<String> = collections.iter().map(why).collect();
    let message = match reasons.is_empty() {
        true => "no collection has been loaded yet: a load is due".to_owned(),
        false => format!("none of the collections can be followed: {}", reasons.join("; ")),
    };
    Ok(Failure::new(FailureKind::LoadDue, message).remedy("`gizer load`, and then `gizer sync`"))
}
