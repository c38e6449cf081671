//! The oplog, followed from a saved position on.

use std::error::Error;
use std::time::Duration;

use bson::{Document, doc};
use futures::TryStreamExt;
use gizer_flatten::change::ClusterTime;
use gizer_oplog::OplogPosition;
use gizer_oplog::{Cluster, ErrorClass, MongoError, Oplog, OplogTail, TailOptions};
use integration_tests::rig::{Mongod, MongodBuilder, ReplicaSet, Version, unique_name, wait_for};
use mongodb::Client;
use mongodb::options::WriteConcern;
use tokio::time::timeout;

use super::{LIMIT, Outcome, Shop, encoded, numbered, on_each_version, settings};

on_each_version!(
    all_that_is_written_comes_once_and_as_it_is_stored,
    from_any_position_it_goes_on_after_it,
    an_idle_oplog_says_how_far_it_was_read,
    a_position_of_another_history_is_told,
    a_position_ahead_of_the_member_is_told,
    transactions_and_ddl_come_as_they_are,
    a_position_that_has_rolled_out_is_told,
    a_lost_cursor_is_opened_again_where_it_was,
    a_killed_server_that_comes_back_is_read_on,
);

/// No failure may pass, and nobody waits for long.
pub(crate) const AT_ONCE: TailOptions = TailOptions { patience: Duration::ZERO, wait: Duration::from_millis(100) };

const PATIENT: TailOptions = TailOptions { patience: LIMIT, wait: Duration::from_millis(100) };

pub(crate) async fn only_oplog(uri: &str) -> Result<Oplog, Box<dyn Error>> {
    Ok(Cluster::connect(settings(uri, "shop")).await?.oplogs().await?.pop().ok_or("an oplog")?)
}

/// The entries after a position and up to another one, as the driver reads them.
pub(crate) async fn log_between(
    client: &Client,
    after: OplogPosition,
    to: OplogPosition,
) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let time = |at: OplogPosition| bson::Timestamp { time: at.time.seconds, increment: at.time.increment };
    let range = doc! { "ts": { "$gt": time(after), "$lte": time(to) } };
    let log = client.database("local").collection::<Document>("oplog.rs");
    let entries: Vec<Document> = log.find(range).sort(doc! { "$natural": 1 }).await?.try_collect().await?;
    Ok(entries.iter().map(encoded).collect())
}

/// What a tail gives until it has reached a position, and no more than that.
async fn read_to(tail: &mut OplogTail, to: OplogPosition) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut entries = read_past(tail, to).await?;
    // Others may write to the same server.
    entries.retain(|(position, _)| *position <= to);
    Ok(entries.into_iter().map(|(_, bytes)| bytes).collect())
}

/// All that a tail gives until it has reached a position: up to where it is then.
async fn read_past(tail: &mut OplogTail, to: OplogPosition) -> Result<Vec<(OplogPosition, Vec<u8>)>, Box<dyn Error>> {
    let mut entries = Vec::new();
    let read = async {
        while tail.position() < to {
            let batch = tail.next_batch().await?;
            assert_eq!(batch.len(), batch.entries().count());
            if let Some(last) = batch.entries().last() {
                assert_eq!((last.position(), last.position().time), (batch.position(), batch.reached()));
            }
            entries.extend(batch.entries().map(|entry| (entry.position(), entry.document().as_bytes().to_vec())));
        }
        Ok::<(), MongoError>(())
    };
    timeout(LIMIT, read).await??;
    Ok(entries)
}

fn majority() -> WriteConcern {
    WriteConcern::majority()
}

