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

/// mongod's cache. The rig's own is so small that a scan would measure how it is refilled.
const CACHE_GB: f64 = 1.0;

/// Settings of PostgreSQL that differ from the rig's, before those of the command line.
const POSTGRES: &[(&str, &str)] = &[
    // PostgreSQL's own default; the rig makes do with less.
    ("shared_buffers", "128MB"),
    // The tables of one round would be vacuumed during the next.
    ("autovacuum", "off"),
];

/// Settings that are shown with the figures.
const SHOWN: &[&str] = &[
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "wal_compression",
    "max_wal_size",
    "checkpoint_timeout",
    "shared_buffers",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "autovacuum",
];

/// One mongod, a replica set of its own, and one PostgreSQL.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) mongod: Mongod,
    pub(crate) postgres: Postgres,
    workers: u16,
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
        let mongod = Mongod::builder(options.mongod).cache_gb(CACHE_GB);
        let (mongod, postgres) = tokio::try_join!(mongod.start(), postgres.start())?;
        Ok(Bed { mongod, postgres, workers: options.workers })
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
        let config = format!(
            "[mongo]\nuri = {}\ndatabase = {}\n[postgres]\nuri = {}\n[load]\nworkers = {}\n",
            Value::from(self.mongod.uri()),
            Value::from(name),
            Value::from(self.postgres.uri(name)),
            self.workers,
        );
        Ok(Scene {
            source: self.mongod.client().await?.database(name),
            target: self.postgres.client(name).await?,
            gizer: Gizer::with_config(&config)?.limit(crate::gizer::LIMIT),
        })
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
                "version": self.mongod.version().full(), "cache_gb": CACHE_GB, "members": 1,
            },
        }))
    }
}

/// A source, a target, and gizer between them.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) source: Database,
    pub(crate) target: Client,
    pub(crate) gizer: Gizer,
}

impl Scene {
    /// A collection of the source.
    pub(crate) fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        self.source.collection(name)
    }

    /// Inserts the orders with these numbers.
    ///
    /// # Errors
    /// MongoDB's.
    pub(crate) async fn fill_orders(&self, numbers: std::ops::Range<u64>) -> Result<()> {
        fill(&self.collection("orders"), Shop::new(SEED).orders(numbers), |_| ()).await?;
        Ok(())
    }

    /// Runs `gizer schema infer`.
    ///
    /// # Errors
    /// What gizer says, if it fails.
    pub(crate) async fn infer(&self) -> Result<()> {
        let finished = self.gizer.run(["schema", "infer"]).await?;
        if finished.code() != Some(0) {
            return Err(format!("gizer schema infer failed: {}", finished.stderr).into());
        }
        Ok(())
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

    /// Ends what an earlier measurement left for PostgreSQL to do: a checkpoint begins the next one with an empty slate.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(crate) async fn settle(&self) -> Result<()> {
        Ok(self.target.batch_execute("CHECKPOINT").await?)
    }

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
