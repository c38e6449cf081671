//! Look-ups by `_id` on real servers: at a time, now, and of collections that are no longer what they were.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{Bson, Document, doc};
use bytes::Bytes;
use gizer_flatten::change::ClusterTime;
use gizer_oplog::{
    ClusterLookUp, LookUp, MongoError, MongoSettings, ReadAt, WantedId, WatchedCollection, newest_positions,
};
use integration_tests::rig::{Mongod, Version, shared_mongod, unique_name};
use mongodb::options::{DatabaseOptions, WriteConcern};

use super::{Outcome, Shop, numbered, on_each_version};

on_each_version!(
    documents_are_as_they_were_at_a_time,
    documents_are_as_they_are_now,
    an_id_is_found_under_every_form_of_its_number,
    what_does_not_fit_into_one_reply_is_given_all_the_same,
    a_collection_that_is_no_longer_the_same_is_told,
);

struct Scene {
    shop: Shop,
    look_up: ClusterLookUp,
    oplogs: Vec<gizer_oplog::Oplog>,
    watched: WatchedCollection,
}

impl Scene {
    async fn new(version: Version, documents: Vec<Document>) -> Result<Scene, Box<dyn std::error::Error>> {
        let mut shop = Shop::new(version).await?;
        // Times are taken where a majority is: what was written must have got there.
        let options = DatabaseOptions::builder().write_concern(WriteConcern::majority()).build();
        shop.database = shop.client.database_with_options(shop.database.name(), options);
        shop.database.collection("orders").insert_many(documents).await?;
        let cluster = shop.cluster().await?;
        let oplogs = cluster.oplogs().await?;
        let collection = cluster.collection("orders").await?;
        let uuids = cluster.uuids(&collection, &oplogs);
        assert_eq!(uuids.len(), 1, "{uuids:?}");
        let watched = WatchedCollection { namespace: cluster.namespace("orders"), uuids };
        Ok(Scene { look_up: cluster.look_up(&oplogs), shop, oplogs, watched })
    }

    fn orders(&self) -> mongodb::Collection<Document> {
        self.shop.database.collection("orders")
    }

    async fn now(&self) -> Result<ClusterTime, MongoError> {
        Ok(newest_positions(&self.oplogs).await?.values().map(|newest| newest.time()).max().unwrap_or_default())
    }

    async fn find(&mut self, ids: &[Bson], at: ReadAt) -> Result<Vec<Document>, MongoError> {
        let wanted = ids.iter().map(|id| wanted(id, None, None)).collect();
        all_of(&mut self.look_up, &self.watched, wanted, at).await
    }
}

fn wanted(id: &Bson, first: Option<&str>, last: Option<&str>) -> WantedId {
    let id = Bytes::from(doc! { "_id": id.clone() }.to_vec().expect("an id"));
    WantedId { id, first: first.map(Arc::from), last: last.map(Arc::from) }
}

/// Everything that a look-up gives, by `_id` as text.
async fn all_of(
    look_up: &mut ClusterLookUp,
    watched: &WatchedCollection,
    ids: Vec<WantedId>,
    at: ReadAt,
) -> Result<Vec<Document>, MongoError> {
    look_up.begin(watched, ids, at).await?;
    let mut documents = Vec::new();
    while let Some(batch) = look_up.next().await? {
        assert!(!batch.is_empty(), "a batch without documents");
        for document in batch.documents() {
            documents.push(Document::from_reader(document.as_bytes()).expect("a document"));
        }
    }
    documents.sort_by_key(|document| document.get("_id").map(ToString::to_string));
    Ok(documents)
}

fn names(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|document| document.get_str("name").expect("a name")).collect()
}

async fn documents_are_as_they_were_at_a_time(version: Version) -> Outcome {
    let mut scene = Scene::new(version, numbered(5, 60)).await?;
    let before = scene.now().await?;
    let orders = scene.orders();
    orders.update_one(doc! { "_id": 1 }, doc! { "$set": { "name": "changed" } }).await?;
    orders.delete_one(doc! { "_id": 2 }).await?;
    orders.insert_one(doc! { "_id": 9, "name": "new" }).await?;
    let after = scene.now().await?;
    let ids: Vec<Bson> = [1, 2, 3, 9, 77].map(Bson::from).to_vec();

    let then = scene.find(&ids, ReadAt::Exactly(before)).await?;
    assert_eq!(names(&then), ["number 1", "number 2", "number 3"]);
    assert_eq!(scene.look_up.read_until(), before);
    let now = scene.find(&ids, ReadAt::Exactly(after)).await?;
    assert_eq!(names(&now), ["changed", "number 3", "new"]);
    // Another time, in the same session.
    assert_eq!(scene.find(&ids, ReadAt::Exactly(before)).await?, then);
    let long_ago = ClusterTime { seconds: before.seconds - 3600, increment: 1 };
    let error = scene.find(&ids, ReadAt::Exactly(long_ago)).await.expect_err("nobody keeps that long");
    assert!(matches!(&error, MongoError::TimeOutOfReach { at, .. } if *at == long_ago), "{error:?}");
    assert_eq!(scene.find(&ids, ReadAt::Exactly(before)).await?, then);
    Ok(())
}