async fn all_that_is_written_comes_once_and_as_it_is_stored(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let oplog = only_oplog(&shop.mongod.uri()).await?;
    let start = oplog.newest().await?;
    let mut tail = OplogTail::open(&oplog, start, AT_ONCE).await?;
    assert_eq!(tail.position(), start);
    let orders = shop.database.collection("orders");
    // More than the server gives at once.
    orders.insert_many(numbered(5_000, 4_000)).write_concern(majority()).await?;
    orders.update_many(doc! { "_id": { "$lt": 300 } }, doc! { "$set": { "a.b": 1 } }).write_concern(majority()).await?;
    orders.delete_many(doc! { "_id": { "$gte": 4_900 } }).write_concern(majority()).await?;
    let end = oplog.newest().await?;
    let entries = read_to(&mut tail, end).await?;
    assert!(entries.len() >= 5_400, "{}", entries.len());
    assert!(entries == log_between(&shop.client, start, end).await?, "the entries differ from those in the log");
    Ok(())
}

async fn from_any_position_it_goes_on_after_it(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let oplog = only_oplog(&shop.mongod.uri()).await?;
    let start = oplog.newest().await?;
    let orders = shop.database.collection("orders");
    for document in numbered(5, 50) {
        orders.insert_one(document).write_concern(majority()).await?;
    }
    let end = oplog.newest().await?;
    let mut first = OplogTail::open(&oplog, start, AT_ONCE).await?;
    let mut positions = vec![start];
    while first.position() < end {
        positions.extend(first.next_batch().await?.entries().map(|entry| entry.position()));
    }
    positions.retain(|position| *position <= end);
    assert!(positions.len() >= 6, "{positions:?}");
    for saved in positions {
        let mut tail = OplogTail::open(&oplog, saved, AT_ONCE).await?;
        assert!(read_to(&mut tail, end).await? == log_between(&shop.client, saved, end).await?, "after {saved:?}");
    }
    Ok(())
}

/// A write whose place is known moves the majority on; all that lies before it must have been given by then.
async fn an_idle_oplog_says_how_far_it_was_read(version: Version) -> Outcome {
    let mongod = Mongod::start(version).await?;
    let oplog = only_oplog(&mongod.uri()).await?;
    let client = mongod.client().await?;
    client.database("shop").collection("orders").insert_one(doc! { "_id": 1 }).write_concern(majority()).await?;
    let start = oplog.newest().await?;
    let mut tail = OplogTail::open(&oplog, start, AT_ONCE).await?;
    let mut empty = 0;
    let mut given = start;
    let read = async {
        // Until a no-op of the server's has moved it on.
        while tail.position() == start || empty < 3 {
            let batch = tail.next_batch().await?;
            empty += usize::from(batch.is_empty());
            given = batch.entries().last().map_or(given, |entry| entry.position());
            assert_eq!(batch.position(), given);
            assert!(batch.reached() >= given.time);
            let newest = oplog.newest().await?;
            assert!(batch.reached() <= newest.time, "{} lies after {}", batch.reached(), newest.time);
        }
        Ok::<(), MongoError>(())
    };
    timeout(LIMIT, read).await??;
    Ok(())
}

async fn a_position_of_another_history_is_told(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let oplog = only_oplog(&shop.mongod.uri()).await?;
    let orders = shop.database.collection("orders");
    orders.insert_one(doc! { "_id": 1 }).write_concern(majority()).await?;
    let there = oplog.newest().await?;
    // So that the log goes on after it.
    orders.insert_one(doc! { "_id": 2 }).write_concern(majority()).await?;
    let never = ClusterTime { increment: there.time.increment + 100_000, ..there.time };
    let other_term = OplogPosition { term: there.term + 1, ..there };
    let next = ClusterTime { seconds: there.time.seconds + 2, increment: 1 };
    while oplog.newest().await?.time < next {
        orders.insert_one(doc! {}).write_concern(majority()).await?;
    }
    for saved in [other_term, OplogPosition { term: there.term - 1, ..there }, OplogPosition { time: never, ..there }] {
        let error = OplogTail::open(&oplog, saved, AT_ONCE).await.expect_err("diverged");
        assert!(matches!(error, MongoError::Diverged { .. }), "{saved:?}: {error}");
        assert_eq!(error.class(), ErrorClass::LoadDue);
        assert!(error.to_string().contains("oplog of rs0 has diverged"), "{error}");
        assert!(error.remedy().is_some());
    }
    OplogTail::open(&oplog, there, AT_ONCE).await?;
    Ok(())
}

