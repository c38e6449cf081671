//! Signals that end a run.

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{ExitCode, Failure};

/// Waits for SIGINT or SIGTERM, and gives the failure that a run ends with then. Once it has been called, the first
/// such signal no longer ends the process by itself.
pub async fn interrupted() -> Failure {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without a handler the signals keep their default meaning: they end the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => Failure::new(ExitCode::Interrupted, "interrupted by SIGINT"),
        _ = terminate.recv() => Failure::new(ExitCode::Terminated, "ended by SIGTERM"),
    }
}

/// Runs `work` until it is done or a signal comes; then it is dropped where it stands.
///
/// # Errors
/// Those of `work`, or the interruption.
pub async fn unless_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        failure = interrupted() => Err(failure),
        outcome = work => outcome,
    }
}
