//! The oplogs of real servers, followed as changes.

use std::error::Error;
use std::time::Duration;

use bson::{Document, doc};
use gizer_flatten::change::{Change, ChangeKind, ClusterTime, Positions, SourcePosition};
use gizer_oplog::OplogPosition;
use gizer_oplog::{
    ChangeEvent, ChangeSource, Cluster, ErrorClass, FollowOptions, Interest, MongoError, MongoSettings, Oplog,
    OplogChanges, OplogTail, TailOptions, newest_positions,
};
use integration_tests::rig::{Mongod, ReplicaSet, Version, wait_for, wait_until};
use mongodb::options::WriteConcern;
use mongodb::{Client, ClientSession, Collection};
use tempfile::TempDir;
use tokio::time::timeout;

use super::tail::{AT_ONCE, only_oplog};
use super::{LIMIT, Outcome, Shop, numbered, on_each_version};

on_each_version!(
    a_large_transaction_comes_whole_from_wherever_it_is_read,
    a_prepared_transaction_holds_the_watermark_back_until_it_is_decided,
    all_kinds_of_changes_come,
);

/// What came, and the watermarks with how much came before each.
#[derive(Default)]
pub(super) struct Followed {
    changes: Vec<Change>,
    pub(super) watermarks: Vec<(usize, ClusterTime, Positions)>,
}

impl Followed {
    /// Follows until a watermark lies at or after each of the positions.
    pub(super) async fn until(&mut self, source: &mut impl ChangeSource, to: &Positions) -> Outcome {
        let end = to.values().map(|position| position.time()).max().unwrap_or_default();
        self.until_time(source, end).await
    }

    async fn until_time(&mut self, source: &mut impl ChangeSource, end: ClusterTime) -> Outcome {
        let follow = async {
            while self.watermark() < Some(end) {
                self.take(source.next().await?);
            }
            Ok::<(), MongoError>(())
        };
        Ok(timeout(LIMIT, follow).await??)
    }

    pub(super) fn take(&mut self, event: ChangeEvent) {
        match event {
            ChangeEvent::Change(change) => {
                assert!(
                    Some(change.position.time()) > self.watermark(),
                    "{:?} is not after the watermark",
                    change.position
                );
                self.changes.push(change);
            }
            ChangeEvent::Watermark { time, positions, read_to } => {
                assert!(Some(time) >= self.watermark() && read_to >= time);
                // The same again: a prepared transaction holds it back, and with it what came after.
                let last = self.watermarks.last().map(|(_, time, positions)| (*time, positions));
                if last == Some((time, &positions)) || (last.is_none() && read_to > time) {
                    return;
                }
                assert!(self.changes.last().is_none_or(|change| change.position.time() <= time));
                self.watermarks.push((self.changes.len(), time, positions));
            }
            _ => {}
        }
    }

    fn watermark(&self) -> Option<ClusterTime> {
        self.watermarks.last().map(|(_, time, _)| *time)
    }

    /// The `_id`s of inserted documents as they came.
    pub(super) fn inserted(&self) -> Vec<String> {
        let id = |change: &Change| match &change.kind {
            ChangeKind::Insert { document } => {
                Document::from_reader(document.as_ref()).ok()?.get("_id").map(ToString::to_string)
            }
            _ => None,
        };
        self.changes.iter().filter_map(id).collect()
    }
}

pub(super) fn all_of(database: &str) -> Interest {
    Interest { database: database.to_owned(), ..Interest::default() }
}

pub(super) struct Spilling {
    folder: TempDir,
}

impl Spilling {
    pub(super) fn new() -> Result<Spilling, Box<dyn Error>> {
        Ok(Spilling { folder: tempfile::tempdir()? })
    }

    pub(super) fn options(&self) -> FollowOptions {
        FollowOptions {
            tail: AT_ONCE,
            transaction_memory: 1 << 20,
            watermark_changes: 3,
            ..FollowOptions::new(self.folder.path())
        }
    }

