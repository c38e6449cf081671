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
#[path = "../load/machine.rs"]
mod machine;
mod options;
mod premade;
mod report;
#[path = "../load/rounds.rs"]
mod rounds;
mod rows;
#[path = "../load/usage.rs"]
mod usage;
mod zipf;

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::bed::Bed;
use crate::machine::Machine;
use crate::options::Options;

/// Whatever goes wrong ends the benchmark, and is told.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        note("this is a benchmark of minutes: run it with scripts/bench sync");
        return ExitCode::SUCCESS;
    }
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format!("bench sync: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        return Err("expected an optimised build, this is one for debugging: run it with scripts/bench sync".into());
    }
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
