//! A database on each side, and gizer between them.

use bson::{Document, doc};
use integration_tests::rig::{Finished, Gizer, Mongod, Postgres, Version, shared_mongod, shared_postgres, unique_name};
use mongodb::Database;
use serde_json::Value;

/// A MongoDB database, a PostgreSQL database, and a configuration that names both.
pub(crate) struct Place {
    pub(crate) mongo: Database,
    pub(crate) postgres: tokio_postgres::Client,
    pub(crate) postgres_uri: String,
    pub(crate) gizer: Gizer,
}

impl Place {
    /// On the servers that all tests of this program share.
    pub(crate) async fn shared(version: Version) -> Place {
        Place::on(shared_mongod(version).await.unwrap(), shared_postgres().await.unwrap()).await
    }

    /// On servers of the test's own.
    pub(crate) async fn on(mongod: &Mongod, postgres: &Postgres) -> Place {
        let database = postgres.create_database().await.unwrap();
        let name = unique_name("shop");
        let postgres_uri = postgres.uri(&database);
        Place {
            mongo: mongod.client().await.unwrap().database(&name),
            postgres: postgres.client(&database).await.unwrap(),
            gizer: Gizer::new(&mongod.uri(), &name, &postgres_uri, "public").unwrap(),
            postgres_uri,
        }
    }

    pub(crate) async fn insert(&self, collection: &str, documents: impl IntoIterator<Item = Document>) {
        let documents: Vec<Document> = documents.into_iter().collect();
        self.mongo.collection(collection).insert_many(documents).await.unwrap();
    }

    pub(crate) async fn gizer(&self, args: &[&str]) -> Finished {
        self.gizer.run(args).await.unwrap()
    }

    /// Writes a schema file by hand.
    pub(crate) fn schema_file(&self, name: &str, text: &str) {
        let folder = self.gizer.folder().join("schemas");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }

    /// The only value of a query that gives one.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.postgres.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The rows of a query, each as a JSON object.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Value> {
        let sql = format!("SELECT to_jsonb(q)::text FROM ({sql}) q");
        let rows = self.postgres.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect()
    }
}

/// The tables of a collection's report, with their rows: how large they are is the server's matter.
pub(crate) fn rows_by_table(report: &Value) -> Vec<(String, u64)> {
    let tables = report["tables"].as_array().unwrap().iter();
    tables.map(|table| (table["name"].as_str().unwrap().to_owned(), table["rows"].as_u64().unwrap())).collect()
}

/// Documents with numbers from 0 and a little text.
pub(crate) fn numbered(count: i32) -> impl Iterator<Item = Document> {
    (0..count).map(|n| doc! {"_id": n, "text": format!("number {n}"), "list": [n, n + 1]})
}

/// Checks an error: its exit code, words in its message, and that no password is in it.
#[track_caller]
pub(crate) fn assert_says(finished: &Finished, code: i32, words: &[&str]) {
    let finished = finished.clone().expect_code(code);
    for word in words {
        assert!(finished.stderr.contains(word), "{word:?} is not in:\n{}", finished.stderr);
    }
    let secret = integration_tests::rig::POSTGRES_PASSWORD;
    assert!(!finished.stderr.contains(secret) && !finished.stdout.contains(secret), "{finished:?}");
    assert!(!finished.stderr.contains("hunter2") && !finished.stdout.contains("hunter2"), "{finished:?}");
}