    fn patient(&self) -> FollowOptions {
        let tail = TailOptions { patience: LIMIT, wait: Duration::from_millis(100) };
        FollowOptions { tail, ..self.options() }
    }
}

fn one(position: impl Into<SourcePosition>) -> Positions {
    Positions::from([("rs0".to_owned(), position.into())])
}

pub(super) async fn majority(orders: &Collection<Document>, id: impl Into<bson::Bson>) -> Outcome {
    orders.insert_one(doc! { "_id": id.into() }).write_concern(WriteConcern::majority()).await?;
    Ok(())
}

/// Where the entries of a log are.
async fn positions_between(
    oplog: &Oplog,
    from: OplogPosition,
    to: OplogPosition,
) -> Result<Vec<OplogPosition>, Box<dyn Error>> {
    let mut tail = OplogTail::open(oplog, from, AT_ONCE).await?;
    let mut positions = vec![from];
    while tail.position() < to {
        positions.extend(tail.next_batch().await?.entries().map(|entry| entry.position()));
    }
    positions.retain(|position| *position <= to);
    Ok(positions)
}

async fn a_large_transaction_comes_whole_from_wherever_it_is_read(version: Version) -> Outcome {
    // The writes of a transaction stay in the cache until it is committed: in the smallest one 4.4 makes no headway.
    let mongod = Mongod::builder(version).cache_gb(1.0).oplog_mb(256).start().await?;
    let (client, spilling) = (mongod.client().await?, Spilling::new()?);
    let oplog = only_oplog(&mongod.uri()).await?;
    let oplogs = [oplog.clone()];
    let orders = client.database("shop").collection::<Document>("orders");
    majority(&orders, "before").await?;
    let start = oplog.newest().await?;
    majority(&orders, "first").await?;
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    // More than one entry may hold: 16 MiB.
    for document in numbered(5, 9 << 20) {
        orders.insert_one(document).session(&mut session).await?;
    }
    session.commit_transaction().await?;
    majority(&orders, "last").await?;
    let end = oplog.newest().await?;

    let interest = || all_of("shop");
    let mut source = OplogChanges::open(&oplogs, &one(start), interest(), spilling.options()).await?;
    let mut whole = Followed::default();
    whole.until(&mut source, &one(end)).await?;
    assert_eq!(whole.inserted(), ["\"first\"", "0", "1", "2", "3", "4", "\"last\""]);
    let committed = &whole.changes[1].position;
    assert!(whole.changes[1..6].iter().all(|change| change.position == *committed));
    assert!(whole.watermarks.iter().all(|(given, ..)| !(2..6).contains(given)), "a watermark inside of it");

    // From each watermark, and from each entry: some of them are pieces of the transaction.
    let positions = positions_between(&oplog, start, end).await?;
    let positions: Vec<SourcePosition> = positions.into_iter().map(SourcePosition::from).collect();
    let pieces = positions.iter().filter(|position| *position < committed && **position > whole.changes[0].position);
    assert!(pieces.count() >= 2);
    let watermarks = whole.watermarks.iter().map(|(_, _, positions)| positions["rs0"].clone());
    for from in positions.iter().cloned().chain(watermarks).filter(|from| *from < end.into()) {
        let mut source = OplogChanges::open(&oplogs, &one(from.clone()), interest(), spilling.options()).await?;
        let mut rest = Followed::default();
        rest.until(&mut source, &one(end)).await?;
        let expected = whole.changes.iter().filter(|change| change.position > from);
        assert!(rest.changes.iter().eq(expected), "from {from:?}");
    }
    assert_eq!(std::fs::read_dir(spilling.folder.path())?.count(), 0);
    Ok(())
}

/// A transaction that has been prepared, and the time that it was given.
pub(super) async fn prepare(
    client: &Client,
    orders: &Collection<Document>,
    id: &str,
) -> Result<(ClientSession, bson::Timestamp), Box<dyn Error>> {
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    orders.insert_one(doc! { "_id": id }).session(&mut session).await?;
    let prepare = doc! { "prepareTransaction": 1, "writeConcern": { "w": "majority" } };
    let prepared = client.database("admin").run_command(prepare).session(&mut session).await?;
    Ok((session, prepared.get_timestamp("prepareTimestamp")?))
}

