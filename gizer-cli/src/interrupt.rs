//! Signals that end a run.

use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::{ExitCode, Failure, FailureKind};
use crate::report;

/// Listens for SIGINT and SIGTERM for as long as the process lives, so that none is lost between two pieces of work.
///
/// The first signal asks the command to stop and to leave everything in order, within 8 s; a second one ends the
/// process at once. What is open in PostgreSQL then is rolled back by the server.
#[derive(Debug, Clone)]
pub struct Signals {
    came: watch::Receiver<Option<ExitCode>>,
}

impl Signals {
    /// Starts to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Failure`] if the system does not let us.
    pub fn listen() -> Result<Signals, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("cannot listen for signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let (sender, came) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let code = tokio::select! {
                    _ = interrupt.recv() => ExitCode::Interrupted,
                    _ = terminate.recv() => ExitCode::Terminated,
                };
                if sender.borrow().is_some() {
                    std::process::exit(i32::from(code as u8));
                }
                end_after_limit(code);
                if sender.send(Some(code)).is_err() {
                    return;
                }
            }
        });
        Ok(Signals { came })
    }

    /// Which signal has come, if one has: for work that is better ended than dropped.
    pub fn came(&self) -> Option<ExitCode> {
        *self.came.borrow()
    }

    /// Runs `work` until it is done or a signal comes; then it is dropped where it stands.
    ///
    /// # Errors
    /// Those of `work`, or the interruption.
    pub async fn unless_interrupted<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut came = self.came.clone();
        tokio::select! {
            biased;
            code = interruption(&mut came) => Err(code),
            outcome = work => outcome,
        }
    }
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

async fn interruption(came: &mut watch::Receiver<Option<ExitCode>>) -> Failure {
    let code = came.wait_for(Option::is_some).await.ok().and_then(|code| *code);
    match code {
        Some(ExitCode::Terminated) => Failure::new(FailureKind::Terminated, "ended by SIGTERM"),
        Some(_) => Failure::new(FailureKind::Interrupted, "interrupted by SIGINT"),
        // The listener lives as long as the runtime: there is nothing to wait for any more.
        None => std::future::pending().await,
    }
}
