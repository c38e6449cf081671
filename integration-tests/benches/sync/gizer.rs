//! (b) and (c) `gizer sync`: the release program, as a user runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration_tests::rig::{Gizer, RunningGizer};
use serde_json::Value;

use crate::Result;
use crate::bed::{Bed, Copy};
use crate::rounds::Sample;
use crate::usage::{Stopwatch, peak_memory};

/// Nobody waits longer than this for one run.
pub(crate) const LIMIT: Duration = Duration::from_secs(3_600);

/// How often a run is looked at. It makes the wall time up to this much longer; more often, and looking takes more than
/// a hundredth of a core.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a run of gizer has done.
#[derive(Debug)]
pub(crate) struct Synced {
    pub(crate) sample: Sample,
    pub(crate) report: Value,
}

/// Runs `gizer sync`, from the start of the program to its end.
///
/// # Errors
/// What gizer says if it fails; a program that is not of the release profile.
pub(crate) async fn sync(bed: &Bed, copy: &Copy) -> Result<Synced> {
    let wal_before = copy.wal_bytes().await?;
    let watch = Stopwatch::start(bed.servers()?)?;
    let mut running = copy.gizer.spawn(["sync", "--format", "json"])?;
    let seen = until_ended(&mut running, LOOK_EVERY).await?;
    let usage = watch.stop()?;
    let wal = copy.wal_bytes().await? - wal_before;
    let report = finished(running).await?;
    check_profile(&seen.program)?;
    Ok(Synced { sample: Sample { usage, phases: Vec::new(), peak: Some(seen.peak), wal: Some(wal) }, report })
}

/// Runs `gizer sync`, and gives nothing but its wall time, to the millisecond.
///
/// # Errors
/// As [`sync`].
pub(crate) async fn seconds(gizer: &Gizer) -> Result<f64> {
    let started = std::time::Instant::now();
    let mut running = gizer.spawn(["sync", "--format", "json"])?;
    while running.is_running()? {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    finished(running).await?;
    Ok(seconds)
}

/// What gizer reports at its end.
///
/// # Errors
/// What it says if it fails.
pub(crate) async fn finished(running: RunningGizer) -> Result<Value> {
    let finished = running.wait().await?;
    if finished.code() != Some(0) {
        return Err(format!("gizer sync failed: {}{}", finished.stdout, finished.stderr).into());
    }
    Ok(serde_json::from_str(&finished.stdout)?)
}

/// What a running gizer was seen to be.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    program: PathBuf,
    /// Bytes.
    pub(crate) peak: u64,
}

async fn until_ended(running: &mut RunningGizer, every: Duration) -> Result<Seen> {
    let process = format!("/proc/{}/exe", running.pid());
    let mut seen = Seen::default();
    while running.is_running()? {
        // It begins as a shell that waits for a word before it becomes gizer.
        if let Ok(program) = fs::read_link(&process)
            && program.ends_with("gizer")
        {
            seen.program = program;
            seen.peak = seen.peak.max(peak_memory(running.pid()).unwrap_or_default());
        }
        tokio::time::sleep(every).await;
    }
    Ok(seen)
}

/// The rig takes the program beside the running one; that both are optimised is what this is for.
fn check_profile(program: &Path) -> Result<()> {
    if program.parent().is_some_and(|folder| folder.ends_with("release")) {
        return Ok(());
    }
    Err(format!("expected the gizer program of the release profile, ran {}", program.display()).into())
}
