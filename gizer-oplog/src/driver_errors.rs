//! The driver's errors as [`MongoError`]s.

use mongodb::error::{CommandError, Error, ErrorKind};

use crate::connect::Deployment;
use crate::error::MongoError;

/// The longest server message passed on, in characters. Some quote the whole command.
const MAX_MESSAGE_CHARS: usize = 400;

impl Deployment {
    /// The meaning of a driver error, given what was asked and where.
    pub(crate) fn explain(&self, error: &Error, command: &'static str, namespace: &str) -> MongoError {
        let hosts = self.hosts.clone();
        if let Some(version) = self.heard.too_old() {
            return MongoError::TooOld { hosts, version };
        }
        let lost = |message: String| MongoError::ConnectionLost {
            hosts: self.hosts.clone(),
            command,
            namespace: namespace.to_owned(),
            message,
        };
        match &*error.kind {
            ErrorKind::ServerSelection { .. } => self.heard.unreachable(hosts, self.selection_limit),
            ErrorKind::DnsResolve { message, .. } => MongoError::HostsNotFound { hosts, message: message.clone() },
            ErrorKind::Authentication { message, .. } => {
                MongoError::AuthenticationRefused { hosts, message: shortened(message) }
            }
            ErrorKind::Io(io) => lost(io.to_string()),
            ErrorKind::ConnectionPoolCleared { .. } => lost(self.heard.seen()),
            ErrorKind::Command(refusal) => self.explain_refusal(refusal, command, namespace),
            other => MongoError::Driver {
                hosts,
                command,
                namespace: namespace.to_owned(),
                message: shortened(&other.to_string()),
            },
        }
    }

    /// The meaning of a server error. The codes are those of the server's `error_codes.yml`.
    fn explain_refusal(&self, refusal: &CommandError, command: &'static str, namespace: &str) -> MongoError {
        let hosts = self.hosts.clone();
        let namespace = namespace.to_owned();
        let message = shortened(&refusal.message);
        match refusal.code {
            // Unauthorized
            13 => {
                let role = role_for(command, &namespace);
                MongoError::NoRights { hosts, command, namespace, role, authenticated: self.authenticated }
            }
            // AuthenticationFailed
            18 => MongoError::AuthenticationRefused { hosts, message },
            // CursorNotFound, QueryPlanKilled, CursorKilled
            43 | 175 | 237 => MongoError::CursorLost { hosts, namespace, message },
            // ShutdownInProgress, PrimarySteppedDown, InterruptedAtShutdown, InterruptedDueToReplStateChange,
            // NotWritablePrimary, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary
            91 | 189 | 11600 | 11602 | 10107 | 13435 | 13436 => {
                MongoError::ConnectionLost { hosts, command, namespace, message }
            }
            code => {
                MongoError::Server { hosts, command, namespace, code, code_name: refusal.code_name.clone(), message }
            }
        }
    }
}

/// The weakest built-in role that allows a command (MongoDB manual, "Built-In Roles").
fn role_for(command: &str, namespace: &str) -> String {
    let database = namespace.split_once('.').map_or(namespace, |(database, _)| database);
    match command {
        "listDatabases" => "role clusterMonitor on database \"admin\"".to_owned(),
        _ => format!("role read on database {database:?}"),
    }
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_needed_on_the_database_of_the_namespace() {
        assert_eq!(role_for("find", "local.oplog.rs"), "role read on database \"local\"");
        assert_eq!(role_for("listCollections", "shop"), "role read on database \"shop\"");
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let cut = shortened(&"é".repeat(1000));
        assert_eq!(cut.chars().count(), MAX_MESSAGE_CHARS + 1);
    }
}
