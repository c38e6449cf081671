//! Waiting for MongoDB: reports long waits, and limits them.
//!
//! The driver has no timeout for a reply. Its monitors have, but on their own connections: they do
//! not notice a single connection that has gone silent. Every request goes through here.

use std::future::IntoFuture;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::error::Error;
use tokio::time::{Instant, timeout};

use crate::connect::Deployment;
use crate::error::MongoError;

/// When a wait is first reported, and how often from then on.
const REPORT_AFTER: Duration = Duration::from_secs(20);
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Factor of all limits. It doubles after each timeout, up to [`MAX_GRACE`], so that a slow server
/// gets through in the end.
static GRACE: AtomicU32 = AtomicU32::new(1);
const MAX_GRACE: u32 = 8;

/// How long a reply may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyLimit {
    /// The server has little to do.
    Short,
    /// The server may have to read a whole collection.
    Long,
    /// The server was asked to answer within this time.
    Within(Duration),
}

impl ReplyLimit {
    fn duration(self) -> Duration {
        match self {
            ReplyLimit::Short => Duration::from_secs(60) * GRACE.load(Ordering::Relaxed),
            ReplyLimit::Long => Duration::from_secs(600) * GRACE.load(Ordering::Relaxed),
            ReplyLimit::Within(wait) => wait + Duration::from_secs(30),
        }
    }
}

/// A wait for one reply. It survives a cancelled future, as those of a tail are.
#[derive(Debug)]
pub(crate) struct ReplyWait {
    began: Instant,
    limit: ReplyLimit,
    /// How long earlier waits for the same reply took.
    silent: Duration,
    report_at: Duration,
}

impl ReplyWait {
    /// Starts now.
    pub(crate) fn new(limit: ReplyLimit) -> ReplyWait {
        ReplyWait { began: Instant::now(), limit, silent: Duration::ZERO, report_at: REPORT_AFTER }
    }

    /// Starts now; reports count from `silent_since`, when earlier waits began to fail.
    pub(crate) fn since(limit: ReplyLimit, silent_since: Option<Instant>) -> ReplyWait {
        let silent = silent_since.map(|since| since.elapsed()).unwrap_or_default();
        let report_at = REPORT_AFTER.saturating_sub(silent);
        ReplyWait { silent, report_at, ..ReplyWait::new(limit) }
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }
}

impl Deployment {
    /// Waits for a reply to `command` on `namespace`.
    ///
    /// # Errors
    /// As [`Deployment::explain`]; [`MongoError::ConnectionLost`] if none comes in time.
    pub(crate) async fn answered<T>(
        &self,
        command: &'static str,
        namespace: &str,
        limit: ReplyLimit,
        work: impl IntoFuture<Output = Result<T, Error>>,
    ) -> Result<T, MongoError> {
        self.answered_in(&mut ReplyWait::new(limit), command, namespace, work).await
    }

    /// As [`Deployment::answered`], in a wait that has already started.
    pub(crate) async fn answered_in<T>(
        &self,
        wait: &mut ReplyWait,
        command: &'static str,
        namespace: &str,
        work: impl IntoFuture<Output = Result<T, Error>>,
    ) -> Result<T, MongoError> {
        let most = wait.limit.duration();
        let mut work = pin!(work.into_future());
        loop {
            let pause = wait.report_at.min(most).saturating_sub(wait.began.elapsed());
            if let Ok(outcome) = timeout(pause, &mut work).await {
                return outcome.map_err(|error| self.explain(&error, command, namespace));
            }
            let waited = wait.began.elapsed();
            if waited >= most {
                break;
            }
            wait.report_at = waited + REPORT_EVERY;
            let (hosts, waited) = (self.hosts(), (wait.silent + waited).as_secs());
            tracing::warn!("waiting for MongoDB at {hosts}: {command} on {namespace}, {waited} s so far");
        }
        if !matches!(wait.limit, ReplyLimit::Within(_)) {
            GRACE.store((GRACE.load(Ordering::Relaxed) * 2).min(MAX_GRACE), Ordering::Relaxed);
        }
        Err(MongoError::ConnectionLost {
            hosts: self.hosts().clone(),
            command,
            namespace: namespace.to_owned(),
            message: format!("no reply within {} s", most.as_secs()),
        })
    }
}
