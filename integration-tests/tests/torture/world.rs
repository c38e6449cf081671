//! One MongoDB database on one shard or on several, one PostgreSQL database, and gizer between them.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Document, doc};
use futures::TryStreamExt;
use integration_tests::rig::{Finished, Gizer, Mongod, Postgres, RunningGizer, Version, unique_name, wait_until};
use integration_tests::traffic::{COLLECTIONS, Traffic};
use mongodb::Database;
use mongodb::options::{DatabaseOptions, WriteConcern};
use serde_json::Value;

/// How long something may take that is sure to come.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// One round up to now.
pub(crate) const SYNC: &[&str] = &["sync"];

/// Rounds without an end.
pub(crate) const FOLLOW: &[&str] = &["sync", "--follow"];

/// Where gizer is, by shard: seconds and increment.
pub(crate) type Reached = BTreeMap<String, (u64, u64)>;

/// A replica set that stands in for a shard. While it is idle only its no-ops say how late it is there, and nothing later on
/// other shards is applied before: every 10 seconds unless told, which is long for a test.
pub(crate) async fn one_of_two(version: Version, name: &str) -> Result<Mongod, integration_tests::rig::Error> {
    Mongod::builder(version).repl_set_name(name).set_parameter("periodicNoopIntervalSecs", "1").start().await
}

/// The servers may be the test's own, to be restarted, or shared ones.
pub(crate) struct World<'s> {
    pub(crate) shards: Vec<&'s Mongod>,
    pub(crate) postgres: &'s Postgres,
    /// The database on each shard.
    pub(crate) databases: Vec<Database>,
    /// The PostgreSQL database.
    pub(crate) target: String,
    pub(crate) gizer: Gizer,
}

impl<'s> World<'s> {
    pub(crate) async fn new(shards: impl IntoIterator<Item = &'s Mongod>, postgres: &'s Postgres) -> World<'s> {
        Self::reached_by(shards, postgres, |uri| uri).await
    }

    /// The same, with gizer's connection strings changed: it may reach the servers through proxies.
    pub(crate) async fn reached_by(
        shards: impl IntoIterator<Item = &'s Mongod>,
        postgres: &'s Postgres,
        change: impl Fn(String) -> String,
    ) -> World<'s> {
        let shards: Vec<&Mongod> = shards.into_iter().collect();
        let target = postgres.create_database().await.unwrap();
        let name = unique_name("torture");
        let mut databases = Vec::new();
        for shard in &shards {
            // A server that is killed keeps it. Raw commands have no write concern, though.
            let options = DatabaseOptions::builder().write_concern(WriteConcern::majority()).build();
            databases.push(shard.client().await.unwrap().database_with_options(&name, options));
        }
        let uris: Vec<String> = shards.iter().map(|shard| change(shard.uri())).collect();
        let config = format!(
            "[mongo]\nuri = {uris:?}\ndatabase = {name:?}\n\n[postgres]\nuri = {:?}\nschema = \"public\"\n",
            change(postgres.uri(&target))
        );
        let gizer = Gizer::with_config(&config).unwrap();
        World { shards, postgres, databases, target, gizer }
    }

    /// The database of the only shard, or of the first one.
    pub(crate) fn mongo(&self) -> &Database {
        &self.databases[0]
    }

    pub(crate) fn schema_file(&self, collection: &str, text: &str) {
        let folder = self.gizer.folder().join("schemas");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{collection}.json")), text).unwrap();
    }

    pub(crate) fn schema_text(&self, collection: &str) -> String {
        std::fs::read_to_string(self.gizer.folder().join(format!("schemas/{collection}.json"))).unwrap()
    }

    /// The collections of the traffic with the documents that they begin with, on each shard, loaded.
    pub(crate) async fn begin(&self, traffic: &[Traffic]) {
        self.fill(traffic).await;
        self.run(&["load"]).await.expect_code(0);
    }

    /// The same, not loaded.
    pub(crate) async fn fill(&self, traffic: &[Traffic]) {
        for collection in COLLECTIONS {
            self.schema_file(collection.name, &collection.schema_file());
            for (database, traffic) in self.databases.iter().zip(traffic) {
                let documents = traffic.documents(collection);
                database.collection(collection.name).insert_many(documents).await.unwrap();
            }
        }
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Finished {
        self.gizer.run(args).await.unwrap()
    }

    /// One round, which must end well.
    pub(crate) async fn sync(&self) {
        self.run(SYNC).await.expect_code(0);
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> RunningGizer {
        self.gizer.spawn(args).unwrap()
    }

    /// A client of the PostgreSQL database: servers are restarted, so that none is kept for long.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        self.postgres.client(&self.target).await.unwrap()
    }

    /// The rows of a query, each as a JSON object.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Value> {
        let sql = format!("SELECT to_jsonb(q)::text FROM ({sql}) q");
        let rows = self.client().await.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect()
    }

    /// The stream's position, as far as it is committed.
    pub(crate) async fn reached(&self) -> Reached {
        let rows = self.rows("SELECT position FROM gizer_stream").await;
        let shards = rows[0]["position"].as_object().unwrap();
        let time = |at: &Value| {
            let (seconds, rest) = at.as_str().unwrap().split_once('.').unwrap();
            (seconds.parse().unwrap(), rest.split_once(':').unwrap().0.parse().unwrap())
        };
        shards.iter().map(|(shard, at)| (shard.clone(), time(at))).collect()
    }

    /// The documents of a collection on all shards. Nobody may write to it meanwhile.
    pub(crate) async fn documents(&self, collection: &str) -> Vec<Document> {
        let mut documents = Vec::new();
        for database in &self.databases {
            let cursor = database.collection::<Document>(collection).find(doc! {}).await.unwrap();
            documents.extend(cursor.try_collect::<Vec<_>>().await.unwrap());
        }
        documents
    }

    /// Waits until all shards take writes, through the connections that the test has.
    pub(crate) async fn wait_for_shards(&self) {
        for database in &self.databases {
            wait_until("a shard to take writes", LIMIT, async || {
                database.collection("bystander").insert_one(doc! { "ready": true }).await.is_ok()
            })
            .await
            .unwrap();
        }
    }
}
