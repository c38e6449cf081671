//! `gizer run`: does what is due.

use gizer_oplog::Cluster;
use gizer_pg::{Session, state};
use serde_json::{Value, json};

use super::retry::Retry;
use super::sync_report::SyncReport;
use super::{Context, Failures, infer, load, load_report, sync};
use crate::args::{Format, InferArgs, LoadArgs, MetricsArgs, RunArgs, SyncArgs};
use crate::due::{Due, Policy, Sizes, Standing, Step};
use crate::exit::{ExitCode, Failure};
use crate::report;

/// How often a load that is found out to be due while following is tried, where nothing was applied in between.
const LOADS_IN_A_ROW: u32 = 2;

/// Looks, decides and does, until nothing is due any more; with `--follow` until somebody says stop.
///
/// # Errors
/// [`Failure`] if it cannot be told what is due. What becomes of single collections is printed; the exit code is that of the
/// first failure.
pub async fn run(context: &Context, args: &RunArgs) -> Result<ExitCode, Failure> {
    let _published = match args.follow {
        true => Some(context.metrics.publish(args.metrics.address(&context.config)).await?),
        false => None,
    };
    let mut job = Job { context, args, done: Vec::new(), exit: ExitCode::Done, begun: args.follow };
    let mut retry = if args.follow { Retry::for_good() } else { Retry::once(context) };
    let outcome = loop {
        match job.work().await {
            Err(failure) if job.begun && failure.passes => {
                if !retry.wait(context, &failure).await {
                    let stopped = args.follow || context.signals.came().is_some();
                    break if stopped { Ok(()) } else { Err(failure) };
                }
            }
            outcome => break outcome,
        }
    };
    if let Some(signal) = context.signals.came() {
        job.note_exit(signal);
    }
    if context.format == Format::Json {
        let mut object = json!({"steps": job.done, "exit_code": job.exit as u8});
        if let Err(failure) = &outcome {
            object["error"] = failure.json();
            object["exit_code"] = json!(failure.exit as u8);
        }
        report::json(&object);
    }
    outcome.map(|()| job.exit).or_else(|failure| match context.format {
        Format::Text => Err(failure),
        // It is in the object.
        Format::Json => {
            report::problem(None, &failure);
            Ok(failure.exit)
        }
    })
}

struct Job<'j> {
    context: &'j Context,
    args: &'j RunArgs,
    /// What was done, for machines.
    done: Vec<Value>,
    exit: ExitCode,
    /// Whether the servers were there: what is lost from then on may come back.
    begun: bool,
}

/// Both servers. The session holds the lock for as long as it lives.
struct Servers {
    cluster: Cluster,
    session: Session,
}

impl Servers {
    async fn connect(context: &Context) -> Result<Servers, Failure> {
        let connect = async {
            let (cluster, session) = tokio::try_join!(context.mongo(), context.postgres())?;
            state::hold_due(&session).await?;
            Ok(Servers { cluster, session })
        };
        context.signals.unless_interrupted(connect).await
    }
}

