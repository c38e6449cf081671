//! `gizer.toml` as it is written.

use std::path::PathBuf;

use serde::Deserialize;

use super::redact::redact;
pub use super::setting_types::{
    Address, CollectionPatterns, Count, InferPolicy, LogFormat, Memory, Seconds, SpoolLimit, VerifyMode, Workers,
};

/// All that the file may hold; everything may be missing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct File {
    pub mongo: Mongo,
    pub postgres: Postgres,
    pub cache: Option<Cache>,
    pub schemas: Schemas,
    pub run: Run,
    pub load: Load,
    pub follow: Follow,
    pub verify: Verify,
    pub metrics: Metrics,
    pub log: Log,
    pub oplog: Vec<Oplog>,
}

/// `[mongo]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Mongo {
    pub uri: Option<OneOrMore>,
    pub database: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// `[postgres]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Postgres {
    pub uri: Option<String>,
    pub schema: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// `[cache]`: a second PostgreSQL connection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Cache {
    pub uri: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// `[schemas]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Schemas {
    pub dir: Option<PathBuf>,
    pub infer: Option<InferPolicy>,
    pub include: Option<CollectionPatterns>,
    pub exclude: Option<CollectionPatterns>,
}

/// `[run]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Run {
    pub memory: Option<Memory>,
    pub retry_for: Option<Seconds>,
}

/// `[load]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Load {
    pub workers: Option<Workers>,
    pub key_workers: Option<u8>,
    pub swap_timeout: Option<Seconds>,
    pub spool_dir: Option<PathBuf>,
    pub spool_limit: Option<SpoolLimit>,
}

/// `[follow]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Follow {
    pub max_rejects: Option<Count>,
}

/// `[verify]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Verify {
    pub mode: Option<VerifyMode>,
    pub max_repairs: Option<Count>,
}

/// `[metrics]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Metrics {
    pub listen: Option<Address>,
    pub textfile: Option<PathBuf>,
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Log {
    pub format: Option<LogFormat>,
}

/// `[[oplog]]`: one per shard.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Oplog {
    pub name: String,
    pub uri: String,
}

/// A string or a list of strings.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
#[allow(missing_docs)]
pub enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    /// All of them.
    pub fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    }
}

/// Reads the text of a file.
///
/// # Errors
/// What is wrong, with line and column. Neither the line itself is shown nor any text in it that may be a URI, because
/// it may hold a password.
pub fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = &text.as_bytes()[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = at - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1) + 1;
        format!("line {line}, column {column}: {}", redact(&error.message().replace('\n', ", ")))
    })
}
