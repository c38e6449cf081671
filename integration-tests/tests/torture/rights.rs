//! With access control, and no more rights than it takes.

use bson::{Document, doc};
use integration_tests::rig::{Gizer, Mongod, Version, shared_postgres, unique_name};
use integration_tests::traffic::Step;

use super::ddl::{insert, rename, run};
use super::scenario::{judge, load};
use super::world::World;

const PASSWORD: &str = "secret/with@odd:characters";

/// The same world to a gizer that may read two databases in MongoDB, and own tables in one schema of PostgreSQL.
async fn with_least_rights<'s>(mongod: &'s Mongod) -> World<'s> {
    let postgres = shared_postgres().await.unwrap();
    let world = World::new([mongod], postgres).await;
    let (role, name) = (unique_name("gizer"), world.mongo().name().to_owned());
    let roles = vec![doc! { "role": "read", "db": &name }, doc! { "role": "read", "db": "local" }];
    let create = doc! { "createUser": &role, "pwd": PASSWORD, "roles": roles };
    world.mongo().client().database("admin").run_command(create).await.unwrap();
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; REVOKE ALL ON SCHEMA public FROM PUBLIC; \
         GRANT USAGE, CREATE ON SCHEMA public TO {role}"
    );
    world.client().await.batch_execute(&grants).await.unwrap();
    let (from, to) = (mongod.uri_as(&role, PASSWORD), postgres.uri_as(&role, PASSWORD, &world.target));
    let gizer = Gizer::new(&from, &name, &to, "public").unwrap();
    World { gizer, ..world }
}

#[tokio::test]
async fn reading_two_databases_and_owning_the_tables_is_enough() {
    for version in [Version::V4_4, Version::V6_0] {
        let mongod = Mongod::builder(version).auth("root", PASSWORD).start().await.unwrap();
        let world = with_least_rights(&mongod).await;
        let posts: Vec<Document> = (1..=5).map(|n| doc! { "_id": n, "title": "old", "tags": ["a"] }).collect();
        load(&world, &posts).await;
        world.sync().await;
        judge(&world).await.unwrap();

        insert(&world, "posts", 10..13).await;
        insert(&world, "drafts", 10..13).await;
        run(&world, doc! { "delete": "posts", "deletes": [{ "q": { "_id": 1 }, "limit": 1 }] }).await;
        let commands = ["posts", "drafts"].map(|collection| {
            let change = doc! { "q": { "_id": 2 }, "u": { "$set": { "title": "in a transaction" } } };
            doc! { "update": collection, "updates": [change] }
        });
        let transaction = Step::Transaction { commands: commands.into(), commit: true };
        assert_eq!(transaction.run(world.mongo()).await.unwrap().refused, 0);
        world.sync().await;
        judge(&world).await.unwrap();

        // Emptied, and loaded anew by the round.
        run(&world, doc! { "drop": "posts" }).await;
        insert(&world, "posts", 20..22).await;
        insert(&world, "fresh", 30..33).await;
        rename(&world, "fresh", "drafts").await;
        world.sync().await;
        judge(&world).await.unwrap();
        let status = world.run(&["status"]).await.expect_code(0);
        assert!(status.stdout.contains("up to date as of rs0"), "{}", status.stdout);
        let owner = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = 'postgres'";
        assert_eq!(world.client().await.query_one(owner, &[]).await.unwrap().get::<_, i64>(0), 0);
    }
}
