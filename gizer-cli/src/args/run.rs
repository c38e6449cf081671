//! What `run` and `plan` take.

use clap::Args;

use super::{MetricsArgs, VerifyLoad};

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is due, in this order:
  schema files  of all collections that are expected and have none: of all of the database, unless
                there were schema files before the first run (schemas.infer: none-yet, missing, never)
  loads         of what was never loaded, whose load was interrupted, whose schema file has changed, whose
                position is no longer in the oplog, or of which a load is due for another reason
  sync          of everything that is followed

It can be called every minute: where all is well it costs one sync, and a run that finds another one running ends at once
with exit code 5. `gizer plan` says beforehand what it would do.

Examples:
  gizer run                          for cron: whatever is due, once
  gizer run --follow                 whatever is due, and then stay on
  gizer run --load-only              for cron once a day: reload everything, and follow nothing
  gizer run --format json            for a script")]
pub struct RunArgs {
    /// Stay on, and apply changes as they come; load what becomes due meanwhile.
    #[arg(long)]
    pub follow: bool,

    /// Load every collection that has a schema file, and follow nothing.
    #[arg(long, conflicts_with = "follow")]
    pub load_only: bool,

    /// As of `load`: swap a collection in although up to N of its documents were rejected.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_rejects: u64,

    /// As of `load`: how much is compared before it is swapped in.
    #[arg(long, value_enum, value_name = "EXTENT", default_value_t = VerifyLoad::Sample)]
    pub verify: VerifyLoad,

    /// Where rows differ after they were written, show the first values of documents and tables in the message (exit code 4).
    #[arg(long)]
    pub show_values: bool,

    /// Where to serve metrics.
    #[command(flatten)]
    pub metrics: MetricsArgs,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is written: rights to read are enough. Looks at the schema files, both servers and the state tables, and at a sample of
1,000 documents of each collection that would be loaded.

Examples:
  gizer plan                         what `gizer run` would do now, and why
  gizer plan --load-only             what `gizer run --load-only` would do
  gizer plan --format json           for a script")]
pub struct PlanArgs {
    /// As if with `run --load-only`.
    #[arg(long)]
    pub load_only: bool,
}
