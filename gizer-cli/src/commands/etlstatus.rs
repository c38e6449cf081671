//! `gizer etlstatus`: what scripts of the classic tool ask and tell.

use gizer_oplog::newest_positions;
use gizer_pg::state::{self, LoadNeed, ShardPositions, classic_ts};
use serde_json::json;

use super::Context;
use crate::args::{EtlOutcome, EtlstatusAction, Format};
use crate::exit::{ExitCode, Failure};
use crate::ui::report;

/// Answers or records what was asked or told.
///
/// # Errors
/// [`Failure`] if a server cannot be reached or does not do it, or there is no open row to close.
pub async fn run(context: &Context, action: &EtlstatusAction) -> Result<ExitCode, Failure> {
    match action {
        EtlstatusAction::Needed => needed(context).await,
        EtlstatusAction::Start => start(context).await,
        EtlstatusAction::Finish { outcome } => finish(context, *outcome).await,
    }
}

/// Whether a load is needed: by the exit code, and `1` or `0` on standard output while it is not.
async fn needed(context: &Context) -> Result<ExitCode, Failure> {
    let look = async {
        let session = context.env.postgres().await?;
        Ok(state::load_needed(&session).await?)
    };
    let need = context.env.stop.or_done(look).await?;
    let reason = match &need {
        LoadNeed::Yes { reason } => Some(reason),
        LoadNeed::No | LoadNeed::UnderWay => None,
    };
    match (context.format, &need) {
        (Format::Json, _) => {
            let under_way = need == LoadNeed::UnderWay;
            report::json(&json!({"needed": reason.is_some(), "under_way": under_way, "reason": reason}));
        }
        (Format::Text, LoadNeed::UnderWay) => report::text("1\n"),
        (Format::Text, LoadNeed::No) => report::text("0\n"),
        (Format::Text, LoadNeed::Yes { reason }) => report::note(format!("gizer: a load is needed: {reason}")),
    }
    Ok(if reason.is_some() { ExitCode::Failed } else { ExitCode::Done })
}

/// Saves the newest position of each shard in a new row of status 0.
async fn start(context: &Context) -> Result<ExitCode, Failure> {
    let start = async {
        let (session, cluster) = (context.env.postgres().await?, context.env.mongo().await?);
        let positions = newest_positions(&cluster.oplogs().await?).await?;
        let positions: ShardPositions = positions.into_iter().map(|(shard, at)| (shard, Some(at))).collect();
        state::prepare(&session).await?;
        state::start_asked(&session, &positions).await?;
        Ok(classic_ts(&positions))
    };
    let ts = context.env.stop.or_done(start).await?;
    match context.format {
        Format::Json => report::json(&json!({"ts": ts})),
        Format::Text => report::text(&format!("{ts}\n")),
    }
    Ok(ExitCode::Done)
}

/// Closes the row that [`start`] has opened.
async fn finish(context: &Context, outcome: EtlOutcome) -> Result<ExitCode, Failure> {
    let error = outcome == EtlOutcome::Error;
    let finish = async {
        let session = context.env.postgres().await?;
        state::prepare(&session).await?;
        Ok(state::finish_asked(&session, error).await?)
    };
    if !context.env.stop.or_done(finish).await? {
        return Err(Failure::failed(
            "there is no open row to close: none was started, or another run has closed it as dead",
        )
        .remedy("run `gizer etlstatus start` before the load"));
    }
    if context.format == Format::Json {
        report::json(&json!({"error": error}));
    }
    Ok(ExitCode::Done)
}
