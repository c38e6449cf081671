//! The task that keeps one shard's oplog aside.

use std::time::{Duration, Instant};

use gizer_oplog::spool::{Appended, Span};
use gizer_oplog::{OplogBatch, OplogTail};
use tokio::sync::watch;

use super::store::Store;
use super::{CaptureEnd, ShardCapture, SpoolEnd, State};
use crate::failure::Failure;

/// How long what was written may wait to be made safe against a crash of the machine.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// One shard's oplog, its spool, and what was done so far.
pub(super) struct Shard {
    tail: OplogTail,
    store: Store,
    database: String,
    stopped: watch::Receiver<Option<SpoolEnd>>,
    state: watch::Sender<State>,
    /// What the spool covered when it was last seen.
    span: Span,
    kept: Appended,
    synced: Instant,
}

impl Shard {
    pub(super) fn new(
        tail: OplogTail,
        store: Store,
        database: String,
        span: Span,
        stopped: watch::Receiver<Option<SpoolEnd>>,
    ) -> (Shard, watch::Receiver<State>) {
        let (state, seen) = watch::channel(State { reached: span.reached, ended: false });
        let (kept, synced) = (Appended::default(), Instant::now());
        (Shard { tail, store, database, stopped, state, span, kept, synced }, seen)
    }

    /// Keeps entries aside until it is stopped, or cannot go on.
    pub(super) async fn run(mut self) -> ShardCapture {
        let mut end = self.keep().await.unwrap_or_else(CaptureEnd::BrokenOff);
        let synced = self.store.sync().await;
        self.note_progress();
        if let (CaptureEnd::Stopped | CaptureEnd::LimitReached, Err(failure)) = (&end, synced) {
            end = CaptureEnd::BrokenOff(failure);
        }
        let shard = self.tail.shard().to_owned();
        self.tell(&shard, &end);
        self.state.send_modify(|state| state.ended = !matches!(end, CaptureEnd::Stopped));
        // One that has ended early is still read.
        let end_of_spool = self.stopped.wait_for(Option::is_some).await.ok().and_then(|stopped| *stopped);
        if end_of_spool == Some(SpoolEnd::Removed)
            && let Err(failure) = self.store.remove().await
        {
            tracing::warn!("the spool of {shard} could not be removed: {failure}");
        }
        ShardCapture { shard, span: self.span, entries: self.kept.entries, bytes: self.kept.bytes, end }
    }

    async fn keep(&mut self) -> Result<CaptureEnd, Failure> {
        loop {
            let batch = tokio::select! {
                biased;
                // An error means that whoever could stop it is gone.
                _ = self.stopped.wait_for(Option::is_some) => return Ok(CaptureEnd::Stopped),
                batch = self.tail.next_batch() => batch?,
            };
            if !batch.is_empty() && self.append(batch).await?.full {
                return Ok(CaptureEnd::LimitReached);
            }
            if self.store.is_dirty() && self.synced.elapsed() >= SYNC_EVERY {
                self.store.sync().await?;
                // Only now can others read how far it goes beyond the last entry.
                self.note_progress();
                self.synced = Instant::now();
            }
        }
    }

    async fn append(&mut self, batch: OplogBatch) -> Result<Appended, Failure> {
        let appended = self.store.append(batch, &self.database).await?;
        self.kept.entries += appended.entries;
        self.kept.bytes += appended.bytes;
        self.note_progress();
        Ok(appended)
    }

    fn note_progress(&mut self) {
        if let Some(span) = self.store.span() {
            self.span = span;
            self.state.send_modify(|state| state.reached = span.reached);
        }
    }

    /// Says once why a capture has ended before the load.
    fn tell(&self, shard: &str, end: &CaptureEnd) {
        let reached = self.span.reached.time;
        match end {
            CaptureEnd::Stopped => {}
            CaptureEnd::LimitReached => tracing::warn!(
                "the oplog of {shard} is kept aside up to {reached} and no further: load.spool_limit is reached; the \
                 load goes on, and can be followed if the oplog itself still holds what comes after"
            ),
            CaptureEnd::BrokenOff(failure) => tracing::warn!(
                "the oplog of {shard} is kept aside up to {reached} and no further: {failure}; the load goes on, and \
                 can be followed if the oplog itself still holds what comes after"
            ),
        }
    }
}
