//! With access control, and no more rights than an audit takes.

use bson::{Document, doc};
use integration_tests::rig::{Gizer, Mongod, Signal, Version, shared_postgres, unique_name, wait_until};

use super::audit::{Report, verify};
use super::judge::judge_by_oracle;
use super::world::{FOLLOW, LIMIT, World};

const PASSWORD: &str = "secret/with@odd:characters";

/// The same world to a gizer of another user.
fn as_user<'s>(world: &World<'s>, mongod: &Mongod, user: &str) -> World<'s> {
    let (from, to) = (mongod.uri_as(user, PASSWORD), world.postgres.uri_as(user, PASSWORD, &world.target));
    let (shards, databases, target) = (world.shards.clone(), world.databases.clone(), world.target.clone());
    let gizer = Gizer::new(&from, world.mongo().name(), &to, "public").unwrap();
    let other = World { shards, postgres: world.postgres, databases, target, gizer };
    other.schema_file("posts", &world.schema_text("posts"));
    other
}

/// What docs/verification.md says: the state as `gizer` itself needs it, and the live tables for reading.
const STATE: &str = "GRANT SELECT, INSERT, UPDATE ON qmetlstatus, gizer_collection, gizer_stream, gizer_history TO $role; \
    GRANT SELECT, INSERT, UPDATE, DELETE ON gizer_reject, gizer_range, gizer_repair, gizer_audit, gizer_audit_segment, gizer_expected, gizer_unfit, \
        gizer_resync, gizer_schema_history TO $role";

#[tokio::test]
async fn reading_is_enough_for_an_audit() {
    for version in [Version::V4_4, Version::V6_0] {
        let mongod = Mongod::builder(version).auth("root", PASSWORD).start().await.unwrap();
        let postgres = shared_postgres().await.unwrap();
        let owner = World::new([&mongod], postgres).await;
        owner.schema_file("posts", r#"{"_id": "INT", "title": "STRING", "tags": ["STRING"]}"#);
        let posts = owner.mongo().collection::<Document>("posts");
        posts.insert_many((0..40).map(|n| doc! { "_id": n, "title": "a", "tags": ["a"] })).await.unwrap();
        owner.run(&["load"]).await.expect_code(0);

        let (role, name) = (unique_name("auditor"), owner.mongo().name().to_owned());
        let roles = vec![doc! { "role": "read", "db": &name }, doc! { "role": "read", "db": "local" }];
        let create = doc! { "createUser": &role, "pwd": PASSWORD, "roles": roles };
        owner.mongo().client().database("admin").run_command(create).await.unwrap();
        let client = owner.client().await;
        let sql = async |sql: &str| client.batch_execute(&sql.replace("$role", &role)).await.unwrap();
        let create = format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; REVOKE ALL ON SCHEMA public FROM PUBLIC");
        client.batch_execute(&create).await.unwrap();
        sql("GRANT USAGE ON SCHEMA public TO $role").await;
        let running = owner.spawn(FOLLOW);
        let auditor = as_user(&owner, &mongod, &role);

        // Each step says what is missing.
        let told = auditor.run(&["verify"]).await.expect_code(1).stderr;
        assert!(told.contains("GRANT") && told.contains("gizer_audit"), "{told}");
        sql(STATE).await;
        let told = auditor.run(&["verify"]).await.expect_code(1).stderr;
        assert!(told.contains("posts") && told.contains("rights"), "{told}");
        sql("GRANT SELECT ON posts, post_tags TO $role").await;
        verify(&auditor, &[], 0).await.expect_nothing();

        // Who follows repairs: the auditor only says what.
        sql("UPDATE posts SET title = 'wrong' WHERE id = 7").await;
        let report = verify(&auditor, &[], 4).await;
        assert_eq!(report.count("posts", "different"), 1);
        wait_until("a repair by who follows", LIMIT, async || {
            auditor.run(&["verify", "--repair"]).await.code() == Some(0)
        })
        .await
        .unwrap();
        running.signal(Signal::Terminate).unwrap();
        running.wait().await.unwrap();

        // Where nobody does it is a round of its own.
        sql("UPDATE posts SET title = 'wrong' WHERE id = 8; DELETE FROM post_tags WHERE posts_id = 9").await;
        let told = auditor.run(&["verify", "--repair"]).await.expect_code(1).stderr;
        // At once, and not when it has waited for somebody to take the repair.
        assert!(told.contains("rights") && told.contains("posts is failing"), "{told}");
        sql("GRANT INSERT, UPDATE, DELETE ON posts, post_tags TO $role").await;
        let finished = auditor.run(&["verify", "--repair", "--format", "json"]).await.expect_code(0);
        assert_eq!(Report::of(&finished, 0).count("posts", "repaired"), 2);
        judge_by_oracle(&owner, "posts").await.unwrap();
        sql("DROP OWNED BY $role; DROP ROLE $role").await;
    }
}
