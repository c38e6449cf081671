//! The engine's environment: settings, stop and observer.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gizer_oplog::{Cluster, SecretUri};
use gizer_pg::{Session, Target};
use gizer_verify::ReadBack;

use crate::due::{InferPolicy, LostPosition};
use crate::evolve::EvolveSettings;
use crate::failure::Failure;
use crate::notice::Notice;
use crate::observer::{Event, NoObserver, Observer};
use crate::schema_files::SchemaFiles;
use crate::selection::Selection;
use crate::spool::SpoolSettings;
use crate::stop::Stop;

/// Environment of the engine; clones share it.
#[derive(Debug, Clone)]
pub struct Env {
    /// The settings.
    pub settings: Settings,
    /// Tells whether to stop.
    pub stop: Stop,
    /// Receives events.
    pub observer: Arc<dyn Observer>,
}

impl Env {
    /// An environment without stop and observer.
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

    /// Sends a notice to the observer.
    pub fn notice(&self, notice: &Notice) {
        self.observer.observe(Event::Notice(notice));
    }
}

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers.
    pub servers: Arc<dyn Servers>,
    /// The folder of schema files.
    pub schemas_dir: PathBuf,
    /// Which collections may get schema files by inference.
    pub infer: InferPolicy,
    /// What `run` does where a position is lost.
    pub lost_position: LostPosition,
    /// Which collections may be copied.
    pub selection: Selection,
    /// Bytes in flight between the stages.
    pub memory: usize,
    /// How long commands that end by themselves retry transient failures once started.
    pub retry_for: Duration,
    /// Number of flattening threads, and of writing connections, of a load.
    pub load_workers: usize,
    /// Parallel workers of PostgreSQL per key, besides the connections that build keys.
    pub key_workers: u32,
    /// How long a swap waits for readers of the live tables.
    pub swap_timeout: Duration,
    /// Folder for transactions too large for memory.
    pub spill_dir: PathBuf,
    /// Which writes are read back and compared before a commit.
    pub read_back: ReadBack,
    /// Limit of repaired documents per run and collection; beyond it the collection is reloaded.
    pub max_repairs: u64,
    /// Limit of documents refused per run and collection; beyond it the collection is failing.
    pub max_rejects: u64,
    /// How schemas grow.
    pub evolve: EvolveSettings,
}

impl Settings {
    /// Default of `memory`: two replies of 16 MiB in every stage.
    pub const DEFAULT_MEMORY: usize = 256 << 20;
    /// Default of `retry_for`.
    pub const DEFAULT_RETRY_FOR: Duration = Duration::from_secs(60);
    /// Default of `load_workers`.
    pub const DEFAULT_LOAD_WORKERS: usize = 2;
    /// Default of `swap_timeout`: longer than most reports run.
    pub const DEFAULT_SWAP_TIMEOUT: Duration = Duration::from_secs(300);
    /// Default of `max_repairs`: more than a person changes by mistake.
    pub const DEFAULT_MAX_REPAIRS: u64 = 1_000;
    /// Default of `max_rejects`: more than stray values, fewer than a misplaced constraint refuses.
    pub const DEFAULT_MAX_REJECTS: u64 = 1_000;

    /// Defaults for these servers, with schema files in `schemas` and spools in `spool` below a folder.
    pub fn new(servers: Arc<dyn Servers>, folder: impl Into<PathBuf>) -> Settings {
        let folder = folder.into();
        Settings {
            servers,
            schemas_dir: folder.join("schemas"),
            infer: InferPolicy::default(),
            lost_position: LostPosition::default(),
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
            evolve: EvolveSettings::default(),
        }
    }
}

/// Where to connect to. Called before each connection.
///
/// - **Fresh**: a changed password counts from the next connection on.
/// - **Errors** name the setting that is missing or wrong, and are of kind [`Usage`](crate::FailureKind::Usage).
pub trait Servers: fmt::Debug + Send + Sync {
    /// Where documents and oplogs are read.
    ///
    /// # Errors
    /// [`Failure`] if it is not set.
    fn source(&self) -> Result<gizer_oplog::MongoSettings, Failure>;

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

/// Servers known from the start.
#[derive(Debug, Clone)]
pub struct FixedServers {
    source: gizer_oplog::MongoSettings,
    spools: SpoolSettings,
}

impl FixedServers {
    /// Default limit of a spool: some hours of a busy small shop.
    pub const DEFAULT_SPOOL_LIMIT: u64 = 1 << 30;

    /// Servers from URIs: a MongoDB deployment and database, a PostgreSQL and the tables' schema,
    /// and the folder of spools.
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
        Ok(FixedServers { source: gizer_oplog::MongoSettings { uris, database, oplogs: Vec::new() }, spools })
    }
}

impl Servers for FixedServers {
    fn source(&self) -> Result<gizer_oplog::MongoSettings, Failure> {
        Ok(self.source.clone())
    }

    fn target(&self) -> Result<Target, Failure> {
        Ok(self.spools.target.clone())
    }

    fn spools(&self) -> Result<SpoolSettings, Failure> {
        Ok(self.spools.clone())
    }
}