async fn a_position_ahead_of_the_member_is_told(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let oplog = only_oplog(&shop.mongod.uri()).await?;
    let newest = oplog.newest().await?;
    let time = ClusterTime { seconds: newest.time.seconds + 3_600, increment: 1 };
    let error = OplogTail::open(&oplog, OplogPosition { time, ..newest }, AT_ONCE).await.expect_err("a time to come");
    assert!(matches!(error, MongoError::MemberLags { .. }), "{error}");
    assert_eq!((error.class(), error.is_transient()), (ErrorClass::Failed, true));
    Ok(())
}

async fn transactions_and_ddl_come_as_they_are(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let oplog = only_oplog(&shop.mongod.uri()).await?;
    shop.create("orders", doc! {}).await?;
    let start = oplog.newest().await?;
    let orders = shop.database.collection::<Document>("orders");
    let mut session = shop.client.start_session().await?;
    session.start_transaction().await?;
    for document in numbered(3, 50) {
        orders.insert_one(document).session(&mut session).await?;
    }
    session.commit_transaction().await?;
    let name = shop.database.name();
    let rename = doc! { "renameCollection": format!("{name}.orders"), "to": format!("{name}.old") };
    shop.client.database("admin").run_command(rename).await?;
    shop.database.collection::<Document>("old").drop().await?;
    shop.database.collection("last").insert_one(doc! {}).write_concern(majority()).await?;
    let end = oplog.newest().await?;
    let mut tail = OplogTail::open(&oplog, start, AT_ONCE).await?;
    let entries = read_to(&mut tail, end).await?;
    assert!(entries == log_between(&shop.client, start, end).await?, "the entries differ from those in the log");
    let entries: Vec<Document> =
        entries.iter().map(|bytes| Document::from_reader(bytes.as_slice())).collect::<Result<_, _>>()?;
    for command in ["applyOps", "renameCollection", "drop"] {
        let is = |entry: &&Document| {
            let of_ours = entry.get_str("ns").is_ok_and(|ns| ns.starts_with(name) || ns == "admin.$cmd");
            of_ours && entry.get_document("o").is_ok_and(|o| o.contains_key(command))
        };
        assert!(entries.iter().any(|entry| is(&entry)), "no {command}");
    }
    Ok(())
}

/// A server whose log rolls over soon: it keeps what it has not written to a checkpoint, which it makes every minute unless told.
pub(crate) fn small_log(version: Version) -> MongodBuilder {
    Mongod::builder(version).oplog_mb(16).arg("--syncdelay").arg("1")
}

/// Writes until a position is no longer in the log.
pub(crate) async fn roll_over(client: &Client, oplog: &Oplog, position: OplogPosition) -> Outcome {
    let filler = client.database(&unique_name("filler")).collection::<Document>("filler");
    let padding = "x".repeat(8 << 20);
    let roll = async {
        while oplog.oldest().await?.time <= position.time {
            filler.insert_one(doc! { "padding": &padding }).write_concern(majority()).await?;
        }
        filler.drop().await?;
        Ok::<(), Box<dyn Error>>(())
    };
    timeout(Duration::from_secs(180), roll).await?
}

