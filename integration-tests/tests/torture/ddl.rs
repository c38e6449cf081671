//! Collections that are dropped, renamed and replaced in the source; and those that are none of gizer's business.

use bson::{Document, doc};
use integration_tests::rig::Version;
use serde_json::json;

use super::scenario::{judge, told};
use super::world::World;

fn posts() -> Vec<Document> {
    (1..=5).map(|n| doc! { "_id": n, "title": format!("post {n}"), "tags": ["a", { "odd": n }] }).collect()
}

async fn place(version: Version) -> World<'static> {
    told(version, &posts()).await
}

/// New documents with these `_id`s.
pub(crate) async fn insert(world: &World<'_>, collection: &str, ids: std::ops::Range<i32>) {
    let documents = ids.map(|n| doc! { "_id": n, "title": "new", "tags": ["x"] });
    world.mongo().collection::<Document>(collection).insert_many(documents).await.unwrap();
}

/// A command to the database of the collections.
pub(crate) async fn run(world: &World<'_>, command: Document) {
    world.mongo().run_command(command).await.unwrap();
}

/// `renameCollection`, within the database; what has the new name is dropped.
pub(crate) async fn rename(world: &World<'_>, from: &str, to: &str) {
    let name = |collection: &str| format!("{}.{collection}", world.mongo().name());
    let command = doc! { "renameCollection": name(from), "to": name(to), "dropTarget": true };
    world.mongo().client().database("admin").run_command(command).await.unwrap();
}

async fn count(world: &World<'_>) -> serde_json::Value {
    world.rows("SELECT count(*) AS posts, (SELECT count(*) FROM post_tags) AS tags FROM posts").await.remove(0)
}

async fn synced(world: &World<'_>) {
    world.sync().await;
    judge(world).await.unwrap();
}

#[tokio::test]
async fn a_dropped_collection_leaves_empty_tables() {
    for version in Version::ALL {
        let world = place(version).await;
        run(&world, doc! { "drop": "posts" }).await;
        synced(&world).await;
        assert_eq!(count(&world).await, json!({ "posts": 0, "tags": 0 }));
        // Another collection of the same name is followed in its place.
        insert(&world, "posts", 10..13).await;
        synced(&world).await;
        assert_eq!(count(&world).await, json!({ "posts": 3, "tags": 3 }));
    }
}

#[tokio::test]
async fn what_is_dropped_and_made_again_between_two_rounds_is_the_new_one() {
    let world = place(Version::V6_0).await;
    run(&world, doc! { "update": "posts", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "title": "last" } } }] })
        .await;
    run(&world, doc! { "drop": "posts" }).await;
    insert(&world, "posts", 1..3).await;
    run(&world, doc! { "drop": "posts" }).await;
    insert(&world, "posts", 2..4).await;
    synced(&world).await;
    assert_eq!(count(&world).await, json!({ "posts": 2, "tags": 2 }));
}

#[tokio::test]
async fn a_dropped_database_leaves_empty_tables() {
    let world = place(Version::V6_0).await;
    run(&world, doc! { "dropDatabase": 1 }).await;
    synced(&world).await;
    assert_eq!(count(&world).await, json!({ "posts": 0, "tags": 0 }));
    insert(&world, "drafts", 1..3).await;
    synced(&world).await;
}

#[tokio::test]
async fn a_collection_that_is_renamed_away_leaves_empty_tables() {
    let world = place(Version::V6_0).await;
    rename(&world, "posts", "old_posts").await;
    insert(&world, "old_posts", 20..23).await;
    synced(&world).await;
    assert_eq!(count(&world).await, json!({ "posts": 0, "tags": 0 }));
    rename(&world, "old_posts", "posts").await;
    insert(&world, "posts", 30..31).await;
    synced(&world).await;
    assert_eq!(count(&world).await, json!({ "posts": 9, "tags": 14 }));
}

#[tokio::test]
async fn a_collection_that_another_is_renamed_onto_is_that_one() {
    for version in Version::ALL {
        let world = place(version).await;
        // Written before anyone knew that it would be followed.
        insert(&world, "fresh", 3..7).await;
        run(&world, doc! { "update": "posts", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "title": "x" } } }] })
            .await;
        rename(&world, "fresh", "posts").await;
        insert(&world, "posts", 7..8).await;
        synced(&world).await;
        assert_eq!(count(&world).await, json!({ "posts": 5, "tags": 5 }));
    }
}

