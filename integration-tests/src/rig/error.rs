//! What can go wrong while a test's servers and programs are started, watched and ended.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why the rig could not do what a test asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server is not installed on this machine, or only half.
    #[error("expected {what} at {}, found none: run scripts/setup", path.display())]
    NotInstalled {
        /// What is missing.
        what: String,
        /// Where it was looked for.
        path: PathBuf,
    },

    /// The `gizer` program has not been built in the profile of the test.
    #[error("expected the gizer program at {}, found none: run `cargo build -p gizer-cli` first, in the tests' profile", path.display())]
    GizerNotBuilt {
        /// Where it was looked for.
        path: PathBuf,
    },

    /// The `gizer` program is older than what it is built from, so a test of it would prove nothing.
    #[error(
        "{} was built before {} changed: run `cargo build -p gizer-cli` first, in the tests' profile",
        path.display(), source_file.display()
    )]
    GizerStale {
        /// The program.
        path: PathBuf,
        /// A source file that is newer.
        source_file: PathBuf,
    },

    /// The operating system refused something.
    #[error("could not {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },

    /// The process that watches over a server did not come up.
    #[error("expected the guard to name the folder it made, got {got:?}")]
    Guard {
        /// What it said instead.
        got: String,
    },

    /// A program ended before it was ready, or with an error.
    #[error("{what} ended with {status} while it was expected to {expected}; the end of its log:\n{log}")]
    Ended {
        /// The program.
        what: String,
        /// What it was to do.
        expected: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        log: String,
    },

    /// Another process took the chosen port before the server could.
    #[error("port {port} was free when it was chosen for {what}, and taken when it was to be used")]
    PortTaken {
        /// The server.
        what: String,
        /// The port.
        port: u16,
    },

    /// There is no free port among those that the rig may use.
    #[error("expected a free loopback port from {first} to {last}, found none")]
    NoFreePort {
        /// The first port tried.
        first: u16,
        /// The last port tried.
        last: u16,
    },

    /// A condition did not come true in time.
    #[error("waited {limit:?} in vain for {what}")]
    TimedOut {
        /// The condition.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },

    /// A `gizer` run did not end in time, and was killed.
    #[error("expected `{command}` to end within {limit:?}; it was killed, having written\n{output}")]
    GizerTimedOut {
        /// The command line.
        command: String,
        /// The limit.
        limit: Duration,
        /// Its standard output and standard error so far.
        output: String,
    },

    /// The server has been stopped or killed, and not restarted since.
    #[error("{what} is not running")]
    NotRunning {
        /// The server.
        what: String,
    },

    /// MongoDB refused something.
    #[error("could not {doing}: {source}")]
    Mongo {
        /// What was being done.
        doing: String,
        /// The server's or driver's answer.
        source: Box<mongodb::error::Error>,
    },

    /// PostgreSQL refused something.
    #[error("could not {doing}: {source}")]
    Postgres {
        /// What was being done.
        doing: String,
        /// The server's or driver's answer.
        source: tokio_postgres::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn mongo(doing: impl Into<String>) -> impl FnOnce(mongodb::error::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Mongo { doing, source: Box::new(source) }
    }

    pub(crate) fn postgres(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Postgres { doing, source }
    }
}
