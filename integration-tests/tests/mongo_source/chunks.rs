//! Chunks of real collections: each document once, whatever its `_id` and its size, as of a time.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::{Duration, Instant};

use bson::{Bson, Document, RawDocumentBuf, doc, rawdoc};
use bytes::Bytes;
use futures::TryStreamExt;
use gizer_flatten::change::ClusterTime;
use gizer_flatten::range::IdBound;
use gizer_oplog::{
    Chunk, Cluster, ClusterChunks, LookUp, MongoError, MongoSettings, Oplog, ReadAt, Stretch, WantedId,
    WatchedCollection, draw_boundaries, draw_ids, newest_positions,
};
use integration_tests::random::Random;
use integration_tests::rig::{Mongod, Version, shared_mongod, unique_name, wait_for};
use mongodb::Database;
use mongodb::options::{DatabaseOptions, WriteConcern};

use super::following::prepare;
use super::scan::values;
use super::{LIMIT, Outcome, encoded, numbered, on_each_version};

const MIB: usize = 1 << 20;

on_each_version!(
    chunks_have_each_document_once_as_it_was_at_a_time,
    a_time_out_of_reach_is_told,
    what_is_prepared_does_not_count_yet_and_nothing_waits_for_it,
    documents_of_sixteen_mebibytes_are_a_chunk_each,
    chunks_keep_to_the_collation_of_their_collection,
    a_collection_that_is_no_longer_the_same_is_told,
    ids_only_are_the_ids_of_the_same_documents,
    boundaries_cut_into_like_stretches,
);

/// A collection of a test's own, on one server or several.
struct Scene {
    databases: Vec<Database>,
    cluster: Cluster,
    oplogs: Vec<Oplog>,
    chunks: ClusterChunks,
}

impl Scene {
    async fn new(mongods: &[&Mongod]) -> Result<Scene, Box<dyn Error>> {
        let name = unique_name("shop");
        // Times are taken where a majority is: what was written must have got there.
        let options = DatabaseOptions::builder().write_concern(WriteConcern::majority()).build();
        let mut databases = Vec::new();
        for mongod in mongods {
            databases.push(mongod.client().await?.database_with_options(&name, options.clone()));
        }
        let uris = mongods.iter().map(|mongod| mongod.uri().parse()).collect::<Result<_, _>>()?;
        let cluster = Cluster::connect(MongoSettings { uris, database: name, oplogs: vec![] }).await?;
        let oplogs = cluster.oplogs().await?;
        Ok(Scene { databases, chunks: cluster.chunks(&oplogs), cluster, oplogs })
    }

    async fn with(mongods: &[&Mongod], documents: &[Document]) -> Result<Scene, Box<dyn Error>> {
        let scene = Scene::new(mongods).await?;
        scene.orders().insert_many(documents).await?;
        Ok(scene)
    }

    fn orders(&self) -> mongodb::Collection<Document> {
        self.databases[0].collection("orders")
    }

    async fn watched(&self) -> Result<WatchedCollection, MongoError> {
        let uuids = self.cluster.uuids(&self.cluster.collection("orders").await?, &self.oplogs);
        Ok(WatchedCollection { namespace: self.cluster.namespace("orders"), uuids })
    }

    async fn now(&self) -> Result<ClusterTime, MongoError> {
        Ok(newest_positions(&self.oplogs).await?.values().map(|newest| newest.time()).max().unwrap_or_default())
    }

    /// A time that all servers have reached, after everything that was written: their clocks do not know of each other.
    async fn reached_by_all(&self) -> Result<ClusterTime, Box<dyn Error>> {
        let written = self.now().await?;
        let reached = wait_for("all servers to reach a time", LIMIT, async || {
            for database in &self.databases {
                database.collection::<Document>("beside").insert_one(doc! {}).await.ok()?;
            }
            let newest = newest_positions(&self.oplogs).await.ok()?;
            newest.values().map(|newest| newest.time()).min().filter(|reached| *reached >= written)
        });
        Ok(reached.await?)
    }

    /// All documents as the server's own client has them, in the order of `_id`.
    async fn in_order(&self) -> Result<Vec<Vec<u8>>, mongodb::error::Error> {
        let orders = self.databases[0].collection::<RawDocumentBuf>("orders");
        let all: Vec<RawDocumentBuf> = orders.find(doc! {}).sort(doc! { "_id": 1 }).await?.try_collect().await?;
        Ok(all.into_iter().map(RawDocumentBuf::into_bytes).collect())
    }

