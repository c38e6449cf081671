//! Connection strings, and how they are kept out of logs.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use mongodb::options::{ConnectionString, HostInfo};

use crate::error::MongoError;
use crate::uri_options::{are_at_fault, name_at_fault, without_harmless};

/// Options of a connection string whose values are secret, in lower case.
const SECRET_OPTIONS: [&str; 3] = ["tlscertificatekeyfilepassword", "authmechanismproperties", "proxypassword"];

/// A MongoDB connection string (MongoDB manual, "Connection Strings"), checked when it is made.
///
/// `Display` and `Debug` show the hosts and nothing else: neither user nor password nor options.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUri {
    text: String,
    hosts: Hosts,
    ignored: Vec<String>,
}

impl SecretUri {
    /// Parses a connection string without any I/O.
    ///
    /// # Errors
    /// [`MongoError::MalformedUri`] if the driver would reject it.
    pub fn parse(text: &str) -> Result<SecretUri, MongoError> {
        let (text, ignored) = without_harmless(text);
        let parsed = ConnectionString::parse(&text).map_err(|error| malformed(&text, &error))?;
        let hosts = match &parsed.host_info {
            HostInfo::HostIdentifiers(addresses) => Hosts::new(addresses),
            HostInfo::DnsRecord(name) => Hosts::new([name]),
            _ => Hosts::new(["?"]),
        };
        Ok(SecretUri { text, hosts, ignored })
    }

    /// Its hosts; for `mongodb+srv` the name that is looked up.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Options that gizer ignores, as written.
    pub fn ignored_options(&self) -> &[String] {
        &self.ignored
    }

    /// The string without [ignored options](SecretUri::ignored_options), for the driver only.
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }

    /// A driver error about this string, without its secrets.
    pub(crate) fn malformed(&self, error: &mongodb::error::Error) -> MongoError {
        malformed(&self.text, error)
    }
}

impl FromStr for SecretUri {
    type Err = MongoError;

    fn from_str(text: &str) -> Result<Self, MongoError> {
        SecretUri::parse(text)
    }
}

impl fmt::Display for SecretUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.hosts, f)
    }
}

impl fmt::Debug for SecretUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretUri").field(&self.hosts).finish()
    }
}

/// The servers of a connection string, as comma-separated `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hosts(String);

