//! Sync: the live tables are brought up to date with the oplog, once or for as long as it stays on.
//!
//! ```text
//!   sync ──▶ pass: set up ▸ layouts ▸ source ▸ Follow::run ──▶ paused: reload, or start the pass over
//! ```
//!
//! A pass ends where what is followed has changed, or a server is lost; the next one reads from the state tables what is followed
//! and where it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{Cluster, Oplog, OplogChanges, latest_time};
use gizer_pg::load::changed_tables;
use gizer_pg::state::{self, Followed, ObstacleKind, Run, RunKind, RunOutcome, ShardPositions, StreamFence};
use gizer_pg::{PgError, Session};
use gizer_schema::Layout;

use super::layouts::{layouts_or_failures, settings, source_options};
use super::report::SyncReport;
use super::{
    Follow, FollowSetup, FollowStart, PauseReason, Purpose, Until, earliest, interest, members_of, read_ahead,
};
use crate::due::WAS_EXCLUDED;
use crate::env::Env;
use crate::failure::{Failure, FailureKind};
use crate::load::{LoadOptions, TIDYING_LIMIT, load};
use crate::notice::Notice;
use crate::observer::Event;
use crate::retry::Retry;
use crate::wording::command;

/// How to sync.
#[derive(Debug, Clone, Copy, Default)]
pub struct SyncOptions {
    /// Whether it stays on, and applies changes as they come.
    pub stays_on: bool,
    /// Whether a difference that survives its repair is shown with the values of documents and rows.
    pub shows_values: bool,
}