    /// Everything, stretch by stretch between the cuts, chunk by chunk of so many documents.
    async fn all(
        &mut self,
        cuts: &[IdBound],
        at: ReadAt,
        mut most: impl FnMut() -> usize,
    ) -> Result<Vec<Vec<Vec<u8>>>, MongoError> {
        let watched = self.watched().await?;
        let mut ends: Vec<Option<IdBound>> = cuts.iter().cloned().map(Some).collect();
        ends.insert(0, None);
        ends.push(None);
        let mut given = Vec::new();
        for ends in ends.windows(2) {
            let mut stretch = Stretch { after: ends[0].clone(), upto: ends[1].clone() };
            loop {
                let most = most();
                let chunk = self.chunks.read(&watched, &stretch, at, most).await?;
                let documents = documents(&chunk);
                assert!(documents.len() <= most.max(self.databases.len()), "{} of {most}", documents.len());
                assert!(chunk.last.is_none() || !documents.is_empty(), "it does not go on");
                match at {
                    ReadAt::Exactly(at) => assert_eq!(chunk.read_until, at),
                    ReadAt::NotBefore(at) | ReadAt::Committed(at) => assert!(chunk.read_until >= at),
                }
                given.push(documents);
                if chunk.last.is_none() {
                    break;
                }
                assert_ne!(chunk.last, stretch.after, "it does not go on");
                stretch.after = chunk.last;
            }
        }
        Ok(given)
    }
}

/// A read at a time after the prepare entry would wait for the decision; what is committed can be read all the same.
async fn what_is_prepared_does_not_count_yet_and_nothing_waits_for_it(version: Version) -> Outcome {
    let mongod = Mongod::builder(version).set_parameter("enableTestCommands", "1").start().await?;
    let mut scene = Scene::with(&[&mongod], &numbered(3, 50)).await?;
    let orders = scene.orders();
    let (mut session, _) = prepare(scene.orders().client(), &orders, "prepared").await?;
    orders.insert_one(doc! { "_id": "beside" }).await?;
    let (now, committed) = (scene.now().await?, scene.in_order().await?);
    assert_eq!(committed.len(), 4);
    scene.chunks = scene.cluster.chunks(&scene.oplogs).with_time_limit(Duration::from_millis(300));
    let began = Instant::now();
    let error = scene.all(&[], ReadAt::Exactly(now), || 10).await.expect_err("a read that waits");
    assert!(matches!(error, MongoError::TimeOutOfReach { .. }), "{error}");
    assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
    assert_eq!(scene.all(&[], ReadAt::Committed(now), || 10).await?.concat(), committed);
    let ids: Vec<Bytes> = ["prepared", "beside"].map(|id| encoded(&doc! { "_id": id }).into()).into();
    let wanted = ids.into_iter().map(|id| WantedId { id, first: None, last: None }).collect();
    let mut look_up = scene.cluster.look_up(&scene.oplogs);
    look_up.begin(&scene.watched().await?, wanted, ReadAt::Committed(now)).await?;
    let mut found = 0;
    while let Some(documents) = look_up.next().await? {
        found += documents.len();
    }
    assert_eq!(found, 1);
    session.abort_transaction().await?;
    Ok(())
}

/// A server that keeps a time readable for as long as a test needs it: 4.4 does so for a few seconds.
async fn patient(version: Version, name: &str) -> Result<Mongod, integration_tests::rig::Error> {
    let mongod = Mongod::builder(version).repl_set_name(name);
    match version {
        Version::V4_4 => mongod.set_parameter("maxTargetSnapshotHistoryWindowInSeconds", "300"),
        _ => mongod,
    }
    .start()
    .await
}

fn documents(chunk: &Chunk) -> Vec<Vec<u8>> {
    assert!(chunk.documents.iter().all(|batch| !batch.is_empty()), "a batch without documents");
    chunk.documents.iter().flat_map(|batch| batch.documents()).map(|document| document.as_bytes().to_vec()).collect()
}

fn bound(id: impl Into<Bson>) -> IdBound {
    IdBound::from_bytes(encoded(&doc! { "_id": id.into() })).expect("BSON")
}

