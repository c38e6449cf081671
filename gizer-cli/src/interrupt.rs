//! Signals that end a run.

use std::thread;
use std::time::Duration;

use gizer_engine::Stop;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{ExitCode, Failure, FailureKind};
use crate::ui::report;

/// Listens for SIGINT and SIGTERM for as long as the process lives, so that none is lost between two pieces of work. Needs a
/// tokio runtime.
///
/// The first signal asks the command to stop and to leave everything in order, within 8 s; a second one ends the
/// process at once. What is open in PostgreSQL then is rolled back by the server.
///
/// # Errors
/// [`Failure`] if the system does not let us.
pub fn listen() -> Result<Stop, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (stopper, stop) = Stop::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        loop {
            let why = tokio::select! {
                _ = interrupt.recv() => Failure::new(FailureKind::Interrupted, "interrupted by SIGINT"),
                _ = terminate.recv() => Failure::new(FailureKind::Terminated, "ended by SIGTERM"),
            };
            let code = ExitCode::of(&why);
            if asked.is_asked() {
                std::process::exit(i32::from(code as u8));
            }
            end_after_limit(code);
            stopper.stop(why);
        }
    });
    Ok(stop)
}

/// How long a command may take to leave everything in order. A supervisor that sends SIGTERM sends SIGKILL 10 s later.
const TIDY_LIMIT: Duration = Duration::from_secs(8);

/// Ends the process whatever it waits for: on a thread of its own, since the runtime's may be the ones that wait.
fn end_after_limit(code: ExitCode) {
    thread::spawn(move || {
        thread::sleep(TIDY_LIMIT);
        let limit = TIDY_LIMIT.as_secs();
        report::warning(format!("not everything was in order {limit} s after the signal; the next run puts it right"));
        std::process::exit(i32::from(code as u8));
    });
}
