//! The configuration: `gizer.toml`, over it the environment, over that the command line.
//!
//! Every setting has one name in three forms: `key` under `[section]` in the file, `GIZER_<SECTION>_<KEY>` in the
//! environment, `--<section>-<key>` on the command line. [`SETTINGS`] is the one list of them; flags, environment and
//! their help follow from it. The file's form is [`file::File`]; an INI file of the classic tool is read into the same form
//! ([`Ini`]). [`Effective`] remembers where each value came from.

mod classic;
mod convert;
mod effective;
mod engine;
mod environment;
pub mod file;
mod origin;
mod password;
mod redact;
mod setting_types;
mod settings;
mod values;
mod warnings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gizer_engine::evolve::EvolveSettings;
use gizer_engine::{FixedServers, Settings};
use gizer_oplog::SecretUri;
use glob::Pattern;
use percent_encoding::percent_decode_str;

use crate::exit::Failure;
pub use classic::{ClassicSections, Ini};
pub use convert::converted;
pub use effective::Effective;
pub use environment::{nearest_of, unknown_variables};
use file::File;
pub use origin::{SettingOrigin, SettingOrigins};
pub use password::{Password, PasswordSource};
pub use redact::{STARS as HIDDEN_PASSWORD, without_password};
use setting_types::{EvolvePolicy, InferPolicy, LogFormat, LostPosition, VerifyMode};
pub use settings::{SETTINGS, Setting};
pub use values::values;

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "gizer.toml";

/// Names the section of a classic file that tables are written by.
pub const POSTGRES_SECTION_VARIABLE: &str = "GIZER_PSQL_SECTION";

/// Names the section of a classic file that becomes `[cache]`.
pub const CACHE_SECTION_VARIABLE: &str = "GIZER_CACHE_SECTION";

/// The effective configuration, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where documents are read; one per shard where there is no router. Without passwords that are elsewhere: see
    /// [`Config::mongo`].
    pub mongo_uris: Vec<String>,
    /// The password of `mongo_uris` and `oplogs`, where it is not in them.
    pub mongo_password: PasswordSource,
    /// The database whose collections are copied.
    pub mongo_database: Option<String>,
    /// Where tables are written; see [`Config::postgres`].
    pub postgres_uri: Option<String>,
    /// The password of `postgres_uri`, where it is not in it.
    pub postgres_password: PasswordSource,
    /// The PostgreSQL schema of the tables.
    pub postgres_schema: String,
    /// Oplog sources by name; empty: each of `mongo_uris` is its own. See [`Config::mongo`].
    pub oplogs: Vec<(String, String)>,
    /// Where the schema files are.
    pub schemas_dir: PathBuf,
    /// For which collections `gizer run` makes schema files.
    pub infer: InferPolicy,
    /// What `gizer run` does where a position is lost.
    pub lost_position: LostPosition,
    /// When schemas grow.
    pub evolve: EvolvePolicy,
    /// In how many documents a field must be to get a column.
    pub evolve_documents: u64,
    /// Or in how many percent of the documents, if those are fewer.
    pub evolve_percent: u64,
    /// How often a schema grows by itself at most.
    pub evolve_every: Duration,
    /// The collections that may be copied; none: all.
    pub include: Vec<Pattern>,
    /// The collections that are not, also of those that are included.
    pub exclude: Vec<Pattern>,
    /// Bytes that may be in use between the stages.
    pub memory: usize,
    /// How long a command that does not stay on tries again after a failure that passes, once it has begun.
    pub retry_for: Duration,
    /// Threads that flatten, and connections that write, during a load.
    pub load_workers: usize,
    /// Parallel workers that PostgreSQL may take for each key, in addition to the connections that build keys.
    pub key_workers: u32,
    /// How long finished tables wait for readers of the live ones.
    pub swap_timeout: Duration,
    /// Where the oplog is spooled during a load, unless in a second PostgreSQL.
    pub spool_dir: PathBuf,
    /// The most bytes that are spooled of each shard's oplog.
    pub spool_limit: u64,
    /// The second PostgreSQL, if there is one; see [`Config::cache`].
    pub cache_uri: Option<String>,
    /// The password of `cache_uri`, where it is not in it.
    pub cache_password: PasswordSource,
    /// A collection of which PostgreSQL refuses more documents than this in one run of following is failing.
    pub max_rejects: u64,
    /// What is to be read back and compared before each commit.
    pub verify_mode: VerifyMode,
    /// A collection of which more documents than this have to be repaired in one run of following is reloaded.
    pub max_repairs: u64,
    /// Where metrics are served while following.
    pub metrics_listen: Option<SocketAddr>,
    /// The file into which each run writes metrics.
    pub metrics_textfile: Option<PathBuf>,
    /// The form of the log.
    pub log_format: LogFormat,
}