fn bound_of(document: &[u8]) -> IdBound {
    let document = gizer_schema::raw::RawDoc::new(document).expect("BSON");
    IdBound::of(document).expect("BSON").expect("an _id")
}

/// A document whose `_id` is text that no driver would make.
fn not_utf8() -> RawDocumentBuf {
    let mut bytes = encoded(&doc! { "_id": "aZb" });
    let at = bytes.iter().position(|byte| *byte == b'Z').expect("the letter");
    bytes[at] = 0xFF;
    RawDocumentBuf::from_bytes(bytes).expect("BSON")
}

async fn chunks_have_each_document_once_as_it_was_at_a_time(version: Version) -> Outcome {
    let mongod = patient(version, "rs0").await?;
    let mut ids = values();
    ids.extend((2..40).map(Bson::Int32));
    ids.extend((2..40).map(|n| Bson::Double(f64::from(n) + 0.5)));
    ids.extend((0..40).map(|n| Bson::String(format!("text {n}"))));
    ids.extend((0..9).map(|n| Bson::Document(doc! { "n": n, "x": null })));
    let stored: Vec<Document> = ids.iter().map(|id| doc! { "_id": id, "x": 1 }).collect();
    let mut scene = Scene::with(&[&mongod], &stored).await?;
    let odd = rawdoc! { "insert": "orders", "documents": [not_utf8()], "writeConcern": { "w": "majority" } };
    scene.databases[0].run_raw_command(odd).await?;
    let expected = scene.in_order().await?;
    assert_eq!(expected.len(), ids.len() + 1);
    let before = scene.now().await?;

    let orders = scene.orders();
    orders.insert_many((100..150).map(|id| doc! { "_id": id })).await?;
    orders.update_many(doc! { "_id": { "$type": "number" } }, doc! { "$set": { "x": "changed" } }).await?;
    orders.delete_many(doc! { "_id": { "$in": [Bson::MinKey, Bson::MaxKey, Bson::Null, Bson::Int32(7)] } }).await?;
    let changed = scene.in_order().await?;
    let after = scene.now().await?;

    let mut cuts: Vec<IdBound> = expected.iter().map(|document| bound_of(document)).collect();
    // Boundaries that are nobody's _id.
    let at = cuts.iter().position(|cut| *cut == bound(9)).ok_or("an _id 9")?;
    cuts.insert(at, bound(8.75));
    let at = cuts.iter().position(|cut| *cut == bound("text 1")).ok_or("some text")?;
    cuts.insert(at, bound("text 0\0"));
    for run in 0..12 {
        let mut random = Random::of(7, run, 0);
        let one_of = [1, 2, 20, 60][run as usize % 4];
        let mut some: Vec<IdBound> = cuts.iter().filter(|_| random.below(one_of) == 0).cloned().collect();
        if run == 11 {
            some.clear();
        }
        let largest = [1, 3, 30, 500][run as usize / 3];
        let at = if run % 2 == 0 { ReadAt::Exactly(before) } else { ReadAt::Exactly(after) };
        let seen = scene.all(&some, at, || 1 + random.below(largest) as usize).await?.concat();
        assert!(seen == if run % 2 == 0 { &expected[..] } else { &changed[..] }, "run {run}: {} seen", seen.len());
    }
    let seen = scene.all(&cuts, ReadAt::NotBefore(after), || 3).await?.concat();
    assert!(seen == changed, "as it is now");
    // Who reads in a transaction leaves none open, which would hold its snapshot for a minute.
    scene.all(&[], ReadAt::Exactly(after), || 500).await?;
    let status = mongod.client().await?.database("admin").run_command(doc! { "serverStatus": 1 }).await?;
    assert_eq!(status.get_document("transactions")?.get_i64("currentOpen")?, 0);
    // Nothing lies behind the last _id that there can be, nor between an _id and itself.
    let watched = scene.watched().await?;
    for stretch in [
        Stretch { after: Some(bound(Bson::MaxKey)), upto: None },
        Stretch { after: Some(bound(2)), upto: Some(bound(2)) },
    ] {
        let chunk = scene.chunks.read(&watched, &stretch, ReadAt::Exactly(before), 5).await?;
        assert!(chunk.documents.is_empty() && chunk.last.is_none(), "{stretch:?}");
    }
    Ok(())
}

