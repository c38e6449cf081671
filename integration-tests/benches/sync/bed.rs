//! The private servers, and what is set up on them.

use std::ops::Deref;

use bson::RawDocumentBuf;
use gizer_schema::Layout;
use integration_tests::bench::{self, Result, fill_orders};
use integration_tests::rig::{Gizer, Mongod};
use mongodb::{Collection, Database};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::options::Options;

/// For a transaction that is held in the cache as a whole.
const BIG_CACHE_GB: f64 = 4.0;

/// What a transaction has changed stays in the cache until it is committed. As it is set up otherwise, mongod gives up one
/// that has changed more than a fifth of the cache.
const BIG_CACHE: &str =
    "eviction_dirty_target=70,eviction_dirty_trigger=90,eviction_updates_target=70,eviction_updates_trigger=90";

/// Everything that a run writes stays in the oplog.
const OPLOG_MB: u32 = 8_192;

/// Settings that are shown with the figures.
const SHOWN: &[&str] = &[
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_compression",
    "max_wal_size",
    "checkpoint_timeout",
    "shared_buffers",
    "work_mem",
    "temp_buffers",
    "autovacuum",
];

/// The servers, and copies of what was loaded.
#[derive(Debug)]
pub(crate) struct Bed {
    servers: bench::Bed,
    history: u32,
}

impl Deref for Bed {
    type Target = bench::Bed;

    fn deref(&self) -> &bench::Bed {
        &self.servers
    }
}

/// What gizer compares before it commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    Off,
    All,
}

impl Bed {
    /// Starts both.
    ///
    /// # Errors
    /// The rig's.
    pub(crate) async fn start(options: &Options) -> Result<Bed> {
        let cache_gb = if options.big_transaction.is_some() { BIG_CACHE_GB } else { bench::Bed::CACHE_GB };
        let mut mongod = Mongod::builder(options.mongod)
            .oplog_mb(OPLOG_MB)
            .set_parameter("minSnapshotHistoryWindowInSeconds", &options.history.to_string())
            .set_parameter("transactionLifetimeLimitSeconds", "3600");
        if options.big_transaction.is_some() {
            mongod = mongod.arg("--wiredTigerEngineConfigString").arg(BIG_CACHE);
        }
        let servers = bench::Bed::start(mongod, cache_gb, &options.postgres, String::new()).await?;
        Ok(Bed { servers, history: options.history })
    }

    /// An empty database in each server, both of this name, and a gizer between them.
    ///
    /// # Errors
    /// The rig's.
    pub(crate) async fn scene(&self, name: &str) -> Result<Scene> {
        self.postgres.create_database_named(name).await?;
        let client = self.mongod.client().await?;
        let gizer = self.servers.gizer(name, name, "")?;
        Ok(Scene { name: name.to_owned(), source: client.database(name), gizer })
    }

    /// A copy of everything that is in the scene's PostgreSQL database, state tables included, written to disk.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn copy(&self, scene: &Scene, name: &str, verify: Verify) -> Result<Copy> {
        let client = self.postgres.client("postgres").await?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {}", scene.name)).await?;
        let schemas = scene.gizer.folder().join("schemas").to_string_lossy().into_owned();
        let mode = if verify == Verify::Off { "off" } else { "all" };
        let config = format!("[schemas]\ndir = {}\n[verify]\nmode = \"{mode}\"\n", Value::from(schemas));
        let gizer = self.servers.gizer(&scene.name, name, &config)?;
        let target = self.postgres.client(name).await?;
        target.batch_execute("CHECKPOINT").await?;
        Ok(Copy { target, gizer })
    }

    /// Versions and settings of both servers, by name.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn json(&self) -> Result<Value> {
        let mut servers = self.servers.json(SHOWN).await?;
        servers["mongod"]["history_s"] = json!(self.history);
        Ok(servers)
    }
}

/// A source, and the PostgreSQL database that it is loaded into.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) name: String,
    pub(crate) source: Database,
    pub(crate) gizer: Gizer,
}

impl Scene {
    /// A collection of the source.
    pub(crate) fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        self.source.collection(name)
    }

    /// Fills in orders and loads them.
    ///
    /// # Errors
    /// The servers', gizer's.
    pub(crate) async fn load_orders(&self, bed: &Bed, orders: u64) -> Result<()> {
        fill_orders(&self.source, 0..orders).await?;
        self.load(bed).await
    }

    /// Infers the schemas and loads what is in the source. Afterwards the tables are as on a server that has had the time to
    /// vacuum and analyse them.
    ///
    /// # Errors
    /// The servers', gizer's.
    pub(crate) async fn load(&self, bed: &Bed) -> Result<()> {
        for args in [&["schema", "infer"][..], &["load"]] {
            let finished = self.gizer.run(args).await?;
            if finished.code() != Some(0) {
                return Err(format!("gizer {} failed: {}{}", args.join(" "), finished.stdout, finished.stderr).into());
            }
        }
        let client = bed.postgres.client(&self.name).await?;
        Ok(client.batch_execute("VACUUM ANALYZE").await?)
    }

    /// The tables that follow from the schema file that gizer has inferred.
    ///
    /// # Errors
    /// If there is none, or a wrong one.
    pub(crate) fn layout(&self, collection: &str) -> Result<Layout> {
        bench::layout(&self.gizer, collection)
    }
}

/// A copy of a scene's PostgreSQL database, and a gizer that brings it up to date.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) target: Client,
    pub(crate) gizer: Gizer,
}