async fn documents_are_as_they_are_now(version: Version) -> Outcome {
    let mut scene = Scene::new(version, numbered(3, 60)).await?;
    scene.orders().update_one(doc! { "_id": 1 }, doc! { "$set": { "name": "changed" } }).await?;
    let now = scene.now().await?;
    let ids: Vec<Bson> = [0, 1, 77].map(Bson::from).to_vec();
    assert_eq!(names(&scene.find(&ids, ReadAt::NotBefore(now)).await?), ["number 0", "changed"]);
    assert!(scene.look_up.read_until() >= now);
    assert!(scene.find(&[], ReadAt::NotBefore(now)).await?.is_empty());
    Ok(())
}

async fn an_id_is_found_under_every_form_of_its_number(version: Version) -> Outcome {
    let documents =
        vec![doc! { "_id": 1.0, "name": "double" }, doc! { "_id": { "a": 1, "b": "x" }, "name": "document" }];
    let mut scene = Scene::new(version, documents).await?;
    let at = ReadAt::Exactly(scene.now().await?);
    assert_eq!(names(&scene.find(&[Bson::Int64(1)], at).await?), ["double"]);
    // The order of fields counts.
    assert_eq!(names(&scene.find(&[doc! { "a": 1, "b": "x" }.into()], at).await?), ["document"]);
    assert!(scene.find(&[doc! { "b": "x", "a": 1 }.into()], at).await?.is_empty());
    Ok(())
}

async fn what_does_not_fit_into_one_reply_is_given_all_the_same(version: Version) -> Outcome {
    let mut scene = Scene::new(version, numbered(60, 1_000_000)).await?;
    let ids: Vec<Bson> = (0..60).map(Bson::from).collect();
    let at = scene.now().await?;
    for at in [ReadAt::Exactly(at), ReadAt::NotBefore(at)] {
        assert_eq!(scene.find(&ids, at).await?.len(), 60, "{at:?}");
    }
    Ok(())
}

async fn a_collection_that_is_no_longer_the_same_is_told(version: Version) -> Outcome {
    let mut scene = Scene::new(version, numbered(3, 60)).await?;
    let ids = [Bson::from(1)];
    let before = scene.now().await?;
    let changed = |found: Result<Vec<Document>, MongoError>| {
        assert!(matches!(&found, Err(MongoError::CollectionChanged { .. })), "{found:?}");
    };
    scene.orders().drop().await?;
    let now = ReadAt::NotBefore(before);
    changed(scene.find(&ids, now).await);
    changed(scene.find(&ids, ReadAt::Exactly(before)).await);
    // Another of its name.
    scene.orders().insert_many(numbered(3, 60)).await?;
    changed(scene.find(&ids, now).await);
    scene.watched.uuids = BTreeMap::new();
    changed(scene.find(&ids, now).await);
    Ok(())
}

/// It is dropped after the look-up has begun, and before it has ended: what was not found was not deleted.
#[tokio::test]
async fn a_collection_that_goes_while_it_is_read_is_told() -> Outcome {
    let mut scene = Scene::new(Version::V6_0, numbered(3, 60)).await?;
    let now = scene.now().await?;
    let ids = vec![wanted(&Bson::from(1), None, None)];
    scene.look_up.begin(&scene.watched, ids, ReadAt::NotBefore(now)).await?;
    scene.orders().drop().await?;
    let found = scene.look_up.next().await;
    assert!(matches!(&found, Err(MongoError::CollectionChanged { .. })), "{found:?}");
    Ok(())
}

/// Two replica sets without a router; a migration has left a copy on one of them.
#[tokio::test]
async fn of_two_copies_that_of_the_shard_that_wrote_last_is_given() -> Outcome {
    let one = shared_mongod(Version::V6_0).await?;
    let other = Mongod::builder(Version::V6_0).repl_set_name("rs1").start().await?;
    let database = unique_name("shop");
    let (here, there) = (one.client().await?.database(&database), other.client().await?.database(&database));
    let (here, there) = (here.collection::<Document>("orders"), there.collection::<Document>("orders"));
    here.insert_many([doc! { "_id": 1, "name": "old" }, doc! { "_id": 2, "name": "here" }]).await?;
    there.insert_many([doc! { "_id": 1, "name": "new" }, doc! { "_id": 3, "name": "there" }]).await?;

    let uris = vec![one.uri().parse()?, other.uri().parse()?];
    let cluster = gizer_oplog::Cluster::connect(MongoSettings { uris, database, oplogs: vec![] }).await?;
    let oplogs = cluster.oplogs().await?;
    let uuids = cluster.uuids(&cluster.collection("orders").await?, &oplogs);
    assert_eq!(uuids.len(), 2, "{uuids:?}");
    let watched = WatchedCollection { namespace: cluster.namespace("orders"), uuids };
    let mut look_up = cluster.look_up(&oplogs);
    let names_of = [oplogs[0].name().to_owned(), oplogs[1].name().to_owned()];
    let [a, b] = [&names_of[0], &names_of[1]].map(|name| Some(name.as_str()));
    let reached = newest_positions(&oplogs).await?.values().map(|newest| newest.time()).min().unwrap_or_default();
    let now = ReadAt::NotBefore(reached);
    let id = |id: i32| Bson::from(id);
    for (first, last, expected) in [(b, a, "new"), (a, b, "old"), (None, a, "new"), (None, b, "old")] {
        let ids = vec![wanted(&id(1), first, last), wanted(&id(2), b, None), wanted(&id(3), None, None)];
        let found = all_of(&mut look_up, &watched, ids, now).await?;
        assert_eq!(names(&found), [expected, "here", "there"], "{first:?} {last:?}");
    }
    Ok(())
}
