//! A connection that knows its server and schema, so that every error can name them.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use std::time::Duration;

use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, Client, Connection, Row, RowStream, ToStatement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Target;
use super::process::ProcessId;
use crate::error::{PgError, Server};
use crate::ident::Qualified;
use crate::sqlstate;

/// What every transaction of gizer that writes begins with.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// What it begins with where it only reads: all statements see one time, and a hot standby will do.
const BEGIN_READING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What every transaction goes on with. All settings are local to it, so that it makes no difference who used
/// the connection before (poolers hand them around), nor what role or database have as defaults.
const SETTINGS: &str = "SET LOCAL search_path TO pg_catalog; \
    SET LOCAL TimeZone TO 'UTC'; \
    SET LOCAL standard_conforming_strings TO on; \
    SET LOCAL statement_timeout TO 0; \
    SET LOCAL lock_timeout TO 0; \
    SET LOCAL idle_in_transaction_session_timeout TO 0; \
    SET LOCAL client_min_messages TO warning";

/// Bound parameters.
pub(crate) type Params<'p> = &'p [&'p (dyn ToSql + Sync)];

/// One connection to the server, used for one thing at a time.
///
/// Dropping a session closes its connection, which ends its open transaction and gives its advisory locks back. A
/// future of a session that was dropped half-way may leave a transaction open; the next one rolls it back first.
#[derive(Debug)]
pub struct Session {
    client: Client,
    target: Box<Target>,
    tls: MakeTls,
    in_transaction: AtomicBool,
    /// How the connection ended, from the task that drives it or from whoever gave it up.
    ended: Arc<watch::Sender<Option<End>>>,
    driver: AbortHandle,
    /// The server's process, once it is known.
    process: Option<ProcessId>,
    /// Whether a statement was cancelled from here.
    cancelled: Arc<AtomicBool>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process.abandon();
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone)]
struct End {
    reason: String,
    sqlstate: Option<String>,
}

impl End {
    fn of(error: &tokio_postgres::Error) -> End {
        match error.as_db_error() {
            Some(db) => End { reason: db.message().to_owned(), sqlstate: Some(db.code().code().to_owned()) },
            None => End { reason: cause_of(error), sqlstate: None },
        }
    }
}

/// [`MakeRustlsConnect`] without its `Debug` form, which lists a page of TLS settings.
#[derive(Clone)]
struct MakeTls(MakeRustlsConnect);

impl std::fmt::Debug for MakeTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MakeTls")
    }
}

