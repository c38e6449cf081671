//! A scan that cannot be finished is an error, and never looks finished.

use std::error::Error;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use futures::TryStreamExt;
use gizer_oplog::{Cluster, CollectionScan, DocumentSource, MongoError, ScanOptions};
use integration_tests::rig::{Mongod, Signal, Version};
use tokio::time::timeout;

use super::{LIMIT, Outcome, Shop, batches_of, numbered, on_each_version, read_all, scan, settings};

on_each_version!(
    a_server_killed_in_the_middle_is_an_error,
    a_collection_dropped_in_the_middle_is_an_error,
    a_collection_renamed_in_the_middle_is_an_error,
    a_collection_replaced_before_the_scan_is_an_error,
    a_killed_cursor_is_an_error,
);

/// A scan that has given two of many batches.
async fn begun(cluster: &Cluster) -> Result<CollectionScan, Box<dyn Error>> {
    let mut source = scan(cluster, "orders", batches_of(64 << 10)).await?;
    for _ in 0..2 {
        source.next_batch().await?.ok_or("an end after few documents")?;
    }
    Ok(source)
}

/// What a scan ends with, which must not be the end of the documents.
async fn failure(source: &mut CollectionScan) -> Result<MongoError, Box<dyn Error>> {
    match timeout(LIMIT, read_all(source)).await? {
        Ok(rest) => Err(format!("the scan ended well after {} more documents", rest.len()).into()),
        Err(error) => {
            // Nothing comes after an error, and above all no end.
            let again = source.next_batch().await;
            assert!(matches!(again, Err(MongoError::FailedBefore { .. })), "{again:?}");
            Ok(error)
        }
    }
}

async fn a_server_killed_in_the_middle_is_an_error(version: Version) -> Outcome {
    let mongod = Mongod::start(version).await?;
    mongod.client().await?.database("shop").collection("orders").insert_many(numbered(20_000, 500)).await?;
    let cluster = Cluster::connect(settings(&mongod.uri(), "shop")).await?;
    let mut source = begun(&cluster).await?;
    mongod.kill()?;
    let started = Instant::now();
    let error = failure(&mut source).await?;
    assert!(started.elapsed() < Duration::from_secs(12), "it took {:?}", started.elapsed());
    assert!(matches!(error, MongoError::ConnectionLost { .. } | MongoError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&mongod.host()), "{error}");
    Ok(())
}

/// The server goes on, and so would a reader that took the end of its connection for the end of the documents.
#[tokio::test]
async fn a_connection_closed_in_the_middle_is_an_error() -> Outcome {
    let mongod = Mongod::builder(Version::V6_0).set_parameter("enableTestCommands", "1").start().await?;
    let client = mongod.client().await?;
    client.database("shop").collection::<Document>("orders").insert_many(numbered(20_000, 500)).await?;
    let cluster = Cluster::connect(settings(&mongod.uri(), "shop")).await?;
    let mut source = begun(&cluster).await?;
    let close = doc! { "failCommands": ["getMore"], "closeConnection": true, "appName": "gizer" };
    let once = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": close };
    client.database("admin").run_command(once).await?;
    let error = failure(&mut source).await?;
    assert!(matches!(error, MongoError::ConnectionLost { command: "getMore", .. }), "{error}");
    Ok(())
}

/// A hanging server keeps its connections open. The driver's monitor gives it up after a heartbeat and a connection's limit.
#[tokio::test]
async fn a_server_that_hangs_in_the_middle_is_an_error() -> Outcome {
    let mongod = Mongod::start(Version::V5_0).await?;
    mongod.client().await?.database("shop").collection("orders").insert_many(numbered(20_000, 500)).await?;
    let cluster = Cluster::connect(settings(&mongod.uri(), "shop")).await?;
    let mut source = begun(&cluster).await?;
    mongod.signal(Signal::Stop)?;
    let started = Instant::now();
    let error = failure(&mut source).await?;
    assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
    assert!(matches!(error, MongoError::ConnectionLost { .. } | MongoError::Unreachable { .. }), "{error}");
    Ok(())
}

async fn filled(version: Version) -> Result<(Shop, CollectionScan), Box<dyn Error>> {
    let shop = Shop::new(version).await?;
    shop.database.collection("orders").insert_many(numbered(5_000, 500)).await?;
    let source = begun(&shop.cluster().await?).await?;
    Ok((shop, source))
}

async fn a_collection_dropped_in_the_middle_is_an_error(version: Version) -> Outcome {
    let (shop, mut source) = filled(version).await?;
    shop.database.collection::<Document>("orders").drop().await?;
    let error = failure(&mut source).await?;
    assert!(matches!(error, MongoError::CollectionChanged { .. }), "{error}");
    Ok(())
}

async fn a_collection_renamed_in_the_middle_is_an_error(version: Version) -> Outcome {
    let (shop, mut source) = filled(version).await?;
    let name = shop.database.name();
    let rename = doc! { "renameCollection": format!("{name}.orders"), "to": format!("{name}.others") };
    shop.client.database("admin").run_command(rename).await?;
    let error = failure(&mut source).await?;
    assert!(matches!(error, MongoError::CollectionChanged { .. }), "{error}");
    Ok(())
}

/// Without a cursor there is nothing that the server could end: it reads the new collection, or none, and says nothing.
async fn a_collection_replaced_before_the_scan_is_an_error(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    shop.database.collection("orders").insert_many(numbered(10, 100)).await?;
    for replaced in [true, false] {
        let mut source = scan(&shop.cluster().await?, "orders", ScanOptions::default()).await?;
        shop.database.collection::<Document>("orders").drop().await?;
        if replaced {
            shop.database.collection("orders").insert_many(numbered(3, 100)).await?;
        }
        let error = failure(&mut source).await?;
        assert!(matches!(error, MongoError::CollectionChanged { .. }), "{error}");
    }
    Ok(())
}

async fn a_killed_cursor_is_an_error(version: Version) -> Outcome {
    let (shop, mut source) = filled(version).await?;
    let ns = format!("{}.orders", shop.database.name());
    let idle = [
        doc! { "$currentOp": { "idleCursors": true, "allUsers": true } },
        doc! { "$match": { "ns": &ns, "cursor": { "$exists": true } } },
    ];
    let cursors: Vec<Document> = shop.client.database("admin").aggregate(idle).await?.try_collect().await?;
    let ids: Vec<i64> =
        cursors.iter().map(|op| op.get_document("cursor")?.get_i64("cursorId")).collect::<Result<_, _>>()?;
    assert_eq!(ids.len(), 1, "{cursors:?}");
    shop.database.run_command(doc! { "killCursors": "orders", "cursors": ids }).await?;
    let error = failure(&mut source).await?;
    assert!(matches!(error, MongoError::CursorLost { .. }), "{error}");
    assert!(error.to_string().contains(&ns), "{error}");
    Ok(())
}
