//! How a caller asks the engine to stop.

use std::future::pending;

use tokio::sync::watch;

use crate::failure::Failure;

/// Asks for the end of what was started with its [`Stop`].
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<Failure>>);

impl Stopper {
    /// Asks to stop; work that is dropped for it ends with this failure. The first one counts.
    pub fn stop(&self, why: Failure) {
        self.0.send_if_modified(|asked| {
            let is_first = asked.is_none();
            asked.get_or_insert(why);
            is_first
        });
    }
}

/// Whether somebody wants the engine to stop; clones are of the same wish.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<Failure>>);

impl Stop {
    /// A stop that can be asked for.
    pub fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(None);
        (Stopper(sender), Stop(receiver))
    }

    /// A stop that nobody asks for.
    pub fn never() -> Stop {
        Stop::new().1
    }

    /// Why to stop, if it was asked for: for work that is better ended than dropped.
    pub fn reason(&self) -> Option<Failure> {
        self.0.borrow().clone()
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Runs `work` until it is done or a stop is asked for; then it is dropped where it is.
    ///
    /// # Errors
    /// Those of `work`, or the failure that the stop was asked with.
    pub async fn or_done<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut asked = self.0.clone();
        let stopped = async {
            match asked.wait_for(Option::is_some).await.ok().and_then(|asked| asked.clone()) {
                Some(why) => why,
                // Nobody can ask any more.
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
