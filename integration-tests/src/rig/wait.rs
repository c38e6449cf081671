//! Waiting for a condition, with a limit. Nothing in the rig sleeps and hopes.

use std::time::Duration;

use super::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Asks `probe` again and again until it gives a value, and returns that value.
///
/// Pauses grow from 2 to 100 ms, so a short wait stays short and a long one does not burn the processor.
/// `what` completes the sentence "waited in vain for …".
///
/// # Errors
/// [`Error::TimedOut`] once `limit` is over, even while a probe is still under way.
pub async fn wait_for<T>(
    what: impl Into<String>,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> Result<T, Error> {
    let attempts = async {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    tokio::time::timeout(limit, attempts).await.map_err(|_| Error::TimedOut { what: what.into(), limit })
}

/// Asks `probe` again and again until it says `true`. See [`wait_for`].
///
/// # Errors
/// [`Error::TimedOut`] once `limit` is over, even while a probe is still under way.
pub async fn wait_until(
    what: impl Into<String>,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> bool,
) -> Result<(), Error> {
    wait_for(what, limit, async || probe().await.then_some(())).await
}