async fn a_time_out_of_reach_is_told(version: Version) -> Outcome {
    let mut scene = Scene::with(&[shared_mongod(version).await?], &numbered(5, 60)).await?;
    let now = scene.now().await?;
    let long_ago = ClusterTime { seconds: now.seconds - 3600, increment: 1 };
    let error = scene.all(&[], ReadAt::Exactly(long_ago), || 2).await.expect_err("nobody keeps that long");
    assert!(matches!(&error, MongoError::TimeOutOfReach { at, .. } if *at == long_ago), "{error:?}");
    // By the same connection, and what it may have begun there.
    assert_eq!(scene.all(&[], ReadAt::Exactly(now), || 2).await?.concat().len(), 5);
    Ok(())
}

async fn documents_of_sixteen_mebibytes_are_a_chunk_each(version: Version) -> Outcome {
    let text = |id: i32, bytes: usize| doc! { "_id": id, "text": "x".repeat(bytes) };
    let empty = encoded(&text(0, 0)).len();
    let large =
        [(0, 1), (1, 16 * MIB - empty), (2, 16 * MIB - empty), (3, 6 * MIB), (4, 6 * MIB), (5, 6 * MIB), (6, 1)];
    let mut scene = Scene::new(&[shared_mongod(version).await?]).await?;
    for (id, bytes) in large {
        scene.orders().insert_one(text(id, bytes)).await?;
    }
    let expected = scene.in_order().await?;
    let now = scene.now().await?;
    for at in [ReadAt::Exactly(now), ReadAt::NotBefore(now)] {
        let chunks = scene.all(&[], at, || 1_000).await?;
        let sizes: Vec<usize> = chunks.iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 1, 2, 2], "{at:?}");
        // Not assert_eq!, which would print 50 MiB.
        assert!(chunks.concat() == expected);
    }
    // The last _id of a stretch is read by itself.
    let watched = scene.watched().await?;
    let stretch = Stretch { after: Some(bound(0)), upto: Some(bound(2)) };
    let chunk = scene.chunks.read(&watched, &stretch, ReadAt::NotBefore(now), 10).await?;
    assert_eq!((documents(&chunk).len(), chunk.last), (2, None));
    Ok(())
}

async fn chunks_keep_to_the_collation_of_their_collection(version: Version) -> Outcome {
    let mut options = vec![doc! { "collation": { "locale": "en", "strength": 2 } }];
    if version >= Version::V6_0 {
        // Since 5.3 a collection can have its documents in its _id index.
        options.push(doc! { "clusteredIndex": { "key": { "_id": 1 }, "unique": true } });
    }
    for (number, options) in options.into_iter().enumerate() {
        let mut scene = Scene::new(&[shared_mongod(version).await?]).await?;
        let mut create = doc! { "create": "orders" };
        create.extend(options);
        scene.databases[0].run_command(create).await?;
        // Under the collation "B" lies between "a" and "c", and "b" is the same; by their bytes it is before both.
        scene.orders().insert_many(["a", "B", "c", "D", "é", "f"].map(|id| doc! { "_id": id })).await?;
        let expected = scene.in_order().await?;
        let at = ReadAt::Exactly(scene.now().await?);
        for most in [1, 2, 100] {
            assert_eq!(scene.all(&[], at, || most).await?.concat(), expected);
        }
        let ids = |documents: &Vec<Vec<u8>>| -> Vec<String> {
            let documents = documents.iter().map(|bytes| Document::from_reader(bytes.as_slice()).expect("BSON"));
            documents.map(|document| document.get_str("_id").expect("text").to_owned()).collect()
        };
        let stretches = scene.all(&[bound("b"), bound("d")], at, || 100).await?;
        let expected = match number {
            0 => [vec!["a", "B"], vec!["c", "D"], vec!["é", "f"]],
            _ => [vec!["B", "D", "a"], vec!["c"], vec!["f", "é"]],
        };
        assert_eq!(stretches.iter().map(ids).collect::<Vec<_>>(), expected);
    }
    Ok(())
}

