//! O1: a first run that is ended half-way, in whichever way, and the next ones.

use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::rig::{Mongod, Signal, Version, shared_postgres, wait_until};
use serde_json::Value;

use crate::place::{Place, numbered};

const COLLECTIONS: usize = 12;
const DOCUMENTS: i32 = 6_000;
const LIMIT: Duration = Duration::from_secs(60);

/// How the first run is ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Kill,
    Interrupt,
    Terminate,
    ServerLost,
}

fn schema_files(place: &Place) -> usize {
    let files = std::fs::read_dir(place.gizer.folder().join("schemas")).into_iter().flatten().flatten();
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "json")).count()
}

async fn ended_half_way(mongod: &Mongod, end: End) {
    let place = Place::on(mongod, shared_postgres().await.unwrap()).await;
    let names: BTreeSet<String> = (0..COLLECTIONS).map(|n| format!("c{n:02}")).collect();
    for name in &names {
        place.insert(name, numbered(DOCUMENTS)).await;
    }
    let running = place.gizer.spawn(["run", "--run-retry-for", "1"]).unwrap();
    wait_until("three schema files", LIMIT, async || schema_files(&place) >= 3).await.unwrap();
    match end {
        End::Kill => running.signal(Signal::Kill).unwrap(),
        End::Interrupt => running.signal(Signal::Interrupt).unwrap(),
        End::Terminate => running.signal(Signal::Terminate).unwrap(),
        End::ServerLost => mongod.kill().unwrap(),
    }
    assert_ne!(running.wait().await.unwrap().code(), Some(0), "{end:?}");
    if end == End::ServerLost {
        mongod.restart().await.unwrap();
    }
    let there = schema_files(&place);
    assert!(there < COLLECTIONS, "{end:?}: the run was not ended half-way");

    // What is missing is told by name, and MongoDB is not needed for it.
    let status = place.gizer(&["status", "--check", "--format", "json"]).await.expect_code(6);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let expected = status["expected"].as_array().unwrap();
    let missing = expected.iter().filter(|each| each["missing"] == true);
    let missing: BTreeSet<String> = missing.map(|each| each["collection"].as_str().unwrap().to_owned()).collect();
    assert_eq!(missing, names, "{end:?}: {status}");
    let warned = status["warnings"].as_array().unwrap();
    for name in &names {
        assert!(warned.iter().any(|line| line.as_str().unwrap().starts_with(name)), "{end:?}: {name}: {status}");
    }

    place.gizer(&["run"]).await.expect_code(0);
    for name in &names {
        assert_eq!(
            place.number(&format!("SELECT count(*) FROM {name}")).await,
            i64::from(DOCUMENTS),
            "{end:?}: {name}"
        );
    }
    place.gizer(&["run"]).await.expect_code(0);
    let ok = place.gizer(&["status", "--check", "--min-headroom", "0s"]).await.expect_code(0);
    assert_eq!(ok.stdout, "ok\n");
}

#[tokio::test]
async fn o1_the_next_run_infers_what_a_killed_one_has_left() {
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    ended_half_way(&mongod, End::Kill).await;
}

#[tokio::test]
async fn o1_the_next_run_infers_what_an_interrupted_one_has_left() {
    let mongod = Mongod::start(Version::V5_0).await.unwrap();
    ended_half_way(&mongod, End::Interrupt).await;
    ended_half_way(&mongod, End::Terminate).await;
}

#[tokio::test]
async fn o1_the_next_run_infers_what_one_without_its_server_has_left() {
    let mongod = Mongod::start(Version::V4_4).await.unwrap();
    ended_half_way(&mongod, End::ServerLost).await;
}
