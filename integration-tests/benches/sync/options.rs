//! What a user of `scripts/bench sync` can choose.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use integration_tests::bench::{count, setting};
use integration_tests::rig::Version;

/// Measures `gizer sync` beside pre-made SQL that makes the same changes of rows, on private servers.
#[derive(Debug, Parser)]
#[command(
    name = "scripts/bench sync",
    bin_name = "scripts/bench sync",
    after_help = "\
The measurements, one after the other in each round, all with the same backlog and fresh copies of the same tables:
  a1  pre-made SQL: rows, encoded before the clock starts, through temporary tables: DELETE, UPDATE, INSERT
  a2  the same, with new rows by COPY straight into their tables
  b   gizer sync with [verify] mode = \"off\": the release program, as a user runs it
  c   gizer sync with [verify] mode = \"all\", as it is unless told

Examples:
  scripts/bench sync                                       both mixes and both ways to choose documents
  scripts/bench sync --operations 500k --mixes update --ids uniform
  scripts/bench sync --latency --idle                      only these two
  scripts/bench sync --big-transaction 512                 only this one"
)]
pub(crate) struct Options {
    /// Orders that are loaded before; 8.5 rows each [default: 100k, and as many as the operations].
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) orders: Option<u64>,

    /// Operations of the backlog. 100k and 1.5M are numbers too.
    #[arg(long, value_name = "N", default_value = "100k", value_parser = count)]
    pub(crate) operations: u64,

    /// How many of them are inserts, updates and deletes.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "update,thirds")]
    pub(crate) mixes: Vec<Mix>,

    /// Which documents are touched.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "uniform,zipf")]
    pub(crate) ids: Vec<Ids>,

    /// Rounds of the comparison; medians are shown.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Seconds of history that mongod keeps readable. With less than the run takes, gizer reads documents as of now.
    #[arg(long, value_name = "SECONDS", default_value_t = 7_200)]
    pub(crate) history: u32,

    /// The comparison, where another measurement is asked for too.
    #[arg(long)]
    pub(crate) compare: bool,

    /// Measure how long it takes from a write to its being seen, with gizer sync --follow.
    #[arg(long)]
    pub(crate) latency: bool,

    /// Writes a second of --latency.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..))]
    pub(crate) rate: u32,

    /// Seconds of --latency.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,

    /// Measure a gizer sync that finds nothing to do.
    #[arg(long)]
    pub(crate) idle: bool,

    /// Measure a single transaction of so many MB.
    #[arg(long, value_name = "MB")]
    pub(crate) big_transaction: Option<u32>,

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

/// How many operations are of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    /// 10 % inserts, 80 % updates, 10 % deletes.
    Update,
    /// A third of each.
    Thirds,
}

impl Mix {
    /// Of so many operations, those that insert and those that delete.
    pub(crate) fn inserts_and_deletes(self, operations: u64) -> (u64, u64) {
        match self {
            Mix::Update => (operations / 10, operations / 10),
            Mix::Thirds => (operations / 3, operations / 3),
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Mix::Update => "10 % insert, 80 % update, 10 % delete",
            Mix::Thirds => "insert, update, delete: a third each",
        }
    }
}

/// Which documents are touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ids {
    /// All as likely as each other, and none twice.
    Uniform,
    /// Updates by Zipf's law: the second most popular half as often as the first, the third a third as often.
    Zipf,
}

impl Ids {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Ids::Uniform => "uniform, none twice",
            Ids::Zipf => "updates by Zipf's law",
        }
    }
}

/// One kind of backlog.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) mix: Mix,
    pub(crate) ids: Ids,
}

impl Options {
    /// Whether there is a comparison at all.
    pub(crate) fn compares(&self) -> bool {
        self.compare || !(self.latency || self.idle || self.big_transaction.is_some())
    }

    /// All kinds of backlogs that were asked for.
    pub(crate) fn cases(&self) -> Vec<Case> {
        self.mixes.iter().flat_map(|&mix| self.ids.iter().map(move |&ids| Case { mix, ids })).collect()
    }

    /// Orders that are loaded before.
    pub(crate) fn orders(&self) -> u64 {
        self.orders.unwrap_or(100_000.max(self.operations))
    }

    /// Where the figures go.
    pub(crate) fn json_path(&self) -> Option<PathBuf> {
        self.json.as_ref().map(|path| self.relative_to.join(path))
    }
}