#[tokio::test]
async fn out_and_merge() {
    for version in Version::ALL {
        let world = place(version).await;
        insert(&world, "source", 1..40).await;
        let aggregate = |stage: Document| doc! { "aggregate": "source", "pipeline": [stage], "cursor": {} };
        run(&world, aggregate(doc! { "$merge": "drafts" })).await;
        run(&world, aggregate(doc! { "$out": "posts" })).await;
        insert(&world, "posts", 50..51).await;
        synced(&world).await;
        assert_eq!(count(&world).await, json!({ "posts": 40, "tags": 40 }));
    }
}

#[tokio::test]
async fn both_names_swapped() {
    let world = place(Version::V6_0).await;
    insert(&world, "drafts", 20..25).await;
    rename(&world, "posts", "between").await;
    rename(&world, "drafts", "posts").await;
    rename(&world, "between", "drafts").await;
    insert(&world, "posts", 30..31).await;
    insert(&world, "drafts", 40..42).await;
    synced(&world).await;
    assert_eq!(count(&world).await["posts"], 11);
}

/// It becomes another collection, of the same name.
#[tokio::test]
async fn a_collection_made_capped() {
    let world = place(Version::V6_0).await;
    run(&world, doc! { "convertToCapped": "posts", "size": 1 << 20 }).await;
    insert(&world, "posts", 10..12).await;
    synced(&world).await;
    assert_eq!(count(&world).await["posts"], 7);
}

/// Indexes, options, views and other collections: entries like those of a drop, and of no account.
#[tokio::test]
async fn other_commands_change_nothing() {
    let world = place(Version::V6_0).await;
    for command in [
        doc! { "createIndexes": "posts", "indexes": [{ "key": { "title": 1 }, "name": "by_title" }] },
        doc! { "dropIndexes": "posts", "index": "by_title" },
        doc! { "collMod": "posts", "validator": { "_id": { "$exists": true } }, "validationLevel": "off" },
        doc! { "create": "view_of_posts", "viewOn": "posts", "pipeline": [] },
        doc! { "drop": "view_of_posts" },
        doc! { "create": "capped", "capped": true, "size": 4096 },
        doc! { "drop": "capped" },
    ] {
        run(&world, command).await;
    }
    synced(&world).await;
    assert_eq!(count(&world).await, json!({ "posts": 5, "tags": 10 }));
}

/// The database part of a namespace was ignored.
#[tokio::test]
async fn collections_of_the_same_name_elsewhere_are_left_alone() {
    let world = place(Version::V6_0).await;
    let name = world.mongo().name();
    let client = world.mongo().client();
    for elsewhere in [format!("{name}2"), format!("x{name}")] {
        let posts = client.database(&elsewhere).collection::<Document>("posts");
        posts.insert_many((1..9).map(|n| doc! { "_id": n, "title": "elsewhere" })).await.unwrap();
        posts.delete_one(doc! { "_id": 2 }).await.unwrap();
        posts.update_one(doc! { "_id": 3 }, doc! { "$set": { "tags": ["z"] } }).await.unwrap();
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        posts.insert_one(doc! { "_id": 100 }).session(&mut session).await.unwrap();
        posts.delete_one(doc! { "_id": 4 }).session(&mut session).await.unwrap();
        session.commit_transaction().await.unwrap();
    }
    // A namespace ends its database at the first dot.
    for dotted in ["posts.posts", "other.posts", "posts.x"] {
        insert(&world, dotted, 1..9).await;
        run(&world, doc! { "delete": dotted, "deletes": [{ "q": { "_id": 2 }, "limit": 1 }] }).await;
    }
    synced(&world).await;
    assert_eq!(count(&world).await, json!({ "posts": 5, "tags": 10 }));
    for elsewhere in [format!("{name}2"), format!("x{name}")] {
        client.database(&elsewhere).collection::<Document>("posts").drop().await.unwrap();
        client.database(&elsewhere).drop().await.unwrap();
    }
    run(&world, doc! { "drop": "other.posts" }).await;
    synced(&world).await;
    assert_eq!(count(&world).await, json!({ "posts": 5, "tags": 10 }));
}
