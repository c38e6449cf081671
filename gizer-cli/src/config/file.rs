//! `gizer.toml` as it is written.

use std::path::PathBuf;

use serde::Deserialize;

use super::redact::redact;
pub use super::setting_types::{
    Address, CollectionPatterns, Count, InferPolicy, LogFormat, MemorySize, Seconds, SpoolLimit, VerifyMode, Workers,
};

/// All that the file may hold; everything may be missing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct File {
    pub mongo: MongoSection,
    pub postgres: PostgresSection,
    pub cache: Option<CacheSection>,
    pub schemas: SchemasSection,
    pub run: RunSection,
    pub load: LoadSection,
    pub follow: FollowSection,
    pub verify: VerifySection,
    pub metrics: MetricsSection,
    pub log: LogSection,
    pub oplog: Vec<OplogSection>,
}

/// `[mongo]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct MongoSection {
    pub uri: Option<OneOrMore>,
    pub database: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// `[postgres]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct PostgresSection {
    pub uri: Option<String>,
    pub schema: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// `[cache]`: a second PostgreSQL connection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct CacheSection {
    pub uri: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// `[schemas]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct SchemasSection {
    pub dir: Option<PathBuf>,
    pub infer: Option<InferPolicy>,
    pub include: Option<CollectionPatterns>,
    pub exclude: Option<CollectionPatterns>,
}

/// `[run]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct RunSection {
    pub memory: Option<MemorySize>,
    pub retry_for: Option<Seconds>,
}

/// `[load]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LoadSection {
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
pub struct FollowSection {
    pub max_rejects: Option<Count>,
}

/// `[verify]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct VerifySection {
    pub mode: Option<VerifyMode>,
    pub max_repairs: Option<Count>,
}

/// `[metrics]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct MetricsSection {
    pub listen: Option<Address>,
    pub textfile: Option<PathBuf>,
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct LogSection {
    pub format: Option<LogFormat>,
}

/// `[[oplog]]`: one per shard.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct OplogSection {
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
