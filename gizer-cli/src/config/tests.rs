use super::*;
use crate::exit::{Failure, FailureKind};

fn read(text: &str, flags: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Config, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gizer.toml");
    std::fs::write(&path, text).unwrap();
    Config::read(
        Some(&path),
        |setting| flags.iter().filter(|f| f.0 == setting.flag()).map(|f| f.1.to_owned()).collect(),
        |variable| environment.iter().find(|v| v.0 == variable).map(|v| v.1.to_owned()),
    )
}

const FULL: &str = r#"
[mongo]
uri = ["mongodb://a", "mongodb://b"]
database = "shop"
[postgres]
uri = "postgresql://user:secret@127.0.0.1:5432/app"
schema = "copy"
[cache]
uri = "postgresql://c"
[schemas]
dir = "files"
[run]
memory = "64MiB"
[load]
workers = 3
swap_timeout = 20
key_workers = 4
spool_dir = "aside"
spool_limit = "64MiB"
[verify]
mode = "sample"
max_repairs = 7
[metrics]
listen = "127.0.0.1:9290"
textfile = "gizer.prom"
[log]
format = "json"
[[oplog]]
name = "shard1"
uri = "mongodb://s1"
"#;

#[test]
fn every_name_of_the_file_is_read() {
    let config = read(FULL, &[], &[]).unwrap();
    assert_eq!(config.mongo().unwrap().documents, ["mongodb://a", "mongodb://b"]);
    assert_eq!(config.database().unwrap(), "shop");
    assert_eq!(config.postgres().unwrap(), "postgresql://user:secret@127.0.0.1:5432/app");
    assert_eq!(config.postgres_schema, "copy");
    assert!(config.schemas_dir.ends_with("files") && config.schemas_dir.is_absolute());
    assert_eq!((config.memory, config.load_workers), (64 << 20, 3));
    assert_eq!((config.swap_timeout, config.key_workers), (Duration::from_secs(20), 4));
    assert!(config.spool_dir.ends_with("aside") && config.spool_dir.is_absolute());
    assert_eq!((config.spool_limit, config.cache_uri.as_deref()), (64 << 20, Some("postgresql://c")));
    assert_eq!((config.verify_mode, config.max_repairs), (VerifyMode::Sample, 7));
    assert_eq!(config.metrics_listen, Some("127.0.0.1:9290".parse().unwrap()));
    let textfile = config.metrics_textfile.unwrap();
    assert!(textfile.ends_with("gizer.prom") && textfile.is_absolute());
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.oplogs, [("shard1".to_owned(), "mongodb://s1".to_owned())]);
}

#[test]
fn the_environment_is_over_the_file_and_the_command_line_over_both() {
    let environment = [("GIZER_POSTGRES_SCHEMA", "env"), ("GIZER_RUN_MEMORY", "1GiB"), ("GIZER_MONGO_URI", "m1 m2")];
    let config = read(FULL, &[("postgres-schema", "flag")], &environment).unwrap();
    assert_eq!(config.postgres_schema, "flag");
    assert_eq!(config.memory, 1 << 30);
    assert_eq!(config.mongo().unwrap().documents, ["m1", "m2"]);
    let config = read(FULL, &[("oplog-uri", "a=mongodb://x/?w=1"), ("oplog-uri", "b=mongodb://y")], &[]).unwrap();
    assert_eq!(config.oplogs[0], ("a".to_owned(), "mongodb://x/?w=1".to_owned()));
    assert_eq!(config.oplogs.len(), 2);
}

