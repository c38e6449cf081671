//! Audits that are not of the usual kind: behind the oplog, of a sample, of what cannot be audited.

use std::collections::BTreeSet;

use bson::{Bson, Document, Timestamp, doc};
use integration_tests::random::Random;
use integration_tests::rig::{Mongod, Version, shared_mongod, shared_postgres, wait_until};

use super::audit::verify;
use super::collections::{Collection, collections, fill, judge};
use super::faults::{Injector, Kind};
use super::injector::FAULTS;
use super::world::{LIMIT, World};

/// One whose rows are read by range, one whose rows are not, and one of the classic dialect.
const NAMES: [&str; 3] = ["ints", "mixed", "things"];

async fn filled<'s>(mongod: &'s Mongod, count: u64) -> (World<'s>, Vec<Collection>) {
    let world = World::new([mongod], shared_postgres().await.unwrap()).await;
    let mut collections = collections(11, count);
    collections.retain(|collection| NAMES.contains(&collection.name));
    fill(&world, &collections).await;
    world.run(&["load"]).await.expect_code(0);
    (world, collections)
}

/// Changes of every kind to the documents with these numbers; gives how many documents that are.
async fn change(world: &World<'_>, collections: &[Collection], numbers: std::ops::Range<usize>) -> u64 {
    for collection in collections {
        let documents = world.mongo().collection::<Document>(collection.name);
        for (number, document) in numbers.clone().zip(&collection.documents[numbers.clone()]) {
            let id = doc! { "_id": &document["_id"] };
            match number % 3 {
                0 => assert_eq!(documents.delete_one(id).await.unwrap().deleted_count, 1),
                1 => {
                    let change = doc! { "$set": { "name": format!("changed {number}"), "tags": ["changed"] } };
                    assert_eq!(documents.update_one(id, change).await.unwrap().modified_count, 1);
                }
                _ => {
                    let mut other = document.clone();
                    // The document itself stays as it is.
                    other.insert("_id", new_id(collection.name, number));
                    documents.insert_one(other).await.unwrap();
                }
            }
        }
    }
    numbers.len() as u64
}

fn new_id(collection: &str, number: usize) -> Bson {
    match collection {
        "ints" => (1_000_000 + number as i32).into(),
        _ => format!("new {number}").into(),
    }
}

/// What has changed since nobody followed is no difference.
#[tokio::test]
async fn nobody_follows_and_documents_have_changed() {
    for version in Version::ALL {
        let (world, collections) = filled(shared_mongod(version).await.unwrap(), 40).await;
        world.sync().await;
        let changed = change(&world, &collections, 0..12).await;
        let report = verify(&world, &[], 0).await;
        for collection in &collections {
            report.expect_nothing_of(collection.name);
            assert!(report.count(collection.name, "not_compared") <= changed, "{report:?}");
        }
        world.sync().await;
        judge(&world, &collections).await.unwrap();
        let report = verify(&world, &[], 0).await;
        report.expect_nothing();
        assert!(NAMES.iter().all(|name| report.count(name, "not_compared") == 0), "{report:?}");
    }
}

/// Waits until nothing can be read any more as it was before now.
pub(crate) async fn wait_until_out_of_reach(world: &World<'_>) {
    const SNAPSHOT_TOO_OLD: i32 = 239;
    let bystander = world.mongo().collection::<Document>("bystander");
    bystander.insert_one(doc! {}).await.unwrap();
    let hello = world.mongo().run_command(doc! { "hello": 1 }).await.unwrap();
    let time: Timestamp = hello.get_document("$clusterTime").unwrap().get_timestamp("clusterTime").unwrap();
    wait_until("a time to be out of reach", LIMIT, async || {
        // It is written to, so that time goes on.
        bystander.insert_one(doc! {}).await.unwrap();
        let concern = doc! { "level": "snapshot", "atClusterTime": time };
        let read = world.mongo().run_command(doc! { "find": "bystander", "limit": 1, "readConcern": concern }).await;
        read.is_err_and(|error| match &*error.kind {
            mongodb::error::ErrorKind::Command(command) => command.code == SNAPSHOT_TOO_OLD,
            _ => panic!("{error}"),
        })
    })
    .await
    .unwrap();
}

