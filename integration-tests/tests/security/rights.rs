//! The rights that docs/security.md gives, and no others: they are enough, and less is not.

use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{Gizer, Mongod, Postgres, Version};
use mongodb::{Client, Collection};
use tokio_postgres::Client as PgClient;

use super::judge::judge;
use super::page::{block, run_in_mongosh, statements};

/// With characters that a URI has to encode.
const PASSWORD: &str = "quince/with@odd:100%";

struct Scene {
    mongod: Mongod,
    root: Client,
    postgres: Postgres,
    admin: PgClient,
}

impl Scene {
    async fn new(version: Version) -> Scene {
        let mongod = Mongod::builder(version).auth("root", PASSWORD).start().await.unwrap();
        let postgres = Postgres::start().await.unwrap();
        for database in ["app", "cache"] {
            postgres.create_database_named(database).await.unwrap();
        }
        let (root, admin) = (mongod.client().await.unwrap(), postgres.client("app").await.unwrap());
        Scene { mongod, root, postgres, admin }
    }

    fn orders(&self) -> Collection<Document> {
        self.root.database("shop").collection("orders")
    }

    async fn sql(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap();
    }

    /// gizer as one user of each server. Its folder has the schema files of another's, if that is given.
    fn gizer(&self, mongo_user: &str, postgres_user: &str, like: Option<&Gizer>) -> Gizer {
        let config = format!(
            "[mongo]\nuri = {:?}\ndatabase = \"shop\"\n[postgres]\nuri = {:?}\nschema = \"shop\"\n",
            self.mongod.uri_as(mongo_user, PASSWORD),
            self.postgres.uri_as(postgres_user, PASSWORD, "app")
        );
        let gizer = Gizer::with_config(&config).unwrap().limit(Duration::from_secs(60));
        if let Some(like) = like {
            let [from, to] = [like, &gizer].map(|gizer| gizer.folder().join("schemas"));
            std::fs::create_dir(&to).unwrap();
            std::fs::copy(from.join("orders.json"), to.join("orders.json")).unwrap();
        }
        gizer
    }
}

async fn done(gizer: &Gizer, args: &[&str]) {
    gizer.run(args).await.unwrap().expect_code(0);
}

/// It fails for a right that is missing, names it, and says what gives it.
async fn refused(gizer: &Gizer, args: &[&str], words: &[&str]) {
    let told = gizer.run(args).await.unwrap().expect_code(1).stderr;
    for word in words.iter().chain(&["  help: "]) {
        assert!(told.contains(word), "{word:?} is not in\n{told}");
    }
    assert!(!told.contains("quince"), "{told}");
}

fn order(id: i32) -> Document {
    doc! { "_id": id, "state": "open", "items": [{ "sku": "a", "n": id }, { "sku": "b", "n": 2 }] }
}

#[tokio::test]
async fn the_rights_of_the_page_are_enough_on_4_4() {
    rights_are_enough(Version::V4_4).await;
}

#[tokio::test]
async fn the_rights_of_the_page_are_enough_on_6_0() {
    rights_are_enough(Version::V6_0).await;
}

async fn rights_are_enough(version: Version) {
    let scene = Scene::new(version).await;
    scene.orders().insert_many((1..=20).map(order)).await.unwrap();
    scene.sql(&block("postgres-closed")).await;
    scene.sql(&statements("postgres-owner", PASSWORD)).await;
    scene.sql("REVOKE ALL ON DATABASE cache FROM PUBLIC").await;
    scene.sql(&statements("postgres-cache", PASSWORD)).await;
    run_in_mongosh(&scene.root, &statements("mongo-reader", PASSWORD)).await;
    let made = run_in_mongosh(&scene.root, &statements("mongo-gizer", PASSWORD)).await;

    let gizer = scene.gizer("gizer", "gizer", None);
    let reader = scene.gizer("gizer_reader", "gizer", None);
    done(&reader, &["schema", "infer"]).await;
    done(&reader, &["extract", "orders", "--csv-path", "csv"]).await;
    refused(&reader, &["load"], &["local.oplog.rs"]).await;

    done(&gizer, &["schema", "infer"]).await;
    let cache = scene.postgres.uri_as("gizer_cache", PASSWORD, "cache");
    gizer.spawn_with(["load"], &[("GIZER_CACHE_URI", &cache)]).unwrap().wait().await.unwrap().expect_code(0);
    change(&scene, 1).await;
    done(&gizer, &["sync"]).await;
    done(&gizer, &["verify"]).await;
    done(&gizer, &["status"]).await;
    judged(&scene, &gizer).await;

    others_see_what_they_may(&scene, &gizer).await;
    less_is_not_enough_in_postgresql(&scene, &gizer).await;
    less_is_not_enough_in_mongodb(&scene, &gizer, &made[0]).await;
    judged(&scene, &gizer).await;
}

async fn judged(scene: &Scene, gizer: &Gizer) {
    let mut admin = scene.postgres.client("app").await.unwrap();
    judge(&scene.root.database("shop"), &mut admin, gizer, ("orders", "shop", false)).await.unwrap();
}

