//! The command line.

mod config;
mod etlstatus;
mod exit_codes;
mod infer;
mod load;
mod metrics;
mod pause;
mod resync;
mod run;
mod schema;
mod shell;
mod status;
mod verify;

use std::path::{Path, PathBuf};

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use config::{ConfigAction, ConfigConvertArgs, ConfigGetArgs};
pub use etlstatus::{EtlOutcome, EtlstatusAction};
pub use infer::InferArgs;
pub use load::{LoadArgs, VerifyLoad};
pub use metrics::MetricsArgs;
pub use pause::{PauseArgs, ResumeArgs};
pub use resync::ResyncArgs;
pub use run::{PlanArgs, RunArgs};
pub use shell::{CompletionsArgs, ManArgs};
pub use status::{CheckLimits, StatusArgs};
pub use verify::VerifyArgs;

pub use crate::ui::Format;

use crate::config::{
    CACHE_SECTION_VARIABLE, ClassicSections, Effective, POSTGRES_SECTION_VARIABLE, SETTINGS, Setting, unknown_variables,
};
use crate::exit::Failure;
use crate::ui::{log, report};

use schema::JSON_SCHEMA_HELP;
pub use schema::{DiagramArgs, DiagramForm, DiffArgs, EvolveArgs, Since};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed; the message says why. Also: a server that cannot be reached, or refuses the login
  2    command line, configuration or schema file is wrong. Also: no such database or collection
  3    a load is due: the oplog has rolled over or diverged, or a schema file has changed
  4    rows differ from the documents: after they were written (nothing of that was committed), or as verify found them
  5    another run holds the lock
  6    `status --check` warns
  7    done, but not all that is expected is copied; the rest is named, with the reason
  130  interrupted (143: terminated)
  `schema diff` has 0, 1 and 2 as diff does.
  Where some collections were loaded and others not, the code is that of the first that was not.

Every setting can stand in gizer.toml, in the environment and on the command line; the latter wins:
  [mongo] uri = \"…\"        GIZER_MONGO_URI=…        --mongo-uri …
An INI file of the classic tool is read in the place of gizer.toml.";

/// The heading of options that all commands have.
const EVERYWHERE: &str = "Options of every command";

/// Copies MongoDB collections into PostgreSQL as relational tables.
///
/// Nested documents become columns, arrays become child tables. A load fills new tables next to the live ones and swaps
/// them in at its end: readers never see half of it.
#[derive(Debug, Parser)]
#[command(name = "gizer", version, after_help = EXIT_CODES, styles = STYLES, max_term_width = 100)]
pub struct Cli {
    /// The configuration [default: gizer.toml, if it is there].
    ///
    /// TOML, or an INI file of the classic tool. That is a file whose name ends in .ini, or one with a section misc, psql, psql-… or
    /// mongo-…, or with a key mongo-….
    #[arg(long, value_name = "FILE", global = true, help_heading = EVERYWHERE)]
    pub config: Option<PathBuf>,

    /// Section of a classic INI file by which tables are written [default: psql] [env: GIZER_PSQL_SECTION].
    #[arg(long, value_name = "SECTION", global = true, help_heading = "Settings", hide_short_help = true)]
    pub psql_section: Option<String>,

    /// Section of a classic INI file, such as psql-tmp, that is used as cache [env: GIZER_CACHE_SECTION].
    #[arg(long, value_name = "SECTION", global = true, help_heading = "Settings", hide_short_help = true)]
    pub cache_section: Option<String>,

    /// For people or for machines: json gives one object on standard output.
    #[arg(long, value_enum, default_value_t = Format::Text, global = true, help_heading = EVERYWHERE)]
    pub format: Format,

    /// Say more on standard error; twice: still more.
    #[arg(short, long, action = ArgAction::Count, global = true, help_heading = EVERYWHERE)]
    pub verbose: u8,

    /// What to do.
    #[command(subcommand)]
    pub command: Action,
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Do whatever is due: make schema files, load, follow. For cron, or to stay on.
    Run(RunArgs),
    /// Say what `run` would do, why, and what it takes, without doing it.
    Plan(PlanArgs),
    /// Make and compare schema files, and show the tables that follow from them.
    #[command(subcommand)]
    Schema(SchemaAction),
    /// Load collections into PostgreSQL, from the beginning.
    Load(LoadArgs),
    /// Write collections into text files, as the classic tool did; `copy` loads them. Needs no PostgreSQL.
    Extract(ExtractArgs),
    /// Load what `extract` or the classic tool has written. Needs no MongoDB.
    Copy(CopyArgs),
    /// Bring the tables up to date with what has changed in MongoDB since their load.
    Sync(SyncArgs),
    /// Compare all rows with the documents, during writes and a running sync, and repair what differs.
    Verify(VerifyArgs),
    /// Make the tables equal to the documents in place and follow them again, without a load.
    Resync(ResyncArgs),
    /// Show the state of collections, their tables and the last runs.
    Status(StatusArgs),
    /// Leave collections alone for a while: their tables stay as they are.
    Pause(PauseArgs),
    /// Resume what was paused, where it was left.
    Resume(ResumeArgs),
    /// Answer scripts written for the classic tool.
    #[command(subcommand)]
    Etlstatus(EtlstatusAction),
    /// Show the configuration, or convert one of the classic tool.
    #[command(subcommand)]
    Config(ConfigAction),
    /// Print shell completions of gizer's commands and flags.
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands.
    Man(ManArgs),
}

