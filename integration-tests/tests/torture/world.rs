//! One MongoDB database on one shard or on several, one PostgreSQL database, and gizer between them.

use bson::{Document, doc};
use futures::TryStreamExt;
use integration_tests::rig::{Gizer, Mongod, Postgres, unique_name};
use integration_tests::traffic::{COLLECTIONS, Traffic};
use mongodb::Database;
use mongodb::options::{DatabaseOptions, WriteConcern};

pub(crate) struct World<'s> {
    pub(crate) postgres: &'s Postgres,
    /// The database on each shard.
    pub(crate) databases: Vec<Database>,
    /// The PostgreSQL database.
    pub(crate) target: String,
    pub(crate) gizer: Gizer,
}

impl<'s> World<'s> {
    pub(crate) async fn new(shards: &'s [Mongod], postgres: &'s Postgres) -> World<'s> {
        let target = postgres.create_database().await.unwrap();
        let name = unique_name("torture");
        let mut databases = Vec::new();
        for shard in shards {
            // Kept by a server that is killed, and read by gizer at once.
            let options = DatabaseOptions::builder().write_concern(WriteConcern::majority()).build();
            databases.push(shard.client().await.unwrap().database_with_options(&name, options));
        }
        let uris: Vec<String> = shards.iter().map(Mongod::uri).collect();
        let config = format!(
            "[mongo]\nuri = {uris:?}\ndatabase = {name:?}\n\n[postgres]\nuri = {:?}\nschema = \"public\"\n",
            postgres.uri(&target)
        );
        let gizer = Gizer::with_config(&config).unwrap();
        World { postgres, databases, target, gizer }
    }

    pub(crate) fn schema_file(&self, collection: &str, text: &str) {
        let folder = self.gizer.folder().join("schemas");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{collection}.json")), text).unwrap();
    }

    pub(crate) fn schema_text(&self, collection: &str) -> String {
        std::fs::read_to_string(self.gizer.folder().join(format!("schemas/{collection}.json"))).unwrap()
    }

    /// The collections of the traffic, with the documents that they begin with, on each shard.
    pub(crate) async fn begin(&self, traffic: &[Traffic]) {
        for collection in COLLECTIONS {
            self.schema_file(collection.name, &collection.schema_file());
            for (database, traffic) in self.databases.iter().zip(traffic) {
                let documents = traffic.documents(collection);
                database.collection(collection.name).insert_many(documents).await.unwrap();
            }
        }
    }

    /// A client of the PostgreSQL database: servers are restarted, so that none is kept for long.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        self.postgres.client(&self.target).await.unwrap()
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
}
