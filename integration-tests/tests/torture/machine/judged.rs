//! Whether the tables are what the documents say, those apart that are known to be rejected.

use std::collections::BTreeSet;

use bson::{Bson, Document};
use integration_tests::traffic::{COLLECTIONS, Ids};

use super::hindrances::Hindrances;
use super::plan::{Plan, SLOTS};
use crate::documents::same;
use crate::judge::{judge_rebuilt_but, judge_traffic_but};
use crate::world::World;

/// Documents that gizer says it has rejected, by collection.
pub(super) struct Rejects(Vec<(String, Document)>);

impl Rejects {
    pub(super) async fn read(world: &World<'_>) -> Self {
        let sql = "SELECT collection, document FROM gizer_reject WHERE document IS NOT NULL";
        let rows = world.client().await.query(sql, &[]).await.unwrap();
        let reject = |row: &tokio_postgres::Row| {
            let bytes: Vec<u8> = row.get(1);
            (row.get(0), Document::from_reader(bytes.as_slice()).unwrap())
        };
        Self(rows.iter().map(reject).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of<'r>(&'r self, collection: &'r str) -> impl Iterator<Item = &'r Document> {
        self.0.iter().filter(move |(name, _)| name == collection).map(|(_, document)| document)
    }

    fn has(&self, collection: &str, id: &Bson) -> bool {
        self.of(collection).any(|document| same(&document["_id"], id, false))
    }
}

/// The difference, if any. What is rejected must be there in the source, as it was rejected, refused by something that people have
/// done, and have no rows.
pub(super) async fn difference(
    world: &World<'_>,
    plan: &Plan,
    (rejects, hindrances): (&Rejects, &Hindrances),
    missing: &BTreeSet<String>,
) -> Result<(), String> {
    for collection in collections(plan).filter(|collection| !missing.contains(*collection)) {
        let documents = world.documents(collection).await;
        for rejected in rejects.of(collection) {
            let current = documents.iter().find(|document| same(&document["_id"], &rejected["_id"], false));
            match current {
                None => return Err(format!("{collection}: rejected, but not in the source: {}", rejected["_id"])),
                Some(current) if !same(&current.clone().into(), &rejected.clone().into(), false) => {
                    return Err(format!("{collection}: another version of {} is rejected", rejected["_id"]));
                }
                Some(current) if !hindrances.refuse(collection, current) => {
                    return Err(format!("{collection}: rejected, and nothing refuses it: {current}"));
                }
                Some(_) => {}
            }
        }
        let copied = documents.into_iter().filter(|document| !rejects.has(collection, &document["_id"])).collect();
        let is_classic = COLLECTIONS.iter().any(|known| known.name == collection && known.ids != Ids::Mixed);
        match is_classic {
            true => judge_traffic_but(world, collection, copied).await?,
            false => judge_rebuilt_but(world, collection, copied).await?,
        }
    }
    Ok(())
}

/// The names of all that is copied.
pub(super) fn collections(plan: &Plan) -> impl Iterator<Item = &str> {
    let traffic = COLLECTIONS.iter().map(|collection| collection.name);
    traffic.chain([SLOTS]).chain(plan.shapes.iter().map(|shape| shape.name.as_str()))
}
