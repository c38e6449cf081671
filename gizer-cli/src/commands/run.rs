//! `gizer run`: does what is due.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};

use gizer_engine::due::{
    CopyStandings, Due, DueCollection, DueStep, Facts, LostPosition, Overview, Policy, Sizes, StandingKind, Tries,
    Watch, record, record_empty, record_failures, record_inferred, widen_keys,
};
use gizer_engine::evolve::{evolve_due, evolve_while_following, restore_schema_files};
use gizer_engine::follow::{SyncOptions, SyncReport, sync};
use gizer_engine::infer::{InferOptions, infer};
use gizer_engine::load::{LoadOptions, drop_leftovers, load};
use gizer_engine::resync::{ResyncOptions, resync};
use gizer_engine::retry::Retry;
use gizer_engine::wording::resync_or_load;
use gizer_engine::{Env, Failures};
use gizer_oplog::Cluster;
use gizer_pg::Session;
use gizer_pg::state::{self, Choice};
use serde_json::{Value, json};

use super::schema::{evolve as schema_evolve, infer as schema_infer};
use super::sync_report::Shown;
use super::{Context, load_report};
use crate::args::{Format, RunArgs};
use crate::exit::{ExitCode, Failure, FailureKind, failure_json};
use crate::ui::report;

/// How often a load that is found out to be due while following is tried, where nothing was applied in between.
const LOADS_IN_A_ROW: u32 = 2;

/// Looks, decides and does, until nothing is due any more; with `--follow` until somebody says stop.
///
/// # Errors
/// [`Failure`] if it cannot be told what is due. What becomes of single collections is printed; what of all that is expected is not
/// there in the end, too.
pub async fn run(context: &Context, args: &RunArgs) -> Result<ExitCode, Failure> {
    let _published = match args.follow {
        true => Some(context.metrics.publish(args.metrics.address(&context.config)).await?),
        false => None,
    };
    let (done, exit, tries, told, missing) = (Vec::new(), ExitCode::Done, Tries::All, BTreeSet::new(), json!([]));
    let mut job = Job { context, args, done, exit, begun: args.follow, tries, told, missing };
    let mut retry = if args.follow { Retry::for_good() } else { Retry::once(&context.env) };
    let outcome = loop {
        match job.work().await {
            Err(failure) if job.begun && failure.passes => {
                if !retry.wait(&context.env, &failure).await {
                    let stopped = args.follow || context.env.stop.is_asked();
                    break if stopped { Ok(()) } else { Err(failure) };
                }
            }
            outcome => break outcome,
        }
    };
    if let Some(signal) = context.signal() {
        job.note_exit(signal);
    }
    if context.format == Format::Json {
        let mut object = json!({"steps": job.done, "missing": job.missing, "exit_code": job.exit as u8});
        if let Err(failure) = &outcome {
            object["error"] = failure_json(failure);
            object["exit_code"] = json!(ExitCode::of(failure) as u8);
        }
        report::json(&object);
    }
    outcome.map(|()| job.exit).or_else(|failure| match context.format {
        Format::Text => Err(failure),
        // It is in the object.
        Format::Json => {
            report::problem(None, &failure);
            Ok(ExitCode::of(&failure))
        }
    })
}

fn is_unfit(step: &DueStep) -> bool {
    *step == DueStep::WidenKey
}

struct Job<'j> {
    context: &'j Context,
    args: &'j RunArgs,
    /// What was done, for machines.
    done: Vec<Value>,
    exit: ExitCode,
    /// Whether the servers were there: what is lost from then on may come back.
    begun: bool,
    /// What failed before and is tried again.
    tries: Tries,
    /// Refusals that were reported.
    told: BTreeSet<String>,
    /// What is not copied in the end, for machines.
    missing: Value,
}

/// Both servers. The session holds the lock for as long as it lives.
struct Servers {
    cluster: Cluster,
    session: Session,
}

impl Servers {
    async fn connect(env: &Env) -> Result<Servers, Failure> {
        let connect = async {
            let (cluster, session) = tokio::try_join!(env.mongo(), env.postgres())?;
            state::hold_due(&session).await?;
            state::prepare(&session).await?;
            Ok(Servers { cluster, session })
        };
        env.stop.or_done(connect).await
    }
}

/// How things stand, and what is due.
struct Look {
    standing: Overview,
    facts: Vec<Facts>,
    due: Due,
}

impl Look {
    /// Whether anything is to be loaded or resynced.
    fn is_load_due(&self) -> bool {
        !self.due.loads().is_empty() || !self.due.resyncs().is_empty()
    }

    /// Whether anything can come forward without a person, although nothing is followed.
    fn may_come_forward(&self) -> bool {
        let may = |kind| matches!(kind, StandingKind::Waiting | StandingKind::Failing);
        let any = self.due.all.iter().filter_map(|each| each.standing.as_ref()).any(|standing| may(standing.kind));
        any || self.due.choice == Choice::Database
    }