async fn a_prepared_transaction_holds_the_watermark_back_until_it_is_decided(version: Version) -> Outcome {
    let mongod = Mongod::builder(version).set_parameter("enableTestCommands", "1");
    // What begins where all has been read waits for the next no-op.
    let mongod = mongod.set_parameter("periodicNoopIntervalSecs", "1").start().await?;
    let (client, spilling) = (mongod.client().await?, Spilling::new()?);
    let admin = client.database("admin");
    let orders = client.database("shop").collection::<Document>("orders");
    majority(&orders, "before").await?;
    let oplogs = [only_oplog(&mongod.uri()).await?];
    let start = newest_positions(&oplogs).await?;
    let mut source = OplogChanges::open(&oplogs, &start, all_of("shop"), spilling.options()).await?;
    let mut followed = Followed::default();
    majority(&orders, "first").await?;
    let (mut committed, time) = prepare(&client, &orders, "committed").await?;
    let (mut aborted, _) = prepare(&client, &orders, "aborted").await?;
    majority(&orders, "beside").await?;
    let beside = newest_positions(&oplogs).await?;
    // All of this is read, and is given before the decision.
    let given = async {
        while followed.inserted().len() < 2 {
            followed.take(source.next().await?);
        }
        Ok::<(), MongoError>(())
    };
    timeout(LIMIT, given).await??;
    aborted.abort_transaction().await?;
    admin.run_command(doc! { "commitTransaction": 1, "commitTimestamp": time }).session(&mut committed).await?;
    majority(&orders, "last").await?;
    followed.until(&mut source, &newest_positions(&oplogs).await?).await?;
    assert_eq!(followed.inserted(), ["\"first\"", "\"beside\"", "\"committed\"", "\"last\""]);
    let prepared = ClusterTime { seconds: time.time, increment: time.increment };
    let decided = followed.changes[2].position.time();
    assert!(decided > beside["rs0"].time());
    for (_, watermark, _) in &followed.watermarks {
        assert!(*watermark < prepared || *watermark >= decided, "{watermark} between {prepared} and {decided}");
    }
    // Any of its watermarks is a place to go on from, and so is what a load might have begun with.
    let saved: Vec<Positions> = followed.watermarks.iter().map(|(_, _, positions)| positions.clone()).collect();
    for from in saved.into_iter().chain([beside]) {
        let mut source = OplogChanges::open(&oplogs, &from, all_of("shop"), spilling.options()).await?;
        let mut rest = Followed::default();
        rest.until_time(&mut source, followed.watermark().unwrap_or_default()).await?;
        assert!(rest.changes.iter().eq(followed.changes.iter().filter(|change| change.position > from["rs0"])));
    }
    Ok(())
}

