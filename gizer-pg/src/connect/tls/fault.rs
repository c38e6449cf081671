//! Why TLS negotiation failed.

use std::error::Error;
use std::io;

use rustls::CertificateError;

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
    /// The server has no TLS.
    NotOffered,
    /// Anything else.
    Other,
}

impl TlsFault {
    /// What the operator should do.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            TlsFault::UnknownAuthority => {
                "name the PEM file of the authority that signed the server's certificate in [postgres] uri: \
                 sslrootcert=/path/to/ca.pem"
            }
            TlsFault::OtherHost => "name the host in [postgres] uri as the server's certificate does",
            TlsFault::NotValidNow => "renew the server's certificate, or set the clock of this machine right",
            TlsFault::ClientCertificate => {
                "name a certificate that an authority of the server (ssl_ca_file) has signed, and its key, in \
                 [postgres] uri: sslcert=/path/to/client.pem&sslkey=/path/to/client.key"
            }
            TlsFault::NotOffered => {
                "turn TLS on at the server (ssl = on, with ssl_cert_file and ssl_key_file), or, where nobody can \
                 listen, ask for less by sslmode"
            }
            TlsFault::Other => "check the server's certificate and versions of TLS; its log may say more",
        }
    }
}

/// What the TLS library, or the server by an alert, has against it; `None` for an error of another kind.
pub(in crate::connect) fn tls_fault(error: &tokio_postgres::Error) -> Option<(TlsFault, String)> {
    let cause = error.source()?;
    if let Some(tls) = cause.downcast_ref::<io::Error>().and_then(of_tls) {
        return Some((fault_of(tls), tls.to_string()));
    }
    // The library's own words, in no other language.
    let no_tls = "server does not support TLS";
    (cause.to_string() == no_tls).then(|| (TlsFault::NotOffered, no_tls.replace("server", "the server")))
}

fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}

fn fault_of(error: &rustls::Error) -> TlsFault {
    use CertificateError as C;

    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            C::UnknownIssuer | C::BadSignature => TlsFault::UnknownAuthority,
            C::NotValidForName | C::NotValidForNameContext { .. } => TlsFault::OtherHost,
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
                TlsFault::NotValidNow
            }
            _ => TlsFault::Other,
        },
        rustls::Error::AlertReceived(alert) if is_about_certificates(*alert) => TlsFault::ClientCertificate,
        _ => TlsFault::Other,
    }
}

fn is_about_certificates(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as A;
    matches!(
        alert,
        A::UnknownCA
            | A::BadCertificate
            | A::CertificateRequired
            | A::CertificateExpired
            | A::CertificateRevoked
            | A::CertificateUnknown
            | A::UnsupportedCertificate
            | A::AccessDenied
    )
}
