//! From files and modes to what the TLS library works with.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::verifiers::AnyHost;
use super::{ClientCertificate, TlsMode};
use crate::connect::Target;
use crate::error::PgError;

/// What is wrong with a file that the URI names, and what to do about it.
struct Unusable {
    /// The option and the file, and what is wrong with it.
    what: String,
    remedy: String,
}

/// The TLS side of a connection; not used where the mode is [`TlsMode::Disable`].
///
/// # Errors
/// [`PgError::UnusableTlsFile`]
pub(in crate::connect) fn connector(target: &Target) -> Result<MakeRustlsConnect, PgError> {
    config(target).map(MakeRustlsConnect::new).map_err(|Unusable { what, remedy }| PgError::UnusableTlsFile {
        server: Arc::clone(target.server()),
        what,
        remedy,
    })
}

fn config(target: &Target) -> Result<ClientConfig, Unusable> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |error: rustls::Error| Unusable {
        what: format!("TLS cannot be set up: {error}"),
        remedy: "check the files that [postgres] uri names".to_owned(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let verifier: Arc<dyn ServerCertVerifier> = match target.tls() {
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => Arc::new(AnyHost { authorities: None, provider }),
        TlsMode::VerifyCa { root_certificates } | TlsMode::VerifyFull { root_certificates } => {
            let roots = Arc::new(roots(root_certificates.as_deref())?);
            let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| unusable(rustls::Error::General(error.to_string())))?;
            match target.tls() {
                TlsMode::VerifyCa { .. } => Arc::new(AnyHost { authorities: Some(inner), provider }),
                _ => inner,
            }
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let Some(client) = target.client_certificate() else { return Ok(builder.with_no_client_auth()) };
    let (chain, key) = read_client(client)?;
    builder.with_client_auth_cert(chain, key).map_err(|error| Unusable {
        what: format!("sslcert {} and sslkey {}: {error}", client.certificate.display(), client.key.display()),
        remedy: "name a certificate and the key that was made for it".to_owned(),
    })
}

/// The authorities to trust: those of the file, else those of the system.
fn roots(file: Option<&Path>) -> Result<RootCertStore, Unusable> {
    let certificates = match file {
        Some(file) => certificates("sslrootcert", file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        let remedy = "name the PEM file of the authority that signed the server's certificate by sslrootcert";
        let place = file.map_or("the system's store".to_owned(), |file| format!("sslrootcert {}", file.display()));
        let what = format!("{place}: expected a certificate authority, found none");
        return Err(Unusable { what, remedy: remedy.to_owned() });
    }
    Ok(roots)
}

fn read_client(client: &ClientCertificate) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Unusable> {
    let chain = certificates("sslcert", &client.certificate)?;
    only_for_its_owner(&client.key)?;
    let key = PrivateKeyDer::from_pem_file(&client.key).map_err(|error| {
        // The error of the reader may quote what it has read: only that of the system is passed on.
        unreadable("sslkey", &client.key, &error, "a private key in PEM that is not encrypted")
    })?;
    Ok((chain, key))
}

fn certificates(option: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read: Result<Vec<_>, pem::Error> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unreadable(option, file, &pem::Error::NoItemsFound, "a certificate in PEM")),
        Err(error) => Err(unreadable(option, file, &error, "a certificate in PEM")),
    }
}

fn unreadable(option: &str, file: &Path, error: &pem::Error, expected: &str) -> Unusable {
    let problem = match error {
        pem::Error::Io(error) => error.to_string(),
        _ => format!("expected {expected}, found none"),
    };
    let remedy = format!("check {option} in [postgres] uri, and that gizer's user may read the file");
    Unusable { what: format!("{option} {}: {problem}", file.display()), remedy }
}

/// The rule of libpq: nobody but its owner may read a key, or its group where it belongs to root.
#[cfg(unix)]
fn only_for_its_owner(key: &PathBuf) -> Result<(), Unusable> {
    use std::os::unix::fs::MetadataExt;

    let about = |error: io::Error| unreadable("sslkey", key, &pem::Error::Io(error), "");
    let about_key = File::open(key).and_then(|file| file.metadata()).map_err(about)?;
    let too_much = if about_key.uid() == 0 { 0o037 } else { 0o077 };
    if about_key.is_file() && about_key.mode() & too_much != 0 {
        let what = format!("sslkey {}: a private key that others may read or change", key.display());
        return Err(Unusable { what, remedy: format!("run: chmod 600 {}", key.display()) });
    }
    Ok(())
}

#[cfg(not(unix))]
fn only_for_its_owner(_key: &PathBuf) -> Result<(), Unusable> {
    Ok(())
}
