//! Connections that go through a pooler.

use integration_tests::rig::PgBouncer;

use super::*;

/// Everything that writes, or that relies on what it has set.
const COMMANDS: [&[&str]; 8] = [
    &["plan"],
    &["load"],
    &["run"],
    &["sync"],
    &["sync", "--follow"],
    &["verify"],
    &["verify", "--repair"],
    &["status"],
];

/// What somebody has changed: objects of the database, and settings of the session but those that PgBouncer itself sets.
const FOOTPRINTS: &str = "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace) \
    + (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name NOT IN \
        ('application_name', 'client_encoding', 'DateStyle', 'standard_conforming_strings', 'TimeZone'))";

struct Pooled {
    scene: Scene,
    gizer: Gizer,
    pooler: PgBouncer,
}

/// A collection with a schema file, and gizer that goes through the pooler.
async fn behind(settings: &[(&str, &str)], query: &str) -> Pooled {
    let postgres = shared_postgres().await.unwrap();
    let scene = Scene::new().await;
    let pooler = PgBouncer::start(postgres, settings).await.unwrap();
    let uri = format!("{}{query}", pooler.uri(&scene.database));
    let mongo = shared_mongod(Version::V6_0).await.unwrap().uri();
    let gizer = Gizer::new(&mongo, scene.mongo.name(), &uri, "public").unwrap();
    scene.insert("orders", 0..10).await;
    scene.run(&["schema", "infer"]).await.expect_code(0);
    let file = "schemas/orders.json";
    std::fs::create_dir(gizer.folder().join("schemas")).unwrap();
    std::fs::copy(scene.gizer.folder().join(file), gizer.folder().join(file)).unwrap();
    Pooled { scene, gizer, pooler }
}

impl Pooled {
    /// One of the pooler's clients.
    async fn client(&self) -> tokio_postgres::Client {
        let uri = self.pooler.uri(&self.scene.database);
        let (client, connection) = tokio_postgres::connect(&uri, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(async { connection.await.ok() });
        client
    }

    async fn footprints(&self) -> String {
        let client = self.client().await;
        let rows = client.simple_query(FOOTPRINTS).await.unwrap();
        let number = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        number.unwrap()
    }

    async fn is_refused(&self) {
        for command in COMMANDS {
            let refused = self.gizer.run(command).await.unwrap().expect_code(2);
            for words in ["is behind a pooler in transaction or statement mode", "pool_mode=session"] {
                assert!(refused.stderr.contains(words), "{command:?}: {}", refused.stderr);
            }
        }
    }
}

#[tokio::test]
async fn o9_a_pooler_of_transactions_is_refused_before_anything_is_written() {
    let pooled = behind(&[("pool_mode", "transaction")], "").await;
    assert_eq!(pooled.footprints().await, "0");
    pooled.is_refused().await;
    // Neither in the database nor on the process that the pooler gives the next client.
    assert_eq!(pooled.footprints().await, "0");
}

#[tokio::test]
async fn o9_a_busy_pooler_that_goes_round_its_processes_is_refused() {
    let pooled = behind(&[("pool_mode", "transaction"), ("server_round_robin", "1")], "").await;
    let (mut busy, mut clients) = (Vec::new(), Vec::new());
    // Several processes, all of them free again.
    for _ in 0..4 {
        let client = pooled.client().await;
        client.batch_execute("BEGIN").await.unwrap();
        clients.push(client);
    }
    for client in clients {
        client.batch_execute("COMMIT").await.unwrap();
        // And others that go on with them.
        busy.push(tokio::spawn(async move { while client.batch_execute("SELECT pg_sleep(0.001)").await.is_ok() {} }));
    }
    pooled.is_refused().await;
    busy.iter().for_each(|busy| busy.abort());
}

#[tokio::test]
async fn o9_a_pooler_of_statements_is_refused() {
    behind(&[("pool_mode", "statement")], "").await.is_refused().await;
}

#[tokio::test]
async fn o9_a_pooler_of_sessions_is_as_good_as_the_server() {
    let pooled = behind(&[("pool_mode", "session")], "").await;
    assert_eq!(pooled.footprints().await, "0");
    for command in
        [&["plan"][..], &["run"], &["sync"], &["load"], &["verify"], &["status", "--check", "--min-headroom", "0s"]]
    {
        pooled.gizer.run(command).await.unwrap().expect_code(0);
    }
    assert_eq!(pooled.scene.number("SELECT count(*) FROM orders").await, 10);
    // What gizer's sessions have set and locked has ended with them, on each process that the pooler keeps.
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(pooled.scene.number(held).await, 0);
    let mut clients = Vec::new();
    // All but the test's own.
    let kept = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for _ in 0..pooled.scene.number(kept).await {
        let client = pooled.client().await;
        let set = "SELECT count(*) FROM pg_settings \
                   WHERE source = 'session' AND name NOT IN ('client_encoding', 'application_name')";
        assert_eq!(client.query_one(set, &[]).await.unwrap().get::<_, i64>(0), 0);
        clients.push(client);
    }
    assert!(!clients.is_empty(), "the pooler keeps processes");
}

#[tokio::test]
async fn o9_an_option_that_a_pooler_does_not_take_is_named() {
    let pooled = behind(&[("pool_mode", "session")], "?options=-c%20work_mem%3D8MB").await;
    let refused = pooled.gizer.run(["run"]).await.unwrap().expect_code(2);
    for words in
        ["does not take an option of [postgres] uri", "unsupported startup parameter", "ignore_startup_parameters"]
    {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}
