//! A spool in a second PostgreSQL (`[cache]`).

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use gizer_flatten::change::Positions;
use gizer_pg::spool::PgSpool;
use gizer_pg::{PgError, Target};

use super::{AppendOutcome, Cursor, Page, Spool, SpoolIdentity, SpoolSpan, of_cache};
use crate::failure::Failure;

/// A spool in tables that this run owns.
#[derive(Debug, Clone)]
pub struct PostgresSpool {
    spool: Arc<tokio::sync::Mutex<PgSpool>>,
    /// What it covers, readable while it is in use.
    span: Arc<Mutex<Option<SpoolSpan>>>,
}

impl PostgresSpool {
    /// Connects and takes over the spool.
    ///
    /// # Errors
    /// As [`PgSpool::open`].
    pub async fn open(target: &Target, identity: &SpoolIdentity, limit: u64) -> Result<PostgresSpool, Failure> {
        let spool = PgSpool::open(target, identity, limit).await.map_err(of_cache)?;
        let span = Arc::new(Mutex::new(span_of(&spool)));
        Ok(PostgresSpool { spool: Arc::new(tokio::sync::Mutex::new(spool)), span })
    }

    fn note_span(&self, spool: &PgSpool) {
        *self.span.lock().unwrap_or_else(PoisonError::into_inner) = span_of(spool);
    }
}

impl Spool for PostgresSpool {
    fn span(&self) -> Option<SpoolSpan> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn append(&self, page: Page) -> BoxFuture<'_, Result<AppendOutcome, Failure>> {
        let this = self.clone();
        run_to_completion(async move {
            let mut spool = this.spool.lock().await;
            let taken = spool.append(&page.records, page.reached.as_ref()).await?;
            this.note_span(&spool);
            Ok(taken.map_or(AppendOutcome::Full, AppendOutcome::Taken))
        })
    }

    fn read(&self, Cursor(after): Cursor) -> BoxFuture<'_, Result<Option<(Bytes, Cursor)>, Failure>> {
        let this = self.clone();
        run_to_completion(async move {
            let page = this.spool.lock().await.read(i64::try_from(after).unwrap_or(i64::MAX)).await?;
            Ok(page.map(|records| (records.into(), Cursor(after + 1))))
        })
    }

    fn trim(&self, start: Option<Positions>) -> BoxFuture<'_, Result<(), Failure>> {
        let this = self.clone();
        run_to_completion(async move {
            let mut spool = this.spool.lock().await;
            let outcome = spool.trim(start.as_ref()).await;
            this.note_span(&spool);
            outcome
        })
    }
}

/// Completes even if the caller is dropped: no half transaction may stay on the connection.
fn run_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, PgError>> + Send + 'static,
) -> BoxFuture<'static, Result<T, Failure>> {
    let work = tokio::spawn(work);
    async {
        let ended = work.await;
        ended.map_err(|_| Failure::failed("the task that uses the spool has panicked"))?.map_err(of_cache)
    }
    .boxed()
}

fn span_of(spool: &PgSpool) -> Option<SpoolSpan> {
    spool.span().map(|(start, reached)| SpoolSpan { start: start.clone(), reached: reached.clone() })
}
