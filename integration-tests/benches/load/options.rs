//! What a user of `scripts/bench load` can choose.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use integration_tests::bench::{count, setting};
use integration_tests::rig::Version;

/// Measures `gizer load` beside what PostgreSQL can do, on private servers.
#[derive(Debug, Parser)]
#[command(
    name = "scripts/bench load",
    bin_name = "scripts/bench load",
    after_help = "\
The measurements, one after the other in each round, all with the same orders:
  a   gizer load: the release program with a schema file, as a user runs it
  b   the limit: the same rows, encoded before the clock starts, by binary COPY, then keys, then ANALYZE
  c   the scan of the collection alone
  d   flattening and encoding alone, from memory into nothing

Examples:
  scripts/bench load                                       a to d, 400,000 orders, five rounds
  scripts/bench load --orders 100k --rounds 3 --only a,b
  scripts/bench load --only none --growth                  only the plot of how time and memory grow
  scripts/bench load --only none --maps --further-rounds 9  only maps next to arrays"
)]
pub(crate) struct Options {
    /// Orders of the comparison; 8.5 rows each. 400k and 1.6M are numbers too.
    #[arg(long, value_name = "N", default_value = "400k", value_parser = count)]
    pub(crate) orders: u64,

    /// Rounds of the comparison; medians are shown.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Connections of (b), threads of (d), and gizer's [load] workers.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) workers: u16,

    /// Which measurements the comparison has; none leaves it out.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "a,b,c,d")]
    pub(crate) only: Vec<Letter>,

    /// Then load ever more orders with gizer, and plot time and peak memory.
    #[arg(long)]
    pub(crate) growth: bool,

    /// Numbers of orders of --growth, ascending.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = count,
          default_value = "50k,100k,200k,400k,800k,1.6M")]
    pub(crate) sizes: Vec<u64>,

    /// Where --growth writes its plot [default: docs/figures/load-growth.svg of the repository].
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,

    /// Then measure gizer's peak memory with documents of 16 MiB.
    #[arg(long)]
    pub(crate) big: bool,

    /// Documents of --big, in a collection of all kinds; each kind alone has a third of them.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(3..))]
    pub(crate) big_documents: u32,

    /// Then measure (b) with logged tables against UNLOGGED ones that SET LOGGED makes safe.
    #[arg(long)]
    pub(crate) staging: bool,

    /// Then load N documents keyed by identifiers, in turn with as many that have arrays of the same entries.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "500", value_parser = count)]
    pub(crate) maps: Option<u64>,

    /// Rounds of --growth, --big, --staging and --maps.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) further_rounds: u32,

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

/// A measurement of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Letter {
    /// `gizer load`.
    A,
    /// The limit.
    B,
    /// The scan.
    C,
    /// Flattening and encoding.
    D,
    /// No measurement.
    None,
}

impl Options {
    /// Whether the comparison has this measurement.
    pub(crate) fn wants(&self, letter: Letter) -> bool {
        self.only.contains(&letter)
    }

    /// Whether there is a comparison at all.
    pub(crate) fn compares(&self) -> bool {
        [Letter::A, Letter::B, Letter::C, Letter::D].into_iter().any(|letter| self.wants(letter))
    }

    /// Where the plot goes.
    pub(crate) fn plot_path(&self) -> PathBuf {
        match &self.plot {
            Some(path) => self.relative_to.join(path),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs/figures/load-growth.svg"),
        }
    }

    /// Where the figures go.
    pub(crate) fn json_path(&self) -> Option<PathBuf> {
        self.json.as_ref().map(|path| self.relative_to.join(path))
    }
}