#[test]
fn defaults_are_those_of_the_help() {
    let config = read("", &[], &[]).unwrap();
    assert_eq!((config.postgres_schema.as_str(), config.memory, config.load_workers), ("public", 256 << 20, 2));
    assert!(config.schemas_dir.ends_with("schemas"));
    assert_eq!((config.swap_timeout, config.key_workers), (Duration::from_secs(300), 0));
    assert!(config.spool_dir.ends_with("spool"));
    assert_eq!((config.spool_limit, config.cache_uri), (1 << 30, None));
    assert_eq!((config.verify_mode, config.max_repairs), (VerifyMode::All, 1_000));
    assert_eq!((config.metrics_listen, config.metrics_textfile, config.log_format), (None, None, LogFormat::Text));
    let config = read("", &[], &[]).unwrap();
    let error = config.postgres().unwrap_err();
    assert_eq!(error.to_string(), "postgres.uri is not set");
    assert!(error.remedy.unwrap().contains("GIZER_POSTGRES_URI"));
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_without_secrets() {
    let cases: [(&str, &str); 6] = [
        ("[mongo]\nuri = 5\n", "line 2, column 7: expected a string or a list of strings"),
        ("[mongo]\nurl = \"x\"\n", "line 2, column 1: unknown field `url`, expected one of `uri`, `database`"),
        ("[mogno]\n", "line 1, column 2: unknown field `mogno`"),
        ("[postgres]\nuri = \"postgresql://u:secret@h\n", "line 2, column"),
        ("[run]\nmemory = \"lots\"\n", "line 2, column 10: expected a size such as 256MiB, got \"lots\""),
        ("[load]\nworkers = 0\n", "line 2, column 11: expected a number from 1 to 64"),
    ];
    for (text, expected) in cases {
        let error = read(text, &[], &[]).unwrap_err();
        assert_eq!(error.kind, FailureKind::Usage);
        assert!(error.message.contains(expected), "{text}\n{error}");
        assert!(!error.message.contains("secret"), "{error}");
    }
    let error = read("", &[], &[("GIZER_RUN_MEMORY", "1MiB")]).unwrap_err();
    assert_eq!(error.message, "GIZER_RUN_MEMORY: expected at least 32MiB, got \"1MiB\"");
    let error = read("", &[("load-spool-limit", "1000")], &[]).unwrap_err();
    assert_eq!(error.message, "--load-spool-limit: expected at least 32MiB, got \"1000\"");
    let error = read("", &[("verify-mode", "some")], &[]).unwrap_err();
    assert_eq!(error.message, "--verify-mode: expected all, sample or off, got \"some\"");
    let error = read("", &[("verify-max-repairs", "-1")], &[]).unwrap_err();
    assert_eq!(error.message, "--verify-max-repairs: expected a whole number from 0 on, got \"-1\"");
    let error = read("", &[("oplog-uri", "mongodb://u:secret@h/?a=b")], &[]).unwrap_err();
    assert!(!error.message.contains("secret"), "{error}");
}

/// A connection string is easily put under the wrong name, and must not be shown there either.
#[test]
fn a_uri_in_the_wrong_place_is_not_shown() {
    let texts = [
        "postgres = \"postgresql://user:secret@h/db\"",
        "mongo = \"mongodb://u:secret@h\"",
        "cache = \"postgresql://user:secret@h/db\"",
        "oplog = \"mongodb://u:secret@h\"",
        "[run]\nmemory = \"mongodb://u:secret@h\"",
        "[load]\nworkers = \"u:secret@h\"",
        "[load]\nswap_timeout = \"u:secret@h\"",
        "[load]\nspool_limit = \"u:secret@h\"",
        "[verify]\nmode = \"mongodb://u:secret@h\"",
        "\"postgresql://user:secret@h/db\" = 1",
        "[mongo]\n\"mongodb://u:secret@h\" = 1",
        "[mongo]\n\"mongodb://u:se`secret@h\" = 1",
        "[mongo.\"mongodb://u:secret@h\"]\nx = 1",
        "oplog = [\"mongodb://u:secret@h\"]",
        "mongodb://u:secret@h",
        "[mongo]\nuri = mongodb://u:secret@h",
        "[mongo]\nuri = \"mongodb://u:secret@h\"\nuri = \"mongodb://u:secret@h\"",
        "[mongo]\n\"mongodb://u:secret@h\" = 1\n\"mongodb://u:secret@h\" = 1",
    ];
    for text in texts {
        let error = read(text, &[], &[]).unwrap_err();
        assert!(!error.message.contains("secret"), "{text}\n{error}");
        assert!(error.message.contains("line ") && error.message.contains(": "), "{error}");
    }
    for name in ["GIZER_RUN_MEMORY", "GIZER_LOAD_WORKERS", "GIZER_LOAD_SWAP_TIMEOUT", "GIZER_VERIFY_MODE"] {
        let error = read("", &[], &[(name, "mongodb://u:secret@h")]).unwrap_err();
        assert!(!error.message.contains("secret"), "{error}");
        assert!(error.message.starts_with(name), "{error}");
    }
}

#[test]
fn a_database_in_the_path_of_the_uri_is_mentioned_and_not_taken() {
    let remedy = |uri: &str| {
        let error = read("", &[("mongo-uri", uri)], &[]).unwrap().database().unwrap_err();
        assert_eq!(error.to_string(), "mongo.database is not set");
        error.remedy.unwrap()
    };
    for uri in ["mongodb://h/shop", "mongodb://u:secret@h,i:2/shop?w=1"] {
        let said = remedy(uri);
        assert!(said.contains("--mongo-database shop") && !said.contains("secret"), "{said}");
    }
    for uri in ["mongodb://h", "mongodb://h/", "mongodb://h/?w=1", "mongodb://u:sec/ret@h/shop"] {
        let said = remedy(uri);
        assert!(!said.contains("the path") && !said.contains("sec"), "{said}");
    }
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let error = Config::read(Some(Path::new("no/such.toml")), |_| Vec::new(), |_| None).unwrap_err();
    assert!(error.message.contains("cannot read the config file no/such.toml"), "{error}");
}

#[test]
fn passwords_stand_in_files_and_the_environment_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gizer.toml");
    let text = "[mongo]\nuri = [\"mongodb://u@h\", \"mongodb://u:own@i\"]\npassword_file = \"m\"\n\
                [postgres]\nuri = \"postgresql://u@h/d\"\npassword_file = \"p\"\n\
                [cache]\nuri = \"postgresql://c@h/d\"\n[[oplog]]\nname = \"s\"\nuri = \"mongodb://u@s\"\n";
    for (name, content) in [("gizer.toml", text), ("m", "of-file\n"), ("p", "of-file\n"), ("other", "of-flag\n")] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let read = |flags: &[(&str, String)], environment: &[(&str, &str)]| {
        Config::read(
            Some(&path),
            |setting| flags.iter().filter(|f| f.0 == setting.flag()).map(|f| f.1.clone()).collect(),
            |variable| environment.iter().find(|v| v.0 == variable).map(|v| v.1.to_owned()),
        )
        .unwrap()
    };
    let config = read(&[], &[("GIZER_CACHE_PASSWORD", "of env"), ("GIZER_POSTGRES_PASSWORD", "of-env")]);
    let uris = config.mongo().unwrap();
    assert_eq!(uris.documents, ["mongodb://u:of%2Dfile@h", "mongodb://u:own@i"]);
    assert_eq!(uris.oplogs, [("s".to_owned(), "mongodb://u:of%2Dfile@s".to_owned())]);
    assert_eq!(config.postgres().unwrap(), "postgresql://u:of%2Denv@h/d", "the environment is over the file");
    assert_eq!(config.cache().unwrap().unwrap(), "postgresql://c:of%20env@h/d");
    assert!(!format!("{config:?} {uris:?}").contains("of-env"));

    let flag = [("postgres-password-file", folder.path().join("other").display().to_string())];
    let config = read(&flag, &[("GIZER_POSTGRES_PASSWORD", "of-env")]);
    assert_eq!(config.postgres().unwrap(), "postgresql://u:of%2Dflag@h/d", "a flag is over the environment");

    std::fs::write(&path, "[postgres]\nuri = \"postgresql://u:own@h/d\"\n").unwrap();
    let error = read(&[], &[("GIZER_POSTGRES_PASSWORD", "of-env")]).postgres().unwrap_err();
    assert!(error.message.contains("GIZER_POSTGRES_PASSWORD is set, and postgres.uri does not name"), "{error}");
    std::fs::write(&path, "[cache]\npassword_file = \"x\"\n").unwrap();
    let error = Config::read(Some(&path), |_| Vec::new(), |_| None).unwrap_err();
    assert!(error.message.contains("[cache] has settings, and no uri"), "{error}");
}