/// Follows until everything is applied, or until somebody says stop; it ends between batches when `pause` says so.
///
/// Gives what was done, and what went wrong, if anything did. A stop is no failure where following has begun; while it is set
/// up, it is the failure that was asked with.
pub async fn sync(env: &Env, options: SyncOptions, pause: &AtomicBool) -> (SyncReport, Option<Failure>) {
    let mut report = SyncReport::default();
    let mut retry = if options.stays_on { Retry::for_good() } else { Retry::once(env) };
    let mut begun = options.stays_on;
    // A run begins with all of them.
    let mut with = Failing::All;
    let failure = loop {
        let applied = report.batches();
        if pause.load(Ordering::Relaxed) {
            break None;
        }
        match pass(env, options, with, &mut report, &mut begun, pause).await {
            Ok(PauseReason::Done) => break None,
            Ok(PauseReason::Changed) => with = Failing::Due,
            Ok(PauseReason::Reload(collections)) => {
                with = Failing::Due;
                match reload(env, &collections, &mut report).await {
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
                if !retry.wait(env, &failure).await {
                    let stopped = options.stays_on || env.stop.is_asked();
                    break (!stopped).then_some(failure);
                }
            }
            Err(failure) => break Some(failure),
        }
    };
    if failure.is_some() {
        // Whatever an earlier pass came to: how far the tables are behind is not known.
        env.observer.observe(Event::FollowsNoMore { done: false });
    }
    let failure = failure.or(report.failed_reload.take()).or_else(|| report.failing().filter(|_| !env.stop.is_asked()));
    (report, failure)
}

/// One round of following.
///
/// # Errors
/// [`Failure`].
pub async fn sync_once(env: &Env) -> Result<(), Failure> {
    let mut report = SyncReport::default();
    let mut with = Failing::All;
    loop {
        match pass(env, SyncOptions::default(), with, &mut report, &mut false, &AtomicBool::new(false)).await? {
            // What is failing, `sync` reports.
            PauseReason::Done => return Ok(()),
            PauseReason::Changed => {}
            PauseReason::Reload(collections) => reload(env, &collections, &mut report).await?,
        }
        with = Failing::Due;
    }
}

/// Reloads collections that were replaced in MongoDB.
async fn reload(env: &Env, collections: &[String], report: &mut SyncReport) -> Result<(), Failure> {
    let (loaded, failures) = load(env, &LoadOptions::due(collections.to_vec())).await?;
    for each in &loaded {
        let (collection, documents) = (each.name.clone(), each.ledger.loaded);
        report.note(env, &Notice::Reloaded { collection, documents });
    }
    let Some(kind) = failures.kind() else { return Ok(()) };
    let message = format!("could not be reloaded: {}", failures.in_a_line());
    Err(Failure::new(kind, message).remedy(format!("`{}`", command("load", collections, &[]))))
}

/// Both servers, and what is followed.
struct Setting {
    session: Session,
    cluster: Cluster,
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

async fn set_up(env: &Env, with: Failing) -> Result<Setting, Failure> {
    let (cluster, session) = tokio::try_join!(env.mongo(), env.postgres())?;
    let oplogs = cluster.oplogs().await?;
    state::prepare(&session).await?;
    let fence = take_fence(&session).await?;
    let mut followed = state::read_followed(&session).await?;
    leave_excluded(env, &session, &mut followed).await?;
    if followed.is_empty() {
        return Err(nothing_to_follow(&session).await?);
    }
    if with == Failing::All {
        state::try_failing_now(&session).await?;
    }
    let newest = latest_time(&oplogs).await?;
    leave_paused(env, &session, &fence, &followed, newest).await?;
    let now = state::read_followed_now(&session).await?;
    followed.retain(|followed| now.contains(&(followed.collection.clone(), followed.live_epoch)));
    if env.observer.wants_verified_up_to()
        && let Some(verified) = state::read_status(&session, 0).await?.and_then(|status| status.verified_up_to)
    {
        env.observer.observe(Event::VerifiedUpTo(&verified));
    }
    Ok(Setting { session, cluster, oplogs, fence, followed, newest })
}

/// Collections that `[schemas] include` and `exclude` leave out by now are followed no longer: a load is due before they are again.
async fn leave_excluded(env: &Env, session: &Session, followed: &mut Vec<Followed>) -> Result<(), PgError> {
    let is_excluded = |each: &mut Followed| env.settings.selection.excludes(&each.collection);
    for Followed { collection, live_epoch, .. } in followed.extract_if(.., is_excluded) {
        session.begin().await?;
        let outcome = state::mark_load_due(session, &collection, live_epoch, WAS_EXCLUDED).await;
        session.end(outcome).await?;
        env.notice(&Notice::Excluded { collection });
    }
    Ok(())
}

/// Collections that were paused while they were in the stream stay behind at its position.
async fn leave_paused(
    env: &Env,
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
        env.notice(&Notice::Paused { collection: followed.collection.clone() });
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
    let read_until = position.values().map(|at| at.time()).max().max(fence.ahead()).max(loaded_until);
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

/// Follows until there is a reason to start over with what is followed, or to end. `begun` says whether the servers were there
/// and there was something to follow.
async fn pass(
    env: &Env,
    options: SyncOptions,
    with: Failing,
    report: &mut SyncReport,
    begun: &mut bool,
    pause: &AtomicBool,
) -> Result<PauseReason, Failure> {
    let setting = env.stop.or_done(set_up(env, with)).await?;
    *begun = true;
    let Setting { session, cluster, oplogs, fence, followed, newest } = setting;
    if followed.is_empty() {
        // All of them are failing.
        if !options.stays_on || pause.load(Ordering::Relaxed) || env.stop.is_asked() {
            return Ok(PauseReason::Done);
        }
        drop(session);
        let wait = async {
            tokio::time::sleep(ALL_FAILING_PAUSE).await;
            Ok::<(), Failure>(())
        };
        return Ok(env.stop.or_done(wait).await.map_or(PauseReason::Done, |()| PauseReason::Changed));
    }
    let (followed, layouts) = with_layouts(env, (&session, &fence, newest), followed, report).await?;
    if mark_changed_tables(env, &session, &followed, &layouts).await? {
        return Ok(PauseReason::Changed);
    }
    let joining = followed.iter().any(|followed| !followed.joined);
    let kind = if joining { RunKind::OplogSync } else { RunKind::OplogUse };
    let shown: ShardPositions = fence.position().iter().map(|(shard, at)| (shard.clone(), Some(at.clone()))).collect();
    let run = Run::start(&session, kind, &shown).await?;
    let members = members_of(&session, &oplogs, &fence, &followed, &layouts).await?;
    let mut from = earliest(&members);
    add_new_shards(env, &oplogs, &mut from).await?;
    let ahead = read_ahead(&fence, &followed, newest);
    let interest = interest(cluster.database(), &members);
    let open = async { Ok(OplogChanges::open(&oplogs, &from, interest, source_options(env)).await?) };
    let source = match env.stop.or_done(open).await {
        Ok(source) => source,
        Err(failure) => {
            close(run, Err(&failure)).await;
            let behind = match failure.kind {
                FailureKind::LoadDue => behind_the_log(&session, &oplogs, &followed).await?,
                _ => Vec::new(),
            };
            behind.iter().for_each(|(name, failure)| report.set_apart(env, name, failure));
            return if behind.is_empty() { Err(failure) } else { Ok(PauseReason::Changed) };
        }
    };
    let collections: Vec<&str> = followed.iter().map(|followed| followed.collection.as_str()).collect();
    let mut following = FollowsGuard::begin(env, &collections, &oplogs);
    let from_time = from.values().map(|position| position.time()).min();
    let catching_up = Some(joining || ahead > from_time);
    env.observer.observe(Event::StandsAt { positions: &from, catching_up });
    let mut settings = settings(env);
    settings.checks.show_values = options.shows_values;
    settings.logs_unfit = options.stays_on;
    let mut follow = Follow::new(FollowSetup {
        session: &session,
        oplogs: &oplogs,
        source,
        look_up: cluster.look_up(&oplogs),
        settings,
        purpose: Purpose::Stream { fence, run },
        members,
        start: FollowStart { positions: from, ahead },
        observer: Arc::clone(&env.observer),
    });
    let until = if options.stays_on { Until::Stopped } else { Until::Time(newest) };
    let stop = || env.stop.is_asked() || pause.load(Ordering::Relaxed);
    let outcome = follow.run(until, stop).await;
    following.done = outcome.is_ok() && !options.stays_on;
    drop(following);
    report.add(&follow);
    let (records, queries) = (follow.progress().changes.total(), follow.progress().statements);
    if let Purpose::Stream { run, .. } = follow.into_purpose() {
        close(run, outcome.as_ref().map(|_| (records, queries))).await;
    }
    outcome
}

/// Says that collections are followed, and that they no longer are, however following ends.
struct FollowsGuard<'e> {
    env: &'e Env,
    /// Whether it came to its end as it was to: what a round leaves behind is known until the next one.
    done: bool,
}

impl<'e> FollowsGuard<'e> {
    fn begin(env: &'e Env, collections: &[&str], oplogs: &[Oplog]) -> FollowsGuard<'e> {
        env.observer.observe(Event::Follows { collections, oplogs });
        FollowsGuard { env, done: false }
    }
}

impl Drop for FollowsGuard<'_> {
    fn drop(&mut self) {
        self.env.observer.observe(Event::FollowsNoMore { done: self.done });
    }
}

/// Collections whose tables somebody has changed are due for a load, so that the others can be followed; gives whether any is.
async fn mark_changed_tables(
    env: &Env,
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
        env.notice(&Notice::LoadDue { collection: each.collection.clone(), why });
    }
    Ok(!changed.is_empty())
}

/// The collections that can be followed by their schema files, with their layouts. The others stay where they stand, unless it is
/// all of them.
async fn with_layouts(
    env: &Env,
    (session, fence, newest): (&Session, &StreamFence, ClusterTime),
    followed: Vec<Followed>,
    report: &mut SyncReport,
) -> Result<(Vec<Followed>, Vec<Arc<Layout>>), Failure> {
    let found = layouts_or_failures(env, &followed)?;
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
        report.set_apart(env, name, &failure);
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
            let is_behind = followed.applied_to.get(oplog.name()).is_some_and(|at| at.time() < oldest);
            if is_behind && behind.iter().all(|(other, _)| other != name) {
                let reason = format!("the oplog of {} no longer reaches back to where its tables stand", oplog.name());
                session.begin().await?;
                let outcome = state::mark_load_due(session, name, followed.live_epoch, &reason).await;
                session.end(outcome).await?;
                let failure = Failure::new(FailureKind::LoadDue, format!("{name}: {reason}"));
                behind.push((name.clone(), failure.remedy(format!("`{}`", command("load", [name], &[])))));
            }
        }
    }
    Ok(behind)
}

/// A shard that was added since is read from its oldest entry on: whatever came to it came by entries of its own. Where the log
/// no longer holds all of them, its collections were created before, which shows when their documents are looked up.
async fn add_new_shards(env: &Env, oplogs: &[Oplog], from: &mut Positions) -> Result<(), Failure> {
    for oplog in oplogs.iter().filter(|oplog| !from.is_empty() && !from.contains_key(oplog.name())).collect::<Vec<_>>()
    {
        let oldest = oplog.oldest().await?;
        env.notice(&Notice::NewShard { shard: oplog.name().to_owned(), from: oldest.time });
        from.insert(oplog.name().to_owned(), oldest.into());
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
