//! An audit while documents are written and a `sync --follow` runs: nothing is reported that is equal, and what differs is.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bson::Document;
use integration_tests::random::Random;
use integration_tests::rig::{Signal, Version, shared_mongod, shared_postgres, wait_until};
use integration_tests::traffic::{COLLECTIONS, Step, Traffic, TrafficCollection};

use super::audit::verify;
use super::collections::{Collection, collections, fill};
use super::faults::{Injector, NewKey};
use super::injector::FAULTS;
use super::judge::{judge_against_fresh_load, judge_rebuilt, judge_traffic};
use super::seeds::seeds;
use super::world::{FOLLOW, LIMIT, World};

/// Audits of each seed, before a fault is put in.
const AUDITS: usize = 2;

/// Between two writes: steady, and not as much as the servers take.
const PAUSE: Duration = Duration::from_millis(4);

/// What documents hold that nobody writes to.
const QUIET: &str = "quiet";

/// A collection that nobody writes to at all.
const STILL: &str = "mixed";

/// Whether a step may meet documents beside those that it names.
fn meets_any(step: &Step) -> bool {
    let commands = match step {
        Step::Command(command) => std::slice::from_ref(command),
        Step::Transaction { commands, .. } => commands,
    };
    let statements = |name: &'static str| {
        let lists = commands.iter().filter_map(move |command| command.get_array(name).ok());
        lists.flatten().filter_map(|statement| statement.as_document())
    };
    statements("updates").any(|update| update.get_bool("multi").is_ok_and(|multi| multi))
        || statements("deletes").any(|delete| !delete.get_document("q").unwrap().contains_key("_id"))
}

/// Writes until told.
async fn write(world: &World<'_>, steps: impl Iterator<Item = Step>, done: &Cell<bool>) -> usize {
    let mut pace = tokio::time::interval(PAUSE);
    let mut count = 0;
    for step in steps {
        if done.get() {
            break;
        }
        pace.tick().await;
        step.run(world.mongo()).await.unwrap_or_else(|error| panic!("{error}: {step:?}"));
        count += 1;
    }
    count
}

/// The collections of the traffic, half of whose documents are quiet ones, and one that nobody writes to.
async fn begin(world: &World<'_>, seed: u64) -> Collection {
    let with = |collection: TrafficCollection, shard: u64| Traffic::of_shard(seed, shard, 2).documents(collection);
    for collection in COLLECTIONS {
        world.schema_file(collection.name, &collection.schema_file());
        let documents = world.mongo().collection::<Document>(collection.name);
        let mut quiet = with(collection, 1);
        quiet.iter_mut().for_each(|document| drop(document.insert("note", QUIET)));
        documents.insert_many(with(collection, 0).into_iter().chain(quiet)).await.unwrap();
    }
    let still = collections(seed, 40).into_iter().find(|collection| collection.name == STILL).unwrap();
    fill(world, std::slice::from_ref(&still)).await;
    world.run(&["load"]).await.expect_code(0);
    still
}

/// For documents that nobody writes to, in a collection that is written to or in another one.
async fn injector(world: &World<'_>, still: &Collection, seed: u64, among_writes: bool) -> Injector {
    let client = world.client().await;
    let mut random = Random::of(seed, FAULTS, 200);
    if !among_writes {
        return Injector::new(&client, STILL, still.new_key, random).await;
    }
    let collection = random.pick(&COLLECTIONS);
    let sql = format!("SELECT id::text FROM {} WHERE note = '{QUIET}'", collection.name);
    let quiet: BTreeSet<String> = client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(quiet.len(), 20);
    let new_key: NewKey = match collection.name {
        "counts" => |random| Some((-1 - random.below(1 << 40) as i64).to_string()),
        _ => |random| Some(format!("snobody {}", random.below(1 << 40))),
    };
    Injector::for_keys(&client, collection.name, new_key, random, |key| quiet.contains(key)).await
}

/// Audits, a fault, and its repair.
async fn audits(world: &World<'_>, still: &Collection, seed: u64, among_writes: bool) {
    let at = world.reached().await;
    wait_until("the follower to get going", LIMIT, async || world.reached().await != at).await.unwrap();
    let expect_nothing = async |args: &[&str]| {
        let report = verify(world, args, 0).await;
        report.expect_nothing();
        // Somebody follows, so that everything is decided in the end.
        let undecided: u64 = report.names().iter().map(|name| report.count(name, "not_compared")).sum();
        assert_eq!(undecided, 0, "{report:?}");
    };
    for _ in 0..AUDITS {
        expect_nothing(&[]).await;
    }
    let mut injector = injector(world, still, seed, among_writes).await;
    assert!(injector.any(&world.client().await).await, "no fault has come of seed {seed}");
    println!("  {:?}", injector.counts);
    for _ in 0..2 {
        let report = verify(world, &[], 4).await;
        report.expect_faults(&injector);
        for name in report.names().into_iter().filter(|name| *name != injector.collection) {
            report.expect_nothing_of(name);
        }
    }
    let repaired = verify(world, &["--repair"], 0).await;
    let said = repaired.of_collection(&injector.collection);
    assert_eq!(
        (repaired.count(&injector.collection, "repaired"), &said["state"]),
        (injector.documents(), &"repaired".into())
    );
    expect_nothing(&[]).await;
}

async fn beside_writes(version: Version, seed: u64) {
    let began = Instant::now();
    let world = World::new([shared_mongod(version).await.unwrap()], shared_postgres().await.unwrap()).await;
    // Either nothing is written to documents that are not named, or the fault is in another collection.
    let among_writes = seed.is_multiple_of(2);
    println!("MongoDB {version}: GIZER_AUDIT_SEED={seed}, a fault among writes: {among_writes}");
    let still = begin(&world, seed).await;
    let traffic = Traffic::of_shard(seed, 0, 2).filter(|step| !(among_writes && meets_any(step)));
    let mut running = world.spawn(FOLLOW);
    let done = Cell::new(false);
    let audited = async {
        audits(&world, &still, seed, among_writes).await;
        done.set(true);
    };
    let (steps, ()) = tokio::join!(write(&world, traffic, &done), audited);
    assert!(running.is_running().unwrap(), "{}", running.stderr());
    running.signal(Signal::Terminate).unwrap();
    running.wait().await.unwrap().expect_code(143);
    world.sync().await;
    judge_traffic(&world).await.unwrap();
    judge_rebuilt(&world, STILL).await.unwrap();
    judge_against_fresh_load(&world).await.unwrap();
    println!("  {steps} steps of traffic, {:.1} s", began.elapsed().as_secs_f64());
}

async fn seeds_of(version: Version, count: u64) {
    for seed in seeds(version, count) {
        beside_writes(version, seed).await;
    }
}

#[tokio::test]
async fn beside_writes_on_4_4() {
    seeds_of(Version::V4_4, 1).await;
}

#[tokio::test]
async fn beside_writes_on_5_0() {
    seeds_of(Version::V5_0, 1).await;
}

#[tokio::test]
async fn beside_writes_on_6_0() {
    seeds_of(Version::V6_0, 1).await;
}
