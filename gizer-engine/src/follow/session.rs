//! Sync: applies the oplog to the live tables, once or continuously.
//!
//! ```text
//!   sync ──▶ pass: set up ▸ layouts ▸ source ▸ Follow::run ──▶ paused: reload, or start the pass over
//! ```
//!
//! A pass ends when the set of followed collections changes or a server is lost; the next one reads
//! the state tables again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{Cluster, MongoError, Oplog, OplogChanges, OplogPosition, latest_time};
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
use crate::evolve::{finish_begun, restore_schema_files};
use crate::failure::{Failure, FailureKind};
use crate::failures::Failures;
use crate::load::{LoadOptions, TIDYING_LIMIT, load};
use crate::notice::Notice;
use crate::observer::Event;
use crate::retry::Retry;
use crate::wording::{command, resync_or_load};

/// Options of a sync.
#[derive(Debug, Clone, Copy, Default)]
pub struct SyncOptions {
    /// Whether it keeps following.
    pub stays_on: bool,
    /// Whether a difference that survives its repair is shown with values.
    pub shows_values: bool,
}

/// Follows until everything is applied, or until stopped; ends between batches once `pause` is set.
///
/// Returns the report and the failure, if any. A stop is a failure only during set-up.
pub async fn sync(env: &Env, options: SyncOptions, pause: &AtomicBool) -> (SyncReport, Option<Failure>) {
    let mut report = SyncReport::default();
    let mut retry = if options.stays_on { Retry::for_good() } else { Retry::once(env) };
    let mut begun = options.stays_on;
    // Start with all of them.
    let mut with = FailingChoice::All;
    let failure = loop {
        let applied = report.batches();
        if pause.load(Ordering::Relaxed) {
            break None;
        }
        match pass(env, options, with, &mut report, &mut begun, pause).await {
            Ok(PauseReason::Done) => break None,
            Ok(PauseReason::Changed) => with = FailingChoice::Due,
            Ok(PauseReason::Reload(collections)) => {
                with = FailingChoice::Due;
                match reload(env, &collections, &mut report).await {
                    Ok(()) => {}
                    // The others are still followed; this one's state says that a load is due.
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
        // The lag of the tables is unknown, whatever an earlier pass reached.
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
    let mut with = FailingChoice::All;
    loop {
        match pass(env, SyncOptions::default(), with, &mut report, &mut false, &AtomicBool::new(false)).await? {
            // `sync` reports failing collections.
            PauseReason::Done => return Ok(()),
            PauseReason::Changed => {}
            PauseReason::Reload(collections) => reload(env, &collections, &mut report).await?,
        }
        with = FailingChoice::Due;
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
struct SyncSession<'e> {
    env: &'e Env,
    session: Session,
    cluster: Cluster,
    oplogs: Vec<Oplog>,
    fence: StreamFence,
    followed: Vec<Followed>,
    /// Collections whose schema has begun to grow, and is not done.
    growing: Failures,
    newest: ClusterTime,
}

/// Which failing collections are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailingChoice {
    All,
    /// Those whose retry is due.
    Due,
}

/// Follows until there is a reason to start over or to end. `begun` is set once both servers
/// answered and there was something to follow.
async fn pass(
    env: &Env,
    options: SyncOptions,
    with: FailingChoice,
    report: &mut SyncReport,
    begun: &mut bool,
    pause: &AtomicBool,
) -> Result<PauseReason, Failure> {
    let mut setting = env.stop.or_done(SyncSession::new(env, with)).await?;
    *begun = true;
    if !options.stays_on {
        for (name, failure) in setting.growing.by_collection() {
            let message = format!("{name}: its changes wait until its schema has grown: {}", failure.message);
            let remedy = failure.remedy.clone().unwrap_or_else(|| "run it again afterwards".to_owned());
            report.set_apart(env, name, &Failure::new(FailureKind::NotAll, message).remedy(remedy));
        }
    }
    let stop = || env.stop.is_asked() || pause.load(Ordering::Relaxed);
    if setting.followed.is_empty() {
        // All of them are failing.
        drop(setting);
        if !options.stays_on || stop() {
            return Ok(PauseReason::Done);
        }
        let wait = async {
            tokio::time::sleep(ALL_FAILING_PAUSE).await;
            Ok::<(), Failure>(())
        };
        return Ok(env.stop.or_done(wait).await.map_or(PauseReason::Done, |()| PauseReason::Changed));
    }
    let layouts = setting.take_layouts(report).await?;
    if setting.mark_changed_tables(&layouts).await? {
        return Ok(PauseReason::Changed);
    }
    setting.follow(options, &layouts, report, stop).await
}

impl<'e> SyncSession<'e> {
    async fn new(env: &'e Env, with: FailingChoice) -> Result<SyncSession<'e>, Failure> {
        let (cluster, session) = tokio::try_join!(env.mongo(), env.postgres())?;
        let oplogs = cluster.oplogs().await?;
        state::prepare(&session).await?;
        restore_schema_files(env, &session).await?;
        let growing = finish_begun(env, &session).await?;
        let fence = take_fence(&session).await?;
        let mut followed = state::read_followed(&session).await?;
        leave_excluded(env, &session, &mut followed).await?;
        if followed.is_empty() {
            return Err(nothing_to_follow(&session).await?);
        }
        if with == FailingChoice::All {
            state::try_failing_now(&session).await?;
        }
        let newest = latest_time(&oplogs).await?;
        let mut setting = SyncSession { env, session, cluster, oplogs, fence, followed, growing, newest };
        setting.leave_paused().await?;
        let now = state::read_followed_now(&setting.session).await?;
        setting.followed.retain(|followed| now.contains(&followed.now()));
        if env.observer.wants_verified_up_to()
            && let Some(status) = state::read_status(&setting.session, 0).await?
            && let Some(verified) = status.verified_up_to
        {
            env.observer.observe(Event::VerifiedUpTo(&verified));
        }
        Ok(setting)
    }

    /// Leaves paused collections behind at the stream's position.
    async fn leave_paused(&self) -> Result<(), Failure> {
        if self.followed.iter().all(|followed| !followed.joined) {
            return Ok(());
        }
        let expected = state::read_expected(&self.session).await?;
        let is_paused = |followed: &&Followed| {
            let expected = expected.iter().find(|expected| expected.collection == followed.collection);
            let obstacle = expected.and_then(|expected| expected.obstacle.as_ref());
            followed.joined && obstacle.is_some_and(|obstacle| obstacle.kind == ObstacleKind::Paused)
        };
        for followed in self.followed.iter().filter(is_paused) {
            self.session.in_transaction(self.leave_stream(followed)).await?;
            self.env.notice(&Notice::Paused { collection: followed.collection.clone() });
        }
        Ok(())
    }

    /// Leaves a collection behind, in the open transaction.
    async fn leave_stream(&self, followed: &Followed) -> Result<(), PgError> {
        let position = self.fence.position();
        let loaded_until = followed.read_until.or((!followed.joined).then_some(self.newest));
        let read_until = position.values().map(|at| at.time()).max().max(self.fence.ahead()).max(loaded_until);
        let (name, epoch) = (&followed.collection, followed.live_epoch);
        state::leave_stream(&self.session, name, epoch, position, read_until.unwrap_or_default()).await
    }

    /// Keeps the collections that can be followed, and returns their layouts. Others stay behind;
    /// it fails if all do.
    async fn take_layouts(&mut self, report: &mut SyncReport) -> Result<Vec<Arc<Layout>>, Failure> {
        let found = layouts_or_failures(self.env, &self.followed)?;
        let (mut layouts, mut without) = (Vec::new(), Vec::new());
        for (followed, found) in std::mem::take(&mut self.followed).into_iter().zip(found) {
            match found {
                Ok(layout) => {
                    self.followed.push(followed);
                    layouts.push(layout);
                }
                Err(failure) => without.push((followed, failure)),
            }
        }
        if layouts.is_empty() {
            let first = without.into_iter().map(|(_, failure)| failure).next();
            return Err(first.unwrap_or_else(|| Failure::failed("nothing to follow")));
        }
        for (followed, failure) in without {
            let name = &followed.collection;
            let leave = async {
                self.leave_stream(&followed).await?;
                let (reason, remedy) = (&failure.message, failure.remedy.as_deref());
                state::set_obstacle(&self.session, name, ObstacleKind::Failing, reason, remedy).await
            };
            self.session.in_transaction(leave).await?;
            report.set_apart(self.env, name, &failure);
        }
        Ok(layouts)
    }

    /// Marks collections with changed tables as due for a load, so that the others can be followed;
    /// returns whether there are any.
    async fn mark_changed_tables(&self, layouts: &[Arc<Layout>]) -> Result<bool, Failure> {
        let layouts: Vec<&Layout> = layouts.iter().map(Arc::as_ref).collect();
        let changed = changed_tables(&self.session, &layouts).await?;
        for each in &self.followed {
            let Some(difference) = changed.get(&each.collection) else { continue };
            let why = format!("its tables were changed: {difference}");
            mark_load_due(&self.session, &each.collection, each.live_epoch, &why).await?;
            self.env.notice(&Notice::LoadDue { collection: each.collection.clone(), why });
        }
        Ok(!changed.is_empty())
    }

    /// Follows the live tables with these layouts.
    async fn follow(
        &self,
        options: SyncOptions,
        layouts: &[Arc<Layout>],
        report: &mut SyncReport,
        stop: impl Fn() -> bool,
    ) -> Result<PauseReason, Failure> {
        let SyncSession { env, session, cluster, oplogs, fence, followed, newest, .. } = self;
        let joining = followed.iter().any(|followed| !followed.joined);
        let run = self.start_run(if joining { RunKind::OplogSync } else { RunKind::OplogUse }).await?;
        let members = members_of(session, oplogs, fence, followed, layouts).await?;
        let ahead = read_ahead(fence, followed, *newest);
        let mut start = FollowStart { positions: earliest(&members), ahead };
        add_new_shards(env, oplogs, &mut start.positions).await?;
        let interest = interest(cluster.database(), &members);
        let open = async { Ok(OplogChanges::open(oplogs, &start.positions, interest, source_options(env)).await?) };
        let source = match env.stop.or_done(open).await {
            Ok(source) => source,
            Err(failure) => {
                close(run, Err(&failure)).await;
                return self.leave_behind_the_log(failure, report).await;
            }
        };
        let mut following = FollowsGuard::begin(self);
        let catching_up = Some(joining || start.ahead > start.positions.values().map(|at| at.time()).min());
        env.observer.observe(Event::StandsAt { positions: &start.positions, catching_up });
        let mut follow = Follow::new(FollowSetup {
            session,
            oplogs,
            source,
            look_up: cluster.look_up(oplogs),
            settings: settings(env, options),
            purpose: Purpose::Stream { fence: fence.clone(), run },
            members,
            start,
            observer: Arc::clone(&env.observer),
        });
        let until = if options.stays_on { Until::Stopped } else { Until::Time(*newest) };
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

    async fn start_run(&self, kind: RunKind) -> Result<Run<'_>, PgError> {
        let position = self.fence.position().iter();
        let shown: ShardPositions = position.map(|(shard, at)| (shard.clone(), Some(at.clone()))).collect();
        Run::start(&self.session, kind, &shown).await
    }

    /// Handles a log that cannot be read, because of `failure`: marks collections whose position it
    /// does not hold as due for a load, so that the others can be followed.
    ///
    /// Where it holds nobody's, those at the stream's position stay as they are: it may be the log of
    /// another server.
    async fn leave_behind_the_log(&self, failure: Failure, report: &mut SyncReport) -> Result<PauseReason, Failure> {
        if failure.kind != FailureKind::LoadDue {
            return Err(failure);
        }
        let mut behind: Vec<(&Followed, String)> = Vec::new();
        for followed in &self.followed {
            behind.extend(self.why_behind(followed).await?.map(|reason| (followed, reason)));
        }
        let is_any_held = behind.len() < self.followed.len();
        behind.retain(|(followed, _)| is_any_held || !followed.joined);
        if behind.is_empty() {
            return Err(failure);
        }
        for (Followed { collection, live_epoch, .. }, reason) in behind {
            mark_load_due(&self.session, collection, *live_epoch, &reason).await?;
            let failure = Failure::new(FailureKind::LoadDue, format!("{collection}: {reason}"));
            report.set_apart(self.env, collection, &failure.remedy(resync_or_load(collection)));
        }
        Ok(PauseReason::Changed)
    }

    /// Why a collection cannot be followed from its position; `None` if the log holds that.
    async fn why_behind(&self, followed: &Followed) -> Result<Option<String>, Failure> {
        for oplog in &self.oplogs {
            let position = followed.position_on(self.fence.position(), oplog.name());
            let Some(position) = position.and_then(|position| OplogPosition::of(&position)) else { continue };
            let shard = oplog.name();
            match oplog.entry_at(position).await {
                Ok(_) => {}
                Err(MongoError::RolledOver { .. }) => {
                    return Ok(Some(format!("the oplog of {shard} no longer reaches back to its position")));
                }
                Err(MongoError::Diverged { .. }) => {
                    return Ok(Some(format!("the oplog of {shard} has diverged: it does not have its position")));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

/// Stops following collections that `[schemas] include` and `exclude` now leave out: they must be
/// reloaded before they are followed again.
async fn leave_excluded(env: &Env, session: &Session, followed: &mut Vec<Followed>) -> Result<(), PgError> {
    let is_excluded = |each: &mut Followed| env.settings.selection.excludes(&each.collection);
    for Followed { collection, live_epoch, .. } in followed.extract_if(.., is_excluded) {
        mark_load_due(session, &collection, live_epoch, WAS_EXCLUDED).await?;
        env.notice(&Notice::Excluded { collection });
    }
    Ok(())
}

/// Marks a collection as due for a load, in a transaction of its own.
async fn mark_load_due(session: &Session, collection: &str, live_epoch: i64, why: &str) -> Result<(), PgError> {
    session.in_transaction(state::mark_load_due(session, collection, live_epoch, why)).await
}

/// Pause while all collections are failing.
const ALL_FAILING_PAUSE: Duration = Duration::from_secs(2);

/// How long to wait for a crashed run's lock: its last statement may still be running.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// Pause between attempts to take that lock.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

async fn take_fence(session: &Session) -> Result<StreamFence, PgError> {
    let began = Instant::now();
    loop {
        match state::take_fence(session).await {
            Err(PgError::Locked { .. }) if began.elapsed() < LOCK_WAIT => tokio::time::sleep(LOCK_PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// Reports that collections are followed, and that they no longer are, however following ends.
struct FollowsGuard<'e> {
    env: &'e Env,
    /// Whether it reached its goal: then the lag stays known until the next round.
    done: bool,
}

impl<'e> FollowsGuard<'e> {
    fn begin(setting: &SyncSession<'e>) -> FollowsGuard<'e> {
        let SyncSession { env, oplogs, followed, .. } = setting;
        let collections: Vec<&str> = followed.iter().map(|followed| followed.collection.as_str()).collect();
        env.observer.observe(Event::Follows { collections: &collections, oplogs });
        FollowsGuard { env: setting.env, done: false }
    }
}

impl Drop for FollowsGuard<'_> {
    fn drop(&mut self) {
        self.env.observer.observe(Event::FollowsNoMore { done: self.done });
    }
}

/// Reads an added shard from its oldest entry: everything on it came by its own entries. If the log
/// no longer holds them all, looking up its documents will show it.
async fn add_new_shards(env: &Env, oplogs: &[Oplog], from: &mut Positions) -> Result<(), Failure> {
    for oplog in oplogs.iter().filter(|oplog| !from.is_empty() && !from.contains_key(oplog.name())).collect::<Vec<_>>()
    {
        let oldest = oplog.oldest().await?;
        env.notice(&Notice::NewShard { shard: oplog.name().to_owned(), from: oldest.time });
        from.insert(oplog.name().to_owned(), oldest.into());
    }
    Ok(())
}

/// Closes the run's row; if that fails, the next run does it.
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
    Ok(Failure::new(FailureKind::LoadDue, message)
        .remedy("run `gizer resync` where there are tables, or `gizer load`, then `gizer sync`"))
}
