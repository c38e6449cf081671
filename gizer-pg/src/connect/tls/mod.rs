//! TLS as libpq has it (PostgreSQL documentation, "SSL Support").
//!
//! `prefer` and `require` encrypt without looking at the certificate, which protects from listening and not from
//! somebody who answers in the server's place; `verify-ca` checks who signed the certificate, `verify-full` also that
//! it is for this host.

mod connector;
mod fault;
mod verifiers;

use std::path::PathBuf;

pub(super) use connector::connector;
pub use fault::TlsFault;
pub(super) use fault::tls_fault;

use super::target::bad;
use crate::error::PgError;

/// How a connection is protected: `sslmode` of the URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// Never TLS.
    Disable,
    /// TLS if the server offers it, without looking at its certificate. The default.
    Prefer,
    /// TLS or nothing, without looking at the certificate.
    Require,
    /// TLS with a certificate from an authority that the system or `sslrootcert` knows, for whatever host.
    VerifyCa {
        /// A PEM file that takes the place of the system's authorities.
        root_certificates: Option<PathBuf>,
    },
    /// TLS with a certificate for this host, from an authority that the system or `sslrootcert` knows.
    VerifyFull {
        /// A PEM file that takes the place of the system's authorities.
        root_certificates: Option<PathBuf>,
    },
}

/// What shows the server who connects: `sslcert` and `sslkey` of the URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// A PEM file with the certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// A PEM file with its private key, which may be the same file.
    pub key: PathBuf,
}

/// All that a URI says of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsOptions {
    pub(super) mode: TlsMode,
    pub(super) client: Option<ClientCertificate>,
}

/// The options as they are in the query of a URI.
#[derive(Default)]
struct TlsParameters<'u> {
    mode: Option<&'u str>,
    root_certificates: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl TlsOptions {
    /// Takes `sslmode`, `sslrootcert`, `sslcert` and `sslkey` out of a URI: the client library knows few of them.
    pub(super) fn take_from(uri: &str) -> Result<(String, TlsOptions), PgError> {
        // The query begins behind the password, which may hold a `?`.
        let after_password = uri.rfind('@').map_or(0, |at| at + 1);
        let query_at = uri[after_password..].find('?').map(|at| after_password + at);
        let (place, query) = query_at.map_or((uri, ""), |at| (&uri[..at], &uri[at + 1..]));
        let mut written = TlsParameters::default();
        let mut rest = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("sslmode", value)) => written.mode = Some(value),
                Some(("sslrootcert", value)) => written.root_certificates = Some(path("sslrootcert", value)?),
                Some(("sslcert", value)) => written.certificate = Some(path("sslcert", value)?),
                Some(("sslkey", value)) => written.key = Some(path("sslkey", value)?),
                _ => rest.push(option),
            }
        }
        let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        Ok((format!("{place}{query}"), written.options()?))
    }
}

impl TlsParameters<'_> {
    fn options(self) -> Result<TlsOptions, PgError> {
        // libpq's word for the authorities of the system.
        let of_system = self.root_certificates.as_ref().is_some_and(|path| path.as_os_str() == "system");
        let roots_given = self.root_certificates.is_some();
        let root_certificates = self.root_certificates.filter(|_| !of_system);
        let mode = match self.mode.unwrap_or("prefer") {
            "verify-full" => TlsMode::VerifyFull { root_certificates },
            "verify-ca" => TlsMode::VerifyCa { root_certificates },
            _ if roots_given => return Err(bad("sslrootcert goes with sslmode=verify-full or verify-ca only")),
            "disable" => TlsMode::Disable,
            "prefer" => TlsMode::Prefer,
            "require" => TlsMode::Require,
            _ => return Err(bad("its sslmode is none of disable, prefer, require, verify-ca, verify-full")),
        };
        let client = match (self.certificate, self.key) {
            (None, None) => None,
            (Some(_), _) | (_, Some(_)) if mode == TlsMode::Disable => {
                return Err(bad("sslcert and sslkey do not go with sslmode=disable"));
            }
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            _ => return Err(bad("sslcert and sslkey go together (they may name the same file)")),
        };
        Ok(TlsOptions { mode, client })
    }
}

fn path(option: &str, text: &str) -> Result<PathBuf, PgError> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| bad(&format!("its {option} has a % that no two hex digits follow")))?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    match String::from_utf8(bytes) {
        Ok(path) if !path.is_empty() => Ok(path.into()),
        Ok(_) => Err(bad(&format!("its {option} is empty"))),
        Err(_) => Err(bad(&format!("its {option} is not UTF-8"))),
    }
}
