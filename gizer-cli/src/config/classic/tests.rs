use std::fmt::Write;

use proptest::prelude::*;

use super::super::{Effective, converted, values};
use super::*;
use crate::config::SETTINGS;

fn effective(folder: &Path, name: &str, text: &str, sections: &ClassicSections) -> Result<Effective, String> {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    Effective::read(Some(&path), sections, |_| Vec::new(), |_| None).map_err(|failure| failure.message)
}

fn read(text: &str) -> Result<Effective, String> {
    effective(tempfile::tempdir().unwrap().path(), "old.ini", text, &ClassicSections::default())
}

const ONE: &str = "[misc]\nschemas-dir = some/schemas\nlogs-dir = logs\nrecovery-allowed = 1\n\
    [psql]\npsql-host = h\npsql-port = 5432\npsql-dbname = app\npsql-user = me\npsql-pass = hunter2@:\npsql-schema-name = copy\n\
    [psql-tmp]\npsql-tmp-host = t\npsql-tmp-dbname = tmp\npsql-tmp-schema-name = other\n\
    [mongo]\nmongo-host = m\nmongo-port = 27017\nmongo-ssl = 1\nmongo-dbname = shop\nmongo-user = u\nmongo-pass = hunter2\n\
    mongo-params = w=1\n\
    [mongo-oplog]\nmongo-oplog-host = m\nmongo-oplog-port = 27017\nmongo-oplog-dbname = local\nmongo-oplog-user = u\n\
    mongo-oplog-pass = hunter2\nmongo-oplog-params =\n";

#[test]
fn a_classic_file_becomes_gizers_settings() {
    let read = read(ONE).unwrap();
    let config = &read.config;
    assert_eq!(config.mongo_uris, ["mongodb://u:hunter2@m:27017/shop?w=1&tls=true&directConnection=true"]);
    assert_eq!(config.mongo_database.as_deref(), Some("shop"));
    assert_eq!(config.postgres_uri.as_deref(), Some("postgresql://me:hunter2%40%3A@h:5432/app"));
    assert_eq!((config.postgres_schema.as_str(), &config.cache_uri), ("copy", &None));
    assert_eq!(config.schemas_dir, std::env::current_dir().unwrap().join("some/schemas"));
    let oplog = "mongodb://u:hunter2@m:27017/admin?directConnection=true";
    assert_eq!(config.oplogs, [("mongo-oplog".to_owned(), oplog.to_owned())]);
    assert_eq!(read.ignored, ["[misc] logs-dir", "[misc] recovery-allowed", "[psql-tmp]"]);
    let from = |flag: &str| read.origins.of(flag).to_string();
    assert!(from("postgres-schema").ends_with("old.ini:11, [psql] psql-schema-name"), "{}", from("postgres-schema"));
    assert!(from("mongo-uri").contains("old.ini:17, [mongo] mongo-host, mongo-port"), "{}", from("mongo-uri"));
    assert_eq!(from("load-workers"), "default");
    for uri in config.mongo_uris.iter().chain(config.oplogs.iter().map(|(_, uri)| uri)) {
        gizer_oplog::SecretUri::parse(uri).unwrap();
    }
}

#[test]
fn members_are_one_oplog_and_shards_are_several() {
    let member = |name: &str, host: &str| {
        format!(
            "[mongo-oplog-{name}]\nmongo-oplog-{name}-host = {host}\nmongo-oplog-{name}-port = 7\nmongo-oplog-{name}-user =\n"
        )
    };
    let oplogs = |text: &str| read(text).map(|read| read.config.oplogs);
    let pair = |name: &str, uri: &str| (name.to_owned(), uri.to_owned());
    let set = member("rs2", "b") + &member("rs1", "a,c:9");
    assert_eq!(oplogs(&set).unwrap(), [pair("mongo-oplog", "mongodb://b:7,a:7,c:9/")]);
    let shards = member("shard2-rs1", "d") + &member("shard1-rs1", "a") + &member("shard2-rs2", "e");
    let expected = [
        pair("mongo-oplog-shard2", "mongodb://d:7,e:7/"),
        pair("mongo-oplog-shard1", "mongodb://a:7/?directConnection=true"),
    ];
    assert_eq!(oplogs(&shards).unwrap(), expected);
    for mixed in [member("rs1", "a") + &member("shard1-rs1", "b"), member("a-b-c", "h")] {
        assert!(oplogs(&mixed).unwrap_err().contains("expected"), "{mixed}");
    }
    let differ = member("rs1", "a") + &member("rs2", "b") + "mongo-oplog-rs2-pass = hunter2\n";
    let error = oplogs(&differ).unwrap_err();
    assert!(error.contains("line 5: [mongo-oplog-rs1] and [mongo-oplog-rs2]") && !error.contains("hunter2"), "{error}");
}

