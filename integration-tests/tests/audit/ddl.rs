//! An audit beside what happens to collections as such, in MongoDB and by other runs of gizer.

use bson::{Document, doc};
use futures::future::join_all;
use integration_tests::rig::{Finished, RunningGizer, Signal, Version, shared_mongod, shared_postgres, wait_until};
use serde_json::{Value, json};

use super::audit::{Report, verify};
use super::judge::judge_by_oracle;
use super::world::{FOLLOW, LIMIT, World};

/// An audit that stands still before it writes to one of its tables, until the gate is opened.
pub(crate) struct Held {
    running: RunningGizer,
    gate: tokio_postgres::Client,
}

impl Held {
    /// Starts an audit with these arguments and waits until it stands still at an `event` of `table`.
    pub(crate) async fn at(world: &World<'_>, (event, table): (&str, &str), args: &[&str]) -> Held {
        let gate = world.client().await;
        let sql = format!(
            "DROP FUNCTION IF EXISTS gate CASCADE; CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$; \
             CREATE TRIGGER gate AFTER {event} ON {table} FOR EACH ROW EXECUTE FUNCTION gate(); \
             SELECT pg_advisory_lock(1)"
        );
        gate.batch_execute(&sql).await.unwrap();
        let mut running = world.spawn(&[&["verify", "--format", "json"], args].concat());
        let stands = "SELECT count(*) FROM pg_stat_activity \
                      WHERE datname = current_database() AND wait_event = 'advisory' AND application_name = 'gizer'";
        wait_until("the audit to stand still", LIMIT, async || {
            assert!(running.is_running().unwrap(), "{}", running.stderr());
            gate.query_one(stands, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await
        .unwrap();
        Held { running, gate }
    }

    /// Kills it, and takes the gate away.
    pub(crate) async fn kill(self) {
        self.running.kill().await.unwrap();
        self.gate.batch_execute("SELECT pg_advisory_unlock(1); DROP FUNCTION gate CASCADE").await.unwrap();
    }

    /// Opens the gate, and waits for the end.
    async fn finish(self) -> Finished {
        self.gate.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
        self.running.wait().await.unwrap()
    }
}

const BEGINNING: (&str, &str) = ("INSERT", "gizer_audit");

async fn insert(world: &World<'_>, collection: &str, ids: std::ops::Range<i32>) {
    let documents = ids.map(|n| doc! { "_id": n, "title": format!("post {n}"), "tags": ["a", "b"] });
    world.mongo().collection::<Document>(collection).insert_many(documents).await.unwrap();
}

/// Forty posts, and as many drafts that nothing happens to, loaded and followed once.
pub(crate) async fn posts(version: Version) -> World<'static> {
    let world = World::new([shared_mongod(version).await.unwrap()], shared_postgres().await.unwrap()).await;
    for collection in ["posts", "drafts"] {
        let schema = r#"{"_id": "INT", "title": "STRING", "tags": ["STRING"]}"#;
        world.schema_file(collection, schema);
        insert(&world, collection, 0..40).await;
    }
    world.run(&["load"]).await.expect_code(0);
    world.sync().await;
    world
}

async fn run(world: &World<'_>, command: Document) {
    // What is not there need not be dropped.
    let may_fail = command.get_str("drop").is_ok_and(|name| name == "source");
    let outcome = world.mongo().run_command(command).await;
    assert!(may_fail || outcome.is_ok(), "{outcome:?}");
}

/// What can happen to a collection. All but the first two leave one of its name.
const EVENTS: [&str; 5] = ["drop", "rename", "$out", "rename onto", "drop and create"];

async fn happens(world: &World<'_>, event: &str) {
    let name = |collection: &str| format!("{}.{collection}", world.mongo().name());
    let rename = async |from: &str, to: &str| {
        let rename = doc! { "renameCollection": name(from), "to": name(to), "dropTarget": true };
        world.mongo().client().database("admin").run_command(rename).await.unwrap();
    };
    match event {
        "drop" => run(world, doc! { "drop": "posts" }).await,
        "rename" => rename("posts", "elsewhere").await,
        "$out" => {
            run(world, doc! { "drop": "source" }).await;
            insert(world, "source", 20..70).await;
            let out = doc! { "aggregate": "source", "pipeline": [{ "$out": "posts" }], "cursor": {} };
            run(world, out).await;
        }
        "rename onto" => {
            insert(world, "source", 20..70).await;
            rename("source", "posts").await;
        }
        _ => {
            run(world, doc! { "drop": "posts" }).await;
            insert(world, "posts", 35..45).await;
        }
    }
}

const SAYS: [&str; 3] = ["was dropped, renamed or replaced", "help:", "gizer sync"];

/// The other collection is equal, this one could not be compared, and it is said why.
fn expect_told(finished: &Finished, what: &str) {
    assert_eq!(finished.code(), Some(1), "{what}: {finished:?}");
    for word in SAYS {
        assert!(finished.stderr.contains(word), "{what}: {word:?} is not in {}", finished.stderr);
    }
    let report = Report::of(finished, 1);
    assert_eq!(report.names(), ["drafts"], "{what}");
    report.expect_nothing();
}

#[tokio::test]
async fn nobody_follows_and_a_collection_is_another_one() {
    let told = async |version: Version, event: &str| {
        let world = posts(version).await;
        happens(&world, event).await;
        expect_told(&world.run(&["verify", "--format", "json"]).await, event);
        world.sync().await;
        verify(&world, &[], 0).await.expect_nothing();
        judge_by_oracle(&world, "posts").await.unwrap();
    };
    // Mostly it is waited for somebody who follows.
    let of = |version| join_all(EVENTS.map(|event| told(version, event)));
    tokio::join!(of(Version::V4_4), of(Version::V6_0));
}

#[tokio::test]
async fn nobody_follows_and_a_collection_becomes_another_one() {
    let told = async |event: &'static str| {
        let world = posts(Version::V6_0).await;
        let held = Held::at(&world, BEGINNING, &[]).await;
        // That of drafts, which comes first, has the gate as well; both open at once.
        happens(&world, event).await;
        expect_told(&held.finish().await, event);
    };
    join_all(EVENTS.map(told)).await;
}

#[tokio::test]
async fn somebody_follows_and_a_collection_becomes_another_one() {
    let followed = async |event: &'static str| {
        let world = posts(Version::V6_0).await;
        let mut follower = world.spawn(FOLLOW);
        let at = world.reached().await;
        insert(&world, "drafts", 100..101).await;
        wait_until("the follower to get going", LIMIT, async || world.reached().await != at).await.unwrap();
        let held = Held::at(&world, BEGINNING, &["posts"]).await;
        happens(&world, event).await;
        let finished = held.finish().await.expect_code(0);
        Report::of(&finished, 0).expect_nothing();
        // And whatever has happened before it begins.
        insert(&world, "drafts", 101..102).await;
        happens(&world, "$out").await;
        let report = verify(&world, &["posts"], 0).await;
        report.expect_nothing();
        assert_eq!(report.count("posts", "not_compared"), 0);
        assert!(follower.is_running().unwrap(), "{}", follower.stderr());
        follower.signal(Signal::Terminate).unwrap();
        follower.wait().await.unwrap().expect_code(143);
    };
    join_all(EVENTS.map(followed)).await;
}

