//! The gizer command line: config, progress and reports.
//!
//! ```text
//!   args ─┐
//!   env  ─┼─▶ Config ──▶ commands ──Env──▶ gizer-engine ──events──▶ ui::observer ──▶ ui::report, ui::progress, metrics
//!   file ─┘                 │
//!                           └──▶ ui::report (tables or JSON), exit code
//! ```
//!
//! What does the work is in the other crates, joined by gizer-engine; this one reads what is wanted, and talks to people.

pub mod allocator;
pub mod args;
pub mod commands;
pub mod config;
pub mod exit;
pub mod interrupt;
pub mod metrics;
pub mod ui;

use std::sync::Arc;

use args::{Action, Cli, ConfigAction};
use clap::ArgMatches;
use commands::Context;
use config::Effective;
use exit::{ExitCode, Failure};
use gizer_engine::Env;
use metrics::{Metrics, Run};
use ui::observer::Screen;
use ui::{log, report};

/// Reads the command line, does what it says, and gives the exit code.
pub fn run() -> ExitCode {
    let (cli, matches) = Cli::read();
    log::set_format(log::early_format(&matches));
    log::start(cli.verbose);
    match execute(&cli, &matches) {
        Ok(code) => code,
        Err(failure) => {
            report::failure(&failure, cli.format);
            ExitCode::of(&failure)
        }
    }
}

fn execute(cli: &Cli, matches: &ArgMatches) -> Result<ExitCode, Failure> {
    match &cli.command {
        Action::Completions(args) => return commands::shell::completions(args),
        Action::Man(args) => return commands::shell::man(args),
        Action::Config(ConfigAction::Convert(args)) => {
            return commands::config::convert::run(&cli.classic(&args.file)?, args, cli.format);
        }
        _ => {}
    }
    let effective = cli.configuration(matches)?;
    for warning in effective.warnings() {
        report::note(format!("gizer: warning: {warning}"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        let config = effective.config.clone();
        let metrics = Metrics::new(&config);
        let observer = Arc::new(Screen { metrics: metrics.clone(), format: cli.format });
        let env = Env { settings: config.engine_settings(), stop: interrupt::listen()?, observer };
        let context = Context { config, format: cli.format, env, metrics };
        let run = match cli.command.run_name() {
            Some(command) => Some(Run::begin(&context.metrics, command).await),
            None => None,
        };
        let outcome = act(&cli.command, &context, &effective).await;
        if let Some(run) = run {
            run.end(&outcome).await;
        }
        outcome
    });
    // What an interruption has left half-way must not hold up the end of the process; nor is it torn down before, since tasks of the
    // driver that outlive others of it panic.
    std::mem::forget(runtime);
    outcome
}

async fn act(action: &Action, context: &Context, effective: &Effective) -> Result<ExitCode, Failure> {
    match action {
        Action::Run(args) => commands::run::run(context, args).await,
        Action::Plan(args) => commands::plan::run(context, args).await,
        Action::Schema(action) => commands::schema::run(context, action).await,
        Action::Load(args) => commands::load::run(context, args).await,
        Action::Extract(args) => commands::extract::run(context, args).await,
        Action::Copy(args) => commands::copy::run(context, args).await,
        Action::Sync(args) => commands::sync::run(context, args).await,
        Action::Resync(args) => commands::resync::run(context, args).await,
        Action::Verify(args) => commands::verify::run(context, args).await,
        Action::Status(args) => commands::status::run(context, args).await,
        Action::Pause(args) => commands::pause::pause(context, args).await,
        Action::Resume(args) => commands::pause::resume(context, args).await,
        Action::Etlstatus(action) => commands::etlstatus::run(context, action).await,
        Action::Config(ConfigAction::Get(args)) => commands::config::show::get(effective, args, context.format),
        Action::Config(_) => Ok(commands::config::show::show(effective, context.format)),
        Action::Completions(args) => commands::shell::completions(args),
        Action::Man(args) => commands::shell::man(args),
    }
}
