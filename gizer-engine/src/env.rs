//! What the engine works with: settings, whoever asks it to stop, and whoever observes it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gizer_oplog::{Cluster, SecretUri};
use gizer_pg::{Session, Target};
use gizer_verify::ReadBack;

use crate::due::InferPolicy;
use crate::failure::Failure;
use crate::notice::Notice;
use crate::observer::{Event, NoObserver, Observer};
use crate::schema_files::SchemaFiles;
use crate::selection::Selection;
use crate::spool::SpoolSettings;
use crate::stop::Stop;

/// What every part of the engine works with; clones are of the same.
#[derive(Debug, Clone)]
pub struct Env {
    /// What is copied, where to, and how.
    pub settings: Settings,
    /// Whether somebody wants it to stop.
    pub stop: Stop,
    /// Whoever wants to know what happens.
    pub observer: Arc<dyn Observer>,
}

impl Env {
    /// These settings; nobody asks it to stop, and nobody observes it.
    pub fn new(settings: Settings) -> Env {
        Env { settings, stop: Stop::never(), observer: Arc::new(NoObserver) }
    }

    /// Connects to MongoDB.
    ///
    /// # Errors
    /// [`Failure`] if it is not configured or cannot be reached.
    pub async fn mongo(&self) -> Result<Cluster, Failure> {
        Ok(Cluster::connect(self.settings.servers.source()?).await?)
    }

    /// Connects to PostgreSQL.
    ///
    /// # Errors
    /// [`Failure`] if it is not configured or cannot be reached.
    pub async fn postgres(&self) -> Result<Session, Failure> {
        Ok(gizer_pg::connect(&self.target()?).await?)
    }

    /// Where tables are written.
    ///
    /// # Errors
    /// [`Failure`] if it is not configured, or not a usable URI.
    pub fn target(&self) -> Result<Target, Failure> {
        self.settings.servers.target()
    }

    /// The folder of schema files.
    ///
    /// # Errors
    /// As [`SchemaFiles::open`].
    pub fn schema_files(&self) -> Result<SchemaFiles, Failure> {
        SchemaFiles::open(&self.settings.schemas_dir)
    }

    /// Says what a person may want to know.
    pub fn notice(&self, notice: &Notice) {
        self.observer.observe(Event::Notice(notice));
    }
}

/// What is copied, where to, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers.
    pub servers: Arc<dyn Servers>,
    /// The folder of schema files.
    pub schemas_dir: PathBuf,
    /// For which collections schema files may be made.
    pub infer: InferPolicy,
    /// Which collections may be copied.
    pub selection: Selection,
    /// Bytes that may be on their way between the stages.
    pub memory: usize,
    /// How long work that does not stay on is retried after a failure that passes, once it has begun.
    pub retry_for: Duration,
    /// Threads that flatten, and connections that write, during a load.
    pub load_workers: usize,
    /// Parallel workers that PostgreSQL may take for each key, besides the connections that build keys.
    pub key_workers: u32,
    /// How long finished tables wait for readers of the live ones.
    pub swap_timeout: Duration,
    /// Where transactions are spilled that do not fit into memory.
    pub spill_dir: PathBuf,
    /// What is read back and compared before each commit.
    pub read_back: ReadBack,
    /// A collection of which more documents than this have to be repaired in one run of following is reloaded.
    pub max_repairs: u64,
    /// A collection of which PostgreSQL refuses more documents than this in one run of following is failing.
    pub max_rejects: u64,
}

