//! What the benchmarks of whole programs have in common: `benches/load`, `benches/sync` and `benches/verify`.
//!
//! Each starts a [`Bed`] of private servers, measures in rounds with a [`Stopwatch`], and prints medians with what they
//! depend on: machine, build, settings, and how busy the machine was with anything else.

mod bed;
mod gizer;
mod machine;
mod options;
pub mod report;
mod rounds;
mod usage;

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

pub use bed::{Bed, Scene, fill_orders, layout, wal_bytes};
pub use gizer::{LIMIT, Loaded, Ran, finished, load, run};
pub use machine::Machine;
pub use options::{count, setting};
pub use rounds::{Sample, Series, Spread};
pub use usage::{CoreShares, Servers, Stopwatch, Usage, peak_memory};

/// Seed of all shops of the benchmarks: the same orders in every run.
pub const SEED: u64 = 1;

/// Whatever goes wrong ends the benchmark, and is told.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Runs `scripts/bench <name>`, unless `is_bench` says that it was not `cargo bench` that began it.
pub async fn begin(name: &str, is_bench: bool, measure: impl Future<Output = Result<()>>) -> ExitCode {
    if !is_bench {
        note(format!("this is a benchmark of minutes: run it with scripts/bench {name}"));
        return ExitCode::SUCCESS;
    }
    let outcome = match cfg!(debug_assertions) {
        true => {
            Err(format!("expected an optimised build, this is one for debugging: run it with scripts/bench {name}")
                .into())
        }
        false => measure.await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format!("bench {name}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Results go to standard output.
///
/// # Errors
/// If nobody takes them.
pub fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())?;
    io::stdout().flush()
}

/// What is being done goes to standard error.
pub fn note(text: impl Display) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes all figures to a file.
///
/// # Errors
/// The file's.
pub fn write_json(figures: &Value, path: &Path) -> Result<()> {
    std::fs::write(path, format!("{figures:#}\n"))
        .map_err(|error| format!("could not write {}: {error}", path.display()))?;
    note(format!("wrote {}", path.display()));
    Ok(())
}
