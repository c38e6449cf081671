//! Where to connect to: a URI, taken apart once, and never printed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::CONNECT_TIMEOUT;
use super::tls::{ClientCertificate, TlsMode, TlsOptions};
use crate::error::{PgError, Server};
use crate::ident::quote_identifier;

/// A server, a database and a schema in it. Its `Debug` form holds neither the URI nor the password.
#[derive(Clone)]
pub struct Target {
    config: Config,
    server: Arc<Server>,
    schema: String,
    tls: TlsOptions,
    time_limit: Duration,
}

impl Target {
    /// Takes a connection URI apart (PostgreSQL documentation, "Connection URIs"), without connecting.
    ///
    /// `sslmode` may be `disable`, `prefer` (the default), `require`, `verify-ca` or `verify-full`, the last two with
    /// `sslrootcert` for a certificate authority that the system does not know. `sslcert` and `sslkey` name the client's
    /// certificate and key; these files are read when connecting. Without `connect_timeout` the limit is
    /// [`CONNECT_TIMEOUT`]; it covers everything up to a session that can be used, on all hosts together.
    ///
    /// # Errors
    /// [`PgError::BadUri`] if it is no such URI, [`PgError::UnusableName`] if the schema cannot be a name. Neither
    /// quotes the URI.
    pub fn parse(uri: &str, schema: &str) -> Result<Target, PgError> {
        quote_identifier(schema)?;
        if !["postgresql://", "postgres://"].iter().any(|scheme| uri.starts_with(scheme)) {
            return Err(bad("it does not begin with postgresql://"));
        }
        let (uri, tls) = TlsOptions::take_from(uri)?;
        let mut config: Config = uri.parse().map_err(|error| bad(&parse_error(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(bad("it names no host"));
        }
        config.ssl_mode(match tls.mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa { .. } | TlsMode::VerifyFull { .. } => SslMode::Require,
        });
        if config.get_application_name().is_none() {
            config.application_name("gizer");
        }
        keep_alive(&mut config);
        let time_limit = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let server = Arc::new(server_of(&mut config));
        Ok(Target { config, server, schema: schema.to_owned(), tls, time_limit })
    }

    /// The server, for messages.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The schema that tables go into, unquoted.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// How the connection is protected.
    pub fn tls(&self) -> &TlsMode {
        &self.tls.mode
    }

    /// Shows the server who connects, with a password or in its place.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.tls.client.as_ref()
    }

    /// How long connecting may take.
    pub fn time_limit(&self) -> Duration {
        self.time_limit
    }