async fn a_collection_that_is_no_longer_the_same_is_told(version: Version) -> Outcome {
    let mut scene = Scene::with(&[shared_mongod(version).await?], &numbered(3, 60)).await?;
    let (watched, before) = (scene.watched().await?, scene.now().await?);
    let whole = Stretch::default();
    let mut told = async |at| {
        let read = scene.chunks.read(&watched, &whole, at, 10).await;
        assert!(matches!(&read, Err(MongoError::CollectionChanged { .. })), "{read:?}");
    };
    let orders = scene.databases[0].collection::<Document>("orders");
    orders.drop().await?;
    told(ReadAt::NotBefore(before)).await;
    told(ReadAt::Exactly(before)).await;
    // Another of its name.
    orders.insert_many(numbered(3, 60)).await?;
    told(ReadAt::NotBefore(before)).await;
    told(ReadAt::Exactly(before)).await;
    Ok(())
}

/// It is dropped after the check and before the read, which then gives nothing and no error.
#[tokio::test]
async fn a_collection_that_goes_while_it_is_read_is_told() -> Outcome {
    let mongod = Mongod::builder(Version::V6_0).set_parameter("enableTestCommands", "1").start().await?;
    let mut scene = Scene::with(&[&mongod], &numbered(3, 60)).await?;
    let (watched, now) = (scene.watched().await?, scene.now().await?);
    let admin = mongod.client().await?.database("admin");
    let hold = doc! { "failCommands": ["find"], "appName": "gizer", "blockConnection": true, "blockTimeMS": 3_000 };
    let hold = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": hold };
    let entered = admin.run_command(hold).await?.get_i32("count")? + 1;
    let orders = scene.orders();
    let drop = async {
        let held = doc! { "waitForFailPoint": "failCommand", "timesEntered": entered, "maxTimeMS": 30_000 };
        admin.run_command(held).await?;
        orders.drop().await
    };
    let whole = Stretch::default();
    let read = scene.chunks.read(&watched, &whole, ReadAt::NotBefore(now), 10);
    let (read, dropped) = tokio::time::timeout(LIMIT, async { tokio::join!(read, drop) }).await?;
    dropped?;
    assert!(matches!(&read, Err(MongoError::CollectionChanged { .. })), "{read:?}");
    Ok(())
}

/// Two replica sets without a router: their ids are mixed, one has nearly all, and they have copies in common.
#[tokio::test]
async fn chunks_have_the_documents_of_all_sources() -> Outcome {
    for version in [Version::V4_4, Version::V6_0] {
        let (one, other) = tokio::try_join!(patient(version, "rs0"), patient(version, "rs1"))?;
        let mut scene = Scene::new(&[&one, &other]).await?;
        let there = scene.databases[1].collection::<Document>("orders");
        let is_there = |id: i32| id % 50 == 7 || (600..640).contains(&id);
        let here: Vec<Document> = (0..1_000).filter(|id| !is_there(*id)).map(|id| doc! { "_id": id }).collect();
        let mut away: Vec<Document> = (0..1_000).filter(|id| is_there(*id)).map(|id| doc! { "_id": id }).collect();
        away.extend([doc! { "_id": 3, "copy": true }, doc! { "_id": Bson::MaxKey }]);
        scene.orders().insert_many(&here).await?;
        there.insert_many(&away).await?;
        let mut expected: Vec<Vec<u8>> = here.iter().chain(&away).map(encoded).collect();
        expected.sort_unstable();
        let at = ReadAt::Exactly(scene.reached_by_all().await?);
        // Later: not seen.
        scene.orders().delete_many(doc! { "_id": { "$lt": 30 } }).await?;
        there.insert_many((2_000..2_100).map(|id| doc! { "_id": id })).await?;
        for (most, cuts) in [
            (7, vec![bound(3), bound(605), bound(606)]),
            (40, vec![]),
            (100, vec![bound(500.5)]),
            (5_000, vec![bound(-1), bound(999)]),
            (1, vec![bound(10), bound(980)]),
        ] {
            let chunks = scene.all(&cuts, at, || most).await?;
            // Sources take turns in a chunk, and chunks follow each other.
            let number = |bytes: &Vec<u8>| match Document::from_reader(bytes.as_slice()).map(|d| d.get("_id").cloned())
            {
                Ok(Some(Bson::Int32(id))) => id,
                _ => i32::MAX,
            };
            let ends = chunks.iter().filter(|chunk| !chunk.is_empty()).map(|chunk| {
                let ids: BTreeSet<i32> = chunk.iter().map(number).collect();
                (*ids.first().expect("not empty"), *ids.last().expect("not empty"))
            });
            let ends: Vec<(i32, i32)> = ends.collect();
            assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "{most}: {ends:?}");
            let mut seen = chunks.concat();
            seen.sort_unstable();
            assert!(seen == expected, "{most}: {} of {}", seen.len(), expected.len());
        }

        // Both are drawn from, and they are in one order.
        let collection = scene.cluster.collection("orders").await?;
        let boundaries = draw_boundaries(&scene.cluster, &collection, 4).await?;
        let ids: Vec<i32> = boundaries.iter().map(id_of).collect();
        assert!(ids.len() == 4 && ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }
    Ok(())
}

