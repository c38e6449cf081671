//! A fault in a document that is updated is repaired by the batch that applies the update, unasked.

use std::collections::BTreeSet;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use integration_tests::random::Random;
use integration_tests::rig::Version;
use tokio_postgres::Client;

use super::audit::verify;
use super::collections::judge;
use super::faults::{Injector, Kind};
use super::injector::FAULTS;
use super::rows::quoted;
use super::seeds::{loaded_of, seeds};
use super::world::World;

/// Collections whose keys say at once what the `_id` is.
const PLAIN: [&str; 9] = ["things", "collated", "long_arrays", "counts", "ints", "longs", "lists", "oids", "pairs"];

fn id_of(collection: &str, key: &str) -> Bson {
    match collection {
        "things" | "collated" | "long_arrays" => key.into(),
        "oids" | "pairs" => ObjectId::parse_str(key).unwrap().into(),
        _ => key.parse::<i64>().unwrap().into(),
    }
}

/// The field of the document that a child table comes from: its comment has the source path, as
/// `gizer: posts.comments[].items[]`.
async fn field_of(client: &Client, collection: &str, table: &str) -> Option<String> {
    let sql = "SELECT obj_description($1::text::regclass, 'pg_class')";
    let comment: String = client.query_one(sql, &[&quoted(table)]).await.unwrap().get(0);
    let path = comment.strip_prefix(&format!("gizer: {collection}.")).map(str::to_owned)?;
    path.split(['.', '[']).next().map(str::to_owned)
}

/// Updates a document so that this table is touched.
async fn touch(world: &World<'_>, client: &Client, collection: &str, table: &str, key: &str) {
    let id = id_of(collection, key);
    let documents = world.mongo().collection::<Document>(collection);
    let document = documents.find_one(doc! { "_id": &id }).await.unwrap().expect("the document is there");
    let change = match field_of(client, collection, table).await {
        // A field that the schema does not have is of the root table too.
        None => doc! { "$set": { "touched": ObjectId::new() } },
        Some(field) => match document.get(&field) {
            Some(Bson::Array(values)) => {
                let last = values.last().cloned().unwrap_or(Bson::Null);
                doc! { "$push": { field: last } }
            }
            _ => doc! { "$set": { field: [Bson::Null] } },
        },
    };
    let updated = documents.update_one(doc! { "_id": id }, change).await.unwrap();
    assert_eq!(updated.modified_count, 1);
}

async fn repaired_by_the_batch(version: Version, seed: u64) {
    let (world, collections) = loaded_of(version, seed, 40, |_, name| PLAIN.contains(&name)).await;
    let client = world.client().await;
    let mut kinds = Kind::all();
    // No update touches a document that does not exist.
    kinds.retain(|kind| !matches!(kind, Kind::Orphan | Kind::DocumentExtra));
    let mut count = 0;
    for (number, collection) in (0..).zip(&collections) {
        let random = Random::of(seed, FAULTS, 100 + number);
        let mut injector = Injector::new(&client, collection.name, collection.new_key, random).await;
        for kind in &kinds {
            injector.inject(&client, *kind).await;
        }
        count += injector.expected.len();
        let faulty = injector.expected.iter().map(|each| (each.table.clone(), each.key.clone()));
        for (table, key) in faulty.collect::<BTreeSet<_>>() {
            touch(&world, &client, collection.name, &table, &key).await;
        }
    }
    println!("MongoDB {version}, seed {seed}: {count} rows with faults");
    judge(&world, &collections).await.unwrap_err();
    world.sync().await;
    judge(&world, &collections).await.unwrap();
    verify(&world, &[], 0).await.expect_nothing();
}

#[tokio::test]
async fn a_batch_repairs_what_it_touches() {
    // Another version changes nothing of a repair: the others are for long runs.
    for (version, count) in [(Version::V4_4, 0), (Version::V5_0, 0), (Version::V6_0, 1)] {
        for seed in seeds(version, count) {
            repaired_by_the_batch(version, seed).await;
        }
    }
}