    fn watch(&self, env: &Env) -> Result<Watch, Failure> {
        let source = self.standing.source.values();
        let source = source.map(|collection| (collection.name.clone(), collection.skip.is_some())).collect();
        Watch::new(env, &self.facts, source, &self.due)
    }
}

impl Job<'_> {
    async fn work(&mut self) -> Result<(), Failure> {
        let servers = Servers::connect(&self.context.env).await?;
        self.begun = true;
        self.bring_forward(&servers).await?;
        if self.context.env.stop.is_asked() {
            return Ok(());
        }
        match self.conclude(&servers).await {
            // Why the run has ended says more.
            Err(_) if self.exit != ExitCode::Done => Ok(()),
            outcome => outcome,
        }
    }

    /// Infers, loads and follows what is due.
    async fn bring_forward(&mut self, servers: &Servers) -> Result<(), Failure> {
        let mut in_a_row = 0;
        loop {
            let mut look = self.look_with_schemas(servers).await?;
            self.tell(&look.due);
            self.tries = Tries::Due;
            let (loads, resyncs) = (look.due.loads(), look.due.resyncs());
            if !loads.is_empty() || !resyncs.is_empty() {
                if !self.load(LoadOptions::due(loads)).await? || !self.resync(resyncs, true).await? {
                    return Ok(());
                }
                // What was just loaded is followed, too.
                look = self.look(servers).await?;
                if !look.due.names(is_unfit).is_empty() {
                    continue;
                }
            }
            if self.args.load_only {
                return Ok(());
            }
            if !look.due.follows() {
                if !self.args.follow || !look.may_come_forward() || !self.wait_for_work(servers, &look).await? {
                    return Ok(());
                }
                continue;
            }
            // No load is due, or it would have begun.
            drop_leftovers(&self.context.env, &servers.session).await;
            let (report, failure, has_paused) = self.follow(servers, &look).await?;
            in_a_row = if self.args.follow && report.batches() > 0 { 1 } else { in_a_row + 1 };
            self.done_following(&report, failure.as_ref());
            if self.context.env.stop.is_asked() {
                return Ok(());
            }
            if failure.is_none() && !self.args.follow && self.evolve().await? {
                continue;
            }
            match failure {
                None if has_paused => {}
                None if report.has_rejected() && !self.look(servers).await?.due.names(is_unfit).is_empty() => {}
                None => return Ok(()),
                Some(failure) if in_a_row >= LOADS_IN_A_ROW || failure.ends_run && failure.passes => return Ok(()),
                // Only reading the log has shown it: the state tables do not say so yet.
                Some(failure) if failure.kind == FailureKind::LoadDue => {
                    if !self.recover_what_is_followed(servers, &failure).await? {
                        return Ok(());
                    }
                }
                Some(_) if self.look(servers).await?.is_load_due() => self.exit = ExitCode::Done,
                Some(_) => return Ok(()),
            }
        }
    }

    /// How things stand once there are the schema files that are due.
    async fn look_with_schemas(&mut self, servers: &Servers) -> Result<Look, Failure> {
        let mut look = self.look(servers).await?;
        let inferred = look.due.names(|step| *step == DueStep::Infer);
        if !inferred.is_empty() {
            self.infer(servers, &look, inferred).await?;
            look = self.look(servers).await?;
        }
        let unfit = look.due.names(is_unfit);
        if !unfit.is_empty() {
            self.widen_keys(servers, unfit).await?;
            look = self.look(servers).await?;
        }
        Ok(look)
    }

    async fn look(&self, servers: &Servers) -> Result<Look, Failure> {
        self.look_as(servers, None).await
    }

    /// As [`look`](Job::look), where following has found out why what is followed cannot be followed
    /// any more: the state tables do not say so yet.
    async fn look_as(&self, servers: &Servers, lost: Option<&Failure>) -> Result<Look, Failure> {
        let Servers { cluster, session } = servers;
        let (env, load_only) = (&self.context.env, self.args.load_only);
        let settings = &env.settings;
        let look = async {
            restore_schema_files(env, session).await?;
            let oplogs = if load_only { Vec::new() } else { cluster.oplogs().await? };
            let standing = Overview::look(env, session, cluster, &oplogs, Sizes::NotWanted).await?;
            let mut facts = standing.facts(&settings.selection)?;
            if let Some(lost) = lost {
                let followed = facts.iter_mut().filter(|facts| facts.is_followed());
                followed.for_each(|facts| facts.lost = Some(lost.message.clone()));
            }
            if settings.lost_position == LostPosition::Auto && !load_only {
                standing.weigh(session, cluster, &oplogs, &mut facts).await?;
            }
            let (choice, tries, lost_position) = (standing.choice(), self.tries, settings.lost_position);
            let policy = Policy { infer: settings.infer, load_only, choice, tries, lost_position };
            let due = Due::of(&facts, policy);
            record(env, session, &facts, &due).await?;
            self.context.metrics.standings(&due.standings());
            Ok(Look { standing, facts, due })
        };
        self.context.env.stop.or_done(look).await
    }

    async fn infer(&mut self, servers: &Servers, look: &Look, collections: Vec<String>) -> Result<(), Failure> {
        let options = InferOptions { collections, ..InferOptions::default() };
        let inferred = infer(&self.context.env, &options).await?;
        report::failures(&inferred.failures);
        self.done.push(json!({"infer": schema_infer::as_json(&inferred)}));
        let written: Vec<String> = inferred.written.iter().map(|each| each.collection.clone()).collect();
        record_inferred(&servers.session, &self.context.env, &written).await?;
        record_failures(&servers.session, inferred.failures.by_collection()).await;
        for name in &inferred.empty {
            let facts = look.facts.iter().find(|facts| facts.name == *name);
            record_empty(&self.context.env, &servers.session, name, facts.and_then(|facts| facts.obstacle.as_ref()))
                .await?;
        }
        self.may_go_on(&inferred.failures, true).map(drop)
    }

    /// Lets schemas grow that are due for it; gives whether any has.
    async fn evolve(&mut self) -> Result<bool, Failure> {
        let (evolved, failures) = evolve_due(&self.context.env).await?;
        report::failures(&failures);
        let has_grown = evolved.iter().any(|each| each.version.is_some());
        if has_grown || !failures.is_empty() {
            self.done.push(json!({"evolve": schema_evolve::as_json(&evolved, &failures)}));
        }
        Ok(has_grown)
    }

    async fn widen_keys(&mut self, servers: &Servers, collections: Vec<String>) -> Result<(), Failure> {
        let failures = widen_keys(&servers.session, &self.context.env, &collections).await?;
        report::failures(&failures);
        let mut object = json!({"collections": collections});
        report::add_failures(&failures, &mut object);
        self.done.push(json!({"widen_key": object}));
        record_failures(&servers.session, failures.by_collection()).await;
        Ok(())
    }

    /// Whether these failures leave anything to do; `Err` if what has ended it is tried again, where that is wanted.
    fn may_go_on(&mut self, failures: &Failures, is_retried: bool) -> Result<bool, Failure> {
        let Some(ending) = failures.ending() else {
            // One that could not be done does not keep the others from it; what is missing is told in the end.
            if failures.iter().any(|failure| failure.kind == FailureKind::Differs) {
                self.note_exit(ExitCode::Differs);
            }
            return Ok(true);
        };
        if is_retried && ending.passes && !self.context.env.stop.is_asked() {
            // It goes on where it ended once the server is back.
            return Err(ending.clone());
        }
        self.note_exit(ExitCode::of(ending));
        Ok(false)
    }

    /// Says why something is loaded, and what is refused. What is left as it is, `plan` tells.
    fn tell(&mut self, due: &Due) {
        let mut refused = Failures::default();
        for DueCollection { name, step, .. } in &due.all {
            match step {
                DueStep::Load(cause) => report::note(format!("{name}: to be loaded: {cause}")),
                DueStep::Resync { cause, why } => report::note(format!("{name}: to be resynced: {cause}; {why}")),
                DueStep::Stop(cause) => {
                    self.exit = if self.exit == ExitCode::Done { ExitCode::LoadDue } else { self.exit };
                    if self.told.insert(format!("{name}: {cause}")) {
                        let failure = Failure::new(FailureKind::LoadDue, cause.to_string());
                        refused.add(name, failure.remedy(resync_or_load(name)));
                    }
                }
                DueStep::Refuse { why, remedy } if self.told.insert(format!("{name}: {why}")) => {
                    refused.add(name, Failure { remedy: remedy.clone(), ..Failure::usage(why) });
                }
                DueStep::Refuse { .. }
                | DueStep::Infer
                | DueStep::WidenKey
                | DueStep::Follow
                | DueStep::Leave { .. } => {}
            }
        }
        if refused.is_empty() {
            return;
        }
        // A run that ends tells it then.
        if self.args.follow {
            report::failures(&refused);
        }
        let mut object = json!({});
        report::add_failures(&refused, &mut object);
        self.done.push(json!({"refused": object["failed"]}));
    }

    /// Whether to go on.
    async fn load(&mut self, options: LoadOptions) -> Result<bool, Failure> {
        if options.collections.is_empty() {
            return Ok(true);
        }
        let RunArgs { max_rejects, verify, .. } = *self.args;
        let options = LoadOptions { max_rejects, comparison: verify.into(), ..options };
        let (reports, failures) = load(&self.context.env, &options).await?;
        match self.context.format {
            Format::Text => load_report::print(Format::Text, &reports, &failures),
            Format::Json => report::failures(&failures),
        }
        self.done.push(json!({"load": load_report::as_json(&reports, &failures)}));
        // Without --follow a load has tried again itself.
        self.may_go_on(&failures, self.args.follow)
    }

    /// Whether to go on.
    async fn resync(&mut self, collections: Vec<String>, empties_gone: bool) -> Result<bool, Failure> {
        if collections.is_empty() {
            return Ok(true);
        }
        let options = ResyncOptions { collections, empties_gone, ..ResyncOptions::default() };
        let (reports, failures) = Box::pin(resync(&self.context.env, &options)).await?;
        match self.context.format {
            Format::Text => super::resync::print(Format::Text, &reports, &failures),
            Format::Json => report::failures(&failures),
        }
        self.done.push(json!({"resync": super::resync::as_json(&reports, &failures)}));
        self.may_go_on(&failures, self.args.follow)
    }

    /// Loads or resyncs what cannot be followed because of this failure; gives whether anything was
    /// to be done.
    async fn recover_what_is_followed(&mut self, servers: &Servers, failure: &Failure) -> Result<bool, Failure> {
        // Its failures are told; what it has loaded is followed.
        self.exit = ExitCode::Done;
        let due = self.look_as(servers, Some(failure)).await?.due;
        self.tell(&due);
        let (loads, resyncs) = (due.loads(), due.resyncs());
        let is_any = !loads.is_empty() || !resyncs.is_empty();
        // Where the position is lost it may be another server: what is gone there is not emptied here.
        Ok(is_any && self.load(LoadOptions::of(loads)).await? && self.resync(resyncs, false).await?)
    }

    /// Follows, and gives whether it has paused because there is something else to do.
    async fn follow(&self, servers: &Servers, look: &Look) -> Result<(SyncReport, Option<Failure>, bool), Failure> {
        let RunArgs { follow, show_values, .. } = *self.args;
        let (env, options) = (&self.context.env, SyncOptions { stays_on: follow, shows_values: show_values });
        let pause = AtomicBool::new(false);
        let sync = sync(env, options, &pause);
        let (report, failure) = if follow {
            let watch = look.watch(env)?;
            let watching = async {
                tokio::join!(watch.run(env, &servers.cluster, &servers.session, &pause), evolve_while_following(env));
                pending::<Infallible>().await
            };
            tokio::select! {
                biased;
                outcome = sync => outcome,
                never = watching => match never {},
            }
        } else {
            sync.await
        };
        self.context.settle_metrics().await;
        Ok((report, failure, pause.load(Ordering::Relaxed)))
    }

    /// Nothing can be followed yet: waits for something to do. `false` if somebody says stop.
    async fn wait_for_work(&self, servers: &Servers, look: &Look) -> Result<bool, Failure> {
        let env = &self.context.env;
        let (watch, pause) = (look.watch(env)?, AtomicBool::new(false));
        let wait = async {
            watch.run(env, &servers.cluster, &servers.session, &pause).await;
            Ok(())
        };
        Ok(self.context.env.stop.or_done(wait).await.is_ok())
    }

    fn done_following(&mut self, report: &SyncReport, failure: Option<&Failure>) {
        match self.context.format {
            Format::Text => Shown(report).print(Format::Text, failure, None),
            Format::Json => {
                if let Some(failure) = failure {
                    report::problem(None, failure);
                }
            }
        }
        let mut object = Shown(report).json();
        if let Some(failure) = failure {
            object["error"] = failure_json(failure);
        }
        self.done.push(json!({"sync": object}));
        let exit = failure.map(ExitCode::of).or_else(|| self.context.signal());
        self.note_exit(exit.unwrap_or(ExitCode::Done));
    }

    /// Says what of all that is expected is not there.
    async fn conclude(&mut self, servers: &Servers) -> Result<(), Failure> {
        let status = state::read_status(&servers.session, 0).await?.unwrap_or_default();
        let standings = CopyStandings::recorded(&self.context.env, &status)?;
        self.context.metrics.standings(&standings);
        report::missing(&standings);
        if !standings.are_complete() && self.exit == ExitCode::Done {
            self.exit = ExitCode::NotAll;
        }
        self.missing = report::missing_json(&standings);
        Ok(())
    }

    /// The first failure decides, unless the run was interrupted.
    fn note_exit(&mut self, exit: ExitCode) {
        let interrupted = matches!(exit, ExitCode::Interrupted | ExitCode::Terminated);
        if self.exit == ExitCode::Done || interrupted {
            self.exit = exit;
        }
    }
}
