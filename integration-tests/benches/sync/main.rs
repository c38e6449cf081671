//! `scripts/bench sync`: how fast `gizer sync` is beside what PostgreSQL can do, on private servers.
//!
//! ```text
//!   a  pre-made SQL               memory ──────────▶ PostgreSQL     encoded rows: COPY, DELETE, UPDATE, in batches
//!   b  gizer sync, not verified  MongoDB ──▶ gizer ──▶ PostgreSQL     the program, as a user runs it
//!   c  gizer sync, verified      MongoDB ──▶ gizer ──▶ PostgreSQL     with everything read back, as it is unless told
//! ```
//!
//! All in one run, in turn, each on a fresh copy of the same loaded tables. (a) makes the same changes of rows as (b) and
//! (c), in as many documents a transaction; that it does is compared. It is what a tool could reach at best that knew all
//! rows beforehand.

mod apply;
mod backlog;
mod bed;
mod big;
mod compare;
mod gizer;
mod idle;
mod latency;
mod options;
mod premade;
mod report;
mod rows;
mod zipf;

use std::process::ExitCode;

use clap::Parser;
use integration_tests::bench::{Machine, Result, begin, note, print, write_json};
use serde_json::json;

use crate::bed::Bed;
use crate::options::Options;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    begin("sync", options.bench, run(&options)).await
}

async fn run(options: &Options) -> Result<()> {
    let machine = Machine::this();
    note("starting mongod and PostgreSQL");
    let bed = Bed::start(options).await?;
    let servers = bed.json().await?;
    let mut figures = json!({"machine": machine.json(), "servers": servers});
    print(&report::head(&machine, &servers))?;

    if options.compares() {
        print(report::METHOD)?;
        let mut cases = Vec::new();
        for case in options.cases() {
            let found = compare::measure(&bed, options, case).await?;
            print(&report::case(&found))?;
            cases.push(found);
        }
        print(&report::targets(&cases))?;
        print(report::NOT_ALIKE)?;
        figures["comparison"] = cases.iter().map(compare::Found::json).collect();
    }
    if options.latency {
        let found = latency::measure(&bed, options).await?;
        print(&latency::text(&found))?;
        figures["latency"] = latency::json(&found);
    }
    if options.idle {
        let found = idle::measure(&bed, options).await?;
        print(&idle::text(&found))?;
        figures["idle"] = idle::json(&found);
    }
    if let Some(megabytes) = options.big_transaction {
        let found = big::measure(&bed, options, megabytes).await?;
        print(&big::text(&found))?;
        figures["big_transaction"] = big::json(&found);
    }
    if let Some(path) = options.json_path() {
        write_json(&figures, &path)?;
    }
    Ok(())
}
