//! Positions in the oplog.

use std::error::Error;

use bson::{Document, Timestamp, doc};
use gizer_flatten::change::{ClusterTime, Position};
use gizer_oplog::{Cluster, MongoError, Oplog, OplogSettings, SecretUri, Settings, newest_positions};
use integration_tests::rig::{Mongod, Version, wait_for};
use mongodb::options::WriteConcern;

use super::{LIMIT, Outcome, Shop, on_each_version, settings};

on_each_version!(
    the_newest_position_is_what_the_set_has_committed,
    the_oldest_position_is_the_first_entry,
    a_standalone_server_has_no_positions_and_one_is_told_how_to_get_them,
);

fn time(ts: Timestamp) -> ClusterTime {
    ClusterTime { seconds: ts.time, increment: ts.increment }
}

/// The position that the set's own status gives for what a majority has.
async fn committed(shop: &Shop) -> Result<Position, Box<dyn Error>> {
    let status = shop.client.database("admin").run_command(doc! { "replSetGetStatus": 1 }).await?;
    let optime = status.get_document("optimes")?.get_document("lastCommittedOpTime")?;
    Ok(Position { time: time(optime.get_timestamp("ts")?), term: optime.get_i64("t")? })
}

async fn only_oplog(shop: &Shop) -> Result<Oplog, Box<dyn Error>> {
    Ok(shop.cluster().await?.oplogs().await?.pop().ok_or("an oplog")?)
}

async fn the_newest_position_is_what_the_set_has_committed(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let oplog = only_oplog(&shop).await?;
    assert_eq!(oplog.name(), "rs0");
    let orders = shop.database.collection("orders");
    orders.insert_one(doc! { "_id": 1 }).write_concern(WriteConcern::majority()).await?;

    // Other tests write to this server: the position can be known for certain only while nobody does.
    let position = wait_for("a moment without writes", LIMIT, async || {
        let before = committed(&shop).await.ok()?;
        let position = oplog.newest().await.ok()?;
        (committed(&shop).await.ok()? == before).then_some((before, position))
    })
    .await?;
    assert_eq!(position.0, position.1);
    assert!(position.1.term >= 1);

    let insert = doc! { "op": "i", "ns": format!("{}.orders", shop.database.name()) };
    let entry = shop.client.database("local").collection::<Document>("oplog.rs").find_one(insert).await?;
    let inserted = time(entry.ok_or("the entry of the insert")?.get_timestamp("ts")?);
    let positions = newest_positions(std::slice::from_ref(&oplog)).await?;
    assert!(positions["rs0"].time >= inserted, "{positions:?} lies before {inserted}");
    Ok(())
}

async fn the_oldest_position_is_the_first_entry(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let oplog = only_oplog(&shop).await?;
    let entries = shop.client.database("local").collection::<Document>("oplog.rs");
    let position = wait_for("a moment in which the oplog is not cut", LIMIT, async || {
        let first = async || entries.find_one(doc! {}).sort(doc! { "ts": 1 }).await.ok()??.get_timestamp("ts").ok();
        let before = first().await?;
        let position = oplog.oldest().await.ok()?;
        (first().await? == before).then_some((time(before), position.time))
    })
    .await?;
    assert_eq!(position.0, position.1);
    Ok(())
}

async fn a_standalone_server_has_no_positions_and_one_is_told_how_to_get_them(version: Version) -> Outcome {
    let mongod = Mongod::builder(version).standalone().start().await?;
    let cluster = Cluster::connect(settings(&mongod.uri(), "shop")).await?;
    let error = cluster.oplogs().await.expect_err("a standalone server");
    assert!(matches!(error, MongoError::Standalone { .. }), "{error}");
    assert!(error.to_string().contains(&mongod.host()), "{error}");
    let remedy = error.remedy().ok_or("a remedy")?;
    assert!(remedy.contains("--replSet") && remedy.contains("rs.initiate()"), "{remedy}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_waits_for_its_configuration_is_told_apart() -> Outcome {
    let mongod = Mongod::builder(Version::V6_0).standalone().arg("--replSet").arg("rs7").start().await?;
    let error = Cluster::connect(settings(&mongod.uri(), "shop")).await.expect_err("a set that was never initiated");
    assert!(matches!(error, MongoError::NotInitiated { .. }), "{error}");
    assert!(error.remedy().ok_or("a remedy")?.contains("rs.initiate()"));
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_named_twice_is_not_read_twice() -> Outcome {
    let shop = Shop::new(Version::V5_0).await?;
    let oplog = |name: &str, uri: &SecretUri| OplogSettings { name: name.to_owned(), uri: uri.clone() };
    let once = settings(&shop.mongod.uri(), "shop");
    let uri = &once.uris[0];
    let other_words: SecretUri = shop.mongod.uri().replace("127.0.0.1", "localhost").parse()?;

    let uris = vec![uri.clone(), other_words.clone()];
    let twice = Settings { uris, oplogs: vec![oplog("a", uri)], ..once.clone() };
    let error = Cluster::connect(twice).await.expect_err("the same documents twice");
    assert!(matches!(error, MongoError::SameServer { .. }), "{error}");

    let twice = Settings { oplogs: vec![oplog("a", uri), oplog("b", &other_words)], ..once };
    let error = Cluster::connect(twice).await?.oplogs().await.expect_err("the same changes twice");
    assert!(matches!(error, MongoError::SameServer { .. }), "{error}");
    Ok(())
}
