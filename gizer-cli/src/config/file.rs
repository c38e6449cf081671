//! `gizer.toml` as it is written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::redact::{redact, shown};

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

/// A glob that names of collections match: `*` any characters, `?` one, `[a-z]` one of these, `[!a-z]` one of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionPattern(glob::Pattern);

impl CollectionPattern {
    /// Whether a collection of this name is meant.
    pub fn matches(&self, collection: &str) -> bool {
        self.0.matches(collection)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for CollectionPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match glob::Pattern::new(text) {
            Ok(pattern) if !text.is_empty() => Ok(CollectionPattern(pattern)),
            Ok(_) => Err("expected a pattern for names of collections such as tmp_*, got an empty text".to_owned()),
            Err(error) => Err(format!(
                "expected a pattern for names of collections such as tmp_*, got {}: {} at character {}",
                shown(text),
                error.msg,
                error.pos + 1
            )),
        }
    }
}

/// One pattern or several.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "OneOrMore")]
pub struct CollectionPatterns(pub Vec<CollectionPattern>);

impl TryFrom<OneOrMore> for CollectionPatterns {
    type Error = String;

    fn try_from(texts: OneOrMore) -> Result<Self, String> {
        Ok(CollectionPatterns(texts.into_vec().iter().map(|text| text.parse()).collect::<Result<_, _>>()?))
    }
}

/// For which collections `gizer run` may make schema files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum InferPolicy {
    /// For all, as long as none has one.
    #[default]
    NoneYet,
    /// For every one that has none.
    Missing,
    /// For none.
    Never,
}

impl FromStr for InferPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none-yet" => Ok(InferPolicy::NoneYet),
            "missing" => Ok(InferPolicy::Missing),
            "never" => Ok(InferPolicy::Never),
            other => Err(format!("expected none-yet, missing or never, got {}", shown(other))),
        }
    }
}

impl TryFrom<String> for InferPolicy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What is read back and compared before each commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum VerifyMode {
    /// Everything that was written.
    #[default]
    All,
    /// A part of it.
    Sample,
    /// Nothing.
    Off,
}

impl FromStr for VerifyMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(VerifyMode::All),
            "sample" => Ok(VerifyMode::Sample),
            "off" => Ok(VerifyMode::Off),
            other => Err(format!("expected all, sample or off, got {}", shown(other))),
        }
    }
}

impl TryFrom<String> for VerifyMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(format!("expected text or json, got {}", shown(other))),
        }
    }
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// An address to listen at: `127.0.0.1:9290`, `[::1]:9290`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address(pub SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected an IP address and a port such as 127.0.0.1:9290, got {}", shown(text));
        text.trim().parse().map(Address).map_err(|_| expected())
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A number of bytes: `256MiB`, `1 GiB`, `500000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub struct Memory(pub usize);

/// Least memory that all stages can work with.
const LEAST_MEMORY: usize = 32 * 1024 * 1024;

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let too_much = || format!("{} is more than any memory", shown(text));
        let bytes = usize::try_from(bytes(text)?).map_err(|_| too_much())?;
        if bytes < LEAST_MEMORY {
            return Err(format!("expected at least 32MiB, got {}", shown(text)));
        }
        Ok(Memory(bytes))
    }
}

/// The most bytes of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub struct SpoolLimit(pub u64);

/// Less would not hold one large document.
const LEAST_SPOOL: u64 = 32 * 1024 * 1024;

impl FromStr for SpoolLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match bytes(text)? {
            bytes @ LEAST_SPOOL.. => Ok(SpoolLimit(bytes)),
            _ => Err(format!("expected at least 32MiB, got {}", shown(text))),
        }
    }
}

/// A number with or without a unit.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim().len() - text.trim().trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.trim().split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" | "kb" => 1 << 10,
        "m" | "mib" | "mb" => 1 << 20,
        "g" | "gib" | "gb" => 1 << 30,
        _ => return Err(format!("expected a size such as 256MiB, got {}", shown(text))),
    };
    let number: u64 = number.parse().map_err(|_| format!("expected a size such as 256MiB, got {}", shown(text)))?;
    number.checked_mul(factor).ok_or_else(|| format!("{} is more than any memory", shown(text)))
}

/// Threads and connections of a load: 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub struct Workers(pub u8);

impl From<Workers> for usize {
    fn from(workers: Workers) -> usize {
        workers.0.into()
    }
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse() {
            Ok(workers @ 1..=64) => Ok(Workers(workers)),
            _ => Err(format!("expected a number from 1 to 64, got {}", shown(text))),
        }
    }
}

/// A time in whole seconds: up to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub struct Seconds(pub u32);

/// A day.
const MOST_SECONDS: u32 = 86_400;

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Duration {
        Duration::from_secs(seconds.0.into())
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse() {
            Ok(seconds @ 0..=MOST_SECONDS) => Ok(Seconds(seconds)),
            _ => Err(format!("expected seconds from 0 to {MOST_SECONDS}, got {}", shown(text))),
        }
    }
}

/// A whole number from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub struct Count(pub u64);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.trim().parse().map(Count).map_err(|_| format!("expected a whole number from 0 on, got {}", shown(text)))
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or text such as \"256MiB\"")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl NumberOrText {
    fn text(self) -> String {
        match self {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        }
    }
}

impl TryFrom<NumberOrText> for Memory {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Self, String> {
        value.text().parse()
    }
}

impl TryFrom<NumberOrText> for SpoolLimit {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Self, String> {
        value.text().parse()
    }
}

impl TryFrom<NumberOrText> for Workers {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Self, String> {
        value.text().parse()
    }
}

impl TryFrom<NumberOrText> for Count {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Self, String> {
        value.text().parse()
    }
}

impl TryFrom<NumberOrText> for Seconds {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Self, String> {
        value.text().parse()
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
