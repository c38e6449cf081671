//! How long failures that may pass are put up with.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::MongoError;
use crate::position::CAPPED_POSITION_LOST;

/// The first pause before another attempt; each is twice the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts: an election takes 10 seconds, so more would only add to it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Tells failures that may pass (an election, a restart, a member that lags) from others, and pauses between attempts.
pub(crate) struct Patience {
    /// How long they may last.
    limit: Duration,
    trouble: Option<Trouble>,
}

/// Since when nothing has been read, and how long to pause next.
struct Trouble {
    since: Instant,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Patience {
        Patience { limit, trouble: None }
    }

    /// Something has been read: what fails from here on is another trouble.
    pub(crate) fn reset(&mut self) {
        self.trouble = None;
    }

    /// Waits before another attempt, or gives the error if it will not pass or has not passed for too long.
    pub(crate) async fn pause(&mut self, shard: &str, error: MongoError) -> Result<(), MongoError> {
        if !passes(&error) {
            self.trouble = None;
            return Err(error);
        }
        let trouble = self.trouble.get_or_insert_with(|| Trouble { since: Instant::now(), pause: FIRST_PAUSE });
        if trouble.since.elapsed() + trouble.pause > self.limit {
            self.trouble = None;
            return Err(error);
        }
        let pause = trouble.pause;
        trouble.pause = (pause * 2).min(LONGEST_PAUSE);
        tracing::debug!(shard, %error, ?pause, "the oplog cannot be read; trying again");
        sleep(pause).await;
        Ok(())
    }
}

/// Whether reading on from the last position may succeed a little later.
fn passes(error: &MongoError) -> bool {
    matches!(error, MongoError::Server { code: CAPPED_POSITION_LOST, .. }) || error.is_transient()
}
