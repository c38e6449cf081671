//! (a) `gizer load`: the release program, as a user runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration_tests::rig::RunningGizer;
use serde_json::Value;

use crate::Result;
use crate::bed::{Bed, Scene};
use crate::rounds::Sample;
use crate::usage::{Stopwatch, peak_memory};

/// Nobody waits longer than this for one load.
pub(crate) const LIMIT: Duration = Duration::from_secs(3_600);

/// How often a run is looked at. It makes the wall time up to this much longer; more often, and looking takes more than
/// a hundredth of a core.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A load of a collection.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) sample: Sample,
    /// Documents that gizer says it has read.
    pub(crate) documents: u64,
    /// Rows that gizer says it has written, all tables together.
    pub(crate) rows: u64,
}

/// Runs `gizer load` for a collection of the scene, from the start of the program to its end.
///
/// # Errors
/// What gizer says if it fails; a program that is not of the release profile.
pub(crate) async fn load(bed: &Bed, scene: &Scene, collection: &str) -> Result<Loaded> {
    scene.settle().await?;
    let wal_before = scene.wal_bytes().await?;
    let watch = Stopwatch::start(bed.servers()?)?;
    let mut running = scene.gizer.spawn(["load", collection, "--format", "json"])?;
    let seen = until_ended(&mut running).await?;
    let usage = watch.stop()?;
    let wal = scene.wal_bytes().await? - wal_before;

    let finished = running.wait().await?;
    if finished.code() != Some(0) {
        return Err(format!("gizer load {collection} failed: {}{}", finished.stdout, finished.stderr).into());
    }
    check_profile(&seen.program)?;
    let report: Value = serde_json::from_str(&finished.stdout)?;
    let entry = &report["collections"][0];
    let tables = entry["tables"].as_array().ok_or("expected tables in the report of gizer load")?;
    Ok(Loaded {
        sample: Sample { usage, phases: Vec::new(), peak: Some(seen.peak), wal: Some(wal) },
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
