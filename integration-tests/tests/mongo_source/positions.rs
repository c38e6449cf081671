//! Positions in the oplog.

use std::error::Error;

use bson::{Document, Timestamp, doc};
use gizer_flatten::change::ClusterTime;
use gizer_oplog::OplogPosition;
use gizer_oplog::{Cluster, ErrorClass, MongoError, MongoSettings, Oplog, OplogSettings, SecretUri, newest_positions};
use integration_tests::rig::{Mongod, ReplicaSet, Version, wait_for};
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
async fn committed(shop: &Shop) -> Result<OplogPosition, Box<dyn Error>> {
    let status = shop.client.database("admin").run_command(doc! { "replSetGetStatus": 1 }).await?;
    let optime = status.get_document("optimes")?.get_document("lastCommittedOpTime")?;
    Ok(OplogPosition { time: time(optime.get_timestamp("ts")?), term: optime.get_i64("t")? })
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
    assert!(positions["rs0"].time() >= inserted, "{positions:?} lies before {inserted}");
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
    let twice = MongoSettings { uris, oplogs: vec![oplog("a", uri)], ..once.clone() };
    let error = Cluster::connect(twice).await.expect_err("the same documents twice");
    assert!(matches!(error, MongoError::SameServer { .. }), "{error}");

    let twice = MongoSettings { oplogs: vec![oplog("a", uri), oplog("b", &other_words)], ..once };
    let error = Cluster::connect(twice).await?.oplogs().await.expect_err("the same changes twice");
    assert!(matches!(error, MongoError::SameServer { .. }), "{error}");
    Ok(())
}

/// Three servers: two shards without a router, and one that belongs to neither.
#[tokio::test]
async fn each_replica_set_has_its_own_oplog_and_no_other() -> Outcome {
    let set = |name: &str| Mongod::builder(Version::V6_0).repl_set_name(name).start();
    let (a, b, c) = tokio::try_join!(set("rs-a"), set("rs-b"), set("rs-a"))?;
    let oplogs = async |sources: &[&Mongod], named: &[(&str, &Mongod)]| {
        let uris = sources.iter().map(|each| each.uri().parse()).collect::<Result<_, _>>()?;
        let named =
            named.iter().map(|(name, each)| Ok(OplogSettings { name: (*name).into(), uri: each.uri().parse()? }));
        let oplogs = named.collect::<Result<_, MongoError>>()?;
        Cluster::connect(MongoSettings { uris, database: "shop".into(), oplogs }).await?.oplogs().await
    };
    let names: Vec<String> =
        oplogs(&[&a, &b], &[("north", &b), ("south", &a)]).await?.iter().map(|each| each.name().to_owned()).collect();
    assert_eq!(names, ["north", "south"]);

    // Changes of the second one would be lost.
    let error = oplogs(&[&a, &b], &[("north", &a)]).await.expect_err("no oplog for b");
    assert_eq!(error.class(), ErrorClass::Configuration);
    assert!(error.to_string().contains(&format!("none leads to replica set rs-b at {}", b.host())), "{error}");
    assert!(error.remedy().ok_or("a remedy")?.contains("[[oplog]] for each replica set"), "{error}");
    // Another server's changes would be taken for this one's, whatever the sets are called.
    for foreign in [&b, &c] {
        let error = oplogs(&[&a], &[("north", foreign)]).await.expect_err("an oplog of another set");
        assert!(matches!(error, MongoError::OplogsDiffer { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(&a.host()) && message.contains(&foreign.host()), "{message}");
    }
    oplogs(&[&a], &[("north", &a), ("south", &b)]).await.expect_err("one oplog too many");
    Ok(())
}

/// Documents may come from one member and changes from another.
#[tokio::test]
async fn members_of_one_set_are_known_as_such() -> Outcome {
    let set = ReplicaSet::start(Version::V6_0, 2).await?;
    let uri = |member: usize| set.members()[member].uri().parse::<SecretUri>();
    let oplog = |name: &str, uri| OplogSettings { name: name.to_owned(), uri };
    let settings = MongoSettings { uris: vec![uri(0)?], database: "shop".into(), oplogs: vec![oplog("only", uri(1)?)] };
    assert_eq!(Cluster::connect(settings.clone()).await?.oplogs().await?.len(), 1);

    let oplogs = vec![oplog("a", uri(0)?), oplog("b", uri(1)?)];
    let error = Cluster::connect(MongoSettings { oplogs: oplogs.clone(), ..settings.clone() }).await?.oplogs().await;
    let error = error.expect_err("the same changes twice");
    assert!(matches!(error, MongoError::SameReplicaSet { .. }), "{error}");
    let twice = MongoSettings { uris: vec![uri(0)?, uri(1)?], oplogs, ..settings };
    let error = Cluster::connect(twice).await.expect_err("the same documents twice");
    assert!(matches!(error, MongoError::SameReplicaSet { .. }), "{error}");
    Ok(())
}
