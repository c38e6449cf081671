//! Waiting for PostgreSQL: a word about what is waited for, and an end where no answer will come.
//!
//! ```text
//!   statement ──▶ answer in time
//!       └── none for 20 s ──▶ a second connection asks what our process does:
//!             works, or waits for a lock       ──▶ reported every 30 s, waited for
//!             has nothing to do, or is gone    ──▶ the answer was lost: the session is given up
//!             cannot be asked about            ──▶ reported, asked again, then given up
//! ```
//!
//! A path that has gone silent (a proxy, a firewall) sends no error, so only a limit of our own can end the wait. A
//! statement that works is never given up, however long it takes.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, Stream, TryStreamExt};
use tokio::time::{Instant, timeout};
use tokio_postgres::{CopyInSink, Error, Statement, ToStatement};

use super::Session;
use super::process::{self, Seen};
use crate::error::PgError;

/// After this time without an answer the server is asked what our process does.
const LOOK_AFTER: Duration = Duration::from_secs(20);

/// How often to ask from then on.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often to report a wait.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// From when on a session is given up whose process has nothing to do, or cannot be asked about.
const LOST_AFTER: Duration = Duration::from_secs(40);

/// The same for a process that sends to us or receives from us: a slow line looks like a dead one.
const STALLED_AFTER: Duration = Duration::from_secs(120);

/// What the two limits are multiplied by. It doubles whenever a session is given up, up to [`MAX_GRACE`], so that a slow
/// line gets through in the end.
static GRACE: AtomicU32 = AtomicU32::new(1);
const MAX_GRACE: u32 = 8;

/// How long an answer may still be on its way once its process is gone.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Whether to go on waiting.
enum WaitVerdict {
    Wait,
    /// The process is gone.
    Gone,
    Lost,
}

impl Session {
    /// Waits for an answer. Whatever is said to the server goes through here.
    pub(crate) async fn answered<T>(
        &self,
        doing: impl Display,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, PgError> {
        let mut work = pin!(work);
        // Most rows of a stream are there already: they need no timer.
        let at_once = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        if let Poll::Ready(outcome) = at_once {
            return outcome.map_err(|error| self.error(doing, &error));
        }
        let doing = match timeout(LOOK_AFTER, &mut work).await {
            Ok(outcome) => return outcome.map_err(|error| self.error(doing, &error)),
            Err(_) => doing.to_string(),
        };
        match self.answered_late(&doing, work).await? {
            Ok(value) => Ok(value),
            Err(error) => Err(self.error(doing, &error)),
        }
    }

    /// As [`Session::answered`], with the library's own error of the statement.
    pub(crate) async fn within<T>(
        &self,
        doing: impl Display,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, PgError> {
        let mut work = pin!(work);
        match timeout(LOOK_AFTER, &mut work).await {
            Ok(outcome) => Ok(outcome),
            Err(_) => self.answered_late(&doing.to_string(), work).await,
        }
    }

    /// The error is that the session was given up.
    async fn answered_late<T, W>(&self, doing: &str, mut work: Pin<&mut W>) -> Result<Result<T, Error>, PgError>
    where
        W: Future<Output = Result<T, Error>>,
    {
        let mut wait = Wait { began: Instant::now() - LOOK_AFTER, reported: None };
        loop {
            let look = self.target().clone();
            let seen = tokio::select! {
                biased;
                outcome = &mut work => return Ok(outcome),
                seen = process::look(&look, self.process()) => seen,
            };
            let pause = match wait.judge(self, doing, &seen) {
                WaitVerdict::Wait => LOOK_EVERY,
                WaitVerdict::Gone => LAST_WORD,
                WaitVerdict::Lost => return Err(self.give_up(doing, &seen)),
            };
            if let Ok(outcome) = timeout(pause, &mut work).await {
                return Ok(outcome);
            }
            if matches!(seen, Seen::Gone) {
                return Err(self.give_up(doing, &seen));
            }
        }
    }

    fn give_up(&self, doing: &str, seen: &Seen) -> PgError {
        let grace = GRACE.load(Ordering::Relaxed);
        GRACE.store((grace * 2).min(MAX_GRACE), Ordering::Relaxed);
        self.abort(format!("no answer came: {seen}"));
        let (server, reason) = (self.server().clone(), format!("no answer came: {seen}"));
        PgError::ConnectionLost { server, doing: doing.to_owned(), reason, sqlstate: None }
    }

    /// Prepares a statement.
    pub(crate) async fn prepare(&self, doing: impl Display, sql: &str) -> Result<Statement, PgError> {
        self.answered(doing, self.client().prepare(sql)).await
    }

    /// The next of what comes one by one: rows, or pieces of a COPY.
    pub(crate) async fn next<T>(
        &self,
        doing: impl Display,
        mut stream: Pin<&mut impl Stream<Item = Result<T, Error>>>,
    ) -> Result<Option<T>, PgError> {
        self.answered(doing, stream.try_next()).await
    }

    /// Begins `COPY … FROM STDIN`.
    pub(crate) async fn copy_in<S>(&self, doing: String, statement: &S) -> Result<CopyIn<'_>, PgError>
    where
        S: ?Sized + ToStatement,
    {
        let sink = self.answered(&doing, self.client().copy_in(statement)).await?;
        Ok(CopyIn { session: self, doing, sink: Box::pin(sink) })
    }
}

/// A COPY to the server that has begun. Dropping it makes the COPY fail.
pub(crate) struct CopyIn<'s> {
    session: &'s Session,
    doing: String,
    sink: Pin<Box<CopyInSink<Bytes>>>,
}

impl CopyIn<'_> {
    /// Gives a piece of the data.
    pub(crate) async fn feed(&mut self, chunk: Bytes) -> Result<(), PgError> {
        self.session.answered(&self.doing, self.sink.feed(chunk)).await
    }

    /// Ends the data; gives the number of rows that the server took.
    pub(crate) async fn finish(mut self) -> Result<u64, PgError> {
        self.session.answered(&self.doing, self.sink.as_mut().finish()).await
    }
}

/// One wait that takes long.
struct Wait {
    began: Instant,
    reported: Option<Instant>,
}

impl Wait {
    fn judge(&mut self, session: &Session, doing: &str, seen: &Seen) -> WaitVerdict {
        let limit = match seen {
            Seen::Gone => return WaitVerdict::Gone,
            Seen::Works(_) => None,
            Seen::NothingToDo | Seen::NotToBeAsked(_) => Some(LOST_AFTER),
            Seen::Exchanges => Some(STALLED_AFTER),
        };
        let waited = self.began.elapsed();
        if limit.is_some_and(|limit| waited >= limit * GRACE.load(Ordering::Relaxed)) {
            return WaitVerdict::Lost;
        }
        if self.reported.is_none_or(|reported| reported.elapsed() >= REPORT_EVERY) {
            self.reported = Some(Instant::now());
            let (server, waited) = (session.server(), waited.as_secs());
            tracing::warn!("waiting for PostgreSQL at {server}: {doing}, {waited} s so far; {seen}");
        }
        WaitVerdict::Wait
    }
}
