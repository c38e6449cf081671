//! What `schema infer` takes.

use std::path::PathBuf;

use clap::Args;
use gizer_engine::infer::InferOptions;

use super::parse_filter;

/// Arguments of `schema infer`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  gizer schema infer                 every collection of the database that has no schema file yet
  gizer schema infer orders posts    these two
  gizer schema infer --classic       in the form that the classic tool reads
  gizer schema infer orders --force  again, replacing the existing file
  gizer schema infer --dump dump/shop  without a server: every collection that mongodump has written")]
pub struct InferArgs {
    /// Collections [default: all of the database but system.*, views and time series].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,

    /// Overwrite existing schema files.
    #[arg(long)]
    pub force: bool,

    /// Look only at the N documents with the greatest _id.
    #[arg(long, value_name = "N")]
    pub newest: Option<u64>,

    /// Look only at N documents, chosen by chance.
    #[arg(long, value_name = "N", conflicts_with = "newest")]
    pub sample: Option<u64>,

    /// Look only at documents that match: a MongoDB query as Extended JSON.
    #[arg(long, value_name = "JSON", value_parser = parse_filter)]
    pub filter: Option<bson::Document>,

    /// Read what mongodump has written, and no server: a file such as orders.bson or orders.bson.gz, or the folder of a database.
    #[arg(long, value_name = "PATH")]
    pub dump: Option<PathBuf>,

    /// Write the classic dialect, as the classic tool reads it: no _extra, and not all types.
    #[arg(long)]
    pub classic: bool,

    /// Make no maps: every field name becomes a column or a table, also where names are data such as ids or days. With --classic
    /// there are none anyway.
    #[arg(long, conflicts_with = "map_names")]
    pub no_maps: bool,

    /// Field names from which on an object may become a map, where names are words [default: 24].
    #[arg(long, value_name = "N", conflicts_with = "classic", value_parser = clap::value_parser!(u64).range(1..))]
    pub map_names: Option<u64>,

    /// At most N tables for a collection; in a larger one the document with most tables in it becomes JSON, then the next [default: 200].
    #[arg(long, value_name = "N", conflicts_with = "classic", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub max_tables: Option<u16>,

    /// At most N columns for a table; in a wider one the document with most columns in it becomes JSON, then the next [default: 1000].
    #[arg(long, value_name = "N", conflicts_with = "classic", value_parser = clap::value_parser!(u16).range(1..=1_500))]
    pub max_columns: Option<u16>,
}

impl InferArgs {
    /// What the engine is asked for.
    pub fn options(&self) -> InferOptions {
        let InferArgs { collections, force, newest, sample, filter, dump, classic, no_maps, map_names, .. } =
            self.clone();
        let [max_tables, max_columns] = [self.max_tables, self.max_columns].map(|limit| limit.map(usize::from));
        InferOptions {
            collections,
            overwrites: force,
            newest,
            sample,
            filter,
            dump,
            classic,
            no_maps,
            map_names,
            max_tables,
            max_columns,
        }
    }
}
