//! What is said on standard error: a line for each run and each batch, as text or JSON, and never what documents hold.

use bson::{Document, doc};
use integration_tests::rig::{Finished, Version};
use serde_json::Value;

use super::place::{Place, numbered};
use super::shell::at_terminal;

/// In fields, and in values that do not fit.
const TEXT: &str = "xylograph";

/// In `_id`s.
const ID: &str = "quinquereme";

/// The lines of the log, each an object.
#[track_caller]
fn objects(finished: &Finished) -> Vec<Value> {
    let object = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let time = value["timestamp"].as_str().unwrap_or_default();
        // As 2026-11-22T23:43:18.123456Z.
        assert!(time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{line}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&value["level"].as_str().unwrap_or_default()), "{line}");
        assert!(value["message"].as_str().is_some_and(|message| !message.is_empty()), "{line}");
        value
    };
    assert!(!finished.stderr.contains('\u{1b}'), "{}", finished.stderr);
    finished.stderr.lines().map(object).collect()
}

fn with_message<'v>(objects: &'v [Value], message: &str) -> Vec<&'v Value> {
    objects.iter().filter(|object| object["message"] == message).collect()
}

#[tokio::test]
async fn each_run_and_each_batch_has_one_line() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", numbered(10)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    let loaded = place.gizer(&["load"]).await.expect_code(0);
    assert_eq!(loaded.stderr.lines().count(), 1, "{}", loaded.stderr);
    let words = ["INFO", "run ended", "command=\"load\"", "exit_code=0", "documents_loaded=10", "rows_copied=30"];
    assert!(words.iter().all(|word| loaded.stderr.contains(word)), "{}", loaded.stderr);
    place.insert("posts", [doc! {"_id": 100, "text": "new"}]).await;
    let synced = place.gizer(&["sync"]).await.expect_code(0);
    let lines: Vec<&str> = synced.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let words = ["batch committed", "inserts=1", "documents=1", "rows_inserted=1", "ms=", "lag_seconds=", "Timestamp("];
    assert!(words.iter().all(|word| lines[0].contains(word)), "{lines:?}");
    let words = ["run ended", "command=\"sync\"", "exit_code=0", "changes=1", "batches=1", "Timestamp("];
    assert!(words.iter().all(|word| lines[1].contains(word)), "{lines:?}");
    let shown = place.gizer(&["status"]).await.expect_code(0);
    assert_eq!(shown.stderr, "", "it is no run");
}

/// Who has read the summary needs no line that says it again, unless asked for.
#[tokio::test]
async fn a_person_at_a_terminal_is_told_once() {
    // The rig refuses a program that is older than its source.
    let place = Place::shared(Version::V6_0).await;
    let piped = place.gizer(&["load"]).await.expect_code(2);
    assert!(piped.stderr.contains("run ended"), "{}", piped.stderr);
    let cases = [("sync", false), ("sync -v", true), ("sync --log-format json", true)];
    for (args, told) in cases {
        let said = at_terminal(args, &[]);
        assert!(said.contains("is not set"), "{args}: {said}");
        assert_eq!(said.contains("run ended"), told, "{args}: {said}");
    }
}

