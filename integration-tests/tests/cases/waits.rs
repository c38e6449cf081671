//! Every wait has an end, and a word about what is waited for.

mod dropped;
mod mongo;
mod pooled;
mod postgres;
mod signals;

use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{
    Finished, Gizer, Mongod, Postgres, Proxy, ProxyMode, RunningGizer, Signal, Version, shared_mongod, shared_postgres,
    unique_name, wait_until,
};
use mongodb::Database;

/// Within this time a wait is reported.
const REPORT_LIMIT: Duration = Duration::from_secs(30);

/// Within this time a silent connection is given up.
const LOSS_LIMIT: Duration = Duration::from_secs(60);

/// Within this time a signal ends gizer.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A database on each side, gizer, and a proxy on each way.
struct Scene {
    mongo: Database,
    postgres: tokio_postgres::Client,
    database: String,
    server_uri: String,
    to_postgres: Proxy,
    to_mongo: Proxy,
    gizer: Gizer,
}

impl Scene {
    async fn new() -> Scene {
        Scene::on(shared_mongod(Version::V6_0).await.unwrap(), shared_postgres().await.unwrap()).await
    }

    async fn on(mongod: &Mongod, postgres: &Postgres) -> Scene {
        let database = postgres.create_database().await.unwrap();
        let to_postgres = Proxy::start(postgres.port()).unwrap();
        let to_mongo = Proxy::start(mongod.port()).unwrap();
        let name = unique_name("waits");
        let (mongo_uri, postgres_uri) = (to_mongo.uri(&mongod.uri()), to_postgres.uri(&postgres.uri(&database)));
        Scene {
            mongo: mongod.client().await.unwrap().database(&name),
            postgres: postgres.client(&database).await.unwrap(),
            gizer: Gizer::new(&mongo_uri, &name, &postgres_uri, "public").unwrap(),
            server_uri: postgres.uri(&database),
            database,
            to_postgres,
            to_mongo,
        }
    }

    async fn insert(&self, collection: &str, ids: std::ops::Range<i32>) {
        let documents: Vec<Document> = ids.map(|n| doc! {"_id": n, "text": format!("number {n}")}).collect();
        self.mongo.collection(collection).insert_many(documents).await.unwrap();
    }

    /// Leads through the proxy.
    fn postgres_uri(&self) -> String {
        self.to_postgres.uri(&self.server_uri)
    }

    async fn wait_for_table(&self, name: &str) {
        let there = format!("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename = '{name}'");
        wait_until("the table to be there", LOSS_LIMIT, async || self.number(&there).await == 1).await.unwrap();
    }

    async fn number(&self, sql: &str) -> i64 {
        self.postgres.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn sql(&self, sql: &str) {
        self.postgres.batch_execute(sql).await.unwrap();
    }

    async fn run(&self, args: &[&str]) -> Finished {
        self.gizer.run(args).await.unwrap()
    }

    /// A collection that is followed, with ten documents.
    async fn followed(&self) -> RunningGizer {
        self.insert("orders", 0..10).await;
        self.run(&["run"]).await.expect_code(0);
        let follower = self.gizer.spawn(["sync", "--follow"]).unwrap();
        self.insert("orders", 10..11).await;
        self.wait_for_rows(11, LOSS_LIMIT).await;
        follower
    }

    async fn wait_for_rows(&self, rows: i64, limit: Duration) {
        let count = "SELECT count(*) FROM orders";
        wait_until("the rows to come", limit, async || self.number(count).await == rows).await.unwrap();
    }
}

async fn says(running: &RunningGizer, text: &str, limit: Duration) {
    wait_until(&format!("a word of {text:?}"), limit, async || running.stderr().contains(text)).await.unwrap();
}

/// Sends the signal, and checks that it ends the program in time.
async fn ends_by(running: RunningGizer, signal: Signal, code: i32) {
    running.signal(signal).unwrap();
    let ended = tokio::time::timeout(END_LIMIT, running.wait()).await.expect("it ends in time").unwrap();
    ended.expect_code(code);
}
