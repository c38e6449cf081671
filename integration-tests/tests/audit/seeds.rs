//! Which seeds are run, and worlds that are made of them.

use std::env;

use integration_tests::rig::{Version, shared_mongod, shared_postgres};

use super::collections::{Collection, collections, fill};
use super::world::World;

/// The seeds of a version: so many, unless told.
pub(crate) fn seeds(version: Version, count: u64) -> Vec<u64> {
    let number =
        |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number of seeds, or a seed"));
    match number("GIZER_AUDIT_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("GIZER_AUDIT_SEEDS").unwrap_or(count)).map(|n| 3 * n + version as u64).collect(),
    }
}

/// A database with all collections on shared servers, loaded.
pub(crate) async fn loaded(version: Version, seed: u64, documents: u64) -> (World<'static>, Vec<Collection>) {
    loaded_of(version, seed, documents, |_, _| true).await
}

/// The same with some of the collections, by number and name.
pub(crate) async fn loaded_of(
    version: Version,
    seed: u64,
    documents: u64,
    wanted: impl Fn(u64, &str) -> bool,
) -> (World<'static>, Vec<Collection>) {
    println!("MongoDB {version}: GIZER_AUDIT_SEED={seed}");
    let world = World::new([shared_mongod(version).await.unwrap()], shared_postgres().await.unwrap()).await;
    let numbered = (0..).zip(collections(seed, documents));
    let collections: Vec<Collection> =
        numbered.filter(|(number, each)| wanted(*number, each.name)).map(|(_, each)| each).collect();
    fill(&world, &collections).await;
    world.run(&["load"]).await.expect_code(0);
    (world, collections)
}