#[tokio::test]
async fn the_log_is_json_on_request() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("posts", numbered(10)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    let loaded = objects(&place.gizer(&["load", "--log-format", "json"]).await.expect_code(0));
    assert_eq!(loaded.len(), 1, "{loaded:?}");
    assert_eq!((&loaded[0]["command"], &loaded[0]["exit_code"]), (&"load".into(), &0.into()));

    let config = std::fs::read_to_string(place.gizer.config_path()).unwrap();
    std::fs::write(place.gizer.config_path(), config + "[log]\nformat = \"json\"\n").unwrap();
    place.insert("posts", [doc! {"_id": 100, "text": "new"}]).await;
    let synced = objects(&place.gizer(&["sync", "-vv"]).await.expect_code(0));
    let batches = with_message(&synced, "batch committed");
    assert_eq!(batches.len(), 1, "{synced:?}");
    assert_eq!((&batches[0]["inserts"], &batches[0]["exact"]), (&1.into(), &true.into()));
    assert_eq!(with_message(&synced, "run ended").len(), 1);
    assert!(synced.iter().any(|object| object["level"] == "DEBUG"), "{synced:?}");

    // Whatever is said to people is a line of it.
    let failed = objects(&place.gizer(&["load", "posts", "nothing"]).await.expect_code(2));
    let errors: Vec<&Value> = failed.iter().filter(|object| object["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 1, "{failed:?}");
    assert_eq!((&errors[0]["collection"], &errors[0]["exit_code"]), (&"nothing".into(), &2.into()));
    assert!(errors[0]["remedy"].is_string(), "{errors:?}");
    let failed = objects(&place.gizer(&["status", "--postgres-uri", "postgresql://u:hunter2@127.0.0.1:1/x"]).await);
    assert!(failed.iter().any(|object| object["level"] == "ERROR") && !format!("{failed:?}").contains("hunter2"));

    let warned = place.gizer.spawn_with(["status"], &[("GIZER_POSTGRES_SHEMA", "x")]).unwrap().wait().await.unwrap();
    let warned = objects(&warned.expect_code(0));
    assert!(warned.iter().any(|object| object["level"] == "WARN" && object["message"].to_string().contains("SHEMA")));

    let text = place.gizer(&["load", "nothing", "--log-format", "text"]).await.expect_code(2);
    assert!(text.stderr.contains("\n  help: "), "the command line is over the file: {}", text.stderr);
    let wrong = place.gizer(&["load", "--log-format", "xml"]).await.expect_code(2);
    assert!(wrong.stderr.contains("--log-format: expected text or json, got \"xml\""), "{}", wrong.stderr);
}

/// A run at each verbosity, and as JSON, says nothing of what documents hold; gives the last.
async fn says_nothing(place: &Place, args: &[&str], code: i32) -> Finished {
    let mut last = None;
    let all = ("RUST_LOG", "trace");
    for (how, env) in
        [(&[][..], &[][..]), (&["-v"], &[]), (&["-vv"], &[]), (&[], &[all]), (&["-vv", "--log-format", "json"], &[])]
    {
        let finished =
            place.gizer.spawn_with([args, how].concat(), env).unwrap().wait().await.unwrap().expect_code(code);
        let said = finished.stderr.to_lowercase();
        for secret in [TEXT, ID] {
            assert!(!said.contains(secret), "{secret} is told by gizer {args:?} {how:?}:\n{}", finished.stderr);
        }
        last = Some(finished);
    }
    last.unwrap()
}

#[tokio::test]
async fn what_documents_hold_is_never_logged() {
    let place = Place::shared(Version::V6_0).await;
    let unfit = doc! {"_id": ID, "text": TEXT, "n": format!("{TEXT} is no number"), TEXT: 1};
    place.insert("posts", [unfit, doc! {"_id": format!("{ID} 2"), "text": TEXT, "n": 1}]).await;
    place.insert("tags", [doc! {"_id": ID, "text": TEXT}, doc! {"_id": 1, "text": TEXT}]).await;
    place.schema_file("posts.json", r#"{"_id": "STRING", "text": "STRING", "n": "INT"}"#);
    place.schema_file("tags.json", r#"{"_id": "INT", "text": "STRING"}"#);

    // The name of a field is not what it holds: it is told where the schema does not know it.
    place.mongo.collection::<Document>("posts").update_many(doc! {}, doc! {"$unset": {TEXT: ""}}).await.unwrap();
    says_nothing(&place, &["load"], 1).await;
    let loaded = says_nothing(&place, &["load", "--max-rejects", "1"], 0).await;
    objects(&loaded);
    assert!(loaded.stderr.contains("wrong value (STRING) for posts.n(INT)"), "{}", loaded.stderr);

    let posts = place.mongo.collection::<Document>("posts");
    for round in 0..4 {
        posts.insert_one(doc! {"_id": format!("{ID} new {round}"), "text": TEXT, "n": TEXT}).await.unwrap();
        let tags = place.mongo.collection::<Document>("tags");
        tags.insert_one(doc! {"_id": format!("{ID} new {round}"), "text": TEXT}).await.unwrap();
        let how: &[&str] =
            [&["sync"][..], &["sync", "-v"], &["sync", "-vv"], &["sync", "-vv", "--log-format", "json"]][round];
        let said = place.gizer(how).await.expect_code(0).stderr.to_lowercase();
        assert!(said.contains("batch committed") && !said.contains(TEXT) && !said.contains(ID), "{said}");
    }
    assert!(place.number("SELECT count(*) FROM gizer_reject").await >= 5, "nothing was rejected");

    let differ = format!("UPDATE posts SET text = 'other {TEXT}' WHERE id = '{ID}'");
    place.postgres.batch_execute(&differ).await.unwrap();
    let found = says_nothing(&place, &["verify"], 4).await;
    objects(&found);
    assert!(!found.stdout.contains(TEXT), "values are shown to who asks for them: {}", found.stdout);
    let shown = place.gizer(&["verify", "--show-values", "--restart"]).await.expect_code(4);
    assert!(shown.stdout.contains(TEXT), "{}", shown.stdout);
    let repaired = place.gizer(&["verify", "--repair", "-vv"]).await.expect_code(0).stderr;
    assert!(!repaired.contains(TEXT) && !repaired.contains(ID), "{repaired}");
}

/// As everywhere: an empty `NO_COLOR` says nothing (no-color.org).
#[tokio::test]
async fn colours_of_a_comparison_are_for_terminals() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file("one.json", r#"{"_id": "INT", "n": "INT"}"#);
    place.schema_file("other.json", r#"{"_id": "INT", "n": "STRING"}"#);
    let path = |name: &str| place.gizer.folder().join("schemas").join(name).display().to_string();
    let (one, other) = (path("one.json"), path("other.json"));
    let args = format!("schema diff {one} {other}");
    let coloured = |said: String| said.contains('\u{1b}');
    assert!(coloured(at_terminal(&args, &[])) && coloured(at_terminal(&args, &[("NO_COLOR", "")])));
    assert!(!coloured(at_terminal(&args, &[("NO_COLOR", "1")])));
    assert!(!coloured(place.gizer(&["schema", "diff", &one, &other]).await.expect_code(1).stdout));
}
