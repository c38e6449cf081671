//! Ending what a test started, however the test ends.
//!
//! Dropping is not enough: statics are never dropped, and a process that aborts or is killed drops nothing. So each server
//! has a guard beside it, a small shell in a process group of its own, that blocks on a pipe from the
//! test process. When the test process is gone, whatever the reason, the pipe closes, and the guard ends the
//! server and removes its folder.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Error, Signal};

/// A temporary folder and the processes at work in it, both gone when this is dropped or its process dies.
#[derive(Debug)]
pub(crate) struct Guard {
    folder: PathBuf,
    signal: Signal,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shell: Child,
    pipe: Option<ChildStdin>,
    pids: Vec<u32>,
}

impl Guard {
    /// Makes a folder. Processes in it are ended with `signal`, and with SIGKILL after 5 seconds.
    pub(crate) fn new(signal: Signal) -> Result<Self, Error> {
        let mut shell = Command::new("sh")
            .args(["-c", include_str!("guard.sh"), "guard", signal.name()])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("start the guard of a test server"))?;
        let pipe = shell.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(Error::io("hear from the guard"))?;
        }
        let folder = PathBuf::from(line.trim_end());
        let state = Mutex::new(State { shell, pipe, pids: Vec::new() });
        if !folder.is_absolute() {
            return Err(Error::Guard { got: line });
        }
        Ok(Self { folder, signal, state })
    }

    /// The folder: everything in it is removed at the end.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The signal that ends the processes, unless a test ends them in another way.
    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    /// From now on, `pid` is ended should this process die.
    pub(crate) fn watch(&self, pid: u32) -> Result<(), Error> {
        let mut state = self.state();
        state.pids.push(pid);
        state.tell()
    }

    /// `pid` has ended and been waited for. Its number may be another process's from now on.
    pub(crate) fn forget(&self, pid: u32) {
        let mut state = self.state();
        state.pids.retain(|&watched| watched != pid);
        // A guard that does not listen any more cannot kill the wrong process either.
        let _ = state.tell();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&mut self) -> Result<(), Error> {
        let pids: Vec<String> = self.pids.iter().map(u32::to_string).collect();
        // One write of less than PIPE_BUF: the guard sees the whole line or nothing of it.
        let line = pids.join(" ") + "\n";
        match &mut self.pipe {
            Some(pipe) => pipe.write_all(line.as_bytes()).map_err(Error::io("tell the guard what to watch")),
            None => Ok(()),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.state();
        state.pipe = None;
        // The folder is gone when the guard is.
        let _ = state.shell.wait();
    }
}