/// Its tables are to be empty, whatever has come to be in MongoDB meanwhile.
#[tokio::test]
async fn a_collection_that_is_gone() {
    for created_again in [false, true] {
        let world = posts(Version::V6_0).await;
        happens(&world, "drop").await;
        world.sync().await;
        if created_again {
            insert(&world, "posts", 0..5).await;
        }
        let report = verify(&world, &["posts"], 0).await;
        report.expect_nothing();
        assert_eq!(report.count("posts", "documents"), 0);
        let rows = "INSERT INTO posts (id, title) VALUES (3, 'left over'), (999, 'left over'); \
                    INSERT INTO post_tags (posts_id, idx) VALUES (999, 1), (998, 1)";
        world.client().await.batch_execute(rows).await.unwrap();
        let report = verify(&world, &["posts"], 4).await;
        assert_eq!(report.count("posts", "only_in_postgresql"), 3);
        let repaired = verify(&world, &["posts", "--repair"], 0).await;
        // The round that repairs applies what has happened since: then the audit begins again, and all is equal.
        assert_eq!(repaired.count("posts", "repaired"), if created_again { 0 } else { 3 });
        let counted = world.rows("SELECT count::int FROM gizer_history WHERE event = 'repair'").await;
        assert_eq!(json!(counted), json!([{ "count": 3 }]), "created again: {created_again}");
        judge_by_oracle(&world, "posts").await.unwrap();
        verify(&world, &[], 0).await.expect_nothing();
    }
}

#[tokio::test]
async fn a_database_that_is_gone() {
    let world = posts(Version::V6_0).await;
    run(&world, doc! { "dropDatabase": 1 }).await;
    let told = world.run(&["verify"]).await.expect_code(1).stderr;
    assert!(told.contains("posts was dropped") && told.contains("drafts was dropped"), "{told}");
    world.sync().await;
    verify(&world, &[], 0).await.expect_nothing();
}

#[tokio::test]
async fn tables_are_loaded_anew_during_an_audit() {
    let world = posts(Version::V6_0).await;
    let held = Held::at(&world, BEGINNING, &["posts"]).await;
    insert(&world, "posts", 50..60).await;
    world.run(&["load", "posts"]).await.expect_code(0);
    let finished = held.finish().await.expect_code(0);
    assert!(finished.stderr.contains("posts: reloaded, dropped or created meanwhile"), "{}", finished.stderr);
    let report = Report::of(&finished, 0);
    report.expect_nothing();
    assert_eq!(report.count("posts", "documents"), 50);
}

#[tokio::test]
async fn two_audits_of_a_collection() {
    let world = posts(Version::V6_0).await;
    let held = Held::at(&world, BEGINNING, &["posts"]).await;
    let second = world.run(&["verify", "posts"]).await.expect_code(5).stderr;
    assert!(second.contains("verifying posts in schema public"), "{second}");
    held.finish().await.expect_code(0);
    verify(&world, &["posts"], 0).await.expect_nothing();
}

