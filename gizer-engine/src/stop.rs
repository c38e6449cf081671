//! Stopping the engine.

use std::future::pending;

use tokio::sync::watch;

use crate::failure::Failure;

/// Stops everything started with its [`Stop`].
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<Failure>>);

impl Stopper {
    /// Stops; dropped work ends with this failure. The first call counts.
    pub fn stop(&self, why: Failure) {
        self.0.send_if_modified(|asked| {
            let is_first = asked.is_none();
            asked.get_or_insert(why);
            is_first
        });
    }
}

/// Tells whether to stop; clones share it.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<Failure>>);

impl Stop {
    /// A stop and its trigger.
    pub fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(None);
        (Stopper(sender), Stop(receiver))
    }

    /// A stop that never comes.
    pub fn never() -> Stop {
        Stop::new().1
    }

    /// The reason, once stopped: for work that should end rather than be dropped.
    pub fn reason(&self) -> Option<Failure> {
        self.0.borrow().clone()
    }

    /// Whether it has come.
    pub fn is_asked(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Runs `work` until it is done or a stop comes; then it is dropped.
    ///
    /// # Errors
    /// Those of `work`, or the stop's failure.
    pub async fn or_done<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut asked = self.0.clone();
        let stopped = async {
            match asked.wait_for(Option::is_some).await.ok().and_then(|asked| asked.clone()) {
                Some(why) => why,
                // The stopper is gone.
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            why = stopped => Err(why),
            outcome = work => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_wish_counts_and_ends_what_waits() {
        let (stopper, stop) = Stop::new();
        assert_eq!(stop.or_done(async { Ok(1) }).await.unwrap(), 1);
        stopper.stop(Failure::failed("first"));
        stopper.stop(Failure::failed("second"));
        let outcome = stop.or_done(pending::<Result<(), Failure>>()).await;
        assert_eq!(outcome.unwrap_err().message, "first");
        assert!(stop.is_asked() && stop.reason().unwrap().message == "first");
    }

    #[tokio::test]
    async fn nobody_left_to_ask_is_no_wish() {
        assert_eq!(Stop::never().or_done(async { Ok(1) }).await.unwrap(), 1);
    }
}