impl Hosts {
    pub(crate) fn new(each: impl IntoIterator<Item = impl fmt::Display>) -> Hosts {
        let each: Vec<String> = each.into_iter().map(|host| host.to_string()).collect();
        Hosts(each.join(","))
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn malformed(uri: &str, error: &mongodb::error::Error) -> MongoError {
    use mongodb::error::ErrorKind;
    if option_is_set(uri, "tlscertificatekeyfilepassword") {
        // The driver's message names its own build options.
        let reason =
            "tlsCertificateKeyFilePassword is not supported: expected a key file that is not encrypted".to_owned();
        return MongoError::MalformedUri { reason, in_options: true };
    }
    let message = match &*error.kind {
        ErrorKind::InvalidArgument { message, .. } | ErrorKind::InvalidTlsConfig { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let option = name_at_fault(uri).map(|name| format!("option {name}: ")).unwrap_or_default();
    let reason = without_secrets(uri, &format!("{option}{message}"));
    MongoError::MalformedUri { reason, in_options: are_at_fault(uri) }
}

/// `message` without words that occur in a possibly secret part of `uri`.
///
/// The driver quotes what it does not understand, which can be any piece of a password that lacks
/// percent-encoding. So whole words go: better a short reason than a password in a log.
fn without_secrets(uri: &str, message: &str) -> String {
    let secret = secret_words(uri);
    let mut reason = String::new();
    for piece in message.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        let hidden = !word.is_empty() && secret.contains(&word.to_lowercase());
        reason.push_str(if hidden { "…" } else { word });
        reason.push_str(&piece[word.len()..]);
    }
    reason
}

/// Whether a connection string has an option (lower case).
fn option_is_set(uri: &str, name: &str) -> bool {
    let options = uri.rsplit_once('?').map_or("", |(_, options)| options);
    options.split('&').filter_map(|option| option.split_once('=')).any(|(option, _)| option.eq_ignore_ascii_case(name))
}

/// Lower-case words of all parts that may be secret; the URI need not be well-formed.
fn secret_words(uri: &str) -> HashSet<String> {
    let after_scheme = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    // Up to the last "@": a password may hold an unencoded "@", "/" or "?".
    let (credentials, rest) = after_scheme.rsplit_once('@').unwrap_or(("", after_scheme));
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    // A "port" that is no number may be the password of a string without "@host".
    let no_ports = place.split(',').filter_map(|host| host.split_once(':')).map(|(_, port)| port);
    let no_ports = no_ports.filter(|port| port.parse::<u16>().is_err());
    let values = options.split('&').filter_map(|option| option.split_once('='));
    let values = values.filter(|(name, _)| SECRET_OPTIONS.contains(&name.to_lowercase().as_str()));
    std::iter::once(credentials)
        .chain(no_ports)
        .chain(values.map(|(_, value)| value))
        .flat_map(|part| [part.to_owned(), percent_decoded(part)])
        .flat_map(|part| {
            let words = part.split(|c: char| !c.is_alphanumeric());
            words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect::<Vec<_>>()
        })
        .collect()
}

/// Percent-decodes `text`; malformed escapes stay.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_are_shown() {
        let uri = SecretUri::parse("mongodb://anna:hunter2@db1,db2:27018/?replicaSet=rs0&authSource=admin").unwrap();
        assert_eq!(uri.to_string(), "db1:27017,db2:27018");
        assert_eq!(format!("{uri:?}"), r#"SecretUri(Hosts("db1:27017,db2:27018"))"#);
        assert!(uri.expose().contains("hunter2"));
    }

    #[test]
    fn a_malformed_uri_is_explained_without_its_password() {
        for (uri, explained) in [
            ("postgres://anna:hunter2@db/", "scheme"),
            ("anna:hunter2@db", "scheme"),
            ("mongodb://anna:hunter2@", "hostname"),
            ("mongodb://anna:hunter2", "port"),
            ("mongodb://anna:hunter2/shop", "port"),
            ("mongodb://anna:hunter2@db:number", "port"),
            ("mongodb://anna:hun/ter2@db", "password"),
            ("mongodb://anna:hun%ter2@db", "password"),
            ("mongodb://anna:hun?ter2=hunter2@db", "port"),
            ("mongodb://anna:a@hun?ter2=@db", "option"),
            ("mongodb://anna:hunter2@db/?conectTimeoutMS=5", "conecttimeoutms"),
            ("mongodb://anna:hunter2@db/?ssl", "key=value"),
            ("mongodb://db/?authMechanism=PLAIN&authMechanismProperties=hunter2", "…"),
            ("mongodb://anna:hunter2@db/?directConnection=maybe", "directconnection"),
            ("mongodb://db/?tls=true&tlsCertificateKeyFile=a&tlsCertificateKeyFilePassword=hunter2", "not encrypted"),
            ("", "scheme"),
        ] {
            let error = SecretUri::parse(uri).expect_err(uri);
            let message = error.to_string();
            assert!(message.starts_with("malformed MongoDB URI: "), "{uri}: {message}");
            assert!(message.to_lowercase().contains(explained), "{uri}: {message}");
            for secret in ["hunter2", "ter2"] {
                assert!(!message.contains(secret), "{uri}: {message}");
            }
        }
    }

    #[test]
    fn words_of_a_decoded_password_are_hidden_too() {
        let reason = without_secrets("mongodb://u:p%40ss%2Fword@db", "cannot read p@ss/word of db");
        assert_eq!(reason, "cannot read …@…/… of db");
    }
}
