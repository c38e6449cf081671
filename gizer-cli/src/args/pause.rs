//! What `pause` and `resume` take.

use clap::Args;

/// Arguments of `pause`.
#[derive(Debug, Args)]
#[command(after_help = "\
The tables of a paused collection stay as they are, at a position of their own; nothing is loaded into them, and no change is
applied. A running `run --follow` or `sync --follow` leaves it within seconds; the other collections go on. `gizer resume`
resumes it where it was left; if the oplog no longer reaches back that far, a load is due. A load by hand replaces
the tables, and the collection stays paused.

While anything is paused, `gizer run` ends with exit code 7, and `gizer status` shows it with its reason.

Examples:
  gizer pause orders
  gizer pause orders posts --reason \"the tables are being moved\"
  gizer resume orders posts")]
pub struct PauseArgs {
    /// Collections.
    #[arg(value_name = "COLLECTION", required = true)]
    pub collections: Vec<String>,

    /// Why, for whoever reads the status.
    #[arg(long, value_name = "TEXT", default_value = "somebody has paused it")]
    pub reason: String,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gizer resume orders                the changes since the pause are applied by the next `run` or `sync`")]
pub struct ResumeArgs {
    /// Collections.
    #[arg(value_name = "COLLECTION", required = true)]
    pub collections: Vec<String>,
}
