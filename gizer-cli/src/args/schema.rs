//! What `schema diff`, `diagram` and `json-schema` take.

use std::path::PathBuf;

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

What inference has seen ($seen) is no difference.")]
pub struct DiffArgs {
    /// The old and the new: two schema files, or two folders of them. With --live: collections [default: all that have a
    /// schema file].
    #[arg(value_name = "OLD NEW | COLLECTION", required_unless_present = "live")]
    pub inputs: Vec<String>,

    /// Compare schema files with the tables that are in PostgreSQL, as its catalog has them.
    #[arg(long)]
    pub live: bool,
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
