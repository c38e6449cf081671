//! TLS as libpq has it (PostgreSQL documentation, "SSL Support", Protection Provided in Different Modes).
//!
//! `prefer` and `require` encrypt without looking at the certificate, which protects from listening and not from
//! somebody who answers in the server's place; `verify-full` checks certificate and host name.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Target;
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
    /// TLS with a certificate for this host, from an authority that the system or `sslrootcert` knows.
    VerifyFull {
        /// A PEM file that takes the place of the system's authorities.
        root_certificates: Option<PathBuf>,
    },
}

impl TlsMode {
    /// Takes `sslmode` and `sslrootcert` out of a URI: the client library does not know all of their values.
    pub(super) fn take_from(uri: &str) -> Result<(String, TlsMode), PgError> {
        // The query begins behind the password, which may hold a `?`.
        let after_password = uri.rfind('@').map_or(0, |at| at + 1);
        let Some(query_at) = uri[after_password..].find('?').map(|at| after_password + at) else {
            return Ok((uri.to_owned(), TlsMode::Prefer));
        };
        let (mut mode, mut root_certificates) = ("prefer", None);
        let mut rest = Vec::new();
        for option in uri[query_at + 1..].split('&') {
            match option.split_once('=') {
                Some(("sslmode", value)) => mode = value,
                Some(("sslrootcert", value)) => root_certificates = Some(PathBuf::from(percent_decoded(value)?)),
                _ => rest.push(option),
            }
        }
        let tls = match (mode, root_certificates) {
            ("verify-full", root_certificates) => TlsMode::VerifyFull { root_certificates },
            (_, Some(_)) => return Err(bad("sslrootcert goes with sslmode=verify-full only")),
            ("disable", None) => TlsMode::Disable,
            ("prefer", None) => TlsMode::Prefer,
            ("require", None) => TlsMode::Require,
            _ => return Err(bad("its sslmode is none of disable, prefer, require, verify-full")),
        };
        let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        Ok((format!("{}{query}", &uri[..query_at]), tls))
    }
}

fn percent_decoded(text: &str) -> Result<String, PgError> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| bad("its sslrootcert has a % that no two hex digits follow"))?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| bad("its sslrootcert is not UTF-8"))
}

/// The TLS side of a connection; not used where the mode is [`TlsMode::Disable`].
pub(super) fn connector(target: &Target) -> Result<MakeRustlsConnect, PgError> {
    let unreachable = |reason: String| PgError::Unreachable { server: Arc::clone(target.server()), reason };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unreachable(format!("TLS cannot be set up: {error}")))?;
    let config = match target.tls() {
        TlsMode::VerifyFull { root_certificates } => {
            let roots = roots(root_certificates.as_ref()).map_err(unreachable)?;
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
            .with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

/// The authorities to trust: those of the file, else those of the system.
fn roots(file: Option<&PathBuf>) -> Result<RootCertStore, String> {
    let certificates: Vec<CertificateDer<'static>> = match file {
        Some(file) => CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|error| format!("sslrootcert {}: {error}", file.display()))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err("sslmode=verify-full needs a certificate authority, and none was found".to_owned());
    }
    Ok(roots)
}

/// Takes any certificate, as libpq does below `verify-ca`; that the server holds its key is still checked.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
