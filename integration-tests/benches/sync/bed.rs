//! The private servers, and what is set up on them.

use std::fs;

use bson::RawDocumentBuf;
use gizer_schema::{Layout, file};
use integration_tests::rig::{Gizer, Mongod, Postgres};
use integration_tests::shop::{Shop, fill};
use mongodb::{Collection, Database};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::Result;
use crate::options::Options;
use crate::usage::Servers;

/// Seed of all shops here: the same orders in every run.
pub(crate) const SEED: u64 = 1;

/// mongod's cache. The rig's own is so small that reading would measure how it is refilled.
const CACHE_GB: f64 = 1.0;

/// For a transaction that is held in the cache as a whole.
const BIG_CACHE_GB: f64 = 4.0;

/// What a transaction has changed stays in the cache until it is committed. As it is set up otherwise, mongod gives up one
/// that has changed more than a fifth of the cache.
const BIG_CACHE: &str =
    "eviction_dirty_target=70,eviction_dirty_trigger=90,eviction_updates_target=70,eviction_updates_trigger=90";

/// Everything that a run writes stays in the oplog.
const OPLOG_MB: u32 = 8_192;

/// Settings of PostgreSQL that differ from the rig's, before those of the command line.
const POSTGRES: &[(&str, &str)] = &[
    // PostgreSQL's own default; the rig makes do with less.
    ("shared_buffers", "128MB"),
    // What one measurement leaves would be vacuumed during the next.
    ("autovacuum", "off"),
];

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

/// One mongod, a replica set of its own, and one PostgreSQL.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) mongod: Mongod,
    pub(crate) postgres: Postgres,
    cache_gb: f64,
    history: u32,
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
        let settings = POSTGRES.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let mut postgres = Postgres::builder().durable();
        // Of a setting that is given twice, the server takes the last.
        for (name, value) in settings.chain(options.postgres.iter().cloned()) {
            postgres = postgres.setting(&name, &value);
        }
        let cache_gb = if options.big_transaction.is_some() { BIG_CACHE_GB } else { CACHE_GB };
        let mut mongod = Mongod::builder(options.mongod)
            .cache_gb(cache_gb)
            .oplog_mb(OPLOG_MB)
            .set_parameter("minSnapshotHistoryWindowInSeconds", &options.history.to_string())
            .set_parameter("transactionLifetimeLimitSeconds", "3600");
        if options.big_transaction.is_some() {
            mongod = mongod.arg("--wiredTigerEngineConfigString").arg(BIG_CACHE);
        }
        let (mongod, postgres) = tokio::try_join!(mongod.start(), postgres.start())?;
        Ok(Bed { mongod, postgres, cache_gb, history: options.history })
    }

    /// The processes to be watched.
    ///
    /// # Errors
    /// If one has ended.
    pub(crate) fn servers(&self) -> Result<Servers> {
        let gone = "expected both servers to be running";
        Ok(Servers { mongod: self.mongod.pid().ok_or(gone)?, postgres: self.postgres.pid().ok_or(gone)? })
    }

    /// An empty database in each server, both of this name, and a gizer between them.
    ///
    /// # Errors
    /// The rig's.
    pub(crate) async fn scene(&self, name: &str) -> Result<Scene> {
        self.postgres.create_database_named(name).await?;
        let client = self.mongod.client().await?;
        let gizer = self.gizer(name, name, None)?;
        Ok(Scene { name: name.to_owned(), source: client.database(name), gizer })
    }

    fn gizer(&self, source: &str, target: &str, copy: Option<(&Scene, Verify)>) -> Result<Gizer> {
        let mut config = format!(
            "[mongo]\nuri = {}\ndatabase = {}\n[postgres]\nuri = {}\n",
            Value::from(self.mongod.uri()),
            Value::from(source),
            Value::from(self.postgres.uri(target)),
        );
        if let Some((scene, verify)) = copy {
            let schemas = scene.gizer.folder().join("schemas").to_string_lossy().into_owned();
            let mode = if verify == Verify::Off { "off" } else { "all" };
            config.push_str(&format!("[schemas]\ndir = {}\n[verify]\nmode = \"{mode}\"\n", Value::from(schemas)));
        }
        Ok(Gizer::with_config(&config)?.limit(crate::gizer::LIMIT))
    }

    /// A copy of everything that is in the scene's PostgreSQL database, state tables included, written to disk.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn copy(&self, scene: &Scene, name: &str, verify: Verify) -> Result<Copy> {
        let client = self.postgres.client("postgres").await?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {}", scene.name)).await?;
        let gizer = self.gizer(&scene.name, name, Some((scene, verify)))?;
        let target = self.postgres.client(name).await?;
        target.batch_execute("CHECKPOINT").await?;
        Ok(Copy { target, gizer })
    }

    /// Versions and settings of both servers, by name.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn json(&self) -> Result<Value> {
        let client = self.postgres.client("postgres").await?;
        let mut settings = json!({});
        for name in SHOWN {
            let row = client.query_one(&format!("SHOW {name}"), &[]).await?;
            settings[name] = row.get::<_, String>(0).into();
        }
        Ok(json!({
            "postgres": settings,
            "mongod": {
                "version": self.mongod.version().full(), "cache_gb": self.cache_gb, "members": 1,
                "history_s": self.history,
            },
        }))
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
        fill(&self.collection("orders"), Shop::new(SEED).orders(0..orders), |_| ()).await?;
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
        let path = self.gizer.folder().join(format!("schemas/{collection}.json"));
        let schema = file::parse(collection, &fs::read_to_string(path)?)?;
        Ok(Layout::new(&schema)?)
    }
}

/// A copy of a scene's PostgreSQL database, and a gizer that brings it up to date.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) target: Client,
    pub(crate) gizer: Gizer,
}

impl Copy {
    /// Bytes of log that PostgreSQL has written since it was set up.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn wal_bytes(&self) -> Result<u64> {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        let bytes: i64 = self.target.query_one(sql, &[]).await?.get(0);
        Ok(u64::try_from(bytes)?)
    }
}