/// The log decides what cannot be read as it was: what has changed is not compared, what has not and differs is a difference.
async fn the_log_decides(version: Version) {
    let window = "minSnapshotHistoryWindowInSeconds";
    let mongod = Mongod::builder(version).set_parameter(window, "1").start().await.unwrap();
    let (world, collections) = filled(&mongod, 40).await;
    world.sync().await;
    wait_until_out_of_reach(&world).await;
    let changed = change(&world, &collections, 0..12).await;
    let report = verify(&world, &[], 0).await;
    for collection in &collections {
        report.expect_nothing_of(collection.name);
        assert_eq!(report.count(collection.name, "not_compared"), changed, "{report:?}");
    }
    // A fault where nothing has changed.
    let client = world.client().await;
    let mut injectors = Vec::new();
    for collection in &collections {
        let untouched: BTreeSet<String> = untouched(&world, collection).await;
        let random = Random::of(11, FAULTS, 400);
        let may_touch = |key: &str| untouched.contains(key);
        let mut injector = Injector::for_keys(&client, collection.name, collection.new_key, random, may_touch).await;
        for kind in [Kind::Deleted, Kind::Swapped, Kind::LeftOver, Kind::DocumentMissing] {
            assert!(injector.inject(&client, kind).await, "{}", kind.name());
        }
        injectors.push(injector);
    }
    let report = verify(&world, &[], 4).await;
    for injector in &injectors {
        report.expect(&injector.collection, "differs", &injector.expected);
        assert_eq!(report.count(&injector.collection, "not_compared"), changed, "{report:?}");
    }
    // What repairs brings the tables up to date, too.
    verify(&world, &["--repair"], 0).await;
    judge(&world, &collections).await.unwrap();
    verify(&world, &[], 0).await.expect_nothing();
}

/// Keys of documents that are not among the first twelve.
async fn untouched(world: &World<'_>, collection: &Collection) -> BTreeSet<String> {
    let sql = format!("SELECT id::text FROM {}", collection.name);
    let keys: BTreeSet<String> =
        world.client().await.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let key = |document: &Document| match &document["_id"] {
        Bson::Int32(id) => Some(id.to_string()),
        Bson::String(id) if collection.name == "things" => Some(id.clone()),
        // Tagged.
        Bson::String(id) if !id.contains('\0') && id.len() < 900 => Some(format!("s{}", id.replace('\\', "\\\\"))),
        _ => None,
    };
    collection.documents[12..].iter().filter_map(key).filter(|key| keys.contains(key)).collect()
}

#[tokio::test]
async fn a_time_that_is_out_of_reach() {
    tokio::join!(the_log_decides(Version::V5_0), the_log_decides(Version::V6_0));
}

/// So many documents, drawn by chance, and what they have.
#[tokio::test]
async fn a_sample() {
    let (world, collections) = filled(shared_mongod(Version::V6_0).await.unwrap(), 60).await;
    let report = verify(&world, &["--sample", "10"], 0).await;
    report.expect_nothing();
    for collection in &collections {
        assert_eq!(report.of_collection(collection.name)["kind"], "sample");
        assert_eq!(report.count(collection.name, "documents"), 10);
        assert_eq!(report.count(collection.name, "equal"), 10);
    }
    // More than there are.
    let report = verify(&world, &["--sample", "1000", "ints"], 0).await;
    assert_eq!((report.names(), report.count("ints", "documents")), (vec!["ints"], 60));
    // Wrong everywhere, and so wherever one looks.
    let client = world.client().await;
    client.batch_execute("UPDATE ints SET count = coalesce(count, 0) + 1").await.unwrap();
    let report = verify(&world, &["--sample", "10", "ints"], 4).await;
    assert_eq!((report.count("ints", "documents"), report.count("ints", "different")), (10, 10));
    let report = verify(&world, &["--sample", "10", "--repair", "ints"], 0).await;
    assert_eq!(report.count("ints", "repaired"), 10);
    // A sample is no proof of the rest.
    let report = verify(&world, &["ints"], 4).await;
    assert_eq!(report.count("ints", "different"), 50);
    verify(&world, &["ints", "--repair"], 0).await;
    judge(&world, &collections).await.unwrap();
}

/// What is said of a collection that there is nothing to audit of.
#[tokio::test]
async fn what_cannot_be_audited() {
    let (world, _) = filled(shared_mongod(Version::V6_0).await.unwrap(), 20).await;
    world.run(&["load", "ints", "--filter", r#"{"_id": {"$gt": 0}}"#]).await.expect_code(0);
    world.schema_file("never", r#"{"_id": "INT"}"#);
    for (name, words) in
        [("ints", &["ints", "copy", "load"][..]), ("never", &["never", "load"]), ("things_", &["things_"])]
    {
        let said = world.run(&["verify", name]).await.expect_code(2).stderr;
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
    }
    // One that cannot be audited keeps the others from it: a mistake on the command line.
    let said = world.run(&["verify", "things", "ints"]).await.expect_code(2).stderr;
    assert!(said.contains("ints"), "{said}");
    // Tables that somebody has taken away.
    world.client().await.batch_execute("DROP TABLE thing_tags").await.unwrap();
    let said = world.run(&["verify", "things"]).await;
    assert!(said.code() != Some(0) && said.stderr.contains("thing_tags"), "{said:?}");
}
