//! A scan while others write, and while its reader does other things.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bson::{Document, doc};
use gizer_oplog::{Cluster, DocumentSource, MongoError, ScanOptions};
use integration_tests::rig::{Mongod, Version, wait_until};
use mongodb::options::{Acknowledgment, WriteConcern};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::{LIMIT, Outcome, Shop, batches_of, ids, numbered, on_each_version, read_all, scan, settings};

on_each_version!(
    what_nobody_touches_is_seen_exactly_once,
    what_was_acknowledged_before_is_seen,
    what_is_waited_for_in_vain_is_not_lost,
    the_server_is_asked_for_what_a_majority_has_in_the_order_of_ids,
);

const COUNT: i32 = 6_000;

/// Every third document is left alone. The others are deleted, deleted and inserted again, or made longer, behind the scan
/// and before it, between any two of its batches.
async fn what_nobody_touches_is_seen_exactly_once(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let orders = shop.database.collection::<Document>("orders");
    orders.insert_many(numbered(COUNT, 200)).await?;

    let mut source = scan(&shop.cluster().await?, "orders", batches_of(40_000)).await?;
    let mut times_seen = HashMap::<i32, u32>::new();
    let mut batches = 0;
    while let Some(batch) = source.next_batch().await? {
        batches += 1;
        let documents: Vec<Vec<u8>> = batch.documents().map(|document| document.as_bytes().to_vec()).collect();
        let seen = ids(&documents);
        let last = *seen.last().ok_or("a batch without documents")?;
        for id in seen {
            *times_seen.entry(id).or_default() += 1;
        }
        disturb(&orders, last, batches).await?;
    }
    assert!(batches > 20, "{batches} batches leave little time between them");
    let untouched = (0..COUNT).filter(|id| id % 3 == 0);
    let wrong: Vec<i32> = untouched.filter(|id| times_seen.get(id) != Some(&1)).collect();
    assert!(wrong.is_empty(), "not seen exactly once: {wrong:?}");
    let twice: Vec<_> = times_seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "seen more than once: {twice:?}");
    Ok(())
}

/// Writes around the place that the scan has reached.
async fn disturb(
    orders: &mongodb::Collection<Document>,
    reached: i32,
    batch: i32,
) -> Result<(), mongodb::error::Error> {
    for third in 1..=12 {
        // 1 and 2 modulo 3; six behind the scan, six before it.
        let id = (reached - 18 + third * 3) / 3 * 3 + 1 + batch % 2;
        let longer = doc! { "$set": { "padding": "y".repeat(3_000) } };
        match (third + batch) % 3 {
            0 => orders.delete_one(doc! { "_id": id }).await.map(drop)?,
            1 => orders.update_one(doc! { "_id": id }, longer).await.map(drop)?,
            _ => {
                orders.delete_one(doc! { "_id": id }).await?;
                orders.insert_one(doc! { "_id": id, "again": true }).await?;
            }
        }
    }
    Ok(())
}

/// Acknowledged by one member is not yet confirmed by a majority, not even in a set of one.
async fn what_was_acknowledged_before_is_seen(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let by_one = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
    let orders = shop.database.collection("orders");
    let cluster = shop.cluster().await?;
    for count in 1..=50 {
        orders.insert_one(doc! { "_id": count }).write_concern(by_one.clone()).await?;
        let seen = read_all(&mut scan(&cluster, "orders", ScanOptions::default()).await?).await?;
        assert_eq!(ids(&seen), (1..=count).collect::<Vec<i32>>());
    }
    Ok(())
}

/// The one member that is not primary stands still: nothing that is written now can be confirmed.
#[tokio::test]
async fn a_majority_that_stands_still_is_an_error() -> Outcome {
    let set = Mongod::builder(Version::V5_0).set_parameter("enableTestCommands", "1").start_replica_set(2).await?;
    let orders = set.client().await?.database("shop").collection("orders");
    orders.insert_one(doc! { "_id": 1 }).write_concern(WriteConcern::majority()).await?;
    let secondary = set.secondaries().await?[0].client().await?;
    let stand_still = doc! { "configureFailPoint": "stopReplProducer", "mode": "alwaysOn" };
    secondary.database("admin").run_command(stand_still).await?;
    // What is under way still arrives.
    let by_one = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
    let seen_there = secondary.database("shop").collection::<Document>("orders");
    let mut id = 1;
    wait_until("a write that does not arrive", LIMIT, async || {
        id += 1;
        let inserted = orders.insert_one(doc! { "_id": id }).write_concern(by_one.clone()).await.is_ok();
        let arrives = async || seen_there.find_one(doc! { "_id": id }).await.is_ok_and(|found| found.is_some());
        inserted && wait_until("its arrival", Duration::from_secs(2), arrives).await.is_err()
    })
    .await?;
    let cluster = Cluster::connect(settings(&set.uri(), "shop")).await?;
    let mut source = scan(&cluster, "orders", ScanOptions::default()).await?;
    let error = timeout(LIMIT, source.next_batch()).await?.expect_err("writes that nobody confirms");
    assert!(matches!(error, MongoError::MajorityLags { .. }), "{error}");
    Ok(())
}

/// A reader may stop waiting at any moment, as one that also listens for Ctrl-C does, and ask again.
async fn what_is_waited_for_in_vain_is_not_lost(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    shop.database.collection::<Document>("orders").insert_many(numbered(3_000, 200)).await?;
    let mut source = scan(&shop.cluster().await?, "orders", batches_of(20_000)).await?;
    let mut documents = Vec::new();
    let mut in_vain = 0;
    let mut patience = 1;
    loop {
        let Some(next) = asked(patience, source.next_batch()).await else {
            in_vain += 1;
            // What comes before the first reply starts anew each time, and takes several requests in a row.
            patience *= 2;
            continue;
        };
        let Some(batch) = next? else { break };
        documents.extend(batch.documents().map(|document| document.as_bytes().to_vec()));
        patience = 1;
    }
    assert!(in_vain > 30, "only {in_vain} waits were in vain");
    assert_eq!(ids(&documents), (0..3_000).collect::<Vec<i32>>());
    Ok(())
}

/// What a future gives if it is ready when asked so many times; it is dropped otherwise.
async fn asked<T>(times: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..times {
        if let Poll::Ready(value) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
            return Some(value);
        }
        yield_now().await;
    }
    None
}

/// As the server's profiler saw it.
async fn the_server_is_asked_for_what_a_majority_has_in_the_order_of_ids(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    shop.database.collection::<Document>("orders").insert_many(numbered(1_000, 100)).await?;
    shop.database.run_command(doc! { "profile": 2 }).await?;
    shop.scanned("orders", batches_of(20_000)).await?;
    shop.database.run_command(doc! { "profile": 0 }).await?;
    let profile = shop.database.collection::<Document>("system.profile");
    let find = profile.find_one(doc! { "command.find": "orders", "command.sort": { "_id": 1 } }).await?;
    let find = find.ok_or("the find of the scan")?;
    assert_eq!(find.get_str("planSummary")?, "IXSCAN { _id: 1 }");
    assert_eq!(find.get_str("appName")?, "gizer");
    let command = find.get_document("command")?;
    assert_eq!(command.get_document("readConcern")?.get_str("level")?, "majority");
    assert!(command.get_bool("noCursorTimeout")?);
    Ok(())
}
