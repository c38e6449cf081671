//! `scripts/bench load`: how fast `gizer load` is beside what PostgreSQL can do, on private servers.
//!
//! ```text
//!   a  gizer load                MongoDB ──▶ gizer ──▶ PostgreSQL     the program, as a user runs it
//!   b  the limit                  memory ──────────▶ PostgreSQL     encoded rows: binary COPY, keys, ANALYZE
//!   c  the scan alone            MongoDB ──▶ nothing
//!   d  flatten and encode alone   memory ──▶ nothing
//! ```
//!
//! All in one run, in turn, so that whatever the machine does meanwhile falls on all of them. (b) is made as fast as it
//! can honestly be: it is what a load could reach at best.

mod bed;
mod big;
mod compare;
mod gizer;
mod growth;
mod limit;
mod machine;
mod options;
mod orders;
mod plot;
mod report;
mod rounds;
mod stages;
mod usage;

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::bed::Bed;
use crate::compare::Bench;
use crate::machine::Machine;
use crate::options::Options;

/// Whatever goes wrong ends the benchmark, and is told.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        note("this is a benchmark of minutes: run it with scripts/bench load");
        return ExitCode::SUCCESS;
    }
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format!("bench load: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        return Err("expected an optimised build, this is one for debugging: run it with scripts/bench load".into());
    }
    let machine = Machine::this();
    note("starting mongod and PostgreSQL");
    let bed = Bed::start(options).await?;
    let servers = bed.json().await?;
    let mut figures = json!({
        "machine": machine.json(), "servers": servers,
        "options": {"orders": options.orders, "rounds": options.rounds, "workers": options.workers},
    });

    if !options.compares() {
        print(&report::head(options, &machine, &servers))?;
    }
    if options.compares() || options.staging {
        let bench = Bench::prepare(&bed, options).await?;
        figures["data"] = bench.json();
        if options.compares() {
            let found = bench.compare(options).await?;
            print(&report::comparison(options, &machine, &servers, &bench, &found))?;
            figures["comparison"] = found.json();
        }
        if options.staging {
            let found = bench.compare_staging(options.further_rounds).await?;
            print(&report::staging(&found))?;
            figures["staging"] = found.iter().map(rounds::Series::json).collect();
        }
    }
    if options.growth {
        let sizes = growth::measure(&bed, &options.sizes, options.further_rounds).await?;
        print(&growth::text(&sizes))?;
        figures["growth"] = growth::json(&sizes);
        let plot = options.plot_path();
        growth::write_plot(&sizes, &plot)?;
        note(format!("wrote {}", plot.display()));
    }
    if options.big {
        let found = big::measure(&bed, options.big_documents, options.further_rounds).await?;
        print(&big::text(&found))?;
        figures["big"] = big::json(&found);
    }
    if let Some(path) = options.json_path() {
        std::fs::write(&path, format!("{figures:#}\n"))
            .map_err(|error| format!("could not write {}: {error}", path.display()))?;
        note(format!("wrote {}", path.display()));
    }
    Ok(())
}

/// Results go to standard output.
fn print(text: &str) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())?;
    io::stdout().flush()
}

/// What is being done goes to standard error.
fn note(text: impl Display) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}
