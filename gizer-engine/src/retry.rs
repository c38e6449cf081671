//! Retries of transient failures.

use std::time::{Duration, Instant};

use crate::env::Env;
use crate::failure::Failure;
use crate::notice::Notice;

/// The first pause; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Growing pauses.
#[derive(Debug)]
pub struct Retry {
    pause: Duration,
    /// How long failures may last; `None` for ever.
    limit: Option<Duration>,
    since: Option<Instant>,
}

impl Retry {
    /// For commands that keep running.
    pub fn for_good() -> Retry {
        Retry { pause: FIRST_PAUSE, limit: None, since: None }
    }

    /// For commands that end: retries for `[run] retry_for` once started.
    pub fn once(env: &Env) -> Retry {
        Retry { limit: Some(env.settings.retry_for), ..Retry::for_good() }
    }

    /// Resets after progress.
    pub fn reset(&mut self) {
        (self.pause, self.since) = (FIRST_PAUSE, None);
    }

    /// Whether to retry: the failure is transient and there is time. Reports it and waits; `false`
    /// also if a stop comes meanwhile.
    pub async fn wait(&mut self, env: &Env, failure: &Failure) -> bool {
        if !failure.passes || env.stop.is_asked() {
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let pause = match self.limit {
            None => self.pause,
            Some(limit) => match limit.saturating_sub(since.elapsed()) {
                Duration::ZERO => return false,
                left => self.pause.min(left),
            },
        };
        env.notice(&Notice::Retrying { failure: failure.clone(), pause });
        let wait = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        env.stop.or_done(wait).await.is_ok()
    }
}
