//! Whether the tables are what the documents say.
//!
//! Collections of the classic dialect are judged by the oracle, which shares no code with gizer. What has an `_extra` is
//! judged by rebuilding the documents from the rows, and all rows are compared with those of a fresh load.

use std::collections::BTreeMap;

use bson::{Bson, Document};
use futures::stream;
use gizer_flatten::rebuild;
use gizer_schema::{Layout, file};
use integration_tests::compared;
use integration_tests::oracle::Oracle;
use integration_tests::stored::stored_rows;
use integration_tests::traffic::{COLLECTIONS, Ids};

use super::documents::same;
use super::world::World;

/// Compares all collections of the traffic with their tables.
pub(crate) async fn judge_traffic(world: &World<'_>) -> Result<(), String> {
    for collection in COLLECTIONS {
        match collection.ids {
            Ids::Mixed => judge_rebuilt(world, collection.name).await?,
            _ => judge_by_oracle(world, collection.name).await?,
        }
    }
    Ok(())
}

/// Every row of a collection of the classic dialect, if these are all of its documents that can be copied.
pub(crate) async fn judge_traffic_but(
    world: &World<'_>,
    collection: &str,
    documents: Vec<Document>,
) -> Result<(), String> {
    let oracle = Oracle::new(collection, &world.schema_text(collection), "public").unwrap();
    let mut client = world.client().await;
    let report = oracle.compare(stream::iter(documents.into_iter().map(Ok)), &mut client).await.unwrap();
    match report.is_equal() && report.rejected == 0 {
        true => Ok(()),
        false => Err(format!("{collection} differs by the oracle: {report}")),
    }
}

/// Every row of a collection of the classic dialect.
pub(crate) async fn judge_by_oracle(world: &World<'_>, collection: &str) -> Result<(), String> {
    let rejected = judge_with_rejects(world, collection).await?;
    assert_eq!(rejected, 0, "{collection} has only ids that fit");
    Ok(())
}

/// The same where documents may have an `_id` that does not fit; gives how many have.
pub(crate) async fn judge_with_rejects(world: &World<'_>, collection: &str) -> Result<u64, String> {
    let oracle = Oracle::new(collection, &world.schema_text(collection), "public").unwrap();
    let documents = world.documents(collection).await;
    let mut client = world.client().await;
    let report = oracle.compare(stream::iter(documents.into_iter().map(Ok)), &mut client).await.unwrap();
    if report.is_equal() { Ok(report.rejected) } else { Err(format!("{collection} differs by the oracle: {report}")) }
}

/// Every document of a collection of gizer's dialect.
pub(crate) async fn judge_rebuilt(world: &World<'_>, collection: &str) -> Result<(), String> {
    let documents = world.documents(collection).await;
    judge_rebuilt_but(world, collection, documents).await
}

/// The same, if these are all of its documents that can be copied.
pub(crate) async fn judge_rebuilt_but(
    world: &World<'_>,
    collection: &str,
    documents: Vec<Document>,
) -> Result<(), String> {
    let schema = file::parse(collection, &world.schema_text(collection)).unwrap();
    let layout = Layout::new(&schema).unwrap();
    let rows = stored_rows(&world.client().await, "public", &layout).await.unwrap();
    let mut stored: BTreeMap<String, Document> = BTreeMap::new();
    for (key, rows) in rows {
        let bytes = rebuild(&layout, &rows).map_err(|error| format!("{collection} {key}: {error}: {rows:#?}"))?;
        stored.insert(key, Document::from_reader(bytes.as_slice()).unwrap());
    }
    for document in documents {
        let id = &document["_id"];
        let key = stored.iter().find(|(_, other)| same(id, &other["_id"], false)).map(|(key, _)| key.clone());
        let Some(other) = key.and_then(|key| stored.remove(&key)) else {
            return Err(format!("{collection}: {id} has no rows"));
        };
        if !same(&Bson::Document(document.clone()), &Bson::Document(other.clone()), false) {
            return Err(format!("{collection}: {id} differs\n  source: {document}\n  stored: {other}"));
        }
    }
    match stored.is_empty() {
        true => Ok(()),
        false => Err(format!("{collection}: rows of no document: {:?}", stored.keys())),
    }
}

/// Loads all collections anew into another PostgreSQL schema, and compares all rows of all tables.
pub(crate) async fn judge_against_fresh_load(world: &World<'_>) -> Result<(), String> {
    world.client().await.batch_execute("DROP SCHEMA IF EXISTS fresh CASCADE; CREATE SCHEMA fresh").await.unwrap();
    world.run(&["load", "--postgres-schema", "fresh"]).await.expect_code(0);
    let difference = compared::difference(&world.client().await, "public", "fresh").await.unwrap();
    difference.map_or(Ok(()), Err)
}
