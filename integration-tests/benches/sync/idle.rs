//! `gizer sync` that finds nothing to do.

use integration_tests::bench::report::target;
use integration_tests::bench::{Result, Spread, note};
use serde_json::{Value, json};

use crate::bed::{Bed, Verify};
use crate::gizer;
use crate::options::Options;

/// Runs that are measured.
const RUNS: usize = 20;

/// Orders in the tables. How many there are makes no difference.
const ORDERS: u64 = 1_000;

/// The most that a run may take, in milliseconds.
const TARGET: f64 = 100.0;

/// Measures runs one after the other, in milliseconds.
///
/// # Errors
/// The servers', gizer's.
pub(crate) async fn measure(bed: &Bed, _options: &Options) -> Result<Spread> {
    note("idle: loading");
    let scene = bed.scene("idle").await?;
    scene.load_orders(bed, ORDERS).await?;
    let copy = bed.copy(&scene, "idle_copy", Verify::All).await?;
    // The first one comes from the load to the stream.
    gizer::sync(bed, &copy).await?;
    let mut all = Vec::new();
    for _ in 0..RUNS {
        all.push(1_000.0 * gizer::seconds(&copy.gizer).await?);
    }
    Ok(Spread::of(all.into_iter()))
}

/// As text.
pub(crate) fn text(found: &Spread) -> String {
    let line = format!("an idle gizer sync, {RUNS} runs: {} ms", found.text());
    format!("\n{}", target(&line, "at most 100 ms", found.median <= TARGET))
}

/// For the file of figures.
pub(crate) fn json(found: &Spread) -> Value {
    json!({"runs": RUNS, "milliseconds": found.json()})
}
