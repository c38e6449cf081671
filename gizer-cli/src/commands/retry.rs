//! Trying again after a failure that may pass, where gizer stays on.

use std::time::Duration;

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
}

impl Retry {
    pub(super) fn new() -> Retry {
        Retry { pause: FIRST }
    }

    /// Something was achieved in between.
    pub(super) fn reset(&mut self) {
        self.pause = FIRST;
    }

    /// Says why, and waits; `false` if somebody says stop meanwhile.
    pub(super) async fn wait(&mut self, context: &Context, failure: &Failure) -> bool {
        report::note(format!("gizer: {failure}; trying again in {:.1} s", self.pause.as_secs_f64()));
        let pause = self.pause;
        let wait = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        self.pause = (self.pause * 2).min(LONGEST);
        context.signals.unless_interrupted(wait).await.is_ok()
    }
}
