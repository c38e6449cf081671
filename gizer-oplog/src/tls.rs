//! TLS faults, explained for operators.
//!
//! The driver does TLS itself (`tls`, `tlsCAFile`, `tlsCertificateKeyFile` and others of the
//! connection string). Its errors name no files, and bury the reason of a failed handshake.

use std::path::Path;

use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, Tls};
use rustls::CertificateError;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::MongoError;
use crate::uri::Hosts;

/// Why TLS negotiation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFault {
    /// The server's certificate is signed by an untrusted authority.
    UnknownAuthority,
    /// The server's certificate is for other hosts.
    OtherHost,
    /// The server's certificate has expired or is not valid yet.
    NotValidNow,
    /// The server rejects the client's certificate, or requires one.
    ClientCertificate,
    /// Anything else; also a server without TLS.
    Other,
}

impl TlsFault {
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            TlsFault::UnknownAuthority => {
                "add the PEM file of the authority that signed the server's certificate to the URI: \
                 tlsCAFile=/path/to/ca.pem"
            }
            TlsFault::OtherHost => "use the host name of the server's certificate in the URI",
            TlsFault::NotValidNow => "renew the server's certificate, or correct this machine's clock",
            TlsFault::ClientCertificate => {
                "add a PEM file with the key and a certificate signed by the server's authority (net.tls.CAFile) \
                 to the URI: tlsCertificateKeyFile=/path/to/client.pem"
            }
            TlsFault::Other => {
                "check that the server uses TLS (net.tls.mode), or remove tls=true from the URI on a trusted \
                 network"
            }
        }
    }

    /// The fault and the TLS library's message; `None` for other errors.
    pub(crate) fn of(error: &Error) -> Option<(TlsFault, String)> {
        let ErrorKind::Io(io) = &*error.kind else { return None };
        let tls = io.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some((fault_of(tls), tls.to_string()))
    }
}

fn fault_of(error: &rustls::Error) -> TlsFault {
    use CertificateError as C;
    use rustls::AlertDescription as A;

    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            C::UnknownIssuer | C::BadSignature => TlsFault::UnknownAuthority,
            C::NotValidForName | C::NotValidForNameContext { .. } => TlsFault::OtherHost,
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
                TlsFault::NotValidNow
            }
            _ => TlsFault::Other,
        },
        rustls::Error::AlertReceived(
            A::UnknownCA
            | A::BadCertificate
            | A::CertificateRequired
            | A::CertificateExpired
            | A::CertificateRevoked
            | A::CertificateUnknown
            | A::UnsupportedCertificate
            | A::AccessDenied,
        ) => TlsFault::ClientCertificate,
        _ => TlsFault::Other,
    }
}

/// Checks the TLS files that the connection string names.
///
/// # Errors
/// [`MongoError::UnusableTlsFile`]
pub(crate) fn check_files(options: &ClientOptions, hosts: &Hosts) -> Result<(), MongoError> {
    let Some(Tls::Enabled(tls)) = &options.tls else { return Ok(()) };
    let check = |option, file: &Option<std::path::PathBuf>, expected, read: fn(&Path) -> Result<(), pem::Error>| {
        let Some(file) = file else { return Ok(()) };
        let problem = match read(file) {
            Ok(()) => return Ok(()),
            Err(pem::Error::Io(error)) => error.to_string(),
            // The reader's error may quote the file.
            Err(_) => format!("expected {expected}, found none"),
        };
        Err(MongoError::UnusableTlsFile { hosts: hosts.clone(), option, path: file.clone(), problem })
    };
    check("tlsCAFile", &tls.ca_file_path, "a certificate in PEM", certificate)?;
    check("tlsCertificateKeyFile", &tls.cert_key_file_path, "a certificate in PEM, and its key", certificate)?;
    check("tlsCertificateKeyFile", &tls.cert_key_file_path, "a private key in PEM that is not encrypted", key)
}

fn certificate(file: &Path) -> Result<(), pem::Error> {
    let first = CertificateDer::pem_file_iter(file)?.next();
    first.unwrap_or(Err(pem::Error::NoItemsFound)).map(drop)
}

fn key(file: &Path) -> Result<(), pem::Error> {
    PrivateKeyDer::from_pem_file(file).map(drop)
}
