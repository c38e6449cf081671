//! The command line of `gizer etlstatus`.

use clap::{Subcommand, ValueEnum};

/// What to ask or tell of a load that scripts do.
#[derive(Debug, Subcommand)]
pub enum EtlstatusAction {
    /// Tell by the exit code whether a load is needed.
    #[command(after_help = NEEDED_HELP)]
    Needed,
    /// Save the newest position of each shard in a new row of status 0, and print them.
    #[command(after_help = START_HELP)]
    Start,
    /// Close the row that `start` has opened.
    #[command(after_help = FINISH_HELP)]
    Finish {
        /// How the load ended: after an error `needed` says that a load is needed.
        #[arg(value_enum)]
        outcome: EtlOutcome,
    },
}

const NEEDED_HELP: &str = "\
Exit code 0: not needed; 1 is printed while a run is in progress, else 0. Exit code 1: needed, and nothing is printed. Also 1:
PostgreSQL cannot be reached; --format json tells the two apart. 2: the configuration is wrong.

A run of gizer is in progress as long as it lives. One that the classic tool or `etlstatus start` has begun counts as such for nine
hours.";

const START_HELP: &str = "\
`gizer load` and `sync` keep the status table themselves; this is for scripts that load in steps of their own:
  gizer etlstatus needed && exit
  gizer etlstatus start
  gizer extract --csv-path out && gizer copy --csv-path out && gizer etlstatus finish ok || gizer etlstatus finish error";

const FINISH_HELP: &str = "Exit code 1: there is no open row, or PostgreSQL cannot be reached.";

/// How a load that scripts do has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EtlOutcome {
    /// All is loaded.
    Ok,
    /// A new load is needed.
    Error,
}
