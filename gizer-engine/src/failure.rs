//! Failures with their cause, remedy and whether a retry may succeed.

use std::fmt;

use gizer_oplog::{ErrorClass, MongoError};
use gizer_pg::{ErrorKind, PgError};

/// Kinds of [`Failure`], by what a caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The work failed; a retry may succeed.
    Failed,
    /// A request, a setting or a schema file is wrong, or names what does not exist. Nothing was started.
    Usage,
    /// A load is due: the log has rolled over or diverged.
    LoadDue,
    /// Documents and rows differ.
    Differs,
    /// Another run holds the lock, or took over.
    Locked,
    /// Done, but not all expected collections are copied.
    NotAll,
    /// Ended by SIGINT.
    Interrupted,
    /// Ended by SIGTERM.
    Terminated,
}

/// Why work failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    /// What failed, where, and why. Lower case, no full stop.
    pub message: String,
    /// What the operator can do.
    pub remedy: Option<String>,
    /// Whether it ends the whole run, as a lost connection does.
    pub ends_run: bool,
    /// Whether a retry may succeed soon, as after an election or a restart.
    pub passes: bool,
}

impl Failure {
    /// A failure of this kind. Only interruptions end the whole run.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        let ends_run = matches!(kind, FailureKind::Interrupted | FailureKind::Terminated);
        Failure { kind, message: within_limit(message.into()), remedy: None, ends_run, passes: false }
    }

    /// A request, a setting or a schema file is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Usage, message)
    }

    /// The work failed.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Failed, message)
    }

    /// Adds what the operator can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Failure {
        self.remedy = Some(within_limit(remedy.into()));
        self
    }

    /// Message and remedy in one line.
    pub fn in_a_line(&self) -> String {
        let remedy = self.remedy.as_ref().map(|remedy| format!(" ({remedy})"));
        format!("{}{}", self.message, remedy.unwrap_or_default())
    }

    /// Marks that it affects all collections.
    #[must_use]
    pub fn ending_the_run(mut self) -> Failure {
        self.ends_run = true;
        self
    }
}

/// Limit of a message in characters: more than any list needs, less than a hostile name could fill.
const MAX_MESSAGE_CHARS: usize = 4_000;

/// Cuts the middle out of a message that is too long.
fn within_limit(message: String) -> String {
    let count = message.chars().count();
    if count <= MAX_MESSAGE_CHARS {
        return message;
    }
    let half = MAX_MESSAGE_CHARS / 2;
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

impl From<MongoError> for Failure {
    fn from(error: MongoError) -> Failure {
        let kind = match error.class() {
            ErrorClass::Configuration => FailureKind::Usage,
            ErrorClass::Failed => FailureKind::Failed,
            ErrorClass::LoadDue => FailureKind::LoadDue,
        };
        let ends_run = !error.is_of_one_collection();
        let passes = error.is_transient();
        let (message, remedy) = (within_limit(error.to_string()), error.remedy().map(within_limit));
        Failure { kind, message, remedy, ends_run, passes }
    }
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Failure {
        let kind = match error.kind() {
            ErrorKind::Config => FailureKind::Usage,
            ErrorKind::HeldByAnotherRun => FailureKind::Locked,
            ErrorKind::Interrupted => FailureKind::Interrupted,
            ErrorKind::Failed => FailureKind::Failed,
        };
        // These concern one collection; others would fail for the next one too.
        let of_one_collection = match &error {
            PgError::Locked { .. }
            | PgError::Fenced { .. }
            | PgError::ForeignTable { .. }
            | PgError::NameTaken { .. }
            | PgError::Dependents { .. }
            | PgError::NotAdopted { .. }
            | PgError::TablesBusy { .. }
            | PgError::TablesHeld { .. }
            | PgError::StagingBusy { .. }
            | PgError::NotCarriedOver { .. }
            | PgError::DuplicateKey { .. }
            | PgError::DataRejected { .. }
            | PgError::RowsDiffer { .. }
            | PgError::LineRefused { .. }
            | PgError::ExtractDiffers { .. }
            | PgError::File { .. }
            | PgError::UnusableName { .. }
            | PgError::NoRights { .. } => true,
            // Not resources (53), operator (57), system (58), nor a read-only role.
            PgError::Database { said, .. } => {
                !["53", "57", "58", "XX", "25006"].iter().any(|class| said.sqlstate.starts_with(class))
            }
            _ => false,
        };
        let remedy = error.remedy().map(|remedy| match error {
            PgError::TablesBusy { .. } | PgError::TablesHeld { .. } => format!("{remedy}, or raise load.swap_timeout"),
            _ => remedy,
        });
        let passes = error.is_transient();
        let (message, remedy) = (within_limit(error.to_string()), remedy.map(within_limit));
        Failure { kind, message, remedy, ends_run: !of_one_collection, passes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_can_be_read() {
        let failure = Failure::usage(format!("the field {} is unknown", "é".repeat(10_000)));
        assert!(failure.message.chars().count() < MAX_MESSAGE_CHARS + 40, "{}", failure.message.len());
        assert!(failure.message.starts_with("the field é") && failure.message.ends_with(" is unknown"));
        assert_eq!(Failure::usage("short").message, "short");
    }
}
