//! Tables on which people have hung what a load could not replace: a resync leaves all of it in place.

use bson::{Document, doc};
use integration_tests::rig::{Gizer, Version, shared_mongod, shared_postgres, unique_name};
use serde_json::{Value, json};

use super::expect_nothing_left;
use crate::loads::{posts, write};
use crate::scenario::{judge, load, told};
use crate::world::World;

const PASSWORD: &str = "secret";

/// A world whose gizer is no superuser: policies concern all but the owner.
async fn of_an_owner() -> World<'static> {
    let world = World::new([shared_mongod(Version::V6_0).await.unwrap()], shared_postgres().await.unwrap()).await;
    let role = unique_name("gizer");
    let grants = format!(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; \
         GRANT USAGE, CREATE ON SCHEMA public TO {role}"
    );
    world.client().await.batch_execute(&grants).await.unwrap();
    let uri = world.postgres.uri_as(&role, PASSWORD, &world.target);
    let gizer = Gizer::new(&world.shards[0].uri(), world.mongo().name(), &uri, "public").unwrap();
    let world = World { gizer, ..world };
    load(&world, &posts()).await;
    world.sync().await;
    world
}

/// What people have made, all of which keeps a load from replacing the tables.
const HUNG: &str = "\
    CREATE PUBLICATION mine FOR TABLE posts, post_tags; \
    CREATE TABLE cited (post integer REFERENCES posts (id)); INSERT INTO cited VALUES (51), (52), (58); \
    CREATE TABLE liked (post integer REFERENCES posts (id) ON DELETE CASCADE); INSERT INTO liked VALUES (51), (59); \
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY; \
    CREATE POLICY few ON posts FOR SELECT USING (id < 10); \
    CREATE TABLE audited (what text, post integer); \
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
    $$ BEGIN INSERT INTO public.audited VALUES (TG_OP, coalesce(NEW.id, OLD.id)); RETURN NULL; END $$; \
    CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON posts FOR EACH ROW EXECUTE FUNCTION audit()";

/// All of it, by the objects that it hangs on.
const STILL_THERE: &str = "\
    SELECT 'posts'::regclass::oid::text AS posts, 'post_tags'::regclass::oid::text AS tags, \
           (SELECT array_agg(tablename::text ORDER BY 1) FROM pg_publication_tables WHERE pubname = 'mine') \
           AS published, \
           (SELECT array_agg(conname::text ORDER BY 1) FROM pg_constraint WHERE contype = 'f' \
            AND confrelid = 'posts'::regclass) AS foreign_keys, \
           (SELECT array_agg(post ORDER BY 1) FROM cited) AS cited, \
           (SELECT array_agg(post ORDER BY 1) FROM liked) AS liked, \
           (SELECT relrowsecurity FROM pg_class WHERE oid = 'posts'::regclass) AS secured, \
           (SELECT array_agg(polname::text) FROM pg_policy WHERE polrelid = 'posts'::regclass) AS policies, \
           (SELECT array_agg(tgname::text) FROM pg_trigger WHERE tgrelid = 'posts'::regclass AND NOT tgisinternal) \
           AS triggers";

/// What triggers of people were told.
async fn audited(world: &World<'_>) -> Vec<Value> {
    world.rows("SELECT what, count(DISTINCT post)::int AS posts FROM audited GROUP BY what ORDER BY what").await
}

