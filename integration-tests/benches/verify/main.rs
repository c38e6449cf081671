//! `scripts/bench verify`: how long `gizer verify` takes beside the load of the same orders, on private servers.
//!
//! ```text
//!   a  gizer load     MongoDB ──▶ gizer ──▶ PostgreSQL     with a sample compared before the swap, nothing, everything
//!   b  gizer verify   MongoDB ──▶ gizer ◀── PostgreSQL     all documents beside all rows of the live tables
//!   c  gizer verify --sample
//! ```
//!
//! All in one run, in turn, so that whatever the machine does meanwhile falls on all of them.

mod compare;
mod options;
mod report;

use std::process::ExitCode;

use clap::Parser;
use integration_tests::bench::{Bed, Machine, Result, begin, note, print, write_json};
use integration_tests::rig::Mongod;
use serde_json::json;

use crate::options::Options;

/// Settings that are shown with the figures.
const SHOWN: &[&str] = &[
    "server_version",
    "fsync",
    "synchronous_commit",
    "wal_level",
    "max_wal_size",
    "shared_buffers",
    "work_mem",
    "autovacuum",
];

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    begin("verify", options.bench, run(&options)).await
}

async fn run(options: &Options) -> Result<()> {
    let machine = Machine::this();
    note("starting mongod and PostgreSQL");
    let config = format!("[load]\nworkers = {}\n", options.workers);
    let bed = Bed::start(Mongod::builder(options.mongod), Bed::CACHE_GB, &options.postgres, config).await?;
    let servers = bed.json(SHOWN).await?;
    print(&report::head(options, &machine, &servers))?;
    let found = compare::measure(&bed, options).await?;
    print(&report::comparison(&found))?;
    if let Some(path) = &options.json {
        let figures = json!({
            "machine": machine.json(), "servers": servers, "comparison": found.json(),
            "options": {"orders": options.orders, "rounds": options.rounds, "workers": options.workers},
        });
        write_json(&figures, &options.relative_to.join(path))?;
    }
    Ok(())
}
