//! Retries of what failed and may pass.

use std::time::{Duration, Instant};

use crate::env::Env;
use crate::failure::Failure;
use crate::notice::Notice;

/// The first pause; each is twice the one before.
const FIRST: Duration = Duration::from_millis(500);

/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that grow.
#[derive(Debug)]
pub struct Retry {
    pause: Duration,
    /// How long failures may last; `None`: for good.
    limit: Option<Duration>,
    since: Option<Instant>,
}

impl Retry {
    /// Of a command that stays on.
    pub fn for_good() -> Retry {
        Retry { pause: FIRST, limit: None, since: None }
    }

    /// Of one that does not: it tries for as long as `[run] retry_for` says, once it has begun.
    pub fn once(env: &Env) -> Retry {
        Retry { limit: Some(env.settings.retry_for), ..Retry::for_good() }
    }

    /// Something was achieved in between.
    pub fn reset(&mut self) {
        (self.pause, self.since) = (FIRST, None);
    }

    /// Whether to try again: if the failure passes, and there is time. Says why, and waits; `false`, too, if somebody says
    /// stop meanwhile.
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
        self.pause = (self.pause * 2).min(LONGEST);
        env.stop.or_done(wait).await.is_ok()
    }
}