#[test]
fn another_section_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let chosen = |postgres: Option<&str>, cache: Option<&str>| {
        let sections = ClassicSections { postgres: postgres.map(str::to_owned), cache: cache.map(str::to_owned) };
        effective(folder.path(), "old.ini", ONE, &sections)
    };
    let cached = chosen(None, Some("PSQL-tmp")).unwrap();
    assert_eq!(cached.config.cache_uri.as_deref(), Some("postgresql://t/tmp"));
    assert!(cached.ignored.contains(&"[psql-tmp] psql-tmp-schema-name".to_owned()), "{:?}", cached.ignored);
    let other = chosen(Some("psql-tmp"), None).unwrap();
    assert_eq!(other.config.postgres_uri.as_deref(), Some("postgresql://t/tmp"));
    assert_eq!(other.config.postgres_schema, "other");
    assert!(other.ignored.contains(&"[psql]".to_owned()));
    assert!(chosen(None, Some("psql-tpm")).unwrap_err().contains("there is no section [psql-tpm]"));
    let toml = effective(folder.path(), "g.toml", "", &ClassicSections { cache: Some("x".to_owned()), postgres: None });
    assert!(toml.unwrap_err().contains("--cache-section"));
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_without_secrets() {
    let cases = [
        ("[psql]\npsql-hots = h\n", "old.ini: line 2: unknown key \"psql-hots\" in [psql]; did you mean psql-host?"),
        ("[psql]\npsql-passw = hunter2\n", "did you mean psql-pass?"),
        ("[mogno]\n", "line 1: unknown section \"mogno\"; did you mean [mongo]?"),
        ("[postgresql://u:hunter2@h]\n", "line 1: unknown section \"…\""),
        ("[psql]\npostgresql://u:hunter2@h/d\n", "line 2: unknown key"),
        ("[psql]\npsql-host = postgresql://u:hunter2@h/d\npsql-dbname = d\n", "line 2: psql-host: expected the name"),
        ("[psql]\npsql-host = h\n", "line 1: [psql] lacks a value for psql-dbname"),
        (
            "[psql]\npsql-host = h\npsql-port = u:hunter2@h\n",
            "line 3: psql-port: expected a port from 1 to 65535, got \"…\"",
        ),
        (
            "[mongo]\nmongo-host = h\nmongo-ssl = perhaps\n",
            "line 3: mongo-ssl: expected true or false, got \"perhaps\"",
        ),
        ("[mongo]\nmongo-host = h\nmongo-params = mongodb://u:hunter2@h\n", "line 3: mongo-params: expected options"),
        ("[misc]\nschema-dir = x\n", "did you mean schemas-dir?"),
        ("[mongo]\nmongo-host = h\nmongo-host = i\n", "line 3: this is in line 2 already"),
    ];
    for (text, expected) in cases {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{text}\n{error}");
    }
}

#[test]
fn classic_files_are_told_by_name_or_content() {
    let cases = [
        ("a.INI", "", true),
        ("gizer.toml", "[misc]\n", true),
        ("config", " [psql]\npsql-port = 5\n", true),
        ("config", "[mongo]\nmongo-port = 5\n", true),
        ("config", "[mongo-oplog-rs1]\n", true),
        ("config", "[mongo]\nuri = \"mongodb://h\"\n[[oplog]]\n# mongo-host = x\n[postgres]\n", false),
        ("config", "", false),
    ];
    for (name, text, expected) in cases {
        assert_eq!(is_classic(Path::new(name), text), expected, "{name} {text}");
    }
}

#[test]
fn environment_and_flags_are_over_a_classic_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.ini");
    std::fs::write(&path, ONE).unwrap();
    let read = Effective::read(
        Some(&path),
        &ClassicSections::default(),
        |setting| if setting.flag() == "postgres-schema" { vec!["flag".to_owned()] } else { Vec::new() },
        |variable| match variable {
            "GIZER_MONGO_DATABASE" | "GIZER_POSTGRES_SCHEMA" => Some("env".to_owned()),
            "GIZER_CACHE_SECTION" => Some("psql-tmp".to_owned()),
            _ => None,
        },
    )
    .unwrap();
    let config = &read.config;
    assert_eq!((config.postgres_schema.as_str(), config.mongo_database.as_deref()), ("flag", Some("env")));
    assert_eq!(config.cache_uri.as_deref(), Some("postgresql://t/tmp"));
    assert_eq!(read.origins.of("postgres-schema"), SettingOrigin::Flag("--postgres-schema".to_owned()));
    assert_eq!(read.origins.of("mongo-database"), SettingOrigin::Variable("GIZER_MONGO_DATABASE".to_owned()));
}

