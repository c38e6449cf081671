//! The INI file of the classic tool, read in the place of `gizer.toml`.
//!
//! Keys repeat the name of their section (`[psql] psql-host`), so that a file can be told from TOML by its content.

mod ini;
mod oplogs;
mod uris;

use std::path::{Path, PathBuf};

pub use ini::Ini;
use ini::{IniEntry, Section};
use uris::Login;

use super::environment::nearest_of;
use super::file::{CacheSection, File, OneOrMore};
use super::origin::{SettingOrigin, SettingOrigins};
use super::redact::shown;

/// Which sections of a classic file are the PostgreSQL connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassicSections {
    /// Where tables are written; `None`: `psql`.
    pub postgres: Option<String>,
    /// Becomes `[cache]`.
    pub cache: Option<String>,
}

/// What a classic file says, in gizer's own words.
#[derive(Debug)]
pub(super) struct ClassicReading {
    pub(super) file: File,
    pub(super) origins: SettingOrigins,
    pub(super) ini: Ini,
    /// What gizer has no need of, as a message names it.
    pub(super) ignored: Vec<String>,
}

const MISC: &str = "misc";
const PSQL: &str = "psql";
const MONGO: &str = "mongo";
const OPLOG: &str = "mongo-oplog";

/// Keys of `[misc]`, the first of which gizer needs.
const MISC_KEYS: [&str; 4] = ["schemas-dir", "logs-dir", "tmp-dir", "recovery-allowed"];

/// What follows the section's name in keys of PostgreSQL sections.
const PSQL_KEYS: [&str; 7] = ["host", "port", "dbname", "user", "pass", "schema-name", "operational-schema-name"];

/// What follows the section's name in keys of MongoDB sections.
const MONGO_KEYS: [&str; 7] = ["host", "port", "dbname", "user", "pass", "params", "ssl"];

/// Sections for the classic tool's own tests, and for its scratch database before that had keys of its own name.
const OTHER_SECTIONS: [&str; 2] = ["mongo-mock-data", "tmp-psql"];

/// Whether a file is one of the classic tool: by its name `*.ini`, or else by a section or key that only that has.
pub(super) fn is_classic(path: &Path, text: &str) -> bool {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("ini")) {
        return true;
    }
    let classic = |line: &str| {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let name = header.split(']').next().unwrap_or_default().trim();
            return name == MISC || name == PSQL || name.starts_with("psql-") || name.starts_with("mongo-");
        }
        line.starts_with("mongo-") && line.contains(['=', ':'])
    };
    text.lines().any(classic)
}

/// Reads a classic file. `folder` is where relative paths in it start: as for the classic tool the working directory.
///
/// # Errors
/// What is wrong, with its line, and never a value that may be secret.
pub(super) fn read(text: &str, path: &Path, folder: &Path, chosen: &ClassicSections) -> Result<ClassicReading, String> {
    let ini = Ini::parse(text)?;
    let postgres = chosen.postgres.as_deref().unwrap_or(PSQL).to_lowercase();
    let cache = chosen.cache.as_ref().map(|name| name.to_lowercase());
    for name in chosen.postgres.iter().chain(&chosen.cache) {
        if ini.section(&name.to_lowercase()).is_none() {
            return Err(format!("there is no section [{name}]"));
        }
    }
    let mut reader = ClassicReader {
        ini: &ini,
        path,
        file: File::default(),
        origins: SettingOrigins::default(),
        ignored: Vec::new(),
    };
    for section in ini.named_sections() {
        reader.check_names(section, &postgres, cache.as_deref())?;
    }
    reader.misc(folder);
    reader.mongo()?;
    reader.postgres(&postgres)?;
    if let Some(cache) = &cache {
        reader.cache(cache)?;
    }
    oplogs::read(&mut reader)?;
    let ClassicReader { file, origins, ignored, .. } = reader;
    Ok(ClassicReading { file, origins, ignored, ini })
}

struct ClassicReader<'i> {
    ini: &'i Ini,
    path: &'i Path,
    file: File,
    origins: SettingOrigins,
    ignored: Vec<String>,
}

