//! `gizer sync`: the live tables are brought up to date with the oplog, once or for as long as it stays on.

use std::sync::atomic::AtomicBool;

use gizer_engine::due::CopyStandings;
use gizer_engine::follow::{self, SyncOptions};
use gizer_pg::state;

use super::Context;
use super::sync_report::Shown;
use crate::args::SyncArgs;
use crate::exit::{ExitCode, Failure};
use crate::ui::report;

/// Follows until everything is applied, or until somebody says stop.
///
/// # Errors
/// [`Failure`] if nothing can be followed at all. What goes wrong later is printed with what was done before.
pub async fn run(context: &Context, args: &SyncArgs) -> Result<ExitCode, Failure> {
    let _published = match args.follow {
        true => Some(context.metrics.publish(args.metrics.address(&context.config)).await?),
        false => None,
    };
    let options = SyncOptions { stays_on: args.follow, shows_values: args.show_values };
    let (done, failure) = follow::sync(&context.env, options, &AtomicBool::new(false)).await;
    context.settle_metrics().await;
    // What is missing is reported, whatever has happened to the rest.
    let standings = match context.signal() {
        None => context.env.stop.or_done(recorded_standings(context)).await.ok(),
        Some(_) => None,
    };
    Shown(&done).print(context.format, failure.as_ref(), standings.as_ref().map(report::missing_json));
    standings.iter().for_each(report::missing);
    Ok(match failure {
        Some(failure) => ExitCode::of(&failure),
        None if standings.is_some_and(|standings| !standings.are_complete()) => ExitCode::NotAll,
        None => context.signal().unwrap_or(ExitCode::Done),
    })
}

/// How all that is expected stands, by the state tables.
///
/// # Errors
/// [`Failure`] if they cannot be read.
pub(super) async fn recorded_standings(context: &Context) -> Result<CopyStandings, Failure> {
    let status = state::read_status(&context.env.postgres().await?, 0).await?.unwrap_or_default();
    CopyStandings::recorded(&context.env, &status)
}
