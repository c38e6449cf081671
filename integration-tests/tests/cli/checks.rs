//! `gizer status`: lag and headroom, and what `--check` warns of.

use std::collections::BTreeSet;

use bson::doc;
use integration_tests::rig::{Gizer, Mongod, Version};
use serde_json::{Value, json};

use super::place::{Place, assert_says, numbered};

async fn loaded() -> Place {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(20)).await;
    place.gizer(&["run"]).await.expect_code(0);
    place
}

/// The limits are wide: an oplog in a test is young, and so its headroom short.
const CHECK: &[&str] = &["status", "--check", "--min-headroom", "0s"];

#[track_caller]
fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn all_is_well_after_a_run() {
    let place = loaded().await;
    let finished = place.gizer(CHECK).await.expect_code(0);
    assert_eq!(finished.stdout, "ok\n");
    let status = json_of(&place.gizer(&["status", "--format", "json"]).await.expect_code(0).stdout);
    let [shard] = status["oplogs"].as_array().unwrap().as_slice() else { panic!("{status}") };
    assert_eq!((&shard["shard"], &status["oplogs_error"]), (&json!("rs0"), &Value::Null));
    for seconds in ["lag_seconds", "headroom_seconds", "unverified_seconds", "oplog_seconds"] {
        assert!(shard[seconds].as_u64().is_some(), "{seconds}: {shard}");
    }
    assert!(shard["lag_seconds"].as_u64().unwrap() < 60, "{shard}");
    assert!(status.get("warnings").is_none());
    let text = place.gizer(&["status"]).await.expect_code(0).stdout;
    for words in ["orders", "following", "lag", "headroom", "verified up to", "last runs"] {
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
}

/// The position is set back, as if nobody had run gizer for longer.
#[tokio::test]
async fn lag_and_headroom_are_warned_of() {
    let place = loaded().await;
    let back = "UPDATE gizer_stream SET position = (SELECT jsonb_object_agg(key, \
        split_part(value, '.', 1)::int8 - 2 || '.' || split_part(value, '.', 2)) FROM jsonb_each_text(position))";
    place.postgres.batch_execute(back).await.unwrap();
    let late = place.gizer(&["status", "--check", "--min-headroom", "0s", "--max-lag", "1s"]).await.expect_code(6);
    assert!(late.stdout.contains("warning: rs0: the lag is ") && late.stdout.contains("the limit is 1 s"), "{late:?}");
    // A load stands where it was read, not where the stream was: no sync has to come first for that to be told.
    let far_back = "UPDATE gizer_stream SET position = (SELECT jsonb_object_agg(key, '1000.1:8000000000000001') \
        FROM jsonb_each(position))";
    place.postgres.batch_execute(far_back).await.unwrap();
    assert!(place.gizer(CHECK).await.expect_code(6).stdout.contains("a load is due"));
    place.gizer(&["load"]).await.expect_code(0);
    place.gizer(CHECK).await.expect_code(0);
    assert_says(&place.gizer(&["status", "--max-lag", "1s"]).await, 2, &["--check"]);
    assert_says(&place.gizer(&["status", "--check", "--max-lag", "soon"]).await, 2, &["90s, 15m, 6h or 2d"]);
}

#[tokio::test]
async fn what_went_wrong_is_warned_of() {
    let place = Place::shared(Version::V6_0).await;
    let nothing = place.gizer(CHECK).await.expect_code(6);
    assert_eq!(nothing.stdout, "warning: nothing has been loaded yet\n");

    place.insert("orders", numbered(3)).await;
    place.insert("orders", [doc! { "_id": 10, "text": "x", "list": [1] }]).await;
    place.schema_file("orders.json", r#"{"_id": "INT", "text": "STRING"}"#);
    place.gizer(&["run"]).await.expect_code(0);
    // A document whose rows cannot be: the key does not fit.
    place.insert("orders", [doc! { "_id": "no number" }]).await;
    place.gizer(&["sync"]).await.expect_code(0);
    let rejected = place.gizer(CHECK).await.expect_code(6);
    assert!(rejected.stdout.contains("orders: 1 document is rejected, the limit is 0"), "{rejected:?}");
    let allowed = [CHECK, &["--max-rejected", "1"]].concat();
    place.gizer(&allowed).await.expect_code(0);

    place.postgres.batch_execute("UPDATE orders SET text = 'changed' WHERE id = 1").await.unwrap();
    place.gizer(&["verify"]).await.expect_code(4);
    let differs = place.gizer(&allowed).await.expect_code(6);
    assert!(
        differs.stdout.contains("orders: 1 document differs") && differs.stdout.contains("verify --repair"),
        "{differs:?}"
    );
    place.gizer(&["verify", "--repair"]).await.expect_code(0);
    place.gizer(&allowed).await.expect_code(0);

    place
        .postgres
        .batch_execute("UPDATE gizer_collection SET state = 'load due', reason = 'for a test'")
        .await
        .unwrap();
    let due = json_of(&place.gizer(&[&allowed, &["--format", "json"][..]].concat()).await.expect_code(6).stdout);
    assert_eq!(due["warnings"], json!(["orders: a load is due: for a test"]));
    place.gizer(&["sync"]).await.expect_code(3);
}

/// What PostgreSQL knows is shown, and soon.
#[tokio::test]
async fn a_source_that_is_silent_is_told_and_warned_of() {
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let place = Place::on(&mongod, integration_tests::rig::shared_postgres().await.unwrap()).await;
    place.insert("orders", numbered(20)).await;
    place.gizer(&["run"]).await.expect_code(0);
    drop(mongod);
    let status = place.gizer(&["status"]).await.expect_code(0);
    assert!(status.stdout.contains("lag and headroom are not known") && status.stdout.contains("orders"), "{status:?}");
    let warned = place.gizer(CHECK).await.expect_code(6);
    assert!(warned.stdout.contains("lag and headroom are not known"), "{warned:?}");
    // Without MongoDB in the configuration nobody asks it.
    let postgres =
        Gizer::with_config(&format!("[postgres]\nuri = {:?}\nschema = \"public\"\n", place.postgres_uri)).unwrap();
    let status = postgres.run(["status"]).await.unwrap().expect_code(0);
    assert!(!status.stdout.contains("lag"), "{status:?}");
}

/// The paths of an object, with `[]` for the elements of lists and what names shards and the like left out. A null may
/// stand for an object.
fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    const NAMED: [(&str, &str); 6] = [
        ("captured", "<shard>"),
        ("exact_at", "<shard>"),
        ("position", "<shard>"),
        ("verified_up_to", "<shard>"),
        ("rows", "<table>"),
        ("unfit", "<warning>"),
    ];
    let last = path.rsplit('.').next().unwrap();
    let named = NAMED.iter().find(|(of, _)| *of == last).map(|(_, name)| *name);
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let name = named.unwrap_or(name);
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            paths(value, &path, found);
        }),
        Value::Array(elements) => elements.iter().for_each(|element| paths(element, &format!("{path}[]"), found)),
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// The page and the program name the same paths: nothing is promised that does not come, nothing comes that is not told.
#[tokio::test]
async fn the_json_is_as_documented() {
    let page = include_str!("../../../docs/status.md");
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .filter(|path| !path.starts_with('-'))
        .collect();
    let mut found = BTreeSet::new();
    let mut look = async |place: &Place, args: &[&str], code: i32| {
        let args: Vec<&str> = ["status", "--format", "json"].iter().chain(args).copied().collect();
        paths(&json_of(&place.gizer(&args).await.expect_code(code).stdout), "", &mut found);
    };
    let mongod = Mongod::start(Version::V6_0).await.unwrap();
    let place = Place::on(&mongod, integration_tests::rig::shared_postgres().await.unwrap()).await;
    place.insert("orders", numbered(20)).await;
    let fields = r#"{"_id": "INT", "text": "INT", "list": ["INT"]}"#;
    place.schema_file("orders.json", &format!(r#"{{"$gizer": 1, "fields": {fields}}}"#));
    place.gizer(&["run"]).await.expect_code(0);
    place.postgres.batch_execute("UPDATE orders SET text = 7 WHERE id = 1").await.unwrap();
    place.gizer(&["verify", "--repair"]).await.expect_code(0);
    // What it takes to see all of it at once: an audit, a resync and a run that died, reloads, a document read ahead.
    place
        .postgres
        .batch_execute(
            "INSERT INTO gizer_history (collection, event, reason, count) VALUES ('orders', 'reload', 'for a test', 1); \
             UPDATE gizer_collection SET reason = 'for a test'; UPDATE gizer_stream SET ahead = 'Timestamp(4000000000, 1)'; \
             UPDATE qmetlstatus SET reason = 'for a test'; \
             INSERT INTO gizer_unfit (collection, path, came, count, documents) VALUES ('orders', 'new', 'INT', 20, 20); \
             INSERT INTO gizer_schema_history (collection, version, layout_before, layout_after, schema_before, schema, changes) \
                 VALUES ('orders', 1, '', '', '{}', '{}', '[{\"path\": \"old\", \"chosen\": \"INT\", \"from\": \"TINYINT\"}]'); \
             UPDATE gizer_collection SET load_kind = 'resync'; \
             INSERT INTO gizer_resync (collection, load_epoch, segment, done, report) VALUES ('orders', 1, 0, false, ''); \
             INSERT INTO gizer_reject SELECT collection, '1', 'for a test', '', live_epoch FROM gizer_collection LIMIT 1; \
             INSERT INTO gizer_audit SELECT (jsonb_populate_record(a, '{\"audit\": 1000, \"finished_at\": null}')).* \
                 FROM gizer_audit a LIMIT 1; \
             INSERT INTO gizer_audit_segment (collection, audit, segment, done, report) VALUES ('orders', 1000, 0, false, '{}')",
        )
        .await
        .unwrap();
    look(&place, &["--check"], 6).await;
    drop(mongod);
    look(&place, &[], 0).await;
    // A null in the place of an object.
    found.retain(|path| {
        !documented.iter().any(|of| of.starts_with(&format!("{path}.")) || of.starts_with(&format!("{path}[]")))
    });
    assert_eq!(found, documented, "left: told, right: documented");
}
