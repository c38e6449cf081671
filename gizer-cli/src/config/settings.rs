//! All settings: what the file may hold, and what can be given outside of it.

use std::path::PathBuf;

use serde::Deserialize;

use super::file::{File, OneOrMore, OplogSection};
use super::setting_types::{
    Address, CollectionPatterns, Count, EvolvePolicy, InferPolicy, LogFormat, LostPosition, MemorySize, Percent,
    Seconds, SpoolLimit, VerifyMode, Workers,
};

/// One setting: its name and how a value gets into the configuration.
#[derive(Debug)]
pub struct Setting {
    /// Its section in the file.
    pub section: &'static str,
    /// Its key in the section.
    pub key: &'static str,
    /// What the value looks like, for help.
    pub value: &'static str,
    /// What it is, for help.
    pub help: &'static str,
    /// Whether it may be given several times (in the environment: separated by blanks).
    pub list: bool,
    /// Overrides what the file says, or says what is wrong with the values. It never shows what may hold a password.
    pub set: fn(&mut File, &[String]) -> Result<(), String>,
}

impl Setting {
    /// `mongo-uri`
    pub fn flag(&self) -> String {
        format!("{}-{}", self.section, self.key.replace('_', "-"))
    }

    /// `GIZER_MONGO_URI`
    pub fn variable(&self) -> String {
        format!("GIZER_{}_{}", self.section.to_uppercase(), self.key.to_uppercase())
    }
}

/// The type of a setting, as it is read from the command line and the environment.
trait SettingValue: Sized {
    const IS_LIST: bool = false;

    fn read(values: &[String]) -> Result<Self, String>;
}

fn last(values: &[String]) -> Result<&str, String> {
    match values.last() {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err("expected a value, got an empty text".to_owned()),
    }
}

macro_rules! parsed {
    ($($type:ty),+) => {$(
        impl SettingValue for $type {
            fn read(values: &[String]) -> Result<$type, String> {
                last(values)?.parse()
            }
        }
    )+};
}

parsed!(
    Address,
    Count,
    EvolvePolicy,
    InferPolicy,
    LogFormat,
    LostPosition,
    MemorySize,
    Percent,
    Seconds,
    SpoolLimit,
    VerifyMode,
    Workers
);

impl SettingValue for String {
    fn read(values: &[String]) -> Result<String, String> {
        last(values).map(str::to_owned)
    }
}

impl SettingValue for PathBuf {
    fn read(values: &[String]) -> Result<PathBuf, String> {
        last(values).map(PathBuf::from)
    }
}

impl SettingValue for u8 {
    fn read(values: &[String]) -> Result<u8, String> {
        let number = last(values)?;
        number.parse().map_err(|_| format!("expected a number from 0 to 255, got {number:?}"))
    }
}

impl SettingValue for OneOrMore {
    const IS_LIST: bool = true;

    fn read(values: &[String]) -> Result<OneOrMore, String> {
        last(values)?;
        Ok(OneOrMore::More(values.to_vec()))
    }
}

impl SettingValue for CollectionPatterns {
    const IS_LIST: bool = true;

    fn read(values: &[String]) -> Result<CollectionPatterns, String> {
        OneOrMore::More(values.to_vec()).try_into()
    }
}

/// Makes two things of one list: a struct for each section of the file, and [`SETTINGS`].
///
/// A section has its name, its place in [`File`] and the name of its struct; a key has its type, and for help what its value
/// looks like and what it is.
macro_rules! settings {
    (|$file:ident| $([$section:ident] $place:expr => $Section:ident {
        $($key:ident: $type:ty, $value:literal, $help:literal;)+
    })+) => {
        $(
            #[doc = concat!("`[", stringify!($section), "]`")]
            #[derive(Debug, Clone, Default, Deserialize)]
            #[serde(deny_unknown_fields, default)]
            #[allow(missing_docs)]
            pub struct $Section {
                $(pub $key: Option<$type>,)+
            }
        )+

        /// All settings, in the order of the help.
        pub const SETTINGS: &[Setting] = &[
            $($(Setting {
                section: stringify!($section),
                key: stringify!($key),
                value: $value,
                help: $help,
                list: <$type as SettingValue>::IS_LIST,
                set: |$file, values| {
                    $place.$key = Some(SettingValue::read(values)?);
                    Ok(())
                },
            },)+)+
            OPLOGS,
        ];
    };
}