impl ClassicReader<'_> {
    /// Whether all of a section's keys are known; those that gizer has no need of are noted.
    fn check_names(&mut self, section: &Section, postgres: &str, cache: Option<&str>) -> Result<(), String> {
        let name = section.name.as_str();
        let prefix = format!("{name}-");
        if name == MISC {
            self.check_keys(section, "", &MISC_KEYS, &MISC_KEYS[1..])
        } else if name == MONGO || is_oplog(name) {
            self.check_keys(section, &prefix, &MONGO_KEYS, &[])
        } else if name == postgres {
            self.check_keys(section, &prefix, &PSQL_KEYS, &["operational-schema-name"])
        } else if cache == Some(name) {
            // What is kept aside has a schema of its own.
            self.check_keys(section, &prefix, &PSQL_KEYS, &["schema-name", "operational-schema-name"])
        } else if name == PSQL || OTHER_SECTIONS.contains(&name) || has_form_of_psql(section, &prefix) {
            self.ignored.push(format!("[{name}]"));
            Ok(())
        } else {
            Err(unknown_section(section))
        }
    }

    fn check_keys(
        &mut self,
        section: &Section,
        prefix: &str,
        known: &[&str],
        without_need: &[&str],
    ) -> Result<(), String> {
        for entry in &section.entries {
            let own = entry.key.strip_prefix(prefix);
            if own.is_none_or(|own| !known.contains(&own)) {
                let known: Vec<String> = known.iter().map(|key| format!("{prefix}{key}")).collect();
                let near = nearest_of(&entry.key, &known).map(|near| format!("; did you mean {near}?"));
                let near = near.unwrap_or_default();
                let (line, key) = (entry.line, shown(&entry.key));
                return Err(format!("line {line}: unknown key {key} in [{}]{near}", section.name));
            }
            if own.is_some_and(|own| without_need.contains(&own)) {
                self.ignored.push(format!("[{}] {}", section.name, entry.key));
            }
        }
        Ok(())
    }

    fn misc(&mut self, folder: &Path) {
        if let Some(entry) = self.entry(MISC, "schemas-dir") {
            self.file.schemas.dir = Some(folder.join(PathBuf::from(&entry.value)));
            self.came_from("schemas-dir", MISC, &["schemas-dir"]);
        }
    }

    fn mongo(&mut self) -> Result<(), String> {
        let Some(section) = self.ini.section(MONGO) else { return Ok(()) };
        let (hosts, login) = self.member(section)?;
        self.file.mongo.uri = Some(OneOrMore::One(uris::mongodb(&hosts, &login)));
        self.came_from("mongo-uri", MONGO, &MONGO_KEYS.map(|key| format!("{MONGO}-{key}")));
        if self.entry(MONGO, "mongo-dbname").is_some() {
            self.file.mongo.database = Some(login.database);
            self.came_from("mongo-database", MONGO, &["mongo-dbname"]);
        }
        Ok(())
    }

    fn postgres(&mut self, name: &str) -> Result<(), String> {
        let Some(uri) = self.postgres_uri(name)? else { return Ok(()) };
        self.file.postgres.uri = Some(uri);
        self.uri_came_from("postgres-uri", name);
        let key = format!("{name}-schema-name");
        if let Some(entry) = self.entry(name, &key) {
            self.file.postgres.schema = Some(entry.value.clone());
            self.came_from("postgres-schema", name, &[key]);
        }
        Ok(())
    }

    fn cache(&mut self, name: &str) -> Result<(), String> {
        let Some(uri) = self.postgres_uri(name)? else { return Ok(()) };
        self.file.cache = Some(CacheSection { uri: Some(uri), password_file: None });
        self.uri_came_from("cache-uri", name);
        Ok(())
    }

    fn postgres_uri(&self, name: &str) -> Result<Option<String>, String> {
        let Some(section) = self.ini.section(name) else { return Ok(None) };
        let host = self.required(section, "host")?;
        let place = uris::place(&host.value, self.port(name)?).ok_or_else(|| not_a_host(host))?;
        let database = self.required(section, "dbname")?;
        let (user, password) = (self.text(name, "user"), self.text(name, "pass"));
        Ok(Some(uris::postgresql(&place, user, password, &database.value)))
    }

    /// The hosts of a MongoDB section, and how one logs in to them.
    fn member(&self, section: &Section) -> Result<(Vec<String>, Login), String> {
        let name = section.name.as_str();
        let (host, port) = (self.required(section, "host")?, self.port(name)?);
        let hosts = host.value.split(',').map(|host| uris::place(host.trim(), port));
        let hosts: Option<Vec<String>> = hosts.collect();
        let hosts = hosts.ok_or_else(|| not_a_host(host))?;
        let tls = match self.text(name, "ssl").to_lowercase().as_str() {
            "1" | "yes" | "true" | "on" => true,
            "" | "0" | "no" | "false" | "off" => false,
            other => return Err(self.wrong(name, "ssl", &format!("expected true or false, got {}", shown(other)))),
        };
        let options = self.text(name, "params").trim_start_matches(['?', '&']);
        if options.contains(['#', '@', '/']) && options.contains("://") {
            return Err(self.wrong(name, "params", "expected options such as w=majority&tls=true, got a URI"));
        }
        let login = Login {
            user: self.text(name, "user").to_owned(),
            password: self.text(name, "pass").to_owned(),
            database: self.text(name, "dbname").to_owned(),
            options: options.to_owned(),
            tls,
        };
        Ok((hosts, login))
    }

    /// An entry that says something.
    fn entry(&self, section: &str, key: &str) -> Option<&IniEntry> {
        self.ini.entry(section, key).filter(|entry| !entry.value.is_empty())
    }

    fn text(&self, section: &str, key: &str) -> &str {
        self.entry(section, &format!("{section}-{key}")).map_or("", |entry| entry.value.as_str())
    }

    fn required(&self, section: &Section, key: &str) -> Result<&IniEntry, String> {
        let key = format!("{}-{key}", section.name);
        let missing = || format!("line {}: [{}] lacks a value for {key}", section.line, section.name);
        self.entry(&section.name, &key).ok_or_else(missing)
    }

    fn port(&self, section: &str) -> Result<Option<u16>, String> {
        let text = self.text(section, "port");
        match text.parse() {
            _ if text.is_empty() => Ok(None),
            Ok(port @ 1..) => Ok(Some(port)),
            _ => {
                let problem = format!("expected a port from 1 to {}, got {}", u16::MAX, shown(text));
                Err(self.wrong(section, "port", &problem))
            }
        }
    }

    fn wrong(&self, section: &str, key: &str, problem: &str) -> String {
        let key = format!("{section}-{key}");
        let line = self.ini.entry(section, &key).map_or(0, |entry| entry.line);
        format!("line {line}: {key}: {problem}")
    }

    fn uri_came_from(&mut self, flag: &str, section: &str) {
        let keys = ["host", "port", "dbname", "user", "pass"].map(|key| format!("{section}-{key}"));
        self.came_from(flag, section, &keys);
    }

    /// Notes that a setting came from those of the keys that say something.
    fn came_from(&mut self, flag: &str, section: &str, keys: &[impl AsRef<str>]) {
        let entries: Vec<&IniEntry> = keys.iter().filter_map(|key| self.entry(section, key.as_ref())).collect();
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let line = entries.iter().map(|entry| entry.line).min();
        let of = Some(format!("[{section}] {}", keys.join(", ")));
        self.origins.set(flag, SettingOrigin::File { path: self.path.to_owned(), line, of });
    }
}

/// Whether a section could be used as a PostgreSQL connection.
fn has_form_of_psql(section: &Section, prefix: &str) -> bool {
    let fits = |entry: &IniEntry| entry.key.strip_prefix(prefix).is_some_and(|key| PSQL_KEYS.contains(&key));
    !section.entries.is_empty() && section.entries.iter().all(fits)
}

fn unknown_section(section: &Section) -> String {
    let known = [MISC, PSQL, MONGO, OPLOG].map(str::to_owned);
    let near = nearest_of(&section.name, &known).map(|near| format!("; did you mean [{near}]?")).unwrap_or_default();
    format!("line {}: unknown section {}{near}", section.line, shown(&section.name))
}

/// Whether a section is one of an oplog.
fn is_oplog(name: &str) -> bool {
    name == OPLOG || name.strip_prefix(OPLOG).is_some_and(|rest| rest.starts_with('-'))
}

fn not_a_host(entry: &IniEntry) -> String {
    format!("line {}: {}: expected the name or address of a host, without a scheme and a login", entry.line, entry.key)
}

#[cfg(test)]
mod tests;
