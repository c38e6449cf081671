//! The state of each server while the driver looks for one to read from.
//!
//! The driver's own message for "no server found" dumps its internal state. Its monitors report the
//! same as events (the "Server Discovery and Monitoring" specification), from which a readable
//! answer is made: `db1:27017: connection refused, db2:27017: a secondary`.

use std::collections::BTreeMap;
use std::io::ErrorKind::UnexpectedEof;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::Document;
use mongodb::error::{Error, ErrorKind};
use mongodb::event::EventHandler;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::{ReadPreference, SelectionCriteria};

use crate::error::MongoError;
use crate::tls::TlsFault;
use crate::uri::Hosts;
use crate::version::release_of_wire_version;

/// The oldest wire version that the driver speaks: that of MongoDB 4.4.
const OLDEST_WIRE_VERSION: i32 = 9;

/// The latest state of each server by `host:port`. Clones share it.
///
/// A server that the driver rejects stays in it: that it belongs to another replica set, or has
/// another name there, is what the operator needs to know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reachability {
    /// The read preference of the connection string, unless it is the primary.
    read_preference: Option<&'static str>,
    servers: Arc<Mutex<BTreeMap<String, ServerState>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ServerState {
    Failed { reason: String, tls: Option<TlsFault> },
    Answered { role: String, max_wire_version: i32 },
}

impl Reachability {
    /// Notes a read preference that excludes the primary.
    pub(crate) fn note_read_preference(&mut self, asked: Option<&SelectionCriteria>) {
        // The other preferences accept the primary.
        if let Some(SelectionCriteria::ReadPreference(ReadPreference::Secondary { .. })) = asked {
            self.read_preference = Some("secondary");
        }
    }

    pub(crate) fn handler(&self) -> EventHandler<SdamEvent> {
        let heard = self.clone();
        EventHandler::callback(move |event| match event {
            SdamEvent::ServerHeartbeatFailed(failed) => {
                heard.note(failed.server_address.to_string(), ServerState::failed(&failed.failure));
            }
            SdamEvent::ServerHeartbeatSucceeded(answered) => {
                heard.note(answered.server_address.to_string(), ServerState::answered(&answered.reply));
            }
            _ => {}
        })
    }

    /// The state of all servers in one line.
    pub(crate) fn seen(&self) -> String {
        let each: Vec<String> = self.servers().iter().map(|(host, news)| format!("{host}: {}", news.text())).collect();
        if each.is_empty() { "no answer".to_owned() } else { each.join(", ") }
    }

    /// The release of a server too old for the driver, if one answered.
    pub(crate) fn too_old(&self) -> Option<String> {
        self.servers().values().find_map(|news| match news {
            ServerState::Answered { max_wire_version, .. } if *max_wire_version < OLDEST_WIRE_VERSION => {
                let release = release_of_wire_version(*max_wire_version);
                Some(format!("{release} (wire version {max_wire_version})"))
            }
            _ => None,
        })
    }

    fn tls_fault(&self) -> Option<TlsFault> {
        self.servers().values().find_map(|news| match news {
            ServerState::Failed { tls, .. } => *tls,
            ServerState::Answered { .. } => None,
        })
    }

    /// The error for a search in which no server was usable.
    pub(crate) fn unreachable(&self, hosts: Hosts, waited: Duration) -> MongoError {
        match self.tls_fault() {
            Some(fault) => MongoError::TlsRefused { hosts, fault, seen: self.seen() },
            None => {
                let read_preference = self.read_preference.map(str::to_owned);
                MongoError::Unreachable { hosts, waited, seen: self.seen(), read_preference }
            }
        }
    }

    fn note(&self, host: String, news: ServerState) {
        self.servers().insert(host, news);
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, ServerState>> {
        // A panicking holder cannot leave the map half-changed.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerState {
    /// The driver's reason for a failure.
    fn failed(error: &Error) -> ServerState {
        if let Some((fault, reason)) = TlsFault::of(error) {
            return ServerState::Failed { reason, tls: Some(fault) };
        }
        let reason = match &*error.kind {
            // The TLS library's wording for this.
            ErrorKind::Io(io) if io.kind() == UnexpectedEof && io.to_string().contains("close_notify") => {
                "it closed the TLS connection without an error, as servers do that require a client certificate"
                    .to_owned()
            }
            ErrorKind::Io(io) => io.to_string(),
            other => other.to_string(),
        };
        ServerState::Failed { reason, tls: None }
    }

    /// The reply to `hello`.
    fn answered(hello: &Document) -> ServerState {
        let is = |field| hello.get_bool(field).unwrap_or(false);
        let set = hello.get_str("setName");
        let role = if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
            "a mongos"
        } else if is("isreplicaset") {
            "not yet initiated"
        } else if set.is_err() {
            "a standalone server"
        } else if is("isWritablePrimary") || is("ismaster") {
            "a primary"
        } else if is("secondary") {
            "a secondary"
        } else {
            "an unreadable member"
        };
        let role = set.map_or_else(|_| role.to_owned(), |set| format!("{role} of replica set {set}"));
        // Servers before 2.6 have none.
        ServerState::Answered { role, max_wire_version: hello.get_i32("maxWireVersion").unwrap_or(0) }
    }

    fn text(&self) -> &str {
        match self {
            ServerState::Failed { reason, .. } => reason,
            ServerState::Answered { role, .. } => role,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn each_server_is_named_with_its_latest_news() {
        let heard = Reachability::default();
        assert_eq!(heard.seen(), "no answer");
        let failed = |reason: &str| ServerState::Failed { reason: reason.into(), tls: None };
        heard.note("b:1".into(), failed("connection refused"));
        heard.note("a:1".into(), failed("timed out"));
        heard.note(
            "a:1".into(),
            ServerState::answered(&doc! { "setName": "rs0", "secondary": true, "maxWireVersion": 9 }),
        );
        assert_eq!(heard.seen(), "a:1: a secondary of replica set rs0, b:1: connection refused");
        assert_eq!((heard.too_old(), heard.tls_fault()), (None, None));
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_told_from_a_server_that_is_not_there() {
        let heard = Reachability::default();
        let why = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, why);
        heard.note("a:1".into(), ServerState::failed(&Error::from(error)));
        assert_eq!(heard.tls_fault(), Some(TlsFault::UnknownAuthority));
        assert_eq!(heard.seen(), "a:1: invalid peer certificate: UnknownIssuer");
    }

    #[test]
    fn a_server_too_old_for_the_driver_is_known_by_its_wire_version() {
        let heard = Reachability::default();
        heard.note("a:1".into(), ServerState::answered(&doc! { "ismaster": true, "maxWireVersion": 8 }));
        assert_eq!(heard.too_old().unwrap(), "4.2 (wire version 8)");
    }
}
