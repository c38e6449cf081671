//! Retries of transient failures.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::MongoError;

/// The first pause before a retry; each is twice the last, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: an election takes about 10 seconds, so longer ones would only add to it.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Retries transient failures (elections, restarts, lagging members), with pauses.
pub(crate) struct Patience {
    /// How long an outage may last.
    limit: Duration,
    outage: Option<Outage>,
}

/// An outage: since when, and the next pause.
struct Outage {
    since: Instant,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Patience {
        Patience { limit, outage: None }
    }

    /// Ends the outage: something was read.
    pub(crate) fn reset(&mut self) {
        self.outage = None;
    }

    /// Waits before a retry, or returns the error if it is not transient or has lasted too long.
    pub(crate) async fn pause(&mut self, shard: &str, error: MongoError) -> Result<(), MongoError> {
        if !error.is_transient() {
            self.outage = None;
            return Err(error);
        }
        let outage = self.outage.get_or_insert_with(|| Outage { since: Instant::now(), pause: FIRST_PAUSE });
        if outage.since.elapsed() + outage.pause > self.limit {
            self.outage = None;
            return Err(error);
        }
        let pause = outage.pause;
        outage.pause = (pause * 2).min(MAX_PAUSE);
        tracing::debug!(shard, %error, ?pause, "cannot read the oplog; retrying");
        sleep(pause).await;
        Ok(())
    }
}