impl Job<'_> {
    async fn work(&mut self) -> Result<(), Failure> {
        let servers = Servers::connect(self.context).await?;
        self.begun = true;
        let mut in_a_row = 0;
        loop {
            let mut due = self.look(&servers).await?;
            let inferred = due.names(|step| *step == Step::Infer);
            if !inferred.is_empty() {
                self.infer(inferred).await?;
                due = self.look(&servers).await?;
            }
            self.tell(&due);
            if !due.loads().is_empty() && !self.load(due.loads()).await? {
                return Ok(());
            }
            // What was just loaded is followed, too.
            if self.args.load_only || !(due.follows() || self.look(&servers).await?.follows()) {
                return Ok(());
            }
            let (report, failure) = self.follow().await;
            in_a_row = if self.args.follow && report.batches() > 0 { 1 } else { in_a_row + 1 };
            let again = failure.as_ref().is_some_and(|failure| {
                failure.exit == ExitCode::LoadDue && in_a_row < LOADS_IN_A_ROW && self.context.signals.came().is_none()
            });
            self.done_following(&report, failure.as_ref());
            if !again {
                return Ok(());
            }
            // Only reading the log has shown it: the state tables do not say so yet.
            self.load_what_is_followed(&servers).await?;
        }
    }

    async fn look(&self, servers: &Servers) -> Result<Due, Failure> {
        let Servers { cluster, session } = servers;
        let policy = Policy { infer: self.context.config.infer, load_only: self.args.load_only };
        let look = async {
            let oplogs = if self.args.load_only { Vec::new() } else { cluster.oplogs().await? };
            let standing = Standing::look(self.context, session, cluster, &oplogs, Sizes::NotWanted).await?;
            Ok(Due::of(&standing.facts()?, policy))
        };
        self.context.signals.unless_interrupted(look).await
    }

    async fn infer(&mut self, collections: Vec<String>) -> Result<(), Failure> {
        let args = InferArgs { collections, ..InferArgs::default() };
        let inferred = infer::perform(self.context, &args).await?;
        inferred.note_empty();
        inferred.failures.print();
        self.done.push(json!({"infer": inferred.json()}));
        self.note_exit(inferred.failures.exit());
        Ok(())
    }

    /// Says why something is loaded, and what is refused. What is left as it is, `plan` tells.
    fn tell(&mut self, due: &Due) {
        let mut refused = Failures::default();
        for (name, step) in &due.0 {
            match step {
                Step::Load(cause) => report::note(format!("{name}: to be loaded: {cause}")),
                Step::Refuse { why } => refused.add(name, Failure::usage(why)),
                Step::Infer | Step::Follow | Step::Leave { .. } => {}
            }
        }
        if refused.is_empty() {
            return;
        }
        refused.print();
        let mut object = json!({});
        refused.add_to(&mut object);
        self.done.push(json!({"refused": object["failed"]}));
        self.note_exit(refused.exit());
    }

    /// Whether to go on.
    async fn load(&mut self, collections: Vec<String>) -> Result<bool, Failure> {
        let args =
            LoadArgs { max_rejects: self.args.max_rejects, verify: self.args.verify, ..LoadArgs::of(collections) };
        let (reports, failures) = load::perform(self.context, &args).await?;
        match self.context.format {
            Format::Text => load_report::print(Format::Text, &reports, &failures),
            Format::Json => failures.print(),
        }
        self.done.push(json!({"load": load_report::as_json(&reports, &failures)}));
        if self.args.follow
            && let Some(failure) = failures.iter().find(|failure| failure.ends_run && failure.passes)
        {
            // The load goes on where it ended once the server is back.
            return Err(failure.clone());
        }
        self.note_exit(failures.exit());
        // One that could not be loaded does not keep the others from being followed.
        Ok(!failures.iter().any(|failure| failure.ends_run))
    }

    async fn load_what_is_followed(&mut self, servers: &Servers) -> Result<(), Failure> {
        let due = self.look(servers).await?;
        let collections = due.names(|step| matches!(step, Step::Follow | Step::Load(_)));
        report::note(format!("to be loaded, because they cannot be followed any more: {}", collections.join(", ")));
        // Its failures are told; what it has loaded is followed.
        self.exit = ExitCode::Done;
        self.load(collections).await.map(drop)
    }

    async fn follow(&self) -> (SyncReport, Option<Failure>) {
        let RunArgs { follow, show_values, .. } = *self.args;
        let args = SyncArgs { follow, show_values, metrics: MetricsArgs::default() };
        sync::perform(self.context, &args).await
    }

    fn done_following(&mut self, report: &SyncReport, failure: Option<&Failure>) {
        match self.context.format {
            Format::Text => report.print(Format::Text, failure),
            Format::Json => {
                if let Some(failure) = failure {
                    report::problem(None, failure);
                }
            }
        }
        let mut object = report.json();
        if let Some(failure) = failure {
            object["error"] = failure.json();
        }
        self.done.push(json!({"sync": object}));
        let exit = failure.map(|failure| failure.exit).or_else(|| self.context.signals.came());
        self.note_exit(exit.unwrap_or(ExitCode::Done));
    }

    /// The first failure decides, unless the run was interrupted.
    fn note_exit(&mut self, exit: ExitCode) {
        let interrupted = matches!(exit, ExitCode::Interrupted | ExitCode::Terminated);
        if self.exit == ExitCode::Done || interrupted {
            self.exit = exit;
        }
    }
}