fn id_of(bound: &IdBound) -> i32 {
    Document::from_reader(bound.as_bytes()).ok().and_then(|document| document.get_i32("_id").ok()).unwrap_or(i32::MAX)
}

async fn ids_only_are_the_ids_of_the_same_documents(version: Version) -> Outcome {
    let documents: Vec<Document> = values().into_iter().map(|id| doc! { "x": "y".repeat(90), "_id": id }).collect();
    let scene = Scene::with(&[shared_mongod(version).await?], &documents).await?;
    let (watched, now) = (scene.watched().await?, scene.now().await?);
    let mut ids: Vec<Bytes> =
        documents.iter().map(|document| encoded(&doc! { "_id": document.get("_id").cloned() }).into()).collect();
    ids.push(encoded(&doc! { "_id": "nobody's" }).into());
    for at in [ReadAt::Exactly(now), ReadAt::NotBefore(now)] {
        let mut seen = Vec::new();
        for mut look_up in [scene.cluster.look_up(&scene.oplogs), scene.cluster.look_up(&scene.oplogs).ids_only()] {
            let wanted = ids.iter().map(|id| WantedId { id: id.clone(), first: None, last: None }).collect();
            look_up.begin(&watched, wanted, at).await?;
            let mut given: Vec<Vec<u8>> = Vec::new();
            while let Some(batch) = look_up.next().await? {
                given.extend(batch.documents().map(|document| document.as_bytes().to_vec()));
            }
            seen.push(given);
        }
        let of_whole: BTreeSet<Vec<u8>> = seen[0].iter().map(|whole| bound_of(whole).as_bytes().to_vec()).collect();
        assert_eq!(of_whole.len(), documents.len());
        assert_eq!(seen[1].iter().cloned().collect::<BTreeSet<_>>(), of_whole, "{at:?}");
    }
    Ok(())
}

async fn boundaries_cut_into_like_stretches(version: Version) -> Outcome {
    let mut scene = Scene::with(&[shared_mongod(version).await?], &numbered(10_000, 60)).await?;
    let collection = scene.cluster.collection("orders").await?;
    let boundaries = draw_boundaries(&scene.cluster, &collection, 9).await?;
    assert_eq!(boundaries.len(), 9);
    let ids: Vec<i32> = boundaries.iter().map(id_of).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let at = ReadAt::NotBefore(scene.now().await?);
    let sizes: Vec<usize> = scene.all(&boundaries, at, || 20_000).await?.iter().map(Vec::len).collect();
    assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (10, 10_000));
    // Drawn by chance; one of half of the collection would be one in many millions.
    assert!(sizes.iter().all(|size| *size < 5_000), "{sizes:?}");

    let drawn = draw_ids(&scene.cluster, &collection, 100).await?;
    assert_eq!(drawn.len(), 100);
    let drawn: BTreeSet<i32> = drawn.iter().map(id_of).collect();
    assert!(drawn.len() > 80 && drawn.iter().all(|id| (0..10_000).contains(id)), "{drawn:?}");
    assert!(drawn.iter().any(|id| *id < 3_000) && drawn.iter().any(|id| *id > 7_000), "{drawn:?}");
    scene.orders().delete_many(doc! { "_id": { "$gte": 50 } }).await?;
    let collection = scene.cluster.collection("orders").await?;
    assert_eq!(draw_boundaries(&scene.cluster, &collection, 9).await?, []);
    assert_eq!(draw_ids(&scene.cluster, &collection, 100).await?.len(), 50);
    Ok(())
}