settings! { |file|
    [mongo] file.mongo => MongoSection {
        uri: OneOrMore, "URI",
            "MongoDB to read from: a replica set or a mongos; several, one per shard, where there is no router";
        database: String, "NAME", "MongoDB database whose collections are copied";
        password_file: PathBuf, "FILE",
            "File with the password of the user in mongo.uri, if that has none, relative to the config file";
    }
    [postgres] file.postgres => PostgresSection {
        uri: String, "URI", "PostgreSQL to write to";
        schema: String, "NAME", "PostgreSQL schema of the tables [default: public]";
        password_file: PathBuf, "FILE", "File with the password of the user in postgres.uri, if that has none";
    }
    [cache] file.cache.get_or_insert_default() => CacheSection {
        uri: String, "URI",
            "Second PostgreSQL connection, into which the oplog is spooled during a load, instead of a file";
        password_file: PathBuf, "FILE", "File with the password of the user in cache.uri, if that has none";
    }
    [schemas] file.schemas => SchemasSection {
        dir: PathBuf, "FOLDER", "Folder of the schema files, relative to the config file [default: schemas]";
        infer: InferPolicy, "WHEN",
            "For which collections run makes schema files: none-yet (for all while none has one), missing or never [default: none-yet]";
        evolve: EvolvePolicy, "WHEN",
            "When fields that came after the load get columns: off, ask (shown by status and plan) or auto (in run) [default: auto]";
        evolve_documents: Count, "N", "In how many documents such a field must be [default: 10]";
        evolve_percent: Percent, "PERCENT",
            "Or in how many percent of a collection's documents, if those are fewer, but at least in 2 [default: 1]";
        evolve_every: Seconds, "SECONDS", "How often a schema grows by itself at most [default: 3600]";
        include: CollectionPatterns, "PATTERN", "Collections to copy, by name with * ? [a-z]; several [default: all]";
        exclude: CollectionPatterns, "PATTERN",
            "Collections not to copy, by name with * ? [a-z], also of those that are included; several";
    }
    [run] file.run => RunSection {
        memory: MemorySize, "SIZE", "Memory for what is between the stages [default: 256MiB]";
        retry_for: Seconds, "SECONDS",
            "How long to retry where a server is lost half-way; with --follow there is no end [default: 60]";
        lost_position: LostPosition, "WHAT",
            "What run does where the oplog has rolled over or a position is lost: auto (what takes less), resync, load or stop [default: auto]";
    }
    [load] file.load => LoadSection {
        workers: Workers, "N", "Threads that flatten and connections that write during a load [default: 2]";
        key_workers: u8, "N",
            "Parallel workers that PostgreSQL may take for each key, in addition to the connections [default: 0]";
        swap_timeout: Seconds, "SECONDS",
            "How long finished tables wait for readers of the live ones to let them in [default: 300]";
        spool_dir: PathBuf, "FOLDER",
            "Folder into which the oplog is spooled during a load, relative to the config file [default: spool]";
        spool_limit: SpoolLimit, "SIZE", "Limit of what is spooled of each shard's oplog during a load [default: 1GiB]";
    }
    [follow] file.follow => FollowSection {
        max_rejects: Count, "N",
            "A collection of which PostgreSQL refuses more documents in one run of sync is failing, and retried later [default: 1000]";
    }
    [verify] file.verify => VerifySection {
        mode: VerifyMode, "MODE",
            "What sync reads back and compares before each commit: all, sample (one document in 16) or off [default: all]";
        max_repairs: Count, "N",
            "A collection of which sync has to repair more documents in one run is reloaded [default: 1000]";
    }
    [metrics] file.metrics => MetricsSection {
        listen: Address, "ADDR",
            "Address at which metrics are served for Prometheus while following, such as 127.0.0.1:9290";
        textfile: PathBuf, "FILE",
            "File into which each run writes metrics for the node exporter, relative to the config file";
    }
    [log] file.log => LogSection {
        format: LogFormat, "FORMAT",
            "Form of the log on standard error: text or json, one object a line [default: text]";
    }
}

/// `[[oplog]]`, by name.
const OPLOGS: Setting = Setting {
    section: "oplog",
    key: "uri",
    value: "NAME=URI",
    help: "Oplog of a shard, with the shard's name; several, one per shard",
    list: true,
    set: |file, values| {
        let oplog = |value: &String| match value.split_once('=') {
            Some((name, uri)) if !name.is_empty() && !name.contains([':', '/']) => {
                Ok(OplogSection { name: name.to_owned(), uri: uri.to_owned() })
            }
            _ => Err("expected NAME=URI, such as shard1=mongodb://…".to_owned()),
        };
        file.oplog = values.iter().map(oplog).collect::<Result<_, _>>()?;
        Ok(())
    },
};
