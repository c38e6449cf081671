//! The release program, as a user runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Client;

use super::{Bed, Result, Sample, Scene, Stopwatch, peak_memory, wal_bytes};
use crate::rig::{Gizer, RunningGizer};

/// Nobody waits longer than this for one run.
pub const LIMIT: Duration = Duration::from_secs(3_600);

/// How often a run is looked at. It makes the wall time up to this much longer; more often, and looking takes more than
/// a hundredth of a core.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a run of gizer has taken and done.
#[derive(Debug)]
pub struct Ran {
    /// What it took.
    pub sample: Sample,
    /// What it reported.
    pub report: Value,
}

/// Runs gizer, from the start of the program to its end; `target` is the database that it writes to or reads.
///
/// # Errors
/// What gizer says if it fails; a program that is not of the release profile.
pub async fn run(bed: &Bed, (gizer, target): (&Gizer, &Client), args: &[&str]) -> Result<Ran> {
    let wal_before = wal_bytes(target).await?;
    let watch = Stopwatch::start(bed.servers()?)?;
    let mut running = gizer.spawn(args.iter().chain(&["--format", "json"]))?;
    let seen = until_ended(&mut running).await?;
    let usage = watch.stop()?;
    let wal = wal_bytes(target).await? - wal_before;
    let report = finished(running, args).await?;
    check_profile(&seen.program)?;
    Ok(Ran { sample: Sample { usage, phases: Vec::new(), peak: Some(seen.peak), wal: Some(wal) }, report })
}

/// What gizer reports at its end.
///
/// # Errors
/// What it says if it fails.
pub async fn finished(running: RunningGizer, args: &[&str]) -> Result<Value> {
    let finished = running.wait().await?;
    if finished.code() != Some(0) {
        return Err(format!("gizer {} failed: {}{}", args.join(" "), finished.stdout, finished.stderr).into());
    }
    Ok(serde_json::from_str(&finished.stdout)?)
}

/// A load of a collection.
#[derive(Debug)]
pub struct Loaded {
    /// What it took.
    pub sample: Sample,
    /// Documents that gizer says it has read.
    pub documents: u64,
    /// Rows that gizer says it has written, all tables together.
    pub rows: u64,
}

/// Runs `gizer load` for a collection of the scene, with more options, after a checkpoint.
///
/// # Errors
/// As [`run`].
pub async fn load(bed: &Bed, scene: &Scene, collection: &str, options: &[&str]) -> Result<Loaded> {
    scene.settle().await?;
    let args = [&["load", collection], options].concat();
    let Ran { sample, report } = run(bed, (&scene.gizer, &scene.target), &args).await?;
    let entry = &report["collections"][0];
    let tables = entry["tables"].as_array().ok_or("expected tables in the report of gizer load")?;
    Ok(Loaded {
        sample,
        documents: entry["read"].as_u64().ok_or("expected documents read in the report of gizer load")?,
        rows: tables.iter().filter_map(|table| table["rows"].as_u64()).sum(),
    })
}

/// What a running gizer was seen to be.
#[derive(Debug, Default)]
struct Seen {
    program: PathBuf,
    /// Bytes.
    peak: u64,
}

async fn until_ended(running: &mut RunningGizer) -> Result<Seen> {
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
        tokio::time::sleep(LOOK_EVERY).await;
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
