//! An audit that dies goes on, and forgets nothing that it has found.

use std::time::{Duration, Instant};

use integration_tests::random::Random;
use integration_tests::rig::{Signal, Version, shared_mongod, shared_postgres};

use super::audit::{Report, verify};
use super::collections::{Collection, collections, fill};
use super::faults::Injector;
use super::injector::FAULTS;
use super::world::World;

/// What is audited: a collection of the kind whose rows are read by range, and one of the other.
const NAMES: [&str; 2] = ["ints", "mixed"];

/// Documents of each.
const DOCUMENTS: u64 = 1_500;

/// Faults in each: few enough for all to be named.
const FAULTS_OF_EACH: usize = 40;

async fn faulty(seed: u64) -> (World<'static>, Vec<Injector>) {
    let world = World::new([shared_mongod(Version::V6_0).await.unwrap()], shared_postgres().await.unwrap()).await;
    let mut collections: Vec<Collection> = collections(seed, DOCUMENTS);
    collections.retain(|collection| NAMES.contains(&collection.name));
    fill(&world, &collections).await;
    world.run(&["load"]).await.expect_code(0);
    let client = world.client().await;
    let mut injectors = Vec::new();
    for collection in &collections {
        let random = Random::of(seed, FAULTS, 300);
        let mut injector = Injector::new(&client, collection.name, collection.new_key, random).await;
        for _ in 0..FAULTS_OF_EACH {
            assert!(injector.any(&client).await);
        }
        injectors.push(injector);
    }
    (world, injectors)
}

fn expect_all(report: &Report, injectors: &[Injector]) {
    for injector in injectors {
        report.expect_faults(injector);
    }
}

#[tokio::test]
async fn an_audit_that_is_killed_goes_on() {
    let (world, injectors) = faulty(7).await;
    let began = Instant::now();
    expect_all(&verify(&world, &[], 4).await, &injectors);
    let whole = began.elapsed();
    println!("a whole audit: {:.2} s", whole.as_secs_f64());
    let mut random = Random::of(7, FAULTS, 301);
    let mut killed = 0;
    for round in 0..2 {
        // Two deaths for each that comes to its end. Any moment will do.
        for _ in 0..2 {
            let running = world.spawn(&["verify", "--format", "json"]);
            tokio::time::sleep(Duration::from_millis(random.below(whole.as_millis() as u64 * 9 / 10))).await;
            killed += usize::from(running.kill().await.unwrap().signal().is_some());
        }
        let args: &[&str] = if round == 1 { &["--restart"] } else { &[] };
        expect_all(&verify(&world, args, 4).await, &injectors);
    }
    println!("{killed} of 4 were killed before they ended");
    assert!(killed > 0);
    // Nor does a repair that is killed leave anything half done.
    let running = world.spawn(&["verify", "--repair"]);
    tokio::time::sleep(Duration::from_millis(random.below(whole.as_millis() as u64))).await;
    running.kill().await.unwrap();
    verify(&world, &["--repair"], 0).await;
    verify(&world, &[], 0).await.expect_nothing();
}

/// Asked to end, it says what it has found so far.
#[tokio::test]
async fn an_audit_that_is_interrupted_says_so() {
    let (world, injectors) = faulty(8).await;
    let running = world.spawn(&["verify", "--format", "json"]);
    running.signal(Signal::Interrupt).unwrap();
    let ended = running.wait().await.unwrap();
    // It may not have come as far as to listen, or have ended before.
    assert!(matches!(ended.code(), Some(130 | 4)) || ended.signal().is_some(), "{ended:?}");
    expect_all(&verify(&world, &[], 4).await, &injectors);
}
