//! A spool in a second PostgreSQL (`[cache]`).

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use gizer_flatten::change::Positions;
use gizer_pg::spool::PgSpool;
use gizer_pg::{PgError, Target};

use super::{Appended, Cursor, Page, Spool, SpoolIdentity, SpoolSpan, of_cache};
use crate::failure::Failure;

/// A spool in tables, which this run writes.
#[derive(Debug, Clone)]
pub struct PostgresSpool {
    spool: Arc<tokio::sync::Mutex<PgSpool>>,
    /// What it covers, for whoever asks while it is in use.
    span: Arc<Mutex<Option<SpoolSpan>>>,
}

impl PostgresSpool {
    /// Connects, and takes the spool over.
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

    fn append(&self, page: Page) -> BoxFuture<'_, Result<Appended, Failure>> {
        let this = self.clone();
        to_its_end(async move {
            let mut spool = this.spool.lock().await;
            let taken = spool.append(&page.records, page.reached.as_ref()).await?;
            this.note_span(&spool);
            Ok(taken.map_or(Appended::Full, Appended::Taken))
        })
    }

    fn read(&self, Cursor(after): Cursor) -> BoxFuture<'_, Result<Option<(Bytes, Cursor)>, Failure>> {
        let this = self.clone();
        to_its_end(async move {
            let page = this.spool.lock().await.read(i64::try_from(after).unwrap_or(i64::MAX)).await?;
            Ok(page.map(|records| (records.into(), Cursor(after + 1))))
        })
    }

    fn trim(&self, start: Option<Positions>) -> BoxFuture<'_, Result<(), Failure>> {
        let this = self.clone();
        to_its_end(async move {
            let mut spool = this.spool.lock().await;
            let outcome = spool.trim(start.as_ref()).await;
            this.note_span(&spool);
            outcome
        })
    }
}

/// Comes to its end even if nobody waits for that: half a transaction must not be left on the connection.
fn to_its_end<T: Send + 'static>(
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
