//! `gizer pause` and `gizer resume`: collections that are left alone for a while.
//!
//! Pausing writes the wish into `gizer_expected`, nothing else: whoever follows sees it before the next batch, and leaves the
//! collection at its position.

use gizer_pg::Session;
use gizer_pg::state::{self, ObstacleKind};
use serde_json::json;

use super::Context;
use crate::args::{Format, PauseArgs, ResumeArgs};
use crate::exit::{ExitCode, Failure};
use crate::ui::report;
use gizer_engine::Failures;

/// Pauses collections.
///
/// # Errors
/// [`Failure`] if PostgreSQL cannot be asked. A collection that nobody knows is printed.
pub async fn pause(context: &Context, args: &PauseArgs) -> Result<ExitCode, Failure> {
    let session = open(context).await?;
    let mut failures = Failures::default();
    let mut paused = Vec::new();
    for (name, is_paused) in known(&session, &args.collections, &mut failures).await? {
        let remedy = format!("`{}`", report::command("resume", [name], &[]));
        if !is_paused {
            state::set_obstacle(&session, name, ObstacleKind::Paused, &args.reason, Some(&remedy)).await?;
        }
        paused.push(name);
        tell(context, &format!("{}: paused; {remedy} takes it up again", report::printable(name)));
    }
    Ok(finish(context, json!({"paused": paused}), &failures))
}

/// Ends their pause.
///
/// # Errors
/// As [`pause`].
pub async fn resume(context: &Context, args: &ResumeArgs) -> Result<ExitCode, Failure> {
    let session = open(context).await?;
    let mut failures = Failures::default();
    let (mut resumed, mut others) = (Vec::new(), Vec::new());
    for (name, _) in known(&session, &args.collections, &mut failures).await? {
        let shown = report::printable(name);
        if state::resume(&session, name).await? {
            resumed.push(name);
            tell(context, &format!("{shown}: resumed; the next `gizer run` or `gizer sync` applies what has changed"));
        } else {
            others.push(name);
            tell(context, &format!("{shown}: it was not paused"));
        }
    }
    Ok(finish(context, json!({"resumed": resumed, "not_paused": others}), &failures))
}

async fn open(context: &Context) -> Result<Session, Failure> {
    let open = async {
        let session = context.env.postgres().await?;
        state::prepare(&session).await?;
        Ok(session)
    };
    context.env.stop.or_done(open).await
}

/// Those of these collections that are known, with whether they are paused.
async fn known<'n>(
    session: &Session,
    names: &'n [String],
    failures: &mut Failures,
) -> Result<Vec<(&'n str, bool)>, Failure> {
    let status = state::read_status(session, 0).await?.unwrap_or_default();
    let mut known = Vec::new();
    for name in names {
        let expected = status.expected.iter().find(|expected| expected.collection == *name);
        if expected.is_none() && status.collections.iter().all(|each| each.collection != *name) {
            let remedy = "`gizer status` lists the collections that are; `gizer run` takes up new ones";
            failures.add(name, Failure::usage("neither loaded nor expected to be").remedy(remedy));
            continue;
        }
        let obstacle = expected.and_then(|expected| expected.obstacle.as_ref());
        known.push((name.as_str(), obstacle.is_some_and(|obstacle| obstacle.kind == ObstacleKind::Paused)));
    }
    Ok(known)
}

fn tell(context: &Context, line: &str) {
    if context.format == Format::Text {
        report::text(&format!("{line}\n"));
    }
}

fn finish(context: &Context, mut object: serde_json::Value, failures: &Failures) -> ExitCode {
    report::failures(failures);
    if context.format == Format::Json {
        report::add_failures(failures, &mut object);
        report::json(&object);
    }
    report::exit(failures)
}
