//! Before, operations, after: one small story about one collection.
//!
//! A story is told twice side by side: `posts` has a schema file of the classic dialect and is judged by the oracle, `drafts` has
//! one of gizer's dialect and is judged by what is rebuilt from its rows.

use bson::{Document, doc};
use integration_tests::rig::{Version, shared_mongod, shared_postgres};
use integration_tests::traffic::Step;
use serde_json::Value;

use super::judge::{judge_by_oracle, judge_rebuilt};
use super::world::World;

/// What happens, and what must come of it.
pub(crate) struct Scenario {
    /// The documents that are loaded.
    pub(crate) before: Vec<Document>,
    /// Commands, made for a collection of this name.
    pub(crate) operations: fn(collection: &str) -> Vec<Step>,
    /// Queries of the tables of `posts`, and their rows. All else is for the judges to know.
    pub(crate) after: Vec<(&'static str, Value)>,
}

impl Scenario {
    /// Loads, operates, follows for one round, and compares, on each of these versions.
    pub(crate) async fn play_on(&self, versions: &[Version]) {
        for &version in versions {
            let world = told(version, &self.before).await;
            for collection in ["posts", "drafts"] {
                for step in (self.operations)(collection) {
                    let outcome = step.run(world.mongo()).await.unwrap();
                    assert_eq!(outcome.refused, 0, "{version} refuses a write of {step:?}");
                }
            }
            world.sync().await;
            judge(&world).await.unwrap_or_else(|difference| panic!("MongoDB {version}: {difference}"));
            for (sql, expected) in &self.after {
                assert_eq!(Value::Array(world.rows(sql).await), *expected, "MongoDB {version}: {sql}");
            }
        }
    }
}

/// Both collections on shared servers, loaded.
pub(crate) async fn told(version: Version, before: &[Document]) -> World<'static> {
    let mongod = shared_mongod(version).await.unwrap();
    let world = World::new([mongod], shared_postgres().await.unwrap()).await;
    load(&world, before).await;
    world
}

/// Both collections of a world, filled, inferred and loaded.
pub(crate) async fn load(world: &World<'_>, before: &[Document]) {
    for collection in ["posts", "drafts"] {
        world.mongo().collection::<Document>(collection).insert_many(before).await.unwrap();
    }
    world.run(&["schema", "infer", "posts", "--classic"]).await.expect_code(0);
    world.run(&["schema", "infer", "drafts"]).await.expect_code(0);
    world.run(&["load"]).await.expect_code(0);
}

/// Whether the tables of both collections are what their documents say.
pub(crate) async fn judge(world: &World<'_>) -> Result<(), String> {
    judge_by_oracle(world, "posts").await?;
    judge_rebuilt(world, "drafts").await
}

/// A command as a step.
pub(crate) fn command(command: Document) -> Step {
    Step::Command(command)
}

/// An update of the document with this `_id`.
pub(crate) fn update(collection: &str, id: impl Into<bson::Bson>, change: impl Into<bson::Bson>) -> Step {
    command(doc! { "update": collection, "updates": [{ "q": { "_id": id.into() }, "u": change.into() }] })
}
