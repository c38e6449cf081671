//! Getting to a server: URI, TLS, time limit, and the checks that make later errors rare.
//!
//! ```text
//!   Target ──connect──▶ pooling ──▶ Session ──▶ statements, COPY
//!                                      └──▶ CancelHandle (Ctrl-C)
//! ```

mod pooling;
mod process;
mod session;
mod target;
mod tls;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

pub(crate) use process::ProcessId;
pub(crate) use session::Params;
pub use session::{CancelHandle, Session};
pub use target::Target;
pub use tls::{ClientCertificate, TlsFault, TlsMode};

use crate::error::PgError;
use crate::sqlstate;

/// How long to wait for a connection, TLS and log-in included, where the URI sets no `connect_timeout`.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// Oldest version that gizer works with, as `server_version_num` has it.
const OLDEST_VERSION: i32 = 13_00_00;

/// Connects, and checks that the server is of version 13 or later and has the schema.
///
/// The first time a program connects to a server, a second connection shows whether each has a process of its own.
///
/// The connection is driven by a task of the current tokio runtime, which ends with it.
///
/// # Errors
/// Within the time limit: [`PgError::UnusableTlsFile`], [`PgError::Unreachable`], [`PgError::TlsRefused`],
/// [`PgError::LoginRefused`], [`PgError::OptionRefused`], [`PgError::NoDatabase`], [`PgError::PoolsTransactions`],
/// [`PgError::TooOld`], [`PgError::NoSchema`], [`PgError::NoRights`] (no USAGE on the schema).
pub async fn connect(target: &Target) -> Result<Session, PgError> {
    match timeout(target.time_limit(), connect_and_check(target)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(PgError::Unreachable {
            server: Arc::clone(target.server()),
            reason: format!("no answer within {} s", target.time_limit().as_secs()),
        }),
    }
}

async fn connect_and_check(target: &Target) -> Result<Session, PgError> {
    let mut session = open(target).await?;
    if !pooling::has_passed(target) {
        let second = open(target).await?;
        pooling::check(target, session.client(), second.client()).await?;
    }
    session.run("beginning a session", &format!("{}; {DEFAULTS}", process::SEARCH_PATH)).await?;
    check(&mut session, target).await?;
    stay(&session).await?;
    Ok(session)
}

/// A connection on which nothing has been said yet.
async fn open(target: &Target) -> Result<Session, PgError> {
    let tls = tls::connector(target)?;
    let (client, connection) =
        target.config().connect(tls.clone()).await.map_err(|error| connect_error(&error, target))?;
    Ok(Session::start(client, connection, target, tls))
}

/// What role and database may have set otherwise. Transactions of gizer set all they need for themselves; this is for what
/// runs outside of one. They stay for as long as the session, which is gizer's alone: a pooler that would give its process to
/// others, settings and all, has been refused before ([`pooling`]), and one that pools sessions resets it in between.
const DEFAULTS: &str = "SET default_transaction_read_only TO off; SET statement_timeout TO 0; SET lock_timeout TO 0";

/// Keeps an idle session open: it holds a lock while others load, and a server may end idle ones
/// (`idle_session_timeout`). And a server finds out that nobody waits for a statement any more only when it ends,
/// unless it is set to look (`client_connection_check_interval`). Both are settings of PostgreSQL 14 and later.
async fn stay(session: &Session) -> Result<(), PgError> {
    let sql = "SELECT pg_catalog.set_config(s.name, w.value, false) FROM pg_catalog.pg_settings s \
               JOIN (VALUES ('idle_session_timeout', '0'), ('client_connection_check_interval', '2s')) AS w (name, value) \
               ON s.name = w.name";
    session.query("setting idle_session_timeout", sql, &[]).await.map(drop)
}

async fn check(session: &mut Session, target: &Target) -> Result<(), PgError> {
    let sql = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4, \
                      pg_catalog.current_setting('server_version'), n.oid IS NOT NULL, \
                      coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false), \
                      pg_catalog.pg_backend_pid(), \
                      (SELECT (pg_catalog.date_part('epoch', a.backend_start) * 1000000)::pg_catalog.int8 \
                       FROM pg_catalog.pg_stat_activity a WHERE a.pid = pg_catalog.pg_backend_pid()) \
               FROM (VALUES ($1::pg_catalog.text)) AS wanted (name) \
               LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.name";
    let doing = format!("looking for schema {}", target.schema());
    let row = session.query_one(&doing, sql, &[&target.schema()]).await?;
    let server = Arc::clone(target.server());
    if let Some(started) = row.get::<_, Option<i64>>(5) {
        session.is_of(ProcessId { server: Arc::clone(&server), pid: row.get(4), started });
    }
    if row.get::<_, i32>(0) < OLDEST_VERSION {
        return Err(PgError::TooOld { server, version: row.get(1) });
    }
    if !row.get::<_, bool>(2) {
        return Err(PgError::NoSchema { server, schema: target.schema().to_owned() });
    }
    if !row.get::<_, bool>(3) {
        let grant = sqlstate::grant_to_use(target.schema(), &server.user);
        let reason = format!("schema {} may not be used", target.schema());
        return Err(session.no_rights(doing, reason, grant));
    }
    Ok(())
}

/// How PgBouncer begins to say, in English always, that it does not take an option of the URI.
const OPTION_REFUSED: &str = "unsupported startup parameter";

/// Why no connection could be made.
fn connect_error(error: &tokio_postgres::Error, target: &Target) -> PgError {
    use std::error::Error as _;

    let server = Arc::clone(target.server());
    if let Some((fault, reason)) = tls::tls_fault(error) {
        return PgError::TlsRefused { server, fault, reason };
    }
    let cause = error.source().map(ToString::to_string);
    let Some(db) = error.as_db_error() else {
        let reason = match &cause {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        // The library has no other mark for "the server wants a password": it is a matter of the configuration.
        let at_login = reason.starts_with("invalid configuration") || reason.starts_with("authentication error");
        return if at_login {
            PgError::LoginRefused { server, reason: cause.unwrap_or(reason), sqlstate: None }
        } else {
            PgError::Unreachable { server, reason }
        };
    };
    let reason = db.message().to_owned();
    match db.code().code() {
        "08P01" if reason.starts_with(OPTION_REFUSED) => PgError::OptionRefused { server, reason },
        "3D000" => PgError::NoDatabase { server },
        code if code.starts_with("28") => PgError::LoginRefused { server, reason, sqlstate: Some(code.to_owned()) },
        "42501" => {
            let grant = format!("GRANT CONNECT ON DATABASE {} TO {}", server.database, server.user);
            PgError::NoRights { server, doing: "connecting".to_owned(), reason, grant }
        }
        code if sqlstate::is_connection_end(code) => PgError::Unreachable { server, reason },
        _ => PgError::Database { server, doing: "connecting".to_owned(), said: Box::new(sqlstate::said(db)) },
    }
}
