//! What `schema diff`, `diagram` and `json-schema` take.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// Examples of `schema json-schema`.
pub(super) const JSON_SCHEMA_HELP: &str = "\
Example:
  gizer schema json-schema > gizer-schema.json

In VS Code, with the schema files in schemas/ and gizer-schema.json next to that folder (.vscode/settings.json):
  { \"json.schemas\": [{ \"fileMatch\": [\"/schemas/*.json\"], \"url\": \"./gizer-schema.json\" }] }";

/// Arguments of `schema diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Everything is shown from the old to the new: + is in the new one only, - in the old one only, ~ is another one. With --live
the old are the existing tables, and the new those of the schema file: what a load would do.

Examples:
  gizer schema diff yesterday/orders.json schemas/orders.json    two files
  gizer schema diff yesterday schemas                            two folders: every collection of either
  gizer schema diff orders --live                                the tables in PostgreSQL and the schema file
  gizer schema diff --live                                       of every collection that has a schema file
  gizer schema diff --live --format json                         for a script
  gizer schema diff orders --since 2026-11-01                    how it has grown in place since then

What inference has seen ($seen) is no difference.")]
pub struct DiffArgs {
    /// The old and the new: two schema files, or two folders of them. With --live or --since: collections [default: all
    /// that have a schema file].
    #[arg(value_name = "OLD NEW | COLLECTION", required_unless_present_any = ["live", "since"])]
    pub inputs: Vec<String>,

    /// Compare schema files with the tables that are in PostgreSQL, as its catalog has them.
    #[arg(long)]
    pub live: bool,

    /// Show how schemas have grown in place since a version (0: the one that was loaded), or since a time in UTC such as
    /// 2026-11-30 or 2026-11-30T12:00.
    #[arg(long, value_name = "VERSION | TIME", conflicts_with = "live")]
    pub since: Option<Since>,
}

/// From when on a schema is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// A version of `gizer_schema_history`; 0 is the one before the first.
    Version(i64),
    /// The beginning of an ISO 8601 time in UTC.
    Time(String),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Since, String> {
        if let Ok(version @ 0..) = text.parse() {
            return Ok(Since::Version(version));
        }
        // Such times are in the order of their characters.
        let pattern = b"0000-00-00T00:00:00Z";
        let fits = |(got, wanted): (u8, &u8)| if *wanted == b'0' { got.is_ascii_digit() } else { got == *wanted };
        if (10..=pattern.len()).contains(&text.len()) && text.bytes().zip(pattern).all(fits) {
            return Ok(Since::Time(text.to_owned()));
        }
        Err("expected a version, or a time such as 2026-11-30 or 2026-11-30T12:00".to_owned())
    }
}

/// Arguments of `schema evolve`.
#[derive(Debug, Args)]
#[command(after_help = "\
A field gets a column, or an array or a map a table, if it is in at least 10 documents, or in 1 % of them if those are fewer
([schemas] evolve_documents and evolve_percent). Its values are taken from _extra, and MongoDB is not read. Readers wait for
no longer than adding a column takes; nothing is dropped or renamed, and views stay. The schema file is rewritten.

To keep a field as it is, give it {\"$as\": \"json\"} or {\"$as\": \"ignore\"} in the schema file, and reload.

Examples:
  gizer schema evolve --dry-run        what would be done for every collection that is followed, with its SQL
  gizer schema evolve orders           do it for one collection
  gizer schema evolve --format json    for a script

With [schemas] evolve = \"auto\", which is the default, `gizer run` does this by itself.")]
pub struct EvolveArgs {
    /// Collections [default: all that are followed].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,

    /// Only tell what would be done, with its SQL.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `schema diagram`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gizer schema diagram orders                          in the terminal
  gizer schema diagram --as html --output tables.html  every collection that has a schema file, as one page
  gizer schema diagram --as mermaid                    an erDiagram, for Markdown")]
pub struct DiagramArgs {
    /// Collections [default: all that have a schema file].
    #[arg(value_name = "COLLECTION")]
    pub collections: Vec<String>,

    /// What is drawn.
    #[arg(long = "as", value_enum, value_name = "FORM", default_value_t = DiagramForm::Text)]
    pub form: DiagramForm,

    /// Write to this file, not to standard output.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What a diagram is drawn as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiagramForm {
    /// The tree and the tables next to each other, with lines, for terminals.
    Text,
    /// An erDiagram of the tables with keys and relations, for Mermaid.
    Mermaid,
    /// A page that needs no other file and no network.
    Html,
}