/// Folders keep their meaning where the new file is elsewhere.
#[test]
fn a_file_converted_into_another_folder_means_the_same_folders() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let read = effective(old.path(), "old.ini", "[psql]\n", &ClassicSections::default());
    assert!(read.is_err(), "a section without a host cannot be used");
    let text = "[psql]\npsql-host = h\npsql-dbname = d\n";
    let read = effective(old.path(), "old.ini", text, &ClassicSections::default()).unwrap();
    let toml = converted(&read, new.path()).unwrap();
    let again = effective(new.path(), "gizer.toml", &toml, &ClassicSections::default()).unwrap();
    let canonical = old.path().canonicalize().unwrap();
    assert_eq!(again.config.schemas_dir, canonical.join("schemas"));
    assert_eq!(again.config.spool_dir, canonical.join("spool"));
    assert!(again.classic.is_none() && converted(&again, new.path()).is_err());
}

/// A value as people write it, percent signs doubled as Python wants them.
fn value() -> impl Strategy<Value = String> {
    "[ -~äß🦀]{0,12}".prop_map(|text| text.trim().to_owned())
}

fn section(name: &'static str, suffixes: &'static [&'static str]) -> impl Strategy<Value = String> {
    (value(), value(), value(), proptest::option::of(1u16..), "[a-z]{1,8}", any::<bool>()).prop_map(
        move |(user, password, database, port, host, colon)| {
            let mut text = format!("[{name}]\n# a comment\n");
            for suffix in suffixes {
                let value = match *suffix {
                    "host" => host.clone(),
                    "port" => port.map(|port| port.to_string()).unwrap_or_default(),
                    "dbname" if database.is_empty() => "d".to_owned(),
                    "dbname" => database.clone(),
                    "user" => user.clone(),
                    "pass" => password.clone(),
                    "schemas-dir" | "schema-name" => database.clone(),
                    "params" => "w=1&retryReads=false".to_owned(),
                    _ => "1".to_owned(),
                };
                let key = if name == MISC { (*suffix).to_owned() } else { format!("{name}-{suffix}") };
                let delimiter = if colon { ": " } else { " = " };
                writeln!(text, "{key}{delimiter}{}", value.replace('%', "%%")).unwrap();
            }
            text
        },
    )
}

fn file() -> impl Strategy<Value = String> {
    let maybe = |section: BoxedStrategy<String>| proptest::option::of(section).prop_map(Option::unwrap_or_default);
    let oplogs = prop_oneof![
        Just(String::new()),
        section("mongo-oplog", &MONGO_KEYS),
        (section("mongo-oplog-a-rs1", &MONGO_KEYS), section("mongo-oplog-b-rs1", &["host", "user", "pass"]))
            .prop_map(|(one, other)| other + &one),
    ];
    (
        maybe(section(MISC, &MISC_KEYS).boxed()),
        maybe(section(PSQL, &PSQL_KEYS[..6]).boxed()),
        section("psql-tmp", &PSQL_KEYS[..5]),
        maybe(section(MONGO, &MONGO_KEYS).boxed()),
        oplogs,
    )
        .prop_map(|(misc, psql, cache, mongo, oplogs)| [misc, psql, cache, mongo, oplogs].concat())
}

proptest! {
    #[test]
    fn a_converted_file_says_the_same(text in file()) {
        let folder = tempfile::tempdir().unwrap();
        let sections = ClassicSections { postgres: None, cache: Some("psql-tmp".to_owned()) };
        let old = effective(folder.path(), "old.ini", &text, &sections).unwrap();
        let toml = converted(&old, folder.path()).unwrap();
        let new = effective(folder.path(), "gizer.toml", &toml, &ClassicSections::default()).unwrap();
        prop_assert_eq!(&old.config, &new.config, "{}", toml);
        for setting in SETTINGS {
            prop_assert_eq!(values(&old.config, setting), values(&new.config, setting));
        }
    }
}