async fn a_position_that_has_rolled_out_is_told(version: Version) -> Outcome {
    let mongod = small_log(version).start().await?;
    let client = mongod.client().await?;
    let oplog = only_oplog(&mongod.uri()).await?;
    let saved = oplog.newest().await?;
    // A cursor that is left behind is told as well.
    let mut left_behind = OplogTail::open(&oplog, saved, AT_ONCE).await?;
    roll_over(&client, &oplog, saved).await?;
    let error = OplogTail::open(&oplog, saved, PATIENT).await.expect_err("a position that is gone");
    assert!(matches!(error, MongoError::RolledOver { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::LoadDue);
    assert!(error.remedy().ok_or("a remedy")?.contains("run `gizer resync`"), "{error}");
    let error = oplog.entry_at(saved).await.expect_err("an entry that is gone");
    assert!(matches!(error, MongoError::RolledOver { .. }), "{error}");
    left_behind.next_batch().await?;
    let error = timeout(LIMIT, left_behind.next_batch()).await?.expect_err("a cursor that was left behind");
    assert!(matches!(error, MongoError::RolledOver { .. }), "{error}");
    Ok(())
}

async fn a_lost_cursor_is_opened_again_where_it_was(version: Version) -> Outcome {
    let mongod = Mongod::builder(version).set_parameter("enableTestCommands", "1").start().await?;
    let client = mongod.client().await?;
    let oplog = only_oplog(&mongod.uri()).await?;
    let start = oplog.newest().await?;
    let mut tail = OplogTail::open(&oplog, start, PATIENT).await?;
    let orders = client.database("shop").collection("orders");
    let mut entries = Vec::new();
    // CursorNotFound, CappedPositionLost, InterruptedDueToReplStateChange, and no answer at all.
    let failures = [doc! { "errorCode": 43 }, doc! { "errorCode": 136 }, doc! { "errorCode": 11602 }];
    for (id, mut failure) in (0..).zip(failures.into_iter().chain([doc! { "closeConnection": true }])) {
        failure.extend(doc! { "failCommands": ["getMore"], "appName": "gizer" });
        let fail = doc! { "configureFailPoint": "failCommand", "mode": { "times": 2 }, "data": failure };
        client.database("admin").run_command(fail).await?;
        orders.insert_one(doc! { "_id": id }).write_concern(majority()).await?;
        // A server that has just begun writes entries of its own: the reading goes on behind them.
        let read = read_past(&mut tail, oplog.newest().await?).await?;
        entries.extend(read.into_iter().map(|(_, bytes)| bytes));
    }
    assert!(entries == log_between(&client, start, tail.position()).await?, "the entries differ from those in the log");

    // That entries are truncated where a cursor opens is no failure: another look finds what became of the position.
    let data = doc! { "failCommands": ["find"], "appName": "gizer", "errorCode": 136 };
    let fail = doc! { "configureFailPoint": "failCommand", "mode": { "times": 2 }, "data": data };
    client.database("admin").run_command(fail.clone()).await?;
    oplog.entry_at(start).await?;
    client.database("admin").run_command(fail).await?;
    let mut tail = OplogTail::open(&oplog, start, AT_ONCE).await?;

    // Without patience it is an error, and one can go on after it.
    tail.next_batch().await?;
    let data = doc! { "failCommands": ["getMore"], "appName": "gizer", "errorCode": 11602 };
    let fail = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data };
    client.database("admin").run_command(fail).await?;
    let position = tail.position();
    let error = tail.next_batch().await.expect_err("a failure and no patience");
    assert!(matches!(error, MongoError::ConnectionLost { .. }), "{error}");
    assert_eq!(tail.position(), position);
    let end = oplog.newest().await?;
    assert!(read_to(&mut tail, end).await? == log_between(&client, position, end).await?);
    Ok(())
}

async fn a_killed_server_that_comes_back_is_read_on(version: Version) -> Outcome {
    let mongod = Mongod::start(version).await?;
    let oplog = only_oplog(&mongod.uri()).await?;
    let start = oplog.newest().await?;
    let mut tail = OplogTail::open(&oplog, start, PATIENT).await?;
    let durable = WriteConcern::builder().w(mongodb::options::Acknowledgment::Majority).journal(true).build();
    let client = mongod.client().await?;
    let orders = client.database("shop").collection("orders");
    orders.insert_many(numbered(50, 100)).write_concern(durable.clone()).await?;
    // A server that has just begun writes entries of its own, behind the newest one that it names: they are kept too.
    let mut entries = read_past(&mut tail, oplog.newest().await?).await?;
    mongod.kill()?;
    let restart = async {
        mongod.restart().await?;
        orders.insert_one(doc! { "_id": "after" }).write_concern(durable).await?;
        // It may take writes before it can read what a majority has: `NotYetInitialized`.
        let newest = async || match oplog.newest().await {
            Err(error) if error.is_transient() => None,
            outcome => Some(outcome.map(drop)),
        };
        Ok::<(), Box<dyn Error>>(wait_for("the newest entry", LIMIT, newest).await??)
    };
    let after = tail.position();
    let next = async {
        while tail.position() == after {
            let batch = tail.next_batch().await?;
            entries.extend(batch.entries().map(|entry| (entry.position(), entry.document().as_bytes().to_vec())));
        }
        Ok::<(), Box<dyn Error>>(())
    };
    let both = async { tokio::try_join!(restart, next) };
    timeout(LIMIT, both).await??;
    entries.extend(read_past(&mut tail, oplog.newest().await?).await?);
    let entries: Vec<Vec<u8>> = entries.into_iter().map(|(_, bytes)| bytes).collect();
    assert!(entries == log_between(&client, start, tail.position()).await?, "the entries differ from those in the log");
    Ok(())
}

/// What is given has been confirmed by a majority, so the new primary has it too, and it is where reading goes on.
#[tokio::test]
async fn a_fail_over_neither_loses_nor_repeats_entries() -> Outcome {
    let set = ReplicaSet::start(Version::V5_0, 3).await?;
    let client = set.client().await?;
    let orders = client.database("shop").collection("orders");
    orders.insert_one(doc! { "_id": "before" }).write_concern(majority()).await?;
    let oplog = only_oplog(&set.uri()).await?;
    let start = oplog.newest().await?;
    let mut tail = OplogTail::open(&oplog, start, PATIENT).await?;
    orders.insert_many(numbered(20, 100)).write_concern(majority()).await?;
    let mut entries = read_past(&mut tail, oplog.newest().await?).await?;
    set.primary().await?.kill()?;
    set.primary().await?;
    orders.insert_one(doc! { "_id": "after" }).write_concern(majority()).await?;
    let end = oplog.newest().await?;
    assert!(end.term > start.term);
    entries.extend(read_past(&mut tail, end).await?);
    let entries: Vec<Vec<u8>> = entries.into_iter().map(|(_, bytes)| bytes).collect();
    assert!(entries == log_between(&client, start, tail.position()).await?, "the entries differ from those in the log");
    Ok(())
}

/// A prepared transaction stands in the log before its decision, and so may lie before the position of a load.
#[tokio::test]
async fn a_transaction_that_is_undecided_is_found_before_its_first_entry() -> Outcome {
    let mongod = Mongod::builder(Version::V6_0).set_parameter("enableTestCommands", "1").start().await?;
    let client = mongod.client().await?;
    let oplog = only_oplog(&mongod.uri()).await?;
    let orders = client.database("shop").collection("orders");
    orders.insert_one(doc! { "_id": 1 }).write_concern(majority()).await?;
    assert_eq!(oplog.before_undecided().await?, None);
    let before = oplog.newest().await?;
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    orders.insert_one(doc! { "_id": 2 }).session(&mut session).await?;
    let prepare = doc! { "prepareTransaction": 1, "writeConcern": { "w": "majority" } };
    let admin = client.database("admin");
    let prepared = admin.run_command(prepare).session(&mut session).await?;
    let found = oplog.before_undecided().await?.ok_or("the prepared transaction")?;
    assert!(found >= before && found.time < oplog.newest().await?.time, "{found:?}");
    let entries = log_between(&client, found, oplog.newest().await?).await?;
    let first = Document::from_reader(entries[0].as_slice())?;
    assert!(first.get_document("o")?.get_bool("prepare")?, "{first}");
    let time = prepared.get_timestamp("prepareTimestamp")?;
    admin.run_command(doc! { "commitTransaction": 1, "commitTimestamp": time }).session(&mut session).await?;
    orders.insert_one(doc! { "_id": 3 }).write_concern(majority()).await?;
    assert_eq!(oplog.before_undecided().await?, None);
    Ok(())
}
