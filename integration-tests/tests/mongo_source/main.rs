//! gizer-oplog keeps its word on real servers: what it reads is what is there, and what it cannot read it says.

mod access;
mod broken;
mod catalog;
mod chunks;
mod concurrent;
mod decoding;
mod following;
mod following_spooled;
mod lookup;
mod positions;
mod ranges;
mod scan;
mod spool;
mod tail;
#[path = "../touched/mod.rs"]
#[allow(dead_code, reason = "a part of it is for the command line")]
mod touched;

use std::error::Error;
use std::time::Duration;

use bson::{Document, doc};
use gizer_oplog::{Cluster, CollectionScan, DocumentSource, MongoError, MongoSettings, ScanOptions};
use integration_tests::rig::{Mongod, Version, shared_mongod, unique_name};
use mongodb::{Client, Database};

type Outcome = Result<(), Box<dyn Error>>;

/// How long anything may take that is to happen soon.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes one test a version out of `async fn $name(version: Version) -> Outcome`.
macro_rules! on_each_version {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use integration_tests::rig::Version;

            #[tokio::test]
            async fn on_4_4() -> crate::Outcome {
                super::$name(Version::V4_4).await
            }

            #[tokio::test]
            async fn on_5_0() -> crate::Outcome {
                super::$name(Version::V5_0).await
            }

            #[tokio::test]
            async fn on_6_0() -> crate::Outcome {
                super::$name(Version::V6_0).await
            }
        }
    )+};
}
pub(crate) use on_each_version;

/// A database of its own for a test, seen by the test's own client and by gizer.
struct Shop {
    mongod: &'static Mongod,
    client: Client,
    database: Database,
}

impl Shop {
    async fn new(version: Version) -> Result<Shop, Box<dyn Error>> {
        let mongod = shared_mongod(version).await?;
        let client = mongod.client().await?;
        let database = client.database(&unique_name("shop"));
        Ok(Shop { mongod, client, database })
    }

    async fn cluster(&self) -> Result<Cluster, MongoError> {
        Cluster::connect(settings(&self.mongod.uri(), self.database.name())).await
    }

    /// All documents of a collection as gizer scans them, in their order.
    async fn scanned(&self, collection: &str, options: ScanOptions) -> Result<Vec<Vec<u8>>, MongoError> {
        read_all(&mut scan(&self.cluster().await?, collection, options).await?).await
    }

    async fn create(&self, collection: &str, options: Document) -> Result<(), mongodb::error::Error> {
        let mut command = doc! { "create": collection };
        command.extend(options);
        self.database.run_command(command).await.map(drop)
    }
}

fn settings(uri: &str, database: &str) -> MongoSettings {
    let uri = uri.parse().expect("the rig gives good URIs");
    MongoSettings { uris: vec![uri], database: database.to_owned(), oplogs: vec![] }
}

async fn scan(cluster: &Cluster, collection: &str, options: ScanOptions) -> Result<CollectionScan, MongoError> {
    let collection = cluster.collection(collection).await?;
    CollectionScan::new(cluster, &collection, options)
}

/// A scan in batches of about so many bytes.
fn batches_of(batch_bytes: usize) -> ScanOptions {
    ScanOptions { batch_bytes, ..ScanOptions::default() }
}

async fn read_all(source: &mut impl DocumentSource) -> Result<Vec<Vec<u8>>, MongoError> {
    let mut documents = Vec::new();
    while let Some(batch) = source.next_batch().await? {
        assert!(!batch.is_empty(), "a batch without documents");
        documents.extend(batch.documents().map(|document| document.as_bytes().to_vec()));
    }
    Ok(documents)
}

fn encoded(document: &Document) -> Vec<u8> {
    document.to_vec().expect("a document of the test's own")
}

/// Documents with `_id` from 0, padded to about so many bytes.
fn numbered(count: i32, bytes: usize) -> Vec<Document> {
    let padding = "x".repeat(bytes.saturating_sub(40));
    (0..count).map(|id| doc! { "_id": id, "name": format!("number {id}"), "padding": &padding }).collect()
}

/// The `_id`s of documents made by [`numbered`].
fn ids(documents: &[Vec<u8>]) -> Vec<i32> {
    let id = |bytes: &Vec<u8>| Document::from_reader(bytes.as_slice()).ok()?.get_i32("_id").ok();
    documents.iter().map(|bytes| id(bytes).expect("a document with a whole number for its _id")).collect()
}
