//! The values of settings as they are written.

use glob::Pattern;

use super::{Config, PasswordSource, Setting};

/// The value of a setting as the command line would take it. There is none if it is not set, and several for a list.
/// It may be secret.
pub fn values(config: &Config, setting: &Setting) -> Vec<String> {
    let one = |value: &Option<String>| value.iter().cloned().collect();
    let file = |source: &PasswordSource| source.file().iter().map(|path| path.display().to_string()).collect();
    match (setting.section, setting.key) {
        ("mongo", "password_file") => file(&config.mongo_password),
        ("postgres", "password_file") => file(&config.postgres_password),
        ("cache", "password_file") => file(&config.cache_password),
        ("mongo", "uri") => config.mongo_uris.clone(),
        ("mongo", "database") => one(&config.mongo_database),
        ("postgres", "uri") => one(&config.postgres_uri),
        ("postgres", "schema") => vec![config.postgres_schema.clone()],
        ("cache", "uri") => one(&config.cache_uri),
        ("schemas", "dir") => vec![config.schemas_dir.display().to_string()],
        ("schemas", "infer") => word(config.infer),
        ("schemas", "evolve") => word(config.evolve),
        ("schemas", "evolve_documents") => vec![config.evolve_documents.to_string()],
        ("schemas", "evolve_percent") => vec![config.evolve_percent.to_string()],
        ("schemas", "evolve_every") => vec![config.evolve_every.as_secs().to_string()],
        ("schemas", "include") => patterns(&config.include),
        ("schemas", "exclude") => patterns(&config.exclude),
        ("run", "memory") => vec![size(config.memory as u64)],
        ("run", "retry_for") => vec![config.retry_for.as_secs().to_string()],
        ("run", "lost_position") => word(config.lost_position),
        ("load", "workers") => vec![config.load_workers.to_string()],
        ("load", "key_workers") => vec![config.key_workers.to_string()],
        ("load", "swap_timeout") => vec![config.swap_timeout.as_secs().to_string()],
        ("load", "spool_dir") => vec![config.spool_dir.display().to_string()],
        ("load", "spool_limit") => vec![size(config.spool_limit)],
        ("follow", "max_rejects") => vec![config.max_rejects.to_string()],
        ("verify", "mode") => word(config.verify_mode),
        ("verify", "max_repairs") => vec![config.max_repairs.to_string()],
        ("metrics", "listen") => config.metrics_listen.iter().map(ToString::to_string).collect(),
        ("metrics", "textfile") => config.metrics_textfile.iter().map(|path| path.display().to_string()).collect(),
        ("log", "format") => word(config.log_format),
        ("oplog", "uri") => config.oplogs.iter().map(|(name, uri)| format!("{name}={uri}")).collect(),
        _ => Vec::new(),
    }
}

fn word(value: impl Into<&'static str>) -> Vec<String> {
    vec![value.into().to_owned()]
}

fn patterns(patterns: &[Pattern]) -> Vec<String> {
    patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()
}

/// In the largest unit of which it is a whole number.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::SETTINGS;
    use super::super::file::File;
    use super::*;

    /// A setting that is missing above would be shown as not set.
    #[test]
    fn every_setting_can_be_written_down_and_read_again() {
        for setting in SETTINGS {
            let given = match (setting.section, setting.key) {
                ("oplog", "uri") => vec!["a=mongodb://h".to_owned(), "b=mongodb://i".to_owned()],
                ("run", "memory") | ("load", "spool_limit") => vec!["1536MiB".to_owned()],
                ("schemas", "infer") => vec!["missing".to_owned()],
                ("schemas", "evolve") => vec!["ask".to_owned()],
                ("run", "lost_position") => vec!["stop".to_owned()],
                ("schemas", "include" | "exclude") => vec!["a*".to_owned(), "[!b]?".to_owned()],
                ("verify", "mode") => vec!["sample".to_owned()],
                ("metrics", "listen") => vec!["127.0.0.1:9290".to_owned()],
                ("log", "format") => vec!["json".to_owned()],
                (_, "dir" | "spool_dir" | "textfile" | "password_file") => vec!["/some/folder".to_owned()],
                ("mongo", "uri") => vec!["mongodb://h".to_owned(), "mongodb://i".to_owned()],
                _ => vec!["7".to_owned()],
            };
            let mut file = File::default();
            (setting.set)(&mut file, &given).unwrap();
            assert_eq!(values(&Config::from_file(file, Path::new("")), setting), given, "{}", setting.flag());
        }
        assert_eq!((size(33_554_433), size(0)), ("33554433".to_owned(), "0".to_owned()));
    }
}
