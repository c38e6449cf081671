//! What keeps TLS from coming about, told so that an operator can do something about it.
//!
//! The driver does TLS by itself (`tls`, `tlsCAFile`, `tlsCertificateKeyFile` and others of the connection string). What it
//! says of a file that it cannot use does not name the file, and what it says of a failed handshake stands deep inside its
//! errors.

use std::path::Path;

use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, Tls};
use rustls::CertificateError;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::MongoError;
use crate::uri::Hosts;

/// Why client and server do not agree on TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFault {
    /// The server's certificate is of an authority that is not trusted.
    UnknownAuthority,
    /// The server's certificate is for other hosts.
    OtherHost,
    /// The server's certificate is over, or not yet good.
    NotValidNow,
    /// The server does not take the client's certificate, or wants one.
    ClientCertificate,
    /// Anything else; also a server without TLS.
    Other,
}

impl TlsFault {
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            TlsFault::UnknownAuthority => {
                "name the PEM file of the authority that signed the server's certificate in the URI: \
                 tlsCAFile=/path/to/ca.pem"
            }
            TlsFault::OtherHost => "name the host in the URI as the server's certificate does",
            TlsFault::NotValidNow => "renew the server's certificate, or set the clock of this machine right",
            TlsFault::ClientCertificate => {
                "name a PEM file with a certificate that the server's authority (net.tls.CAFile) has signed, and its \
                 key, in the URI: tlsCertificateKeyFile=/path/to/client.pem"
            }
            TlsFault::Other => {
                "check that the server speaks TLS (net.tls.mode), or leave tls=true out of the URI where nobody can \
                 listen"
            }
        }
    }

    /// What the TLS library, or the server by an alert, has against it; `None` for an error of another kind.
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

/// Whether the files that the connection string names for TLS are there and hold what they should.
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
            // The error of the reader may quote what it has read.
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
