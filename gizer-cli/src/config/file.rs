//! `gizer.toml` as it is written.

use serde::Deserialize;

use super::redact::redact;
pub use super::setting_types::{
    Address, CollectionPatterns, Count, InferPolicy, LogFormat, MemorySize, Seconds, SpoolLimit, VerifyMode, Workers,
};
pub use super::settings::{
    CacheSection, FollowSection, LoadSection, LogSection, MetricsSection, MongoSection, PostgresSection, RunSection,
    SchemasSection, VerifySection,
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
