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
mod growth;
mod limit;
mod maps;
mod options;
mod orders;
mod plot;
mod report;
mod stages;

use std::process::ExitCode;

use clap::Parser;
use integration_tests::bench::{Machine, Result, Series, begin, note, print, write_json};
use serde_json::json;

use crate::compare::Bench;
use crate::options::Options;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    begin("load", options.bench, run(&options)).await
}

async fn run(options: &Options) -> Result<()> {
    let machine = Machine::this();
    note("starting mongod and PostgreSQL");
    let bed = bed::start(options).await?;
    let servers = bed::json(&bed).await?;
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
            figures["staging"] = found.iter().map(Series::json).collect();
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
    if let Some(documents) = options.maps {
        let found = maps::measure(&bed, documents, options.further_rounds).await?;
        print(&found.text())?;
        figures["maps"] = found.json();
    }
    if let Some(path) = options.json_path() {
        write_json(&figures, &path)?;
    }
    Ok(())
}