impl Settings {
    /// Bytes on their way, unless set: enough for two replies of 16 MiB in every stage.
    pub const DEFAULT_MEMORY: usize = 256 << 20;
    /// How long passing failures are retried, unless set.
    pub const DEFAULT_RETRY_FOR: Duration = Duration::from_secs(60);
    /// Workers of a load, unless set.
    pub const DEFAULT_LOAD_WORKERS: usize = 2;
    /// How long a swap waits, unless set: longer than most reports run.
    pub const DEFAULT_SWAP_TIMEOUT: Duration = Duration::from_secs(300);
    /// Repairs of a collection in one run, unless set: more than what a person with a client has changed by mistake.
    pub const DEFAULT_MAX_REPAIRS: u64 = 1_000;
    /// Refused documents of a collection in one run, unless set: more than a stray value or two, fewer than a constraint
    /// that fits nothing.
    pub const DEFAULT_MAX_REJECTS: u64 = 1_000;

    /// Defaults for these servers, with schema files in `schemas` and spools in `spool` below a folder.
    pub fn new(servers: Arc<dyn Servers>, folder: impl Into<PathBuf>) -> Settings {
        let folder = folder.into();
        Settings {
            servers,
            schemas_dir: folder.join("schemas"),
            infer: InferPolicy::default(),
            selection: Selection::default(),
            memory: Settings::DEFAULT_MEMORY,
            retry_for: Settings::DEFAULT_RETRY_FOR,
            load_workers: Settings::DEFAULT_LOAD_WORKERS,
            key_workers: 0,
            swap_timeout: Settings::DEFAULT_SWAP_TIMEOUT,
            spill_dir: folder.join("spool"),
            read_back: ReadBack::All,
            max_repairs: Settings::DEFAULT_MAX_REPAIRS,
            max_rejects: Settings::DEFAULT_MAX_REJECTS,
        }
    }
}

/// Where to connect to. Asked before each connection.
///
/// - **Fresh**: a password that has changed meanwhile is the new one from the next connection on.
/// - **Errors** name the setting that is missing or wrong, and are of kind [`Usage`](crate::FailureKind::Usage).
pub trait Servers: fmt::Debug + Send + Sync {
    /// Where documents and oplogs are read.
    ///
    /// # Errors
    /// [`Failure`] if it is not set.
    fn source(&self) -> Result<gizer_oplog::Settings, Failure>;

    /// Where tables are written.
    ///
    /// # Errors
    /// [`Failure`] if it is not set.
    fn target(&self) -> Result<Target, Failure>;

    /// Where the oplog is spooled during a load.
    ///
    /// # Errors
    /// [`Failure`] if it is not set.
    fn spools(&self) -> Result<SpoolSettings, Failure>;
}

/// Servers that are known from the start.
#[derive(Debug, Clone)]
pub struct FixedServers {
    source: gizer_oplog::Settings,
    spools: SpoolSettings,
}

impl FixedServers {
    /// Bytes that the spool of one oplog may take, unless set: some hours of what a busy small shop writes.
    pub const DEFAULT_SPOOL_LIMIT: u64 = 1 << 30;

    /// One MongoDB deployment and database, one PostgreSQL and the schema of its tables, and the folder of spools.
    ///
    /// # Errors
    /// [`Failure`] if a URI is not usable.
    pub fn new(
        (mongo, database): (&str, &str),
        (postgres, schema): (&str, &str),
        spool_dir: impl Into<PathBuf>,
    ) -> Result<FixedServers, Failure> {
        let (uris, database) = (vec![SecretUri::parse(mongo)?], database.to_owned());
        let spools = SpoolSettings {
            target: Target::parse(postgres, schema)?,
            database: database.clone(),
            cache: None,
            folder: spool_dir.into(),
            limit: FixedServers::DEFAULT_SPOOL_LIMIT,
        };
        Ok(FixedServers { source: gizer_oplog::Settings { uris, database, oplogs: Vec::new() }, spools })
    }
}

impl Servers for FixedServers {
    fn source(&self) -> Result<gizer_oplog::Settings, Failure> {
        Ok(self.source.clone())
    }

    fn target(&self) -> Result<Target, Failure> {
        Ok(self.spools.target.clone())
    }

    fn spools(&self) -> Result<SpoolSettings, Failure> {
        Ok(self.spools.clone())
    }
}
