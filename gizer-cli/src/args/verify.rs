//! What `verify` takes.

use clap::Args;

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every document is compared with every row, cell by cell, and every row must belong to a document. Writes go on, and so does
`gizer sync --follow`: each part of the tables is compared with the documents as of the tables' own time.
Without a follower, documents that have changed since the last sync are counted, not compared.

Examples:
  gizer verify                       everything that is followed
  gizer verify orders --repair       this one; what differs is repaired, and compared again
  gizer verify --sample 10000        a quick look at about so many documents of each
  gizer verify --format json         for a script: counts, and each difference by table, key, position and column

An interrupted audit is resumed.")]
pub struct VerifyArgs {
    /// Collections [default: all that are followed].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,

    /// Make what differs equal: by the run that follows, or by a round of sync.
    #[arg(long)]
    pub repair: bool,

    /// Look at about so many documents, drawn by chance, and the rows between them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,

    /// Start over, even where an interrupted audit could be resumed.
    #[arg(long)]
    pub restart: bool,

    /// Show both values of cells that differ: what documents hold is never printed otherwise.
    #[arg(long)]
    pub show_values: bool,

    /// Name so many differences one by one; all of them are counted.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub differences: usize,
}