    /// The same server, and another schema in the same database, whose name must be usable.
    pub(crate) fn in_schema(&self, schema: &str) -> Target {
        Target { schema: schema.to_owned(), ..self.clone() }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("server", &self.server.to_string())
            .field("schema", &self.schema)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// How long a connection may be silent before its other end is asked whether it lives. Firewalls forget connections that
/// are silent for longer, often after 5 minutes, and the system's own limit is 2 hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);

/// How long to wait for an answer before asking again, and how often to ask: a dead server is noticed after 30 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// How long what was sent may go without the other end's receipt. Without it the system tries for a quarter of an hour.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The client library's own default of `keepalives_idle`.
const KEEPALIVE_UNSET: Duration = Duration::from_secs(2 * 60 * 60);

/// What the URI sets stays.
fn keep_alive(config: &mut Config) {
    if config.get_keepalives_idle() == KEEPALIVE_UNSET {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
}

pub(super) fn bad(reason: &str) -> PgError {
    PgError::BadUri { reason: reason.to_owned() }
}

/// The library's word on a URI that it does not take. Its causes name options and single characters; an unknown
/// option could be a piece of a password with a `?` or `&` in it, so its name is kept back.
fn parse_error(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match error.source().map(ToString::to_string) {
        Some(cause) if cause.starts_with("invalid value for option") => cause,
        Some(cause) if cause.starts_with("unknown option") => {
            "it holds an option that is not known (characters like ? & @ in a password are written as %3F %26 %40)"
                .to_owned()
        }
        _ => "it cannot be taken apart".to_owned(),
    }
}

/// Names the server, and fills in the defaults that PostgreSQL's own tools use: the role's name for the database.
fn server_of(config: &mut Config) -> Server {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(i, host)| {
            let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    let user = config.get_user().map_or_else(|| "the current user".to_owned(), str::to_owned);
    let database = config.get_dbname().map_or_else(|| user.clone(), str::to_owned);
    Server { hosts: hosts.join(","), database, user }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_its_server_and_hides_its_password() {
        let target = Target::parse("postgresql://user:s3cret@db.example:6000/app?sslmode=require", "public").unwrap();
        assert_eq!(target.server().to_string(), "db.example:6000/app");
        let shown = format!("{target:?}");
        assert!(!shown.contains("s3cret") && shown.contains("db.example:6000/app"), "{shown}");
        assert_eq!(target.tls(), &TlsMode::Require);
        assert_eq!(target.time_limit(), CONNECT_TIMEOUT);
        assert_eq!(target.config().get_keepalives_idle(), KEEPALIVE_IDLE);
        assert_eq!(target.config().get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
        let target = Target::parse("postgres://u@a,b:7/x?connect_timeout=3", "s").unwrap();
        assert_eq!(target.server().to_string(), "a:5432,b:7/x");
        assert_eq!(target.time_limit(), Duration::from_secs(3));
        let target = Target::parse("postgres://u@a/x?keepalives_idle=9&keepalives_retries=2", "s").unwrap();
        assert_eq!(target.config().get_keepalives_idle(), Duration::from_secs(9));
        assert_eq!(target.config().get_keepalives_retries(), Some(2));
        let target = Target::parse("postgres://u@a/x?tcp_user_timeout=7", "s").unwrap();
        assert_eq!(target.config().get_tcp_user_timeout(), Some(&Duration::from_secs(7)));
    }

    #[test]
    fn what_is_no_uri_is_refused_without_quoting_it() {
        let bad = [
            "",
            "host=localhost password=s3cret",
            "mongodb://user:s3cret@host/",
            "postgresql://user:s3cret@host:port/db",
            "postgresql://user:s3cret@host/db?sslmode=s3cret",
            "postgresql://user:s3cret@host/db?s3cret=1",
            "postgresql://user:s3cret@host/db?connect_timeout=s3cret",
            "postgresql:///db",
        ];
        for uri in bad {
            let error = Target::parse(uri, "public").expect_err(uri);
            assert!(matches!(error, PgError::BadUri { .. }), "{uri}: {error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{uri}: {error:?}");
        }
        assert!(Target::parse("postgresql://h/d", "a\0b").is_err());
    }

    #[test]
    fn modes_of_protection_are_libpqs() {
        let mode = |query: &str| Target::parse(&format!("postgresql://u:p@h/d{query}"), "s").map(|t| t.tls().clone());
        assert_eq!(mode("").unwrap(), TlsMode::Prefer);
        assert_eq!(mode("?sslmode=disable").unwrap(), TlsMode::Disable);
        assert_eq!(mode("?application_name=x&sslmode=prefer").unwrap(), TlsMode::Prefer);
        assert_eq!(mode("?sslmode=verify-full").unwrap(), TlsMode::VerifyFull { root_certificates: None });
        assert_eq!(
            mode("?sslrootcert=%2Fetc%2Fca.pem&sslmode=verify-full").unwrap(),
            TlsMode::VerifyFull { root_certificates: Some("/etc/ca.pem".into()) }
        );
        let ca = Some("/etc/ca.pem".into());
        assert_eq!(
            mode("?sslmode=verify-ca&sslrootcert=/etc/ca.pem").unwrap(),
            TlsMode::VerifyCa { root_certificates: ca }
        );
        let of_system = mode("?sslmode=verify-full&sslrootcert=system").unwrap();
        assert_eq!(of_system, TlsMode::VerifyFull { root_certificates: None });
        assert!(mode("?sslrootcert=system").is_err(), "it asks for more than the default mode gives");
        for unsupported in ["allow", "yes", ""] {
            let error = mode(&format!("?sslmode={unsupported}")).unwrap_err().to_string();
            assert!(error.contains("verify-full"), "{error}");
        }
        assert!(mode("?sslmode=require&sslrootcert=/etc/ca.pem").is_err(), "libpq would verify here: never do less");
    }

    #[test]
    fn a_client_certificate_comes_with_its_key() {
        let client = |query: &str| {
            let target = Target::parse(&format!("postgresql://u@h/d?{query}"), "s")?;
            Ok::<_, PgError>(target.client_certificate().map(|c| (c.certificate.clone(), c.key.clone())))
        };
        let both = client("sslmode=require&sslcert=/a%20b.pem&sslkey=/k.pem&application_name=x").unwrap();
        assert_eq!(both, Some(("/a b.pem".into(), "/k.pem".into())));
        assert_eq!(client("sslmode=require").unwrap(), None);
        for half in ["sslcert=/a", "sslkey=/k", "sslcert=/a&sslkey=", "sslcert=/a&sslkey=/k&sslmode=disable"] {
            let error = client(half).unwrap_err().to_string();
            assert!(error.contains("ssl"), "{half}: {error}");
        }
    }
}