/// An insert, an update and a delete, the `n`-th time.
async fn change(scene: &Scene, n: i32) {
    let orders = scene.orders();
    orders.insert_one(order(100 + n)).await.unwrap();
    orders.update_one(doc! { "_id": 1 }, doc! { "$inc": { "items.0.n": 1 } }).await.unwrap();
    orders.delete_one(doc! { "_id": 10 + n }).await.unwrap();
}

async fn others_see_what_they_may(scene: &Scene, gizer: &Gizer) {
    for name in ["postgres-watcher", "postgres-auditor", "postgres-readers"] {
        scene.sql(&statements(name, PASSWORD)).await;
    }
    let watcher = scene.gizer("gizer", "gizer_watcher", Some(gizer));
    done(&watcher, &["status"]).await;
    // It says which rights `run` would lack.
    let plan = watcher.run(["plan"]).await.unwrap().expect_code(1);
    assert!(plan.stdout.contains("problems") && plan.stdout.contains("GRANT INSERT"), "{plan:?}");
    refused(&watcher, &["verify"], &["GRANT INSERT"]).await;
    refused(&watcher, &["load"], &["GRANT"]).await;
    scene.sql("REVOKE SELECT ON shop.gizer_stream FROM gizer_watcher").await;
    refused(&watcher, &["status"], &["GRANT SELECT", "gizer_stream"]).await;

    let auditor = scene.gizer("gizer", "gizer_auditor", Some(gizer));
    done(&auditor, &["verify"]).await;
    scene.sql("UPDATE shop.orders SET state = 'wrong' WHERE id = 3").await;
    auditor.run(["verify"]).await.unwrap().expect_code(4);
    done(gizer, &["verify", "--repair"]).await;
    for (right, table) in [("SELECT", "order_items"), ("INSERT", "gizer_audit"), ("UPDATE", "gizer_collection")] {
        scene.sql(&format!("REVOKE {right} ON shop.{table} FROM gizer_auditor")).await;
        refused(&auditor, &["verify"], &["GRANT"]).await;
        scene.sql(&format!("GRANT {right} ON shop.{table} TO gizer_auditor")).await;
    }

    // Grants stay with the tables that a load makes.
    done(gizer, &["load"]).await;
    let reporting = scene.postgres.uri_as("reporting", PASSWORD, "app");
    let (client, connection) = tokio_postgres::connect(&reporting, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let count = client.query_one("SELECT count(*) FROM shop.orders JOIN shop.order_items ON id = orders_id", &[]).await;
    assert!(count.unwrap().get::<_, i64>(0) > 20);
    let error = client.query("SELECT * FROM shop.gizer_reject", &[]).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("42501"));
    done(&auditor, &["verify"]).await;
}

async fn less_is_not_enough_in_postgresql(scene: &Scene, gizer: &Gizer) {
    change(scene, 2).await;
    let rights = [
        ("TEMPORARY ON DATABASE app", "sync"),
        ("CREATE ON SCHEMA shop", "load"),
        ("USAGE ON SCHEMA shop", "load"),
        ("CONNECT ON DATABASE app", "sync"),
    ];
    for (right, command) in rights {
        scene.sql(&format!("REVOKE {right} FROM gizer")).await;
        let word = right.split(' ').next().unwrap();
        refused(gizer, &[command], &["GRANT", word]).await;
        scene.sql(&format!("GRANT {right} TO gizer")).await;
    }
    done(gizer, &["sync"]).await;
}

/// Each action of the role is taken away once.
async fn less_is_not_enough_in_mongodb(scene: &Scene, gizer: &Gizer, create: &Document) {
    let admin = scene.root.database("admin");
    let privileges: Vec<&Document> =
        create.get_array("privileges").unwrap().iter().map(|each| each.as_document().unwrap()).collect();
    let all: Vec<(usize, &str)> = (0..privileges.len())
        .flat_map(|at| {
            privileges[at].get_array("actions").unwrap().iter().map(move |action| (at, action.as_str().unwrap()))
        })
        .collect();
    assert_eq!(all.len(), 6);
    for (without, action) in all {
        let mut changed: Vec<Document> = privileges.iter().map(|each| (*each).clone()).collect();
        let actions = changed[without].get_array_mut("actions").unwrap();
        actions.retain(|each| each.as_str() != Some(action));
        changed.retain(|each| !each.get_array("actions").unwrap().is_empty());
        let update = doc! { "updateRole": "gizerFollower", "privileges": changed };
        admin.run_command(update).await.unwrap();
        let on = privileges[without].get_document("resource").unwrap().get_str("collection").unwrap();
        match (action, on) {
            // Sizes, and transactions under way: both are done without, as the page says.
            ("collStats", _) | (_, "transactions") => done(gizer, &["load"]).await,
            _ => refused(gizer, &["load"], &["does not let the user"]).await,
        }
    }
    let all = privileges.iter().map(|each| (*each).clone()).collect::<Vec<Document>>();
    admin.run_command(doc! { "updateRole": "gizerFollower", "privileges": all }).await.unwrap();
    done(gizer, &["load"]).await;
}