/// What to do with schemas.
#[derive(Debug, Subcommand)]
pub enum SchemaAction {
    /// Read documents and write a schema file for each collection.
    Infer(InferArgs),
    /// Print the SQL of the tables that follow from the schema files.
    Ddl(DdlArgs),
    /// Print the names of the tables that follow from the schema files.
    Tables(TablesArgs),
    /// Give columns to fields that came after the load, in place, from the rows that already hold them.
    Evolve(EvolveArgs),
    /// Take over types from another schema file.
    Merge(MergeArgs),
    /// Set types from the wrong values that a load reported.
    Patch(PatchArgs),
    /// Show what differs between schema files, or between schema files and the existing tables.
    Diff(DiffArgs),
    /// Draw the document tree next to the tables that it becomes.
    Diagram(DiagramArgs),
    /// Print the JSON Schema of schema files, with which editors complete and check them.
    #[command(after_help = JSON_SCHEMA_HELP)]
    JsonSchema,
}

fn parse_filter(text: &str) -> Result<bson::Document, String> {
    serde_json::from_str(text).map_err(|error| format!("expected a query such as {{\"state\": \"open\"}}: {error}"))
}

/// Arguments of `schema tables`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gizer schema tables                  one a line, of every collection that has a schema file
  gizer schema tables orders --delimiter ,")]
pub struct TablesArgs {
    /// Collections [default: all that have a schema file].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,

    /// What separates two names.
    #[arg(long, value_name = "TEXT", default_value = "\\n")]
    pub delimiter: String,
}

/// Arguments of `schema merge`.
#[derive(Debug, Args)]
#[command(after_help = "\
For every value that SECONDARY types differently, and not as TINYINT, its type is taken over. Paths that only
SECONDARY has are not added.

Example:
  gizer schema merge schemas/orders.json yesterday/orders.json")]
pub struct MergeArgs {
    /// The schema file that is changed.
    #[arg(value_name = "PRIMARY")]
    pub primary: PathBuf,

    /// The schema file that types come from.
    #[arg(value_name = "SECONDARY")]
    pub secondary: PathBuf,

    /// Write to this file, and leave PRIMARY as it is.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `schema patch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gizer load --format json > report.json
  gizer schema patch schemas/orders.json report.json
  echo 'wrong value (STRING) for orders.customer.title(TINYINT): 59' | gizer schema patch schemas/orders.json -")]
pub struct PatchArgs {
    /// The schema file that is changed.
    #[arg(value_name = "SCHEMA")]
    pub schema: PathBuf,

    /// Lines such as `wrong value (STRING) for orders.title(INT): 59`, or what `load --format json` printed; - reads
    /// standard input.
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,

    /// Write to this file, and leave SCHEMA as it is.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `schema ddl`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gizer schema ddl                   all collections that have a schema file
  gizer schema ddl orders | psql …   make the tables of one, empty")]
pub struct DdlArgs {
    /// Collections [default: all that have a schema file].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,
}

/// Arguments of `extract`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Each table has a folder of its own in DIR, with files 00000, 00001 and so on of 100 MiB: UTF-8, TAB between values, for
COPY … (FORMAT text, DELIMITER E'\\t', NULL '\\\\N'). At the very end gizer-extract.json is written; until then the folder
has a file gizer-extract.incomplete. Rejected documents are in gizer-rejected.

Examples:
  gizer extract --csv-path out                    every collection that has a schema file
  gizer extract orders --csv-path out --ddl-file out/ddl.sql --stats-file out/stats
  gizer extract --dump dump/shop --csv-path out   without any server
  gizer copy --csv-path out                       and then into PostgreSQL")]
pub struct ExtractArgs {
    /// Collections [default: all that have a schema file].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,

    /// Write into this folder, which must be empty or new.
    #[arg(long, value_name = "DIR")]
    pub csv_path: PathBuf,

    /// Replace what an earlier extract has made in the folder, and nothing else.
    #[arg(long)]
    pub force: bool,

    /// Write the SQL of the tables into this file.
    #[arg(long, value_name = "FILE")]
    pub ddl_file: Option<PathBuf>,

    /// Write how many rows each table has into this file: a line `table count` each.
    #[arg(long, value_name = "FILE")]
    pub stats_file: Option<PathBuf>,

    /// Let the names of all tables and folders begin with this. What is extracted so is a copy: it cannot be followed.
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,

    /// Extract a collection although up to N of its documents were rejected.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_rejects: u64,

    /// Extract only documents that match: a MongoDB query as Extended JSON. What is extracted so is a copy: it cannot be
    /// followed.
    #[arg(long, value_name = "JSON", value_parser = parse_filter)]
    pub filter: Option<bson::Document>,

