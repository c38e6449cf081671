//! The private servers, and what is set up on them.

use std::fs;

use bson::RawDocumentBuf;
use gizer_schema::{Layout, file};
use mongodb::{Collection, Database};
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{LIMIT, Result, SEED, Servers};
use crate::rig::{Gizer, Mongod, MongodBuilder, Postgres};
use crate::shop::{Shop, fill};

/// Settings of PostgreSQL that differ from the rig's, before those of the command line.
const POSTGRES: &[(&str, &str)] = &[
    // PostgreSQL's own default; the rig makes do with less.
    ("shared_buffers", "128MB"),
    // What one measurement leaves would be vacuumed during the next.
    ("autovacuum", "off"),
];

/// One mongod, a replica set of its own, and one PostgreSQL.
#[derive(Debug)]
pub struct Bed {
    /// The source.
    pub mongod: Mongod,
    /// The target, which is durable.
    pub postgres: Postgres,
    cache_gb: f64,
    config: String,
}

impl Bed {
    /// mongod's cache, unless a measurement needs more. The rig's own is so small that reading would measure how it is
    /// refilled.
    pub const CACHE_GB: f64 = 1.0;

    /// Starts both, PostgreSQL with these settings beside those that all benchmarks have. `config` is what each gizer's
    /// configuration has beside the servers.
    ///
    /// # Errors
    /// The rig's.
    pub async fn start(
        mongod: MongodBuilder,
        cache_gb: f64,
        settings: &[(String, String)],
        config: String,
    ) -> Result<Bed> {
        let own = POSTGRES.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let mut postgres = Postgres::builder().durable();
        // Of a setting that is given twice, the server takes the last.
        for (name, value) in own.chain(settings.iter().cloned()) {
            postgres = postgres.setting(&name, &value);
        }
        let (mongod, postgres) = tokio::try_join!(mongod.cache_gb(cache_gb).start(), postgres.start())?;
        Ok(Bed { mongod, postgres, cache_gb, config })
    }

    /// The processes to be watched.
    ///
    /// # Errors
    /// If one has ended.
    pub fn servers(&self) -> Result<Servers> {
        let gone = "expected both servers to be running";
        Ok(Servers { mongod: self.mongod.pid().ok_or(gone)?, postgres: self.postgres.pid().ok_or(gone)? })
    }

    /// A gizer from one database of MongoDB into one of PostgreSQL, with more lines of configuration.
    ///
    /// # Errors
    /// The rig's.
    pub fn gizer(&self, source: &str, target: &str, more: &str) -> Result<Gizer> {
        let config = format!(
            "[mongo]\nuri = {}\ndatabase = {}\n[postgres]\nuri = {}\n{}{more}",
            Value::from(self.mongod.uri()),
            Value::from(source),
            Value::from(self.postgres.uri(target)),
            self.config,
        );
        Ok(Gizer::with_config(&config)?.limit(LIMIT))
    }

    /// An empty database in each server, both of this name, and a gizer between them.
    ///
    /// # Errors
    /// The rig's.
    pub async fn scene(&self, name: &str) -> Result<Scene> {
        self.postgres.create_database_named(name).await?;
        Ok(Scene {
            source: self.mongod.client().await?.database(name),
            target: self.postgres.client(name).await?,
            gizer: self.gizer(name, name, "")?,
        })
    }

    /// Versions of both servers, and these settings of PostgreSQL, by name.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn json(&self, shown: &[&str]) -> Result<Value> {
        let client = self.postgres.client("postgres").await?;
        let mut settings = json!({});
        for name in shown {
            let row = client.query_one(&format!("SHOW {name}"), &[]).await?;
            settings[name] = row.get::<_, String>(0).into();
        }
        Ok(json!({
            "postgres": settings,
            "mongod": {"version": self.mongod.version().full(), "cache_gb": self.cache_gb, "members": 1},
        }))
    }
}

/// A source, a target, and gizer between them.
#[derive(Debug)]
pub struct Scene {
    /// Of MongoDB.
    pub source: Database,
    /// An open connection.
    pub target: Client,
    /// From one to the other.
    pub gizer: Gizer,
}

impl Scene {
    /// A collection of the source.
    pub fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        self.source.collection(name)
    }

    /// Inserts the orders with these numbers.
    ///
    /// # Errors
    /// MongoDB's.
    pub async fn fill_orders(&self, numbers: std::ops::Range<u64>) -> Result<()> {
        fill_orders(&self.source, numbers).await
    }

    /// Runs `gizer schema infer`.
    ///
    /// # Errors
    /// What gizer says, if it fails.
    pub async fn infer(&self) -> Result<()> {
        let finished = self.gizer.run(["schema", "infer"]).await?;
        if finished.code() != Some(0) {
            return Err(format!("gizer schema infer failed: {}", finished.stderr).into());
        }
        Ok(())
    }

    /// The tables that follow from the schema file that gizer has inferred.
    ///
    /// # Errors
    /// As [`layout`].
    pub fn layout(&self, collection: &str) -> Result<Layout> {
        layout(&self.gizer, collection)
    }

    /// Ends what an earlier measurement left for PostgreSQL to do: a checkpoint begins the next one with an empty slate.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn settle(&self) -> Result<()> {
        Ok(self.target.batch_execute("CHECKPOINT").await?)
    }
}

/// Inserts the orders with these numbers.
///
/// # Errors
/// MongoDB's.
pub async fn fill_orders(source: &Database, numbers: std::ops::Range<u64>) -> Result<()> {
    fill(&source.collection("orders"), Shop::new(SEED).orders(numbers), |_| ()).await?;
    Ok(())
}

/// The tables that follow from the schema file that gizer has inferred.
///
/// # Errors
/// If there is none, or a wrong one.
pub fn layout(gizer: &Gizer, collection: &str) -> Result<Layout> {
    let path = gizer.folder().join(format!("schemas/{collection}.json"));
    let schema = file::parse(collection, &fs::read_to_string(path)?)?;
    Ok(Layout::new(&schema)?)
}

/// Bytes of log that PostgreSQL has written since it was set up.
///
/// # Errors
/// PostgreSQL's.
pub async fn wal_bytes(client: &Client) -> Result<u64> {
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
    let bytes: i64 = client.query_one(sql, &[]).await?.get(0);
    Ok(u64::try_from(bytes)?)
}