impl Config {
    /// Reads the configuration.
    ///
    /// `named` is the file of `--config`; `flags` gives the value of a setting on the command line, `environment` that
    /// of a variable.
    ///
    /// # Errors
    /// [`Failure`] of kind [`Usage`](crate::exit::FailureKind::Usage): the file cannot be read or is not TOML (with
    /// line and column), a section or key is not known, a value is not of its setting's form (naming its source).
    pub fn read(
        named: Option<&Path>,
        flags: impl Fn(&Setting) -> Vec<String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, Failure> {
        Ok(Effective::read(named, &ClassicSections::default(), flags, environment)?.config)
    }

    fn from_file(file: File, folder: &Path) -> Config {
        let in_file =
            |path: Option<PathBuf>| path.map_or(PasswordSource::None, |path| PasswordSource::File(folder.join(path)));
        let (cache, evolve) = (file.cache.unwrap_or_default(), EvolveSettings::default());
        Config {
            mongo_password: in_file(file.mongo.password_file),
            postgres_password: in_file(file.postgres.password_file),
            cache_password: in_file(cache.password_file),
            mongo_uris: file.mongo.uri.map(file::OneOrMore::into_vec).unwrap_or_default(),
            mongo_database: file.mongo.database,
            postgres_uri: file.postgres.uri,
            postgres_schema: file.postgres.schema.unwrap_or_else(|| "public".to_owned()),
            oplogs: file.oplog.into_iter().map(|oplog| (oplog.name, oplog.uri)).collect(),
            schemas_dir: folder.join(file.schemas.dir.unwrap_or_else(|| PathBuf::from("schemas"))),
            infer: file.schemas.infer.unwrap_or_default(),
            evolve: file.schemas.evolve.unwrap_or_default(),
            evolve_documents: file.schemas.evolve_documents.map_or(evolve.documents, |count| count.0),
            evolve_percent: file.schemas.evolve_percent.map_or(evolve.percent, |percent| percent.0),
            evolve_every: file.schemas.evolve_every.map_or(evolve.every, |time| time.0),
            include: file.schemas.include.unwrap_or_default().0,
            exclude: file.schemas.exclude.unwrap_or_default().0,
            memory: file.run.memory.map_or(Settings::DEFAULT_MEMORY, |memory| memory.0),
            lost_position: file.run.lost_position.unwrap_or_default(),
            retry_for: file.run.retry_for.map_or(Settings::DEFAULT_RETRY_FOR, |time| time.0),
            load_workers: file.load.workers.map_or(Settings::DEFAULT_LOAD_WORKERS, |workers| workers.0),
            key_workers: file.load.key_workers.map_or(0, u32::from),
            swap_timeout: file.load.swap_timeout.map_or(Settings::DEFAULT_SWAP_TIMEOUT, |time| time.0),
            spool_dir: folder.join(file.load.spool_dir.unwrap_or_else(|| PathBuf::from("spool"))),
            spool_limit: file.load.spool_limit.map_or(FixedServers::DEFAULT_SPOOL_LIMIT, |limit| limit.0),
            cache_uri: cache.uri,
            max_rejects: file.follow.max_rejects.map_or(Settings::DEFAULT_MAX_REJECTS, |count| count.0),
            verify_mode: file.verify.mode.unwrap_or_default(),
            max_repairs: file.verify.max_repairs.map_or(Settings::DEFAULT_MAX_REPAIRS, |count| count.0),
            metrics_listen: file.metrics.listen.map(|address| address.0),
            metrics_textfile: file.metrics.textfile.map(|path| folder.join(path)),
            log_format: file.log.format.unwrap_or_default(),
        }
    }

    /// The name of the MongoDB database.
    ///
    /// # Errors
    /// [`Failure`] if it is not set.
    pub fn database(&self) -> Result<&str, Failure> {
        self.mongo_database.as_deref().ok_or_else(|| {
            let missing = missing("mongo", "database");
            match self.mongo_uris.iter().find_map(|uri| database_of_path(uri)) {
                // There it says where the user is known; taking it for more would be a guess.
                Some(name) => missing.remedy(format!(
                    "the path of mongo.uri (/{name}) only names the database to log in to; if the collections are in \
                     it too, put `database = {name:?}` under [mongo] in {DEFAULT_FILE}, set GIZER_MONGO_DATABASE, or \
                     give --mongo-database {name}"
                )),
                None => missing,
            }
        })
    }

    /// Where documents and oplogs are read, with passwords.
    ///
    /// # Errors
    /// [`Failure`] if no URI is set, or a password that is set elsewhere cannot be read or is wanted by none.
    pub fn mongo(&self) -> Result<MongoUris, Failure> {
        if self.mongo_uris.is_empty() {
            return Err(missing("mongo", "uri"));
        }
        let mut uris = MongoUris { documents: self.mongo_uris.clone(), oplogs: self.oplogs.clone() };
        let MongoUris { documents, oplogs } = &mut uris;
        self.mongo_password.put_into("mongo", documents.iter_mut().chain(oplogs.iter_mut().map(|(_, uri)| uri)))?;
        Ok(uris)
    }

    /// Where tables are written, with the password.
    ///
    /// # Errors
    /// [`Failure`] if no URI is set, or a password that is set elsewhere cannot be read or is not wanted.
    pub fn postgres(&self) -> Result<String, Failure> {
        let mut uri = self.postgres_uri.clone().ok_or_else(|| missing("postgres", "uri"))?;
        self.postgres_password.put_into("postgres", [&mut uri])?;
        Ok(uri)
    }

    /// The second PostgreSQL with its password, if there is one.
    ///
    /// # Errors
    /// [`Failure`] if a password that is set elsewhere cannot be read or is not wanted.
    pub fn cache(&self) -> Result<Option<String>, Failure> {
        let Some(mut uri) = self.cache_uri.clone() else { return Ok(None) };
        self.cache_password.put_into("cache", [&mut uri])?;
        Ok(Some(uri))
    }

    /// Where the password of each section is.
    fn passwords(&self) -> [(&'static str, &PasswordSource); 3] {
        let sources = [&self.mongo_password, &self.postgres_password, &self.cache_password];
        std::array::from_fn(|at| (password::SECTIONS[at], sources[at]))
    }

    /// The sections whose password is in the environment, with the names of the variables.
    pub fn passwords_of_environment(&self) -> Vec<(&'static str, String)> {
        let all = self.passwords().into_iter();
        let of_environment = all.filter(|(_, source)| matches!(source, PasswordSource::Variable(_)));
        of_environment.map(|(section, _)| (section, password::variable(section))).collect()
    }

    /// The passwords of the environment, which are over files that the environment or a file names, and under those of flags.
    fn take_passwords(&mut self, environment: impl Fn(&str) -> Option<String>, origins: &SettingOrigins) {
        let sources = [&mut self.mongo_password, &mut self.postgres_password, &mut self.cache_password];
        for (section, source) in password::SECTIONS.into_iter().zip(sources) {
            let by_flag = matches!(origins.of(&format!("{section}-password-file")), SettingOrigin::Flag(_));
            let set = environment(&password::variable(section)).filter(|text| !text.is_empty() && !by_flag);
            if let Some(text) = set {
                *source = PasswordSource::Variable(Password::new(text));
            }
        }
    }
}

/// The section whose password the connection strings of a setting take.
fn password_section(setting: &Setting) -> &'static str {
    if setting.section == "oplog" { "mongo" } else { setting.section }
}

/// Connection strings of MongoDB. Their `Debug` form does not show them.
pub struct MongoUris {
    /// Where documents are read.
    pub documents: Vec<String>,
    /// Oplogs by name.
    pub oplogs: Vec<(String, String)>,
}

impl std::fmt::Debug for MongoUris {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MongoUris").finish_non_exhaustive()
    }
}

/// The database in the path of a MongoDB URI; nothing where it could be part of a password that is not encoded.
fn database_of_path(uri: &str) -> Option<String> {
    SecretUri::parse(uri).ok()?;
    let (_, path) = uri.split_once("://")?.1.split_once('/')?;
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let name = percent_decode_str(path).decode_utf8().ok()?;
    let usable = !name.is_empty() && !name.contains(|c: char| "@:/\\\"$ ".contains(c) || c.is_control());
    usable.then(|| name.into_owned())
}

fn missing(section: &str, key: &str) -> Failure {
    let variable = format!("GIZER_{}_{}", section.to_uppercase(), key.to_uppercase());
    Failure::usage(format!("{section}.{key} is not set")).remedy(format!(
        "put `{key} = \"…\"` under [{section}] in {DEFAULT_FILE}, set {variable}, or give --{section}-{key}"
    ))
}

#[cfg(test)]
mod tests;
