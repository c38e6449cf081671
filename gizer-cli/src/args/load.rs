//! What `load` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use gizer_engine::load::{Comparison, LoadOptions};

use super::parse_filter;

/// Arguments of `load`.
#[derive(Debug, Args, Clone)]
#[command(after_help = "\
Examples:
  gizer load                         every collection that has a schema file
  gizer load orders                  one of them
  gizer load --together              all of them at once, or none
  gizer load --prefix new_           next to the existing tables: new_orders, new_order_items, …
  gizer load orders --filter '{\"state\": \"open\"}'
  gizer load --dump dump/shop        without a MongoDB server: what mongodump has written
  gizer load --format json           counts for a script

A load that was interrupted or killed is resumed; --restart starts over.")]
pub struct LoadArgs {
    /// Collections [default: all that have a schema file].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,

    /// Swap a collection in although up to N of its documents were rejected.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_rejects: u64,

    /// Start over, even where an interrupted load could be resumed.
    #[arg(long)]
    pub restart: bool,

    /// Before a collection is swapped in, compare its rows with the documents: all of them, a sample, or none. A load that
    /// is not equal is not swapped in.
    #[arg(long, value_enum, value_name = "EXTENT", default_value_t = VerifyLoad::Sample)]
    pub verify: VerifyLoad,

    /// Load only documents that match: a MongoDB query as Extended JSON. What is loaded so is a copy: it cannot be
    /// followed.
    #[arg(long, value_name = "JSON", value_parser = parse_filter)]
    pub filter: Option<bson::Document>,

    /// Swap all collections in at once, in one transaction, or none of them.
    #[arg(long)]
    pub together: bool,

    /// Load into tables of their own, whose names begin with this, next to those that are followed. What is loaded so is
    /// a copy: it cannot be followed.
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,

    /// Read what mongodump has written, and no server: a file such as orders.bson or orders.bson.gz, or the folder of a database. What
    /// is loaded so is a copy: it cannot be followed.
    #[arg(long, value_name = "PATH")]
    pub dump: Option<PathBuf>,
}

/// How much of a load is compared with the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyLoad {
    /// All of it.
    Full,
    /// About 2,000 documents of each collection, and the rows between them.
    Sample,
    /// Nothing.
    Off,
}

impl From<VerifyLoad> for Comparison {
    fn from(extent: VerifyLoad) -> Comparison {
        match extent {
            VerifyLoad::Full => Comparison::Full,
            VerifyLoad::Sample => Comparison::Sample,
            VerifyLoad::Off => Comparison::Off,
        }
    }
}

impl LoadArgs {
    /// What the engine is asked for.
    pub fn options(&self) -> LoadOptions {
        let LoadArgs { collections, max_rejects, restart, verify, filter, together, prefix, dump } = self.clone();
        LoadOptions {
            collections,
            max_rejects,
            restart,
            comparison: verify.into(),
            filter,
            together,
            prefix,
            dump,
            empties_gone: false,
        }
    }
}