/// What the status says of audits, before, meanwhile and afterwards.
#[tokio::test]
async fn the_status_tells_of_audits() {
    let world = posts(Version::V6_0).await;
    let status = async || -> (Value, String) {
        let json = world.run(&["status", "--format", "json"]).await.expect_code(0).stdout;
        let json: Value = serde_json::from_str(&json).unwrap();
        let posts =
            json["collections"].as_array().unwrap().iter().find(|each| each["name"] == "posts").unwrap().clone();
        (posts, world.run(&["status"]).await.expect_code(0).stdout)
    };
    let (posts, text) = status().await;
    assert_eq!((&posts["last_full_audit"], &posts["unfinished_audit"]), (&Value::Null, &Value::Null));
    assert!(!text.contains("audit"), "{text}");

    let held = Held::at(&world, ("UPDATE", "gizer_audit_segment"), &["posts"]).await;
    let (posts, text) = status().await;
    let unfinished = &posts["unfinished_audit"];
    assert_eq!((&unfinished["under_way"], &unfinished["segments_done"]), (&json!(true), &json!(0)), "{posts}");
    assert!(unfinished["segments"].as_u64().unwrap() > 0 && unfinished["kind"] == "full", "{posts}");
    assert!(text.contains("posts: an audit that began at 2") && text.contains("is running, 0 of "), "{text}");
    held.kill().await;
    wait_until("the audit to be given up", LIMIT, async || {
        status().await.0["unfinished_audit"]["under_way"] == json!(false)
    })
    .await
    .unwrap();
    let (posts, text) = status().await;
    assert_eq!(posts["last_full_audit"], Value::Null);
    assert!(text.contains("was interrupted, ") && text.contains("`gizer verify` resumes it"), "{text}");

    world.client().await.batch_execute("UPDATE posts SET title = 'wrong' WHERE id IN (3, 4)").await.unwrap();
    verify(&world, &[], 4).await;
    let (posts, text) = status().await;
    let audit = &posts["last_full_audit"];
    let counts = ["documents", "differing", "repaired", "not_compared"].map(|name| audit[name].as_u64().unwrap());
    assert_eq!((counts, &audit["state"], &posts["unfinished_audit"]), ([40, 2, 0, 0], &json!("differs"), &Value::Null));
    for time in ["from", "until"] {
        assert!(audit["proven"][time].as_str().unwrap().starts_with("Timestamp("), "{audit}");
    }
    assert!(audit["finished_at"].as_str().unwrap() >= audit["started_at"].as_str().unwrap(), "{audit}");
    println!("{text}");
    verify(&world, &["--repair"], 0).await;
    // Samples are no full audits, however many there are; nor is one that was interrupted.
    insert(&world, "posts", 1_000..1_200).await;
    world.sync().await;
    for _ in 0..21 {
        verify(&world, &["posts", "--sample", "1"], 0).await;
    }
    let (posts, text) = status().await;
    let audit = &posts["last_full_audit"];
    assert_eq!((&audit["state"], &audit["repaired"]), (&json!("repaired"), &json!(2)), "{audit}");
    assert_eq!(audit["of_these_tables"], true);
    assert!(text.contains("\nlast full audits\n") && text.contains("repaired"), "{text}");
    let other = world.run(&["status", "drafts"]).await.expect_code(0).stdout;
    assert!(other.contains("equal") && !other.contains("posts"), "{other}");
    world.run(&["load", "posts"]).await.expect_code(0);
    let (posts, text) = status().await;
    assert_eq!(posts["last_full_audit"]["of_these_tables"], false);
    assert!(text.contains("repaired, before the last load"), "{text}");
    println!("{text}");
}

/// Those who may read the state only, or only what an earlier version has made, are told the rest.
#[tokio::test]
async fn the_status_does_without_audits() {
    let world = posts(Version::V6_0).await;
    verify(&world, &[], 0).await;
    let role = integration_tests::rig::unique_name("reader");
    let tables = "qmetlstatus, gizer_collection, gizer_stream, gizer_reject, gizer_range";
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'reading'; GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON {tables} TO {role}"
    );
    let client = world.client().await;
    client.batch_execute(&grants).await.unwrap();
    let uri = world.postgres.uri_as(&role, "reading", &world.target);
    let audit = async || {
        let said = world.run(&["status", "--format", "json", "--postgres-uri", &uri]).await.expect_code(0).stdout;
        let said: Value = serde_json::from_str(&said).unwrap();
        said["collections"][1]["last_full_audit"].clone()
    };
    assert_eq!(audit().await, Value::Null);
    client.batch_execute(&format!("GRANT SELECT ON gizer_audit TO {role}")).await.unwrap();
    assert_eq!(audit().await["state"], "equal");
    client.batch_execute("DROP TABLE gizer_audit_segment").await.unwrap();
    assert_eq!(audit().await["state"], "equal");
    client.batch_execute("DROP TABLE gizer_audit").await.unwrap();
    assert_eq!(audit().await, Value::Null);
    client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    // And made again.
    verify(&world, &[], 0).await.expect_nothing();
}
