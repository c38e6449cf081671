//! Failures: what happened, what helps, and whether the same may succeed later.

use std::fmt;

use gizer_oplog::{ErrorClass, MongoError};
use gizer_pg::{ErrorKind, PgError};

/// The kinds of [`Failure`], by what a caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It could not be done; the next try may succeed.
    Failed,
    /// A request, a setting or a schema file is wrong, or names what does not exist. Nothing was started.
    Usage,
    /// Only a load helps: the log has rolled over, or diverged.
    LoadDue,
    /// Documents and rows differ.
    Differs,
    /// Another run holds the lock, or took over.
    Locked,
    /// Done, but not everything that is expected is copied.
    NotAll,
    /// Ended by SIGINT.
    Interrupted,
    /// Ended by SIGTERM.
    Terminated,
}

/// Why something could not be done.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What kind it is.
    pub kind: FailureKind,
    /// What was expected, what came, and where. Lower case, no full stop.
    pub message: String,
    /// What the operator can do.
    pub remedy: Option<String>,
    /// Whether it ends the whole run, as a lost connection does, not only the work on one collection.
    pub ends_run: bool,
    /// Whether the same may succeed a little later, as after an election or a restart.
    pub passes: bool,
}

impl Failure {
    /// A failure of this kind. Only an interruption ends the whole run by itself.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        let ends_run = matches!(kind, FailureKind::Interrupted | FailureKind::Terminated);
        Failure { kind, message: within_limit(message.into()), remedy: None, ends_run, passes: false }
    }

    /// A request, a setting or a schema file is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Usage, message)
    }

    /// It could not be done.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Failed, message)
    }

    /// Adds what the operator can do.
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

    /// Marks that other collections cannot be worked on either.
    #[must_use]
    pub fn ending_the_run(mut self) -> Failure {
        self.ends_run = true;
        self
    }
}

/// Characters of a message: more than any list takes, less than a hostile name can.
const MAX_MESSAGE_CHARS: usize = 4_000;

/// A message without its middle, if it is too long.
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
        // These are about one collection; anything else would go wrong for the next one, too.
        let of_one_collection = match &error {
            PgError::Locked { .. }
            | PgError::Fenced { .. }
            | PgError::ForeignTable { .. }
            | PgError::NameTaken { .. }
            | PgError::Dependents { .. }
            | PgError::TablesBusy { .. }
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
            // Neither the server's resources (53), its operator (57), its machine (58) nor a role that may only read.
            PgError::Database { said, .. } => {
                !["53", "57", "58", "XX", "25006"].iter().any(|class| said.sqlstate.starts_with(class))
            }
            _ => false,
        };
        let remedy = error.remedy().map(|remedy| match error {
            PgError::TablesBusy { .. } => format!("{remedy}, or raise load.swap_timeout"),
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