#[tokio::test]
async fn what_people_have_made_stays() {
    let world = of_an_owner().await;
    world.client().await.batch_execute(HUNG).await.unwrap();
    let before = world.rows(STILL_THERE).await;
    for round in [1, 2] {
        write(world.mongo(), &["posts", "drafts"], round).await;
    }
    let refused = world.run(&["load", "posts"]).await;
    assert_ne!(refused.code(), Some(0), "{refused:?}");
    assert!(refused.stderr.contains("cannot be replaced"), "{}", refused.stderr);
    // All that a load needs is gone: nothing but a resync helps.
    world.client().await.batch_execute("UPDATE posts SET title = 'wrong' WHERE id IN (51, 59)").await.unwrap();
    world.client().await.batch_execute("TRUNCATE audited").await.unwrap();
    world.run(&["resync"]).await.expect_code(0);
    judge(&world).await.unwrap();
    assert_eq!(world.rows(STILL_THERE).await, before);
    // Two rounds of writes, and what was wrong.
    let told = audited(&world).await;
    assert_eq!(told[0], json!({"what": "DELETE", "posts": 2}), "{told:?}");
    assert_eq!(told[1]["what"], "INSERT", "{told:?}");
    assert!(told[2]["posts"].as_i64().unwrap() > 10, "{told:?}");
    write(world.mongo(), &["posts", "drafts"], 3).await;
    world.sync().await;
    judge(&world).await.unwrap();
    assert_eq!(world.rows(STILL_THERE).await, before);
    expect_nothing_left(&world).await;
}

#[tokio::test]
async fn what_refers_to_a_deleted_document_is_named() {
    let world = told(Version::V5_0, &posts()).await;
    world.sync().await;
    let refers = "CREATE TABLE cited (post integer REFERENCES posts (id)); INSERT INTO cited VALUES (7), (8)";
    world.client().await.batch_execute(refers).await.unwrap();
    let all = world.mongo().collection::<Document>("posts");
    all.delete_many(doc! { "_id": { "$in": [7, 20, 40] } }).await.unwrap();
    all.update_many(doc! {}, doc! { "$set": { "title": "all" } }).await.unwrap();
    let refused = world.run(&["resync", "posts"]).await.expect_code(7);
    for said in ["posts", "cited_post_fkey", "resync again"] {
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    let status = world.run(&["status"]).await;
    assert!(status.stdout.contains("resync interrupted"), "{}", status.stdout);
    // The same once more: it is no further, and nothing is broken.
    world.run(&["resync", "posts"]).await.expect_code(7);
    let synced = world.run(&["sync"]).await.expect_code(7);
    assert!(synced.stderr.contains("posts"), "{}", synced.stderr);
    assert_eq!(json!(world.rows("SELECT post FROM cited ORDER BY 1").await), json!([{ "post": 7 }, { "post": 8 }]));

    world.client().await.batch_execute("DELETE FROM cited WHERE post = 7").await.unwrap();
    let resumed = world.run(&["resync", "posts"]).await.expect_code(0);
    assert!(resumed.stderr.contains("posts: resuming after"), "{}", resumed.stderr);
    world.sync().await;
    judge(&world).await.unwrap();
    assert_eq!(json!(world.rows("SELECT post FROM cited").await), json!([{ "post": 8 }]));
    expect_nothing_left(&world).await;
}

/// The same for rows that are deleted when the resync is aligned.
#[tokio::test]
async fn what_refers_to_a_document_that_is_deleted_meanwhile_is_named() {
    let world = told(Version::V6_0, &posts()).await;
    world.sync().await;
    let refers = "CREATE TABLE cited (post integer REFERENCES posts (id)); INSERT INTO cited VALUES (7)";
    world.client().await.batch_execute(refers).await.unwrap();
    let all = world.mongo().collection::<Document>("posts");
    let held = super::held_at(&world, "UPDATE", "posts", &["posts"]).await;
    all.delete_one(doc! { "_id": 7 }).await.unwrap();
    all.update_many(doc! {}, doc! { "$set": { "title": "all" } }).await.unwrap();
    let refused = held.finish().await;
    assert_ne!(refused.code(), Some(0), "{refused:?}");
    assert!(refused.stderr.contains("cited_post_fkey"), "{}", refused.stderr);
    world.client().await.batch_execute("DELETE FROM cited").await.unwrap();
    world.run(&["resync", "posts"]).await.expect_code(0);
    world.sync().await;
    judge(&world).await.unwrap();
    expect_nothing_left(&world).await;
}
