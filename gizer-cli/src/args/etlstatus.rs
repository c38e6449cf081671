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
A run of gizer is in progress as long as it lives. One that the classic tool or `etlstatus start` has begun counts for nine
hours.

Example:
  gizer etlstatus needed && exit";

const START_HELP: &str = "\
`gizer load` and `sync` keep the status table themselves; this is for scripts that load in their own steps.

Example:
  gizer etlstatus needed && exit
  gizer etlstatus start
  gizer extract --csv-path out && gizer copy --csv-path out && gizer etlstatus finish ok || gizer etlstatus finish error";

const FINISH_HELP: &str = "\
Examples:
  gizer etlstatus finish ok
  gizer etlstatus finish error        from here on `gizer etlstatus needed` says that a load is needed";

/// How a load that scripts do has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EtlOutcome {
    /// All is loaded.
    Ok,
    /// A new load is needed.
    Error,
}
