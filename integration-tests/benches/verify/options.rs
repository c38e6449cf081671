//! What a user of `scripts/bench verify` can choose.

use std::path::PathBuf;

use clap::Parser;
use integration_tests::bench::{count, setting};
use integration_tests::rig::Version;

/// Measures `gizer verify` beside the load of the same orders, on private servers.
#[derive(Debug, Parser)]
#[command(
    name = "scripts/bench verify",
    bin_name = "scripts/bench verify",
    after_help = "\
The measurements, one after the other in each round, all with the same orders and the release program:
  a1  gizer load, as it is unless told: a sample of the rows is compared before the swap
  a2  gizer load --verify off
  a3  gizer load --verify full
  b   gizer verify: the full audit of the live tables
  c   gizer verify --sample 2000

Examples:
  scripts/bench verify                                     400,000 orders, five rounds
  scripts/bench verify --orders 100k --rounds 3
  scripts/bench verify --loads-alike                       without a2 and a3"
)]
pub(crate) struct Options {
    /// Orders; 8.5 rows each. 400k and 1.6M are numbers too.
    #[arg(long, value_name = "N", default_value = "400k", value_parser = count)]
    pub(crate) orders: u64,

    /// Rounds; medians are shown.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// gizer's [load] workers, which audits have as well.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) workers: u16,

    /// Documents of (c); 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub(crate) sample: u64,

    /// Leave out the loads that compare nothing and everything before the swap.
    #[arg(long)]
    pub(crate) loads_alike: bool,

    /// The MongoDB server: 4.4, 5.0 or 6.0.
    #[arg(long, value_name = "VERSION", default_value = "6.0")]
    pub(crate) mongod: Version,

    /// A setting of the PostgreSQL server; again for more.
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) postgres: Vec<(String, String)>,

    /// Write all figures to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// The folder that relative paths are relative to: cargo runs benchmarks in a folder of its own choice.
    #[arg(long, value_name = "FOLDER", default_value = ".", hide = true)]
    pub(crate) relative_to: PathBuf,

    /// Given by `cargo bench`, and not by `cargo test`.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}
