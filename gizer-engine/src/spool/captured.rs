//! A capture for as long as loads or resyncs of some collections take.

use std::time::Duration;

use gizer_oplog::Oplog;
use gizer_pg::Session;
use gizer_pg::state;

use super::Capture;
use crate::env::Env;
use crate::failure::Failure;
use crate::notice::Notice;

/// How long the end of a load waits for its spools. At most one batch and about a second of changes
/// are missing, unless the spools' disk or server hangs.
const CAPTURE_LIMIT: Duration = Duration::from_secs(10);

/// Starts the capture, before the first document is read; `None` without oplogs.
pub(crate) async fn start_capture(
    env: &Env,
    session: &Session,
    oplogs: &[Oplog],
    collections: &[String],
    restart: bool,
) -> Result<Option<Capture>, Failure> {
    if oplogs.is_empty() {
        return Ok(None);
    }
    let start = async {
        let needed = state::needed_from(session, collections, restart).await?;
        Capture::start(env.settings.servers.spools()?, oplogs, needed.as_ref()).await
    };
    env.stop.or_done(start).await.map(Some)
}

/// Ends it. The spool stays while an unfinished load or resync needs it.
pub(crate) async fn end_capture(env: &Env, session: &Session, capture: Option<Capture>) {
    let Some(capture) = capture else { return };
    let end = async {
        // If that is unknown, a load may need the spool.
        match state::has_unfinished_loads(session).await {
            Ok(false) => capture.finish().await,
            Ok(true) | Err(_) => capture.stop().await,
        }
    };
    match tokio::time::timeout(CAPTURE_LIMIT, end).await {
        // The outcome of the load must not wait for a spool.
        Err(_) => {
            let limit = CAPTURE_LIMIT.as_secs();
            let why = format!(
                "the spool could not be completed within {limit} s; the oplog itself is needed from where it ends"
            );
            env.notice(&Notice::SpoolUnfinished { why });
        }
        Ok(Ok(report)) if report.is_whole() => {
            tracing::info!(reached = ?report.span.reached, "changes were spooled");
        }
        // Already logged, and the loads were checked against it.
        Ok(Ok(report)) => tracing::warn!(reached = ?report.span.reached, "changes were spooled up to here only"),
        Ok(Err(failure)) => env.notice(&Notice::SpoolUnfinished { why: failure.message }),
    }
}