impl Session {
    /// Spawns the task that drives the connection.
    pub(super) fn start<S, T>(
        client: Client,
        connection: Connection<S, T>,
        target: &Target,
        tls: MakeRustlsConnect,
    ) -> Session
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let ended = Arc::new(watch::Sender::new(None));
        let (server, report) = (Arc::clone(target.server()), Arc::clone(&ended));
        let driver = tokio::spawn(async move {
            // It ends well only once the session has been dropped.
            let Err(error) = connection.await else { return };
            let end = End::of(&error);
            tracing::debug!(server = %server, reason = end.reason, "connection ended");
            report.send_replace(Some(end));
        });
        Session {
            client,
            target: Box::new(target.clone()),
            tls: MakeTls(tls),
            in_transaction: AtomicBool::new(false),
            ended,
            driver: driver.abort_handle(),
            process: None,
            cancelled: Arc::default(),
        }
    }

    /// The server, for messages.
    pub fn server(&self) -> &Arc<Server> {
        self.target.server()
    }

    /// The schema that tables go into, unquoted.
    pub fn schema(&self) -> &str {
        self.target.schema()
    }

    /// Where it is connected to.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The server's process.
    pub(crate) fn process(&self) -> Option<&ProcessId> {
        self.process.as_ref()
    }

    /// Which process of the server it is.
    pub(super) fn is_of(&mut self, process: ProcessId) {
        self.process = Some(process);
    }

    /// Ends the connection, for this reason.
    pub(super) fn abort(&self, reason: String) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(End { reason, sqlstate: None });
            first
        });
        self.driver.abort();
    }

    /// A relation of the target schema.
    ///
    /// # Errors
    /// [`PgError::UnusableName`] if it cannot be a name.
    pub fn relation(&self, name: &str) -> Result<Qualified, PgError> {
        Qualified::new(self.schema(), name)
    }

    /// This role lacks a right that `grant` gives.
    pub(crate) fn no_rights(&self, doing: impl Into<String>, reason: impl Into<String>, grant: String) -> PgError {
        let (server, doing, reason) = (Arc::clone(self.server()), doing.into(), reason.into());
        PgError::NoRights { server, doing, reason, grant }
    }

    /// A state table does not hold what gizer writes there.
    pub(crate) fn unreadable(&self, table: &'static str, expected: &'static str, came: impl Into<String>) -> PgError {
        PgError::UnreadableState { schema: self.schema().to_owned(), table, expected, came: came.into() }
    }

    /// The client underneath, for what this crate has no method for. Its errors become useful with
    /// [`Session::error`].
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Resolves when the connection is lost, and says why. A waiting session would learn of it only at its next use.
    /// Never comes true of a session that is closed by being dropped.
    pub fn ended(&self) -> impl Future<Output = PgError> + Send + use<> {
        let (mut ended, server) = (self.ended.subscribe(), Arc::clone(self.server()));
        async move {
            let end = match ended.wait_for(Option::is_some).await {
                Ok(end) => end.clone(),
                Err(_) => None,
            };
            let Some(End { reason, sqlstate }) = end else { return std::future::pending().await };
            PgError::ConnectionLost { server, doing: "keeping it open".to_owned(), reason, sqlstate }
        }
    }

    /// Cancels what runs on this session, from elsewhere.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle {
            token: self.client.cancel_token(),
            tls: self.tls.clone(),
            server: Arc::clone(self.server()),
            asked: Arc::clone(&self.cancelled),
        }
    }

    /// Gives an error of the client library its place and its kind; `doing` completes "while …".
    pub fn error(&self, doing: impl Display, error: &tokio_postgres::Error) -> PgError {
        let ended = self.ended.borrow();
        let ended = ended.as_ref().map(|end| end.reason.as_str());
        let classified = sqlstate::classify(error, self.server(), self.schema(), doing.to_string(), ended);
        match classified {
            // Somebody else, or a statement_timeout: no reason to end.
            PgError::Cancelled { doing, said } if !self.cancelled.load(Ordering::Relaxed) => {
                PgError::Database { server: Arc::clone(self.server()), doing, said }
            }
            error => error,
        }
    }

    /// Begins a READ COMMITTED transaction with the settings that all of gizer's statements rely on; first rolls
    /// back one that was left open.
    pub async fn begin(&self) -> Result<(), PgError> {
        self.begin_with(BEGIN).await
    }

    /// Begins a transaction that only reads, and reads everything as of one time; otherwise as
    /// [`begin`](Session::begin).
    pub async fn begin_reading(&self) -> Result<(), PgError> {
        self.begin_with(BEGIN_READING).await
    }

    async fn begin_with(&self, begin: &str) -> Result<(), PgError> {
        if self.in_transaction.swap(true, Ordering::Relaxed) {
            self.run("rolling back", "ROLLBACK").await?;
        }
        self.run("beginning a transaction", &format!("{begin}; {SETTINGS}")).await
    }

    /// Commits if the outcome is good and rolls back if not; gives the outcome back, or why it could not be
    /// committed. If the connection is lost during the commit, it may have taken place or not.
    ///
    /// # Errors
    /// That of the outcome, or that of the commit.
    pub async fn end<T>(&self, outcome: Result<T, PgError>) -> Result<T, PgError> {
        let outcome = match outcome {
            Ok(value) => self.run("committing", "COMMIT").await.map(|()| value),
            Err(error) => {
                // The error to report is the first one.
                self.roll_back().await;
                Err(error)
            }
        };
        self.in_transaction.store(false, Ordering::Relaxed);
        outcome
    }

    /// Does this work in a transaction that [`begin`](Session::begin) begins and [`end`](Session::end) ends.
    ///
    /// # Errors
    /// Those of the work; whatever the server says.
    pub async fn in_transaction<T>(&self, work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
        self.begin().await?;
        let outcome = work.await;
        self.end(outcome).await
    }

    /// As [`in_transaction`](Session::in_transaction), in one that [`begin_reading`](Session::begin_reading) begins.
    ///
    /// # Errors
    /// Those of the work; whatever the server says.
    pub async fn in_snapshot<T>(&self, work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
        self.begin_reading().await?;
        let outcome = work.await;
        self.end(outcome).await
    }

    /// Rolls the open transaction back: for errors of those above this crate, which [`end`](Session::end) does not know. If
    /// that fails the connection is gone, and the server does it.
    pub async fn roll_back(&self) {
        if let Err(error) = self.run("rolling back", "ROLLBACK").await {
            tracing::debug!(%error, "rollback failed");
        }
        self.in_transaction.store(false, Ordering::Relaxed);
    }

    /// Sets a savepoint in the open transaction. Constraints that can be deferred are from here on.
    pub async fn set_savepoint(&self, name: &str) -> Result<(), PgError> {
        self.run("setting a savepoint", &format!("SAVEPOINT {name}; SET CONSTRAINTS ALL DEFERRED")).await
    }

    /// Releases a savepoint, after what was deferred has been checked: so nothing is left for the commit to refuse.
    ///
    /// # Errors
    /// Whatever the server says; then there is the way back to the savepoint.
    pub async fn release_savepoint(&self, name: &str) -> Result<(), PgError> {
        let sql = format!("SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT {name}");
        self.run("checking deferred constraints", &sql).await
    }

    /// Takes back all that was done since a savepoint, which is released.
    pub async fn roll_back_to(&self, name: &str) -> Result<(), PgError> {
        let sql = format!("ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}");
        self.run("rolling back to a savepoint", &sql).await
    }

    /// Whether a transaction is open that was begun here.
    pub fn is_in_transaction(&self) -> bool {
        self.in_transaction.load(Ordering::Relaxed)
    }

    /// Runs statements that give no rows and take no parameters.
    pub(crate) async fn run(&self, doing: impl Display, sql: &str) -> Result<(), PgError> {
        self.answered(doing, self.client.batch_execute(sql)).await
    }

    /// Runs one statement; gives the number of rows it changed.
    pub(crate) async fn execute<S>(
        &self,
        doing: impl Display,
        statement: &S,
        params: Params<'_>,
    ) -> Result<u64, PgError>
    where
        S: ?Sized + ToStatement,
    {
        self.answered(doing, self.client.execute(statement, params)).await
    }

    /// Runs one statement that gives rows.
    pub(crate) async fn query(&self, doing: impl Display, sql: &str, params: Params<'_>) -> Result<Vec<Row>, PgError> {
        self.answered(doing, self.client.query(sql, params)).await
    }

    /// Runs one statement that gives more rows than are to be in memory at once.
    pub(crate) async fn stream<'s>(
        &'s self,
        doing: String,
        sql: &str,
        params: Params<'_>,
    ) -> Result<impl Stream<Item = Result<Row, PgError>> + use<'s>, PgError> {
        let rows = self.answered(&doing, self.client.query_raw(sql, params.iter().copied())).await?;
        let next = async move |(doing, mut rows): (String, Pin<Box<RowStream>>)| {
            let row = self.next(&doing, rows.as_mut()).await?;
            Ok(row.map(|row| (row, (doing, rows))))
        };
        Ok(stream::try_unfold((doing, Box::pin(rows)), next))
    }

    /// Runs one statement that gives at most one row.
    pub(crate) async fn query_opt(
        &self,
        doing: impl Display,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Option<Row>, PgError> {
        self.answered(doing, self.client.query_opt(sql, params)).await
    }

    /// Runs one statement that gives exactly one row.
    pub(crate) async fn query_one(&self, doing: impl Display, sql: &str, params: Params<'_>) -> Result<Row, PgError> {
        self.answered(doing, self.client.query_one(sql, params)).await
    }
}

/// Cancels the statement that runs on a session, as Ctrl-C in psql does.
#[derive(Clone)]
pub struct CancelHandle {
    token: CancelToken,
    tls: MakeTls,
    server: Arc<Server>,
    asked: Arc<AtomicBool>,
}

/// How long a cancel request may take: it needs a connection of its own.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(3);

impl std::fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CancelHandle({})", self.server)
    }
}

impl CancelHandle {
    /// Asks the server to cancel whatever runs on the session. If something does, it fails with
    /// [`PgError::Cancelled`]; the session can be used on.
    ///
    /// # Errors
    /// [`PgError::Unreachable`] if the request could not be sent.
    pub async fn cancel(&self) -> Result<(), PgError> {
        self.asked.store(true, Ordering::Relaxed);
        let unreachable = |reason| PgError::Unreachable { server: Arc::clone(&self.server), reason };
        match timeout(CANCEL_TIMEOUT, self.token.cancel_query(self.tls.0.clone())).await {
            Ok(outcome) => outcome.map_err(|error| unreachable(cause_of(&error))),
            Err(_) => Err(unreachable(format!("no answer within {} s", CANCEL_TIMEOUT.as_secs()))),
        }
    }
}

pub(super) fn cause_of(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
