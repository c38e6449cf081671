//! How gizer ends: the exit codes, and failures that carry one.

use std::fmt;

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
    /// Documents and rows differ: as `verify` found them, or still do after a repair; before the swap of a load, or after `sync` has
    /// written them twice.
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

/// Why a command did not do what was asked.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How the process ends.
    pub exit: ExitCode,
    /// What happened: what was expected, what came, and where. Lower-case, without a full stop.
    pub message: String,
    /// What the operator can do about it.
    pub remedy: Option<String>,
    /// Whether it ends the whole run, as a lost connection does, and not only the work on one collection.
    pub ends_run: bool,
    /// Whether the same may succeed a little later, as after an election or a restart.
    pub passes: bool,
}

impl Failure {
    /// A failure with this exit code and message. Only an interruption ends the whole run, unless told.
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Failure {
        let ends_run = matches!(exit, ExitCode::Interrupted | ExitCode::Terminated);
        Failure { exit, message: within_limit(message.into()), remedy: None, ends_run, passes: false }
    }

    /// The command line, the configuration or a schema file is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(ExitCode::Usage, message)
    }

    /// It could not be done.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure::new(ExitCode::Failed, message)
    }

    /// Says what the operator can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Failure {
        self.remedy = Some(within_limit(remedy.into()));
        self
    }

    /// The message with its remedy, where there is room for one line only.
    pub fn in_a_line(&self) -> String {
        let remedy = self.remedy.as_ref().map(|remedy| format!(" ({remedy})"));
        format!("{}{}", self.message, remedy.unwrap_or_default())
    }

    /// For machines: what `error` is in the object of a command that fails.
    pub fn json(&self) -> Value {
        json!({"message": self.message, "remedy": self.remedy, "exit_code": self.exit as u8})
    }

    /// Says that nothing can be done for other collections either.
    #[must_use]
    pub fn ending_the_run(mut self) -> Failure {
        self.ends_run = true;
        self
    }
}

/// Most characters of a message: more than any that lists what it should, and less than what a hostile name can make of it.
const LONGEST_MESSAGE: usize = 4_000;

/// A message without its middle, if it is too long to be read.
pub(crate) fn within_limit(message: String) -> String {
    let count = message.chars().count();
    if count <= LONGEST_MESSAGE {
        return message;
    }
    let half = LONGEST_MESSAGE / 2;
    let (begin, end): (String, String) =
        (message.chars().take(half).collect(), message.chars().skip(count - half).collect());
    format!("{begin} … ({} characters) … {end}", count - 2 * half)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_can_be_read() {
        let failure = Failure::usage(format!("the field {} is unknown", "é".repeat(10_000)));
        assert!(failure.message.chars().count() < LONGEST_MESSAGE + 40, "{}", failure.message.len());
        assert!(failure.message.starts_with("the field é") && failure.message.ends_with(" is unknown"));
        assert_eq!(Failure::usage("short").message, "short");
    }
}
