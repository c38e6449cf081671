//! Two collections that are followed, and a judge that knows of rejected documents.

use bson::{Document, doc};
use futures::{TryStreamExt, stream};
use integration_tests::oracle::Oracle;
use integration_tests::rig::{Finished, Gizer, Mongod, Version, shared_mongod, shared_postgres, unique_name};
use mongodb::Database;
use mongodb::options::{DatabaseOptions, WriteConcern};
use serde_json::Value;

/// A database on either side, and gizer between them.
pub(super) struct Place {
    pub(super) mongo: Database,
    target: String,
    pub(super) gizer: Gizer,
}

impl Place {
    /// With these documents in `a`, and three in `b`; loaded, and followed once.
    pub(super) async fn new(documents: Vec<Document>) -> Place {
        Place::with_config(documents, "").await
    }

    pub(super) async fn with_config(documents: Vec<Document>, more: &str) -> Place {
        let mongod = shared_mongod(Version::V6_0).await.unwrap();
        Place::on(mongod, &mongod.uri(), documents, more).await
    }

    /// On a server of one's own, which gizer reads by this URI.
    pub(super) async fn on(mongod: &Mongod, uri: &str, documents: Vec<Document>, more: &str) -> Place {
        Place::in_database(mongod, &unique_name("isolation"), uri, documents, more).await
    }

    pub(super) async fn in_database(
        mongod: &Mongod,
        name: &str,
        uri: &str,
        documents: Vec<Document>,
        more: &str,
    ) -> Place {
        let postgres = shared_postgres().await.unwrap();
        let target = postgres.create_database().await.unwrap();
        let options = DatabaseOptions::builder().write_concern(WriteConcern::majority()).build();
        let mongo = mongod.client().await.unwrap().database_with_options(name, options);
        let config = format!(
            "[mongo]\nuri = {:?}\ndatabase = {name:?}\n\n[postgres]\nuri = {:?}\nschema = \"public\"\n{more}",
            uri,
            postgres.uri(&target)
        );
        let place = Place { mongo, target, gizer: Gizer::with_config(&config).unwrap() };
        place.mongo.collection("a").insert_many(documents).await.unwrap();
        place.write_others(0..3).await;
        place.run(&["schema", "infer", "--classic"]).await.expect_code(0);
        place.run(&["load"]).await.expect_code(0);
        place.sync().await;
        place
    }

    /// Something for the other collection to do.
    pub(super) async fn write_others(&self, ids: std::ops::Range<i32>) {
        let documents = ids.map(|id| doc! { "_id": id, "tags": ["a", "b"] });
        self.mongo.collection::<Document>("b").insert_many(documents).await.unwrap();
    }

    pub(super) async fn insert(&self, document: Document) {
        self.mongo.collection("a").insert_one(document).await.unwrap();
    }

    pub(super) async fn set(&self, id: i32, fields: Document) {
        let change = doc! { "$set": fields };
        self.mongo.collection::<Document>("a").update_one(doc! { "_id": id }, change).await.unwrap();
    }

    pub(super) async fn delete(&self, id: i32) {
        self.mongo.collection::<Document>("a").delete_one(doc! { "_id": id }).await.unwrap();
    }

    pub(super) async fn run(&self, args: &[&str]) -> Finished {
        self.gizer.run(args).await.unwrap()
    }

    /// A round that ends well; gives what it reports.
    pub(super) async fn sync(&self) -> Value {
        self.sync_with_code(0).await
    }

    pub(super) async fn sync_with_code(&self, code: i32) -> Value {
        let finished = self.run(&["sync", "--format", "json"]).await.expect_code(code);
        serde_json::from_str(&finished.stdout).unwrap()
    }

    pub(super) async fn client(&self) -> tokio_postgres::Client {
        shared_postgres().await.unwrap().client(&self.target).await.unwrap()
    }

    pub(super) async fn sql(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// The rows of a query, each as a JSON object.
    pub(super) async fn rows(&self, sql: &str) -> Value {
        let sql = format!("SELECT coalesce(jsonb_agg(to_jsonb(q)), '[]')::text FROM ({sql}) q");
        let row = self.client().await.query_one(&sql, &[]).await.unwrap();
        serde_json::from_str(row.get(0)).unwrap()
    }

    /// The ids and codes of what is rejected of `a`.
    pub(super) async fn rejected(&self) -> Value {
        self.rows("SELECT id, sqlstate FROM gizer_reject WHERE collection = 'a' ORDER BY id").await
    }

    /// Both collections have the rows of their documents, and those that are rejected have none.
    pub(super) async fn judge(&self) {
        self.judge_one("a").await;
        self.judge_one("b").await;
    }

    pub(super) async fn judge_one(&self, collection: &str) {
        let sql = format!("SELECT document FROM gizer_reject WHERE collection = '{collection}'");
        let mut client = self.client().await;
        let rejected: Vec<Document> = client
            .query(&sql, &[])
            .await
            .unwrap()
            .iter()
            .map(|row| Document::from_reader(row.get::<_, &[u8]>(0)).unwrap())
            .collect();
        let documents: Vec<Document> =
            self.mongo.collection(collection).find(doc! {}).await.unwrap().try_collect().await.unwrap();
        for reject in &rejected {
            assert!(documents.contains(reject), "{collection}: {} is kept as it is", reject["_id"]);
        }
        let taken = documents.into_iter().filter(|document| !rejected.contains(document));
        let schema = std::fs::read_to_string(self.gizer.folder().join(format!("schemas/{collection}.json"))).unwrap();
        let oracle = Oracle::new(collection, &schema, "public").unwrap();
        let report = oracle.compare(stream::iter(taken.map(Ok)), &mut client).await.unwrap();
        assert!(report.is_equal() && report.rejected == 0, "{collection} differs: {report}");
    }
}
