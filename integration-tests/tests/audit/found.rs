//! Single faults by the hundred over all tables, by the thousand in long runs: each is found, located and repaired; none is missed,
//! and nothing equal is reported.

use std::collections::BTreeMap;

use integration_tests::random::Random;
use integration_tests::rig::Version;
use tokio_postgres::Client;

use super::audit::{rows_by_table, verify};
use super::collections::{Collection, judge};
use super::faults::{Injector, Kind};
use super::injector::{FAULTS, drop_primary_key};
use super::rows::{Dump, differences, dump, quoted, tables};
use super::seeds::{loaded_of, seeds};
use super::world::World;

/// Nothing differs, nothing is reported, and everything was looked at.
async fn all_is_equal(world: &World<'_>, collections: &[Collection]) {
    let report = verify(world, &[], 0).await;
    let mut names: Vec<&str> = collections.iter().map(|collection| collection.name).collect();
    names.sort_unstable();
    assert_eq!(report.names(), names);
    report.expect_nothing();
    let client = world.client().await;
    for collection in collections {
        let documents = world.documents(collection.name).await.len() as u64;
        let said = report.of_collection(collection.name);
        assert_eq!(said["kind"], "full", "{said}");
        assert_eq!(report.count(collection.name, "documents"), documents, "{said}");
        assert_eq!(report.count(collection.name, "equal"), documents, "{said}");
        assert_eq!(report.count(collection.name, "not_compared"), 0, "{said}");
        let mut rows = BTreeMap::new();
        for table in tables(&client, collection.name).await {
            let sql = format!("SELECT count(*) FROM {}", table.sql());
            let count: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
            rows.insert(table.name, count as u64);
        }
        assert_eq!(rows_by_table(said), rows, "{}", collection.name);
        assert_eq!(report.count(collection.name, "rows"), rows.values().sum::<u64>(), "{said}");
    }
}

async fn dump_all(client: &Client, collections: &[Collection]) -> BTreeMap<&'static str, Dump> {
    let mut dumps = BTreeMap::new();
    for collection in collections {
        let tables = tables(client, collection.name).await;
        dumps.insert(collection.name, dump(client, &tables).await);
    }
    dumps
}

/// So many faults in each collection.
async fn inject(client: &Client, collections: &[Collection], random: u64, faults: u64) -> Vec<Injector> {
    let mut injectors = Vec::new();
    for (number, collection) in (0..).zip(collections) {
        let random = Random::of(random, FAULTS, number);
        let mut injector = Injector::new(client, collection.name, collection.new_key, random).await;
        for _ in 0..faults {
            if !injector.any(client).await {
                break;
            }
        }
        injectors.push(injector);
    }
    injectors
}

/// Found, and looked at again: the same. Repaired: all is as it was.
async fn found_and_repaired(
    world: &World<'_>,
    collections: &[Collection],
    injectors: &[Injector],
    before: &BTreeMap<&str, Dump>,
) {
    let report = verify(world, &[], 4).await;
    for injector in injectors {
        report.expect_faults(injector);
    }
    let repaired = verify(world, &["--repair"], 0).await;
    let client = world.client().await;
    for injector in injectors {
        let name = injector.collection.as_str();
        assert_eq!(repaired.count(name, "repaired"), injector.documents(), "{}", repaired.of_collection(name));
        let after = dump(&client, &injector.tables).await;
        let left = differences(&injector.tables, &before[name], &after);
        assert!(left.is_empty(), "{name} is not as it was: {left:#?}");
    }
    judge(world, collections).await.unwrap();
    verify(world, &[], 0).await.expect_nothing();
}

/// Rounds by their numbers, with so many faults in each collection: some with many, some with fewer, so that each is named.
async fn rounds(version: Version, seed: u64, documents: u64, faults: &[(u64, u64)]) {
    // The kinds of collections are all met by 5.0; of the other versions each seed takes others of them.
    let wanted = |number: u64, _: &str| version == Version::V5_0 || (number + seed).is_multiple_of(3);
    let (world, collections) = loaded_of(version, seed, documents, wanted).await;
    all_is_equal(&world, &collections).await;
    let client = world.client().await;
    let before = dump_all(&client, &collections).await;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (round, faults) in faults {
        let injectors = inject(&client, &collections, seed * 1_000 + round, *faults).await;
        for (kind, count) in injectors.iter().flat_map(|injector| &injector.counts) {
            *counts.entry(kind.clone()).or_default() += count;
        }
        found_and_repaired(&world, &collections, &injectors, &before).await;
    }
    println!("MongoDB {version}, seed {seed}: {} faults: {counts:?}", counts.values().sum::<u64>());
    world.sync().await;
    all_is_equal(&world, &collections).await;
}

// Several tests, so that they run at the same time.

#[tokio::test]
async fn every_fault_is_found_and_repaired_on_5_0() {
    for seed in seeds(Version::V5_0, 1) {
        rounds(Version::V5_0, seed, 30, &[(0, 30)]).await;
    }
}

#[tokio::test]
async fn every_fault_is_named_and_repaired_on_5_0() {
    for seed in seeds(Version::V5_0, 1) {
        rounds(Version::V5_0, seed, 30, &[(2, 8)]).await;
    }
}

#[tokio::test]
async fn every_fault_is_found_and_repaired_on_4_4() {
    for seed in seeds(Version::V4_4, 1) {
        rounds(Version::V4_4, seed, 20, &[(0, 20)]).await;
    }
}

#[tokio::test]
async fn every_fault_is_found_and_repaired_on_6_0() {
    for seed in seeds(Version::V6_0, 1) {
        rounds(Version::V6_0, seed, 20, &[(0, 20)]).await;
    }
}

/// Rows that are there twice, where somebody has taken the keys away.
#[tokio::test]
async fn rows_that_are_there_twice() {
    let (world, mut collections) = loaded_of(Version::V6_0, 5, 20, |number, _| number % 3 == 0).await;
    // No rows, nothing twice.
    collections.retain(|collection| !collection.documents.is_empty());
    let client = world.client().await;
    let before = dump_all(&client, &collections).await;
    let mut injectors = Vec::new();
    for (number, collection) in (0..).zip(&collections) {
        let random = Random::of(5, FAULTS, number);
        let mut injector = Injector::new(&client, collection.name, collection.new_key, random).await;
        for table in &injector.tables {
            drop_primary_key(&client, &table.name).await;
        }
        for kind in [Kind::Doubled, Kind::Doubled, Kind::Doubled, Kind::Deleted] {
            injector.inject(&client, kind).await;
        }
        injectors.push(injector);
    }
    let report = verify(&world, &[], 4).await;
    for injector in &injectors {
        report.expect_faults(injector);
    }
    verify(&world, &["--repair"], 0).await;
    for injector in &injectors {
        let after = dump(&client, &injector.tables).await;
        let left = differences(&injector.tables, &before[injector.collection.as_str()], &after);
        assert!(left.is_empty(), "{} is not as it was: {left:#?}", injector.collection);
        for table in &injector.tables {
            let name = |at: &usize| quoted(&table.columns[*at].name);
            let columns: Vec<String> = std::iter::once(&table.key).chain(&table.positions).map(name).collect();
            let sql = format!("ALTER TABLE {} ADD PRIMARY KEY ({})", table.sql(), columns.join(", "));
            client.batch_execute(&sql).await.unwrap();
        }
    }
    verify(&world, &[], 0).await.expect_nothing();
}
