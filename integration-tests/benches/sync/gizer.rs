//! (b) and (c) `gizer sync`: the release program, as a user runs it.

use std::time::{Duration, Instant};

use integration_tests::bench::{Ran, Result, finished, run};
use integration_tests::rig::Gizer;

use crate::bed::{Bed, Copy};

/// Runs `gizer sync`, from the start of the program to its end.
///
/// # Errors
/// What gizer says if it fails; a program that is not of the release profile.
pub(crate) async fn sync(bed: &Bed, copy: &Copy) -> Result<Ran> {
    run(bed, (&copy.gizer, &copy.target), &["sync"]).await
}

/// Runs `gizer sync`, and gives nothing but its wall time, to the millisecond.
///
/// # Errors
/// As [`sync`].
pub(crate) async fn seconds(gizer: &Gizer) -> Result<f64> {
    let started = Instant::now();
    let mut running = gizer.spawn(["sync", "--format", "json"])?;
    while running.is_running()? {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    finished(running, &["sync"]).await?;
    Ok(seconds)
}
