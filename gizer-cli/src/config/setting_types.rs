//! Types of settings: one reading of them for the file, the environment and flags, by `FromStr`.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use glob::Pattern;
use serde::Deserialize;
use strum::{EnumString, IntoStaticStr, VariantNames};

use super::file::OneOrMore;
use super::redact::shown;

/// A glob that names of collections match: `*` any characters, `?` one, `[a-z]` one of these, `[!a-z]` one of the others.
fn pattern(text: &str) -> Result<Pattern, String> {
    match Pattern::new(text) {
        Ok(pattern) if !text.is_empty() => Ok(pattern),
        Ok(_) => Err("expected a pattern for names of collections such as tmp_*, got an empty text".to_owned()),
        Err(error) => Err(format!(
            "expected a pattern for names of collections such as tmp_*, got {}: {} at character {}",
            shown(text),
            error.msg,
            error.pos + 1
        )),
    }
}

/// One pattern or several.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "OneOrMore")]
pub struct CollectionPatterns(pub Vec<Pattern>);

impl TryFrom<OneOrMore> for CollectionPatterns {
    type Error = String;

    fn try_from(texts: OneOrMore) -> Result<Self, String> {
        texts.into_vec().iter().map(|text| pattern(text)).collect::<Result<_, _>>().map(CollectionPatterns)
    }
}

/// `expected none-yet, missing or never, got always`
fn no_variant<T: VariantNames>(text: &str) -> String {
    let expected = T::VARIANTS.join(", ");
    let expected = expected.rsplit_once(", ").map_or(expected.clone(), |(all, last)| format!("{all} or {last}"));
    format!("expected {expected}, got {}", shown(text))
}

/// For which collections `gizer run` may make schema files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, EnumString, IntoStaticStr, VariantNames)]
#[serde(try_from = "String")]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_variant::<InferPolicy>)]
pub enum InferPolicy {
    /// For all, as long as none has one.
    #[default]
    NoneYet,
    /// For every one that has none.
    Missing,
    /// For none.
    Never,
}

/// When the schemas of loaded collections grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, EnumString, IntoStaticStr, VariantNames)]
#[serde(try_from = "String")]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_variant::<EvolvePolicy>)]
pub enum EvolvePolicy {
    /// By `gizer schema evolve` alone.
    Off,
    /// As well; what could grow is shown.
    Ask,
    /// In `run`.
    #[default]
    Auto,
}

/// What `gizer run` does where the position of tables is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, EnumString, IntoStaticStr, VariantNames)]
#[serde(try_from = "String")]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_variant::<LostPosition>)]
pub enum LostPosition {
    /// What takes less.
    #[default]
    Auto,
    /// A resync.
    Resync,
    /// A load.
    Load,
    /// Nothing.
    Stop,
}

/// What is read back and compared before each commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, EnumString, IntoStaticStr, VariantNames)]
#[serde(try_from = "String")]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_variant::<VerifyMode>)]
pub enum VerifyMode {
    /// Everything that was written.
    #[default]
    All,
    /// A part of it.
    Sample,
    /// Nothing.
    Off,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, EnumString, IntoStaticStr, VariantNames)]
#[serde(try_from = "String")]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_variant::<LogFormat>)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
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

/// Types of what is a number or text in the file, with how the text is read.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($value:ty) by $read:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        #[serde(try_from = "NumberOrText")]
        pub struct $name(pub $value);

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $read(text).map($name)
            }
        }
    )+};
}

numbers! {
    /// A number of bytes: `256MiB`, `1 GiB`, `500000`.
    MemorySize(usize) by memory;
    /// The most bytes of a spool.
    SpoolLimit(u64) by large_size;
    /// Threads and connections of a load: 1 to 64.
    Workers(usize) by workers;
    /// A time in whole seconds: up to a day.
    Seconds(Duration) by seconds;
    /// A whole number from 0 on.
    Count(u64) by count;
    /// A part of all, in whole percent: 1 to 100.
    Percent(u64) by percent;
}

fn memory(text: &str) -> Result<usize, String> {
    usize::try_from(large_size(text)?).map_err(|_| more_than_memory(text))
}

/// All stages can work with this much, and one large document fits into a spool.
const MIN_BYTES: u64 = 32 * 1024 * 1024;

fn large_size(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        bytes @ MIN_BYTES.. => Ok(bytes),
        _ => Err(format!("expected at least 32MiB, got {}", shown(text))),
    }
}

/// A number with or without a unit.
fn bytes(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a size such as 256MiB, got {}", shown(text));
    let digits = text.trim().len() - text.trim().trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.trim().split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" | "kb" => 1 << 10,
        "m" | "mib" | "mb" => 1 << 20,
        "g" | "gib" | "gb" => 1 << 30,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(factor).ok_or_else(|| more_than_memory(text))
}

fn more_than_memory(text: &str) -> String {
    format!("{} is more than any memory", shown(text))
}

fn workers(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(workers @ 1..=64) => Ok(workers),
        _ => Err(format!("expected a number from 1 to 64, got {}", shown(text))),
    }
}

/// A day.
const MAX_SECONDS: u64 = 86_400;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim().parse() {
        Ok(seconds @ 0..=MAX_SECONDS) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("expected seconds from 0 to {MAX_SECONDS}, got {}", shown(text))),
    }
}

fn percent(text: &str) -> Result<u64, String> {
    match text.trim().parse() {
        Ok(percent @ 1..=100) => Ok(percent),
        _ => Err(format!("expected a number from 1 to 100, got {}", shown(text))),
    }
}

fn count(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("expected a whole number from 0 on, got {}", shown(text)))
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or text such as \"256MiB\"")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl From<NumberOrText> for String {
    fn from(value: NumberOrText) -> String {
        match value {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        }
    }
}

macro_rules! parsed_from {
    ($from:ty: $($ty:ty),+) => {$(
        impl TryFrom<$from> for $ty {
            type Error = String;

            fn try_from(value: $from) -> Result<Self, String> {
                String::from(value).parse()
            }
        }
    )+};
}

parsed_from!(String: EvolvePolicy, InferPolicy, LostPosition, VerifyMode, LogFormat, Address);
parsed_from!(NumberOrText: MemorySize, SpoolLimit, Workers, Seconds, Count, Percent);
