//! How gizer ends: the exit codes, and which one a failure ends with.

pub use gizer_engine::{Failure, FailureKind};
use serde_json::{Value, json};

/// The exit codes of all commands. Scripts and monitors rely on them: a number never changes its meaning.
///
/// Where a command deals with several collections and some fail, the code is that of the first failure, unless a later
/// one ended the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// What was asked is done.
    Done = 0,
    /// It could not be done; the message says why. The next run may succeed. A server that cannot be reached or that
    /// refuses the login is of this kind: what it knows of users, and not only the configuration, decides about that. Of
    /// `schema diff` alone, as of diff: something differs.
    Failed = 1,
    /// The command line, the configuration or a schema file is wrong, or a database or collection that it names does
    /// not exist. Of what is wrong nothing was begun.
    Usage = 2,
    /// Only a new load helps: the log has rolled over, or its history is another one.
    LoadDue = 3,
    /// Documents and rows differ, after `verify` or a repair, before a swap, or after `sync` wrote them twice.
    Differs = 4,
    /// Another run holds the lock, or took over.
    Locked = 5,
    /// `status --check` warns.
    Warning = 6,
    /// Done, but not all that is expected to be copied is: what is missing is named.
    NotAll = 7,
    /// Ended by SIGINT (Ctrl-C).
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}

impl ExitCode {
    /// How a command ends with this failure.
    pub fn of(failure: &Failure) -> ExitCode {
        match failure.kind {
            FailureKind::Failed => ExitCode::Failed,
            FailureKind::Usage => ExitCode::Usage,
            FailureKind::LoadDue => ExitCode::LoadDue,
            FailureKind::Differs => ExitCode::Differs,
            FailureKind::Locked => ExitCode::Locked,
            FailureKind::NotAll => ExitCode::NotAll,
            FailureKind::Interrupted => ExitCode::Interrupted,
            FailureKind::Terminated => ExitCode::Terminated,
        }
    }
}

/// For machines: what `error` is in the object of a command that fails.
pub(crate) fn failure_json(failure: &Failure) -> Value {
    json!({"message": failure.message, "remedy": failure.remedy, "exit_code": ExitCode::of(failure) as u8})
}
