//! What `resync` takes.

use clap::Args;

/// Arguments of `resync`.
#[derive(Debug, Args)]
#[command(after_help = "\
Where the oplog has rolled over, or the position in it is lost, no load is needed. All rows are compared with the documents,
chunk by chunk; what differs is written in place, read back and compared, and committed at once; then what
has changed meanwhile is applied, and the tables are followed again. It takes no second copy of the tables on disk.

Until it is done, readers see rows of before and after next to each other; each document as a whole. Nothing is swapped, so
that foreign keys, publications, policies and triggers stay, which a load refuses.

Examples:
  gizer resync                       everything that has been loaded
  gizer resync orders                this one
  gizer resync --format json         counts for a script

An interrupted resync is resumed.")]
pub struct ResyncArgs {
    /// Collections [default: all that are followed, or were].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,

    /// Start over, even where an interrupted resync could be resumed.
    #[arg(long)]
    pub restart: bool,

    /// Name so many differences one by one; all of them are counted.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub differences: usize,
}