async fn all_kinds_of_changes_come(version: Version) -> Outcome {
    let (shop, spilling) = (Shop::new(version).await?, Spilling::new()?);
    let oplog = only_oplog(&shop.mongod.uri()).await?;
    let name = shop.database.name();
    let orders = shop.database.collection::<Document>("orders");
    majority(&orders, "before").await?;
    let start = oplog.newest().await?;
    let others = shop.database.collection::<Document>("others");
    orders.insert_one(doc! { "_id": 1, "x": 1 }).await?;
    orders.update_one(doc! { "_id": 1 }, doc! { "$set": { "x": 2 } }).await?;
    orders.replace_one(doc! { "_id": 1 }, doc! { "y": 3 }).await?;
    orders.delete_one(doc! { "_id": 1 }).await?;
    others.insert_one(doc! { "_id": 1 }).await?;
    let rename = doc! { "renameCollection": format!("{name}.orders"), "to": format!("{name}.old") };
    shop.client.database("admin").run_command(rename).await?;
    shop.database.collection::<Document>("old").drop().await?;
    let done = shop.client.database("shop_done").collection::<Document>("done");
    done.insert_one(doc! {}).write_concern(WriteConcern::majority()).await?;
    let end = oplog.newest().await?;

    let collections = Some(["orders".to_owned()].into());
    let interest = Interest { collections, ..all_of(name) };
    let options = FollowOptions { watermark_changes: 1_000, ..spilling.options() };
    let mut source = OplogChanges::open(&[oplog], &one(start), interest, options).await?;
    let mut followed = Followed::default();
    followed.until(&mut source, &one(end)).await?;
    let kinds: Vec<(&str, &str)> = followed
        .changes
        .iter()
        .map(|change| {
            let kind = match &change.kind {
                ChangeKind::Insert { .. } => "insert",
                ChangeKind::Update { .. } => "update",
                ChangeKind::Replace { .. } => "replace",
                ChangeKind::Delete { .. } => "delete",
                ChangeKind::Create => "create",
                ChangeKind::Drop => "drop",
                ChangeKind::Rename { .. } => "rename",
                _ => "another",
            };
            (kind, change.namespace.collection.as_str())
        })
        .collect();
    let of_orders = ["insert", "update", "replace", "delete"].map(|kind| (kind, "orders"));
    assert_eq!(kinds[..4], of_orders);
    assert_eq!(kinds[4..], [("create", "others"), ("rename", "orders"), ("drop", "old")]);
    // Each of the three stands alone between two watermarks.
    let given: Vec<usize> = followed.watermarks.iter().map(|(given, ..)| *given).collect();
    assert!([4, 5, 6, 7].iter().all(|count| given.contains(count)), "{given:?}");
    Ok(())
}

/// Nothing is written to one of the shards: the watermark goes on with what its server writes by itself.
#[tokio::test]
async fn an_idle_shard_does_not_keep_the_other_from_going_on() -> Outcome {
    let set = |name: &str| {
        // Every 10 seconds unless told.
        Mongod::builder(Version::V6_0).repl_set_name(name).set_parameter("periodicNoopIntervalSecs", "1").start()
    };
    let (a, b) = tokio::try_join!(set("rs-a"), set("rs-b"))?;
    let uris = vec![a.uri().parse()?, b.uri().parse()?];
    let cluster = Cluster::connect(MongoSettings { uris, database: "shop".into(), oplogs: vec![] }).await?;
    let (oplogs, spilling) = (cluster.oplogs().await?, Spilling::new()?);
    let start = newest_positions(&oplogs).await?;
    let mut source = OplogChanges::open(&oplogs, &start, all_of("shop"), spilling.options()).await?;
    let orders = a.client().await?.database("shop").collection::<Document>("orders");
    for id in 0..20 {
        majority(&orders, id).await?;
    }
    let newest = newest_positions(&oplogs).await?;
    let mut followed = Followed::default();
    followed.until(&mut source, &newest).await?;
    assert_eq!(followed.inserted(), (0..20).map(|id| id.to_string()).collect::<Vec<String>>());
    let (_, _, positions) = followed.watermarks.last().ok_or("a watermark")?;
    assert!(positions["rs-a"] >= newest["rs-a"] && positions["rs-b"] >= start["rs-b"], "{positions:?}");
    // The idle one's position goes on with its no-ops.
    let later = wait_for("a no-op of the idle shard", LIMIT, async || {
        newest_positions(&oplogs).await.ok().filter(|now| now["rs-b"] > newest["rs-b"])
    });
    let later = later.await?;
    followed.until(&mut source, &later).await?;
    let (_, _, positions) = followed.watermarks.last().ok_or("a watermark")?;
    assert!(positions["rs-b"] >= later["rs-b"], "{positions:?}");

    // Who has a position, and who has an oplog, has to have both.
    let open = async |from: Positions| OplogChanges::open(&oplogs, &from, all_of("shop"), spilling.options()).await;
    let added = Positions::from([("rs-a".to_owned(), start["rs-a"].clone())]);
    let error = open(added).await.expect_err("an oplog without a position");
    assert!(matches!(&error, MongoError::ShardAdded { shard } if shard == "rs-b"), "{error}");
    assert_eq!((error.class(), error.remedy().is_some()), (ErrorClass::LoadDue, true));
    let mut gone = start.clone();
    gone.insert("rs-c".to_owned(), start["rs-a"].clone());
    let error = open(gone).await.expect_err("a position without an oplog");
    assert!(matches!(&error, MongoError::ShardGone { shard, .. } if shard == "rs-c"), "{error}");
    assert_eq!((error.class(), error.remedy().is_some()), (ErrorClass::Configuration, true));
    let none = OplogChanges::open(&[], &Positions::new(), all_of("shop"), spilling.options()).await;
    assert!(matches!(none, Err(MongoError::NoUri)));
    Ok(())
}

