//! The list of all settings that can be given outside of the file.

use std::str::FromStr;

use super::file::{CollectionPatterns, File, OneOrMore, OplogSection};

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

fn last<T: FromStr<Err = String>>(values: &[String]) -> Result<T, String> {
    text(values)?.parse()
}

fn patterns(values: &[String]) -> Result<Option<CollectionPatterns>, String> {
    OneOrMore::More(values.to_vec()).try_into().map(Some)
}

fn text(values: &[String]) -> Result<String, String> {
    match values.last() {
        Some(value) if !value.is_empty() => Ok(value.clone()),
        _ => Err("expected a value, got an empty text".to_owned()),
    }
}

/// All settings, in the order of the help.
pub const SETTINGS: &[Setting] = &[
    Setting {
        section: "mongo",
        key: "uri",
        value: "URI",
        help: "MongoDB to read from: a replica set or a mongos; several, one per shard, where there is no router",
        list: true,
        set: |file, values| {
            text(values)?;
            file.mongo.uri = Some(OneOrMore::More(values.to_vec()));
            Ok(())
        },
    },
    Setting {
        section: "mongo",
        key: "database",
        value: "NAME",
        help: "MongoDB database whose collections are copied",
        list: false,
        set: |file, values| {
            file.mongo.database = Some(text(values)?);
            Ok(())
        },
    },
    Setting {
        section: "mongo",
        key: "password_file",
        value: "FILE",
        help: "File with the password of the user in mongo.uri, if that has none, relative to the config file",
        list: false,
        set: |file, values| {
            file.mongo.password_file = Some(text(values)?.into());
            Ok(())
        },
    },
    Setting {
        section: "postgres",
        key: "uri",
        value: "URI",
        help: "PostgreSQL to write to",
        list: false,
        set: |file, values| {
            file.postgres.uri = Some(text(values)?);
            Ok(())
        },
    },
    Setting {
        section: "postgres",
        key: "schema",
        value: "NAME",
        help: "PostgreSQL schema of the tables [default: public]",
        list: false,
        set: |file, values| {
            file.postgres.schema = Some(text(values)?);
            Ok(())
        },
    },
    Setting {
        section: "postgres",
        key: "password_file",
        value: "FILE",
        help: "File with the password of the user in postgres.uri, if that has none",
        list: false,
        set: |file, values| {
            file.postgres.password_file = Some(text(values)?.into());
            Ok(())
        },
    },
    Setting {
        section: "cache",
        key: "uri",
        value: "URI",
        help: "Second PostgreSQL connection, where the oplog is kept aside during a load, instead of in a file",
        list: false,
        set: |file, values| {
            file.cache.get_or_insert_default().uri = Some(text(values)?);
            Ok(())
        },
    },
    Setting {
        section: "cache",
        key: "password_file",
        value: "FILE",
        help: "File with the password of the user in cache.uri, if that has none",
        list: false,
        set: |file, values| {
            file.cache.get_or_insert_default().password_file = Some(text(values)?.into());
            Ok(())
        },
    },
    Setting {
        section: "schemas",
        key: "dir",
        value: "FOLDER",
        help: "Folder of the schema files, relative to the config file [default: schemas]",
        list: false,
        set: |file, values| {
            file.schemas.dir = Some(text(values)?.into());
            Ok(())
        },
    },
    Setting {
        section: "schemas",
        key: "infer",
        value: "WHEN",
        help: "For which collections run makes schema files: none-yet (for all while none has one), missing or never [default: none-yet]",
        list: false,
        set: |file, values| {
            file.schemas.infer = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
        section: "schemas",
        key: "include",
        value: "PATTERN",
        help: "Collections to copy, by name with * ? [a-z]; several [default: all]",
        list: true,
        set: |file, values| {
            file.schemas.include = patterns(values)?;
            Ok(())
        },
    },
    Setting {
        section: "schemas",
        key: "exclude",
        value: "PATTERN",
        help: "Collections not to copy, by name with * ? [a-z], also of those that are included; several",
        list: true,
        set: |file, values| {
            file.schemas.exclude = patterns(values)?;
            Ok(())
        },
    },
    Setting {
        section: "run",
        key: "memory",
        value: "SIZE",
        help: "Memory for what is under way between the stages [default: 256MiB]",
        list: false,
        set: |file, values| {
            file.run.memory = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
        section: "run",
        key: "retry_for",
        value: "SECONDS",
        help: "How long to try again where a server is lost half-way; with --follow there is no end [default: 60]",
        list: false,
        set: |file, values| {
            file.run.retry_for = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
        section: "load",
        key: "workers",
        value: "N",
        help: "Threads that flatten and connections that write during a load [default: 2]",
        list: false,
        set: |file, values| {
            file.load.workers = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
        section: "load",
        key: "key_workers",
        value: "N",
        help: "Parallel workers that PostgreSQL may take for each key, beside the connections [default: 0]",
        list: false,
        set: |file, values| {
            let number = text(values)?;
            let number = number.parse().map_err(|_| format!("expected a number from 0 to 255, got {number:?}"))?;
            file.load.key_workers = Some(number);
            Ok(())
        },
    },
    Setting {
        section: "load",
        key: "swap_timeout",
        value: "SECONDS",
        help: "How long finished tables wait for readers of the live ones to let them in [default: 300]",
        list: false,
        set: |file, values| {
            file.load.swap_timeout = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
        section: "load",
        key: "spool_dir",
        value: "FOLDER",
        help: "Folder where the oplog is kept aside during a load, relative to the config file [default: spool]",
        list: false,
        set: |file, values| {
            file.load.spool_dir = Some(text(values)?.into());
            Ok(())
        },
    },
    Setting {
        section: "load",
        key: "spool_limit",
        value: "SIZE",
        help: "Most that is kept aside of each shard's oplog during a load [default: 1GiB]",
        list: false,
        set: |file, values| {
            file.load.spool_limit = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
        section: "follow",
        key: "max_rejects",
        value: "N",
        help: "A collection of which PostgreSQL refuses more documents in one run of sync is failing, and tried again later [default: 1000]",
        list: false,
        set: |file, values| {
            file.follow.max_rejects = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
        section: "verify",
        key: "mode",
        value: "MODE",
        help: "What sync reads back and compares before each commit: all, sample (one document in 16) or off [default: all]",
        list: false,
        set: |file, values| {
            file.verify.mode = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
        section: "verify",
        key: "max_repairs",
        value: "N",
        help: "A collection of which sync has to repair more documents in one run is loaded anew [default: 1000]",
        list: false,
        set: |file, values| {
            file.verify.max_repairs = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
        section: "metrics",
        key: "listen",
        value: "ADDR",
        help: "Address at which metrics are served for Prometheus while following, such as 127.0.0.1:9290",
        list: false,
        set: |file, values| {
            file.metrics.listen = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
        section: "metrics",
        key: "textfile",
        value: "FILE",
        help: "File into which each run writes metrics for the node exporter, relative to the config file",
        list: false,
        set: |file, values| {
            file.metrics.textfile = Some(text(values)?.into());
            Ok(())
        },
    },
    Setting {
        section: "log",
        key: "format",
        value: "FORMAT",
        help: "Form of the log on standard error: text or json, one object a line [default: text]",
        list: false,
        set: |file, values| {
            file.log.format = Some(last(values)?);
            Ok(())
        },
    },
    Setting {
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
    },
];
