//! Child processes that do not outlive the test process.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use super::guard::Guard;

/// A signal to send to a server or to gizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGQUIT; PostgreSQL ends at once, without a checkpoint.
    Quit,
    /// SIGKILL.
    Kill,
    /// SIGSTOP: the process holds its connections and answers nothing, as when a machine hangs.
    Stop,
    /// SIGCONT, after [`Signal::Stop`].
    Continue,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }

    /// Sends the signal to processes in the given order. A process that is gone is not an error.
    pub(crate) fn send(self, pids: &[u32]) -> Result<(), Error> {
        let mut kill = Command::new("sh");
        // The shell's own `kill`: a minimal machine may lack the program.
        kill.args(["-c", r#"for pid; do kill -s "$0" "$pid"; done"#, self.name()])
            .args(pids.iter().map(u32::to_string))
            .stderr(Stdio::null());
        kill.status().map_err(Error::io(format!("send SIG{}", self.name())))?;
        Ok(())
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl Program {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), env: Vec::new() }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// Another program with its arguments and variables, as arguments of this one.
    pub(crate) fn program(mut self, other: &Program) -> Self {
        self.args.push(other.path.clone().into());
        self.args.extend(other.args.iter().cloned());
        self.env.extend(other.env.iter().cloned());
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), value.as_ref().into()));
        self
    }
}

/// How long a child may take to end by itself after its guard's signal.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A running child, ended when this is dropped, and by its guard when the test process dies.
#[derive(Debug)]
pub(crate) struct GuardedChild {
    child: Child,
    guard: Arc<Guard>,
}

impl GuardedChild {
    /// Starts `program` in the guard's folder, with nothing on standard input.
    pub(crate) fn spawn(guard: &Arc<Guard>, program: &Program, stdout: File, stderr: File) -> Result<Self, Error> {
        let doing = || format!("start {}", program.path.display());
        // The child waits for a word before it becomes the program, and the guard knows of it by then. Were this process
        // killed in between, the child would read the end of the pipe and go.
        let mut command = Command::new("sh");
        // They are for the tests, and gizer would warn of settings that it does not know.
        let of_tests = std::env::vars_os().map(|(name, _)| name);
        for name in of_tests.filter(|name| name.to_string_lossy().starts_with("GIZER_TORTURE_")) {
            command.env_remove(name);
        }
        let child = command
            .args(["-c", r#"read -r word && [ "$word" = go ] && exec "$@" </dev/null"#, "gate"])
            .arg(&program.path)
            .args(&program.args)
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .current_dir(guard.folder())
            // Ctrl-C is for the test; what it means for this child, the guard decides.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(Error::io(doing()))?;
        let mut started = Self { child, guard: Arc::clone(guard) };
        guard.watch(started.pid())?;
        if let Some(mut gate) = started.child.stdin.take() {
            gate.write_all(b"go\n").map_err(Error::io(doing()))?;
        }
        Ok(started)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::io("ask how a child process does"))
    }

    /// SIGKILL, and waits until it is gone. Nothing happens if it has ended already.
    pub(crate) fn kill(&mut self) {
        // Both fail only for a child that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for GuardedChild {
    fn drop(&mut self) {
        let running = |child: &mut Self| matches!(child.ended(), Ok(None));
        if running(self) && self.guard.signal() != Signal::Kill && self.guard.signal().send(&[self.pid()]).is_ok() {
            let asked = Instant::now();
            while running(self) && asked.elapsed() < END_LIMIT {
                thread::sleep(Duration::from_millis(2));
            }
        }
        self.kill();
        self.guard.forget(self.child.id());
    }
}

/// Blocks until processes that have been killed are gone, which takes the system a moment.
pub(crate) fn wait_until_gone(pids: &[u32]) {
    // A zombie has given back all it had, and only waits for its parent to look at it.
    let alive = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    let killed = Instant::now();
    while pids.iter().any(alive) && killed.elapsed() < END_LIMIT {
        thread::sleep(Duration::from_millis(2));
    }
}