    /// Read what mongodump has written, and no server: a file such as orders.bson or orders.bson.gz, or the folder of a database.
    #[arg(long, value_name = "PATH")]
    pub dump: Option<PathBuf>,
}

/// Arguments of `copy`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The tables are filled next to the live ones and swapped in at the end, as by `load`. Files that an extract of gizer has
made must be unchanged, and the schema file the same. Files of the classic tool may be incomplete; what is copied from
them cannot be followed.

Examples:
  gizer copy --csv-path out          every collection of the extract
  gizer copy orders --csv-path out   one of them")]
pub struct CopyArgs {
    /// Collections [default: all of the extract; of a folder of the classic tool all that have a schema file].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,

    /// The folder that `extract` or the classic tool has written.
    #[arg(long, value_name = "DIR")]
    pub csv_path: PathBuf,

    /// What the names of the tables and folders begin with, as given to `extract`.
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
}

/// Arguments of `sync`.
#[derive(Debug, Args)]
#[command(after_help = "\
Everything that was loaded and can be followed is brought up to the end of MongoDB's oplog when the command began. Before
each commit the rows written are read back and compared with the documents (not with [verify] mode = \"off\"). Queued
repairs are done, too.

Examples:
  gizer sync                         one round, for cron
  gizer sync --follow                stays on until SIGTERM or SIGINT, and ends after the batch
  gizer sync --format json           counts for a script

A collection that was dropped has its tables emptied; one that was replaced ($out, a rename) is reloaded.")]
pub struct SyncArgs {
    /// Stay on, and apply changes as they come.
    #[arg(long)]
    pub follow: bool,

    /// Where rows differ after they were written, show the first values of documents and tables in the message (exit code 4).
    #[arg(long)]
    pub show_values: bool,

    /// Where to serve metrics.
    #[command(flatten)]
    pub metrics: MetricsArgs,
}

impl Cli {
    /// The whole command line, with a flag for each setting.
    pub fn command_line() -> Command {
        let flags = SETTINGS.iter().map(|setting| {
            let action = if setting.list { ArgAction::Append } else { ArgAction::Set };
            Arg::new(setting.flag())
                .long(setting.flag())
                .value_name(setting.value)
                .help(format!("{} [env: {}]", setting.help, setting.variable()))
                .help_heading("Settings")
                .hide_short_help(true)
                .action(action)
                .global(true)
        });
        exit_codes::told(Cli::command().args(flags))
    }

    /// Takes the process' arguments; prints help and errors of usage itself, and then ends the process.
    pub fn read() -> (Cli, ArgMatches) {
        let matches = Cli::command_line().get_matches();
        match Cli::from_arg_matches(&matches) {
            Ok(cli) => (cli, matches),
            Err(error) => error.exit(),
        }
    }

    /// The configuration: file, environment, flags, and where each setting came from.
    ///
    /// What is skipped is warned of: variables that are no settings, and what a classic file holds that gizer does not need.
    ///
    /// # Errors
    /// As [`Effective::read`].
    pub fn configuration(&self, matches: &ArgMatches) -> Result<Effective, Failure> {
        let flags = |setting: &Setting| {
            let values = matches.get_many::<String>(&setting.flag());
            values.map(|values| values.cloned().collect()).unwrap_or_default()
        };
        let effective = Effective::read(self.config.as_deref(), &self.sections(), flags, variable);
        if let Ok(effective) = &effective {
            log::set_format(effective.config.log_format);
        }
        let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for (name, near) in unknown_variables(variables) {
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            report::warning(format!("the environment variable {name} is no setting of gizer{near}"));
        }
        let effective = effective?;
        // Scripts ask for one value after the other.
        if !matches!(self.command, Action::Config(ConfigAction::Get(_))) {
            note_ignored(&effective);
        }
        Ok(effective)
    }

    /// What a classic file says by itself, without the settings of environment and flags.
    ///
    /// # Errors
    /// As [`Effective::read`].
    pub fn classic(&self, file: &Path) -> Result<Effective, Failure> {
        let sections = [POSTGRES_SECTION_VARIABLE, CACHE_SECTION_VARIABLE];
        let only_sections = |name: &str| sections.contains(&name).then(|| variable(name)).flatten();
        let effective = Effective::read(Some(file), &self.sections(), |_| Vec::new(), only_sections)?;
        note_ignored(&effective);
        Ok(effective)
    }

    fn sections(&self) -> ClassicSections {
        ClassicSections { postgres: self.psql_section.clone(), cache: self.cache_section.clone() }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn note_ignored(effective: &Effective) {
    if let (Some(path), false) = (&effective.path, effective.ignored.is_empty()) {
        let ignored = effective.ignored.join(", ");
        report::note(format!("gizer: {}: ignored, because gizer does not need it: {ignored}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command_line().debug_assert();
    }

    #[test]
    fn settings_are_taken_before_and_after_the_command() {
        for line in [["gizer", "--postgres-schema", "s", "load"], ["gizer", "load", "--postgres-schema", "s"]] {
            let matches = Cli::command_line().try_get_matches_from(line).unwrap();
            let cli = Cli::from_arg_matches(&matches).unwrap();
            assert_eq!(cli.configuration(&matches).unwrap().config.postgres_schema, "s");
        }
    }
}
