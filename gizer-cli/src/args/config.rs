//! The command line of `gizer config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const SHOW_HELP: &str = "\
Examples:
  gizer config show                            gizer.toml, over it the environment
  gizer --config old.ini config show           an INI file of the classic tool
  gizer config show --load-workers 4           and over both the command line";

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Print all settings that are in force, and where each came from; passwords are shown as ***.
    #[command(after_help = SHOW_HELP)]
    Show,
    /// Print one value.
    Get(ConfigGetArgs),
    /// Write what an INI file of the classic tool says as a gizer.toml.
    Convert(ConfigConvertArgs),
}

/// Arguments of `config get`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gizer config get postgres schema                        as file, environment and flags have it
  gizer --config old.ini config get psql psql-host        as it stands in an INI file of the classic tool
  gizer config get postgres uri --show-secret             with the password

A value with a password is printed only with --show-secret. Several values are printed one a line.")]
pub struct ConfigGetArgs {
    /// The section, without brackets.
    #[arg(value_name = "SECTION")]
    pub section: String,

    /// The key in the section.
    #[arg(value_name = "KEY")]
    pub key: String,

    /// Print it although it holds a password.
    #[arg(long)]
    pub show_secret: bool,
}

/// Arguments of `config convert`.
#[derive(Debug, Args)]
#[command(after_help = "\
The result is the same configuration, passwords included, with a comment at each setting that says where it came from.

Examples:
  gizer config convert old.ini --output gizer.toml
  gizer config convert old.ini --cache-section psql-tmp   on standard output; [psql-tmp] becomes [cache]")]
pub struct ConfigConvertArgs {
    /// The INI file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Write into this file, which must not be there yet and only its owner may read, and not to standard output.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