#[tokio::test]
async fn a_primary_that_steps_down_neither_loses_nor_repeats_changes() -> Outcome {
    let (set, spilling) = (ReplicaSet::start(Version::V5_0, 3).await?, Spilling::new()?);
    let client = set.client().await?;
    let orders = client.database("shop").collection::<Document>("orders");
    majority(&orders, -1).await?;
    let oplogs = [only_oplog(&set.uri()).await?];
    let start = newest_positions(&oplogs).await?;
    let mut source = OplogChanges::open(&oplogs, &start, all_of("shop"), spilling.patient()).await?;
    let mut followed = Followed::default();
    let write = async {
        for id in 0..60 {
            if id == 30 {
                let old = set.primary().await?.port();
                let down = doc! { "replSetStepDown": 30, "secondaryCatchUpPeriodSecs": 10 };
                client.database("admin").run_command(down).await?;
                wait_until("another primary", LIMIT, async || {
                    set.primary().await.is_ok_and(|primary| primary.port() != old)
                })
                .await?;
            }
            majority(&orders, id).await?;
        }
        Ok::<(), Box<dyn Error>>(())
    };
    let follow = async {
        while followed.inserted().len() < 60 {
            followed.take(source.next().await?);
        }
        Ok::<(), Box<dyn Error>>(())
    };
    timeout(LIMIT, async { tokio::try_join!(write, follow) }).await??;
    let newest = newest_positions(&oplogs).await?;
    followed.until(&mut source, &newest).await?;
    assert_eq!(followed.inserted(), (0..60).map(|id| id.to_string()).collect::<Vec<String>>());
    let term = |positions: &Positions| OplogPosition::of(&positions["rs0"]).map(|position| position.term);
    assert!(term(&newest) > term(&start));
    Ok(())
}

#[tokio::test]
async fn an_entry_is_looked_up_where_it_is_or_it_is_told_why_not() -> Outcome {
    let shop = Shop::new(Version::V4_4).await?;
    let oplog = only_oplog(&shop.mongod.uri()).await?;
    let orders = shop.database.collection::<Document>("orders");
    majority(&orders, 1).await?;
    let there = oplog.newest().await?;
    majority(&orders, 2).await?;
    let entry = oplog.entry_at(there).await?;
    assert_eq!(Document::from_reader(entry.as_ref())?.get_timestamp("ts")?.time, there.time.seconds);
    let error = oplog.entry_at(OplogPosition { term: there.term + 1, ..there }).await.expect_err("another term");
    assert!(matches!(error, MongoError::Diverged { .. }), "{error}");
    let time = ClusterTime { seconds: there.time.seconds + 3_600, increment: 1 };
    let error = oplog.entry_at(OplogPosition { time, ..there }).await.expect_err("a time to come");
    assert!(matches!(error, MongoError::MemberLags { .. }), "{error}");
    let error = oplog.entry_at(OplogPosition::default()).await.expect_err("before the log");
    assert!(matches!(error, MongoError::RolledOver { .. }), "{error}");
    Ok(())
}
