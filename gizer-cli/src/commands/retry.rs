//! Trying again after a failure that may pass.

use std::time::{Duration, Instant};

use super::Context;
use crate::exit::Failure;
use crate::report;

/// The first pause; each is twice the one before.
const FIRST: Duration = Duration::from_millis(500);

/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that grow.
#[derive(Debug)]
pub(super) struct Retry {
    pause: Duration,
    /// How long failures may last; `None`: for good.
    limit: Option<Duration>,
    since: Option<Instant>,
}

impl Retry {
    /// Of a command that stays on.
    pub(super) fn for_good() -> Retry {
        Retry { pause: FIRST, limit: None, since: None }
    }

    /// Of one that does not: it tries for as long as `[run] retry_for` says, once it has begun.
    pub(super) fn once(context: &Context) -> Retry {
        Retry { limit: Some(context.config.retry_for), ..Retry::for_good() }
    }

    /// Something was achieved in between.
    pub(super) fn reset(&mut self) {
        (self.pause, self.since) = (FIRST, None);
    }

    /// Whether to try again: if the failure passes, and there is time. Says why, and waits; `false`, too, if somebody says
    /// stop meanwhile.
    pub(super) async fn wait(&mut self, context: &Context, failure: &Failure) -> bool {
        if !failure.passes || context.signals.came().is_some() {
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
        report::warning(format!("{failure}; trying again in {:.1} s", pause.as_secs_f64()));
        let wait = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        self.pause = (self.pause * 2).min(LONGEST);
        context.signals.unless_interrupted(wait).await.is_ok()
    }
}
