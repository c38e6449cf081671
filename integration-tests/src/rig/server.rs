//! A server process through its life: started, ready, killed, stopped, started again on the same data.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::guard::Guard;
use super::process::{GuardedChild, Program, wait_until_gone};
use super::{Error, Signal, wait_for};

/// How long a server may take to come up or to end in an orderly way. Long, because machines that
/// test are busy; nobody waits that long for a server that works.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// One server: what to run, and the process while it runs.
#[derive(Debug)]
pub(crate) struct Server {
    what: String,
    port: u16,
    program: Program,
    /// What the server writes to its log once it takes connections.
    ready: &'static str,
    child: Mutex<Option<GuardedChild>>,
    starts: AtomicU32,
    guard: Arc<Guard>,
}

impl Server {
    pub(crate) fn new(what: String, port: u16, program: Program, ready: &'static str, guard: Arc<Guard>) -> Self {
        Self { what, port, program, ready, child: Mutex::new(None), starts: AtomicU32::new(0), guard }
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        self.guard.folder()
    }

    /// The process id, or `None` when the server has been killed or stopped.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(GuardedChild::pid)
    }

    /// The log of the latest start. Each start has one of its own.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder().join(format!("log.{}", self.starts.load(Ordering::Relaxed)))
    }

    /// Starts the process and waits until it takes connections.
    ///
    /// The log is what tells, not a connection: on a port that was taken meanwhile, somebody else would answer.
    pub(crate) async fn start(&self) -> Result<(), Error> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        let path = self.log_path();
        let log = File::create(&path).map_err(Error::io(format!("create {}", path.display())))?;
        let log_too = log.try_clone().map_err(Error::io("share a log file"))?;
        *self.child() = Some(GuardedChild::spawn(&self.guard, &self.program, log, log_too)?);

        let what = format!("{} to take connections on port {}", self.what, self.port);
        let outcome = wait_for(what, LIMIT, async || match self.ended() {
            Err(error) => Some(Err(error)),
            Ok(Some(status)) => Some(Err(self.ended_early(status))),
            Ok(None) => fs::read(&path).is_ok_and(|log| contains(&log, self.ready)).then_some(Ok(())),
        })
        .await
        .flatten();
        if outcome.is_err() {
            *self.child() = None;
        }
        outcome
    }

    /// SIGKILL to the process and to all of its children, as in a crash of the machine.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        let Some(mut child) = self.child().take() else {
            return Err(self.not_running());
        };
        // Stopped, it has no more children while they are looked for. They would notice by themselves that their parent
        // is gone, but later, and until then stand in the way of a restart.
        Signal::Stop.send(&[child.pid()])?;
        let offspring = children_of(child.pid());
        child.kill();
        Signal::Kill.send(&offspring)?;
        wait_until_gone(&offspring);
        Ok(())
    }

    /// Sends a signal and does not wait for what comes of it.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = self.pid().ok_or_else(|| self.not_running())?;
        signal.send(&[pid])
    }

    /// Asks the server to end with `signal`, and waits until it has.
    pub(crate) async fn stop(&self, signal: Signal) -> Result<(), Error> {
        self.signal(signal)?;
        wait_for(format!("{} to end", self.what), LIMIT, async || self.ended().transpose()).await??;
        *self.child() = None;
        Ok(())
    }

    fn child(&self) -> MutexGuard<'_, Option<GuardedChild>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> Result<Option<ExitStatus>, Error> {
        self.child().as_mut().ok_or_else(|| self.not_running())?.ended()
    }

    fn not_running(&self) -> Error {
        Error::NotRunning { what: self.what.clone() }
    }

    fn ended_early(&self, status: ExitStatus) -> Error {
        let log = log_tail(&self.log_path());
        if log.contains("Address already in use") {
            return Error::PortTaken { what: self.what.clone(), port: self.port };
        }
        Error::Ended { what: self.what.clone(), expected: "take connections", status, log }
    }
}

/// Starts a server on one port after the other until one was not taken between choosing and using it.
pub(crate) async fn on_free_port<S>(start: impl AsyncFn(u16) -> Result<S, Error>) -> Result<S, Error> {
    const ATTEMPTS: usize = 5;
    let mut attempt = 1;
    loop {
        match start(super::port::free_port()?).await {
            Err(Error::PortTaken { .. }) if attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

/// The last lines of a log.
pub(crate) fn log_tail(path: &Path) -> String {
    const LINES: usize = 30;
    let log = fs::read(path).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn contains(log: &[u8], text: &str) -> bool {
    log.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The processes that `pid` has started. None on a kernel that does not tell.
fn children_of(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_given_up_for_another_a_few_times() {
        let ports = Cell::new(Vec::new());
        let start = async |port, taken: usize| {
            let mut tried = ports.take();
            tried.push(port);
            let free = tried.len() > taken;
            ports.set(tried);
            if free { Ok(port) } else { Err(Error::PortTaken { what: "a server".into(), port }) }
        };

        let port = on_free_port(async |port| start(port, 2).await).await.unwrap();
        let mut tried = ports.take();
        assert_eq!((tried.len(), tried.last()), (3, Some(&port)));
        tried.dedup();
        assert_eq!(tried.len(), 3, "each attempt has a port of its own");

        let never = on_free_port(async |port| start(port, usize::MAX).await).await;
        assert!(matches!(never, Err(Error::PortTaken { .. })));
        assert_eq!(ports.take().len(), 5);
    }
}
