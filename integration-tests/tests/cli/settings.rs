//! What is said of settings, without servers.

use integration_tests::rig::Gizer;
use serde_json::Value;

use super::place::assert_says;

/// A URI under the wrong name, wherever it may come to stand.
#[tokio::test]
async fn passwords_are_not_shown_by_errors_of_the_configuration() {
    let texts = [
        "postgres = \"postgresql://me:hunter2@h/db\"",
        "mongo = \"mongodb://me:hunter2@h\"",
        "cache = \"postgresql://me:hunter2@h/db\"",
        "oplog = \"mongodb://me:hunter2@h\"",
        "[run]\nmemory = \"mongodb://me:hunter2@h\"",
        "[mongo]\n\"mongodb://me:hunter2@h\" = 1",
    ];
    for text in texts {
        let gizer = Gizer::with_config(text).unwrap();
        assert_says(&gizer.run(["status"]).await.unwrap(), 2, &["gizer.toml: line ", "…"]);
        let json = gizer.run(["status", "--format", "json"]).await.unwrap();
        assert_says(&json, 2, &["gizer.toml: line "]);
        let report: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(report["error"]["exit_code"], 2);
    }
    for name in ["GIZER_RUN_MEMORY", "GIZER_VERIFY_MODE", "GIZER_LOAD_WORKERS", "GIZER_LOAD_SWAP_TIMEOUT"] {
        let gizer = Gizer::with_config("").unwrap().env(name, "mongodb://me:hunter2@h");
        assert_says(&gizer.run(["status", "--format", "json"]).await.unwrap(), 2, &[name]);
    }
    let empty = Gizer::with_config("").unwrap();
    for flag in ["--run-memory", "--verify-mode", "--load-workers"] {
        assert_says(&empty.run([flag, "mongodb://me:hunter2@h", "status"]).await.unwrap(), 2, &[flag]);
    }
}

#[tokio::test]
async fn variables_that_are_no_settings_are_warned_of() {
    let gizer = Gizer::with_config("").unwrap().env("GIZER_POSTGRES_SHEMA", "hunter2");
    let said = gizer.run(["status", "--format", "json"]).await.unwrap();
    assert_says(&said, 2, &["warning", "GIZER_POSTGRES_SHEMA", "did you mean GIZER_POSTGRES_SCHEMA?"]);
    let _: Value = serde_json::from_str(&said.stdout).expect("the warning is not on standard output");
}

#[tokio::test]
async fn a_database_in_the_path_of_the_uri_is_mentioned() {
    let gizer = Gizer::with_config("[mongo]\nuri = \"mongodb://me:hunter2@h/shop?w=1\"\n").unwrap();
    assert_says(&gizer.run(["schema", "infer"]).await.unwrap(), 2, &["mongo.database is not set", "/shop"]);
}

#[tokio::test]
async fn help_promises_nothing_that_is_not_there() {
    let gizer = Gizer::with_config("").unwrap();
    for command in [&["--help"][..], &["load", "--help"], &["status", "--help"]] {
        let help = gizer.run(command).await.unwrap().expect_code(0).stdout;
        assert!(!help.contains("keeps them equal"), "{help}");
        let text = |flag: &str| -> String {
            let (_, text) = help.split_once(flag).unwrap();
            text.split_whitespace().take(30).collect::<Vec<&str>>().join(" ")
        };
        assert!(text("--verify-mode").contains("What sync reads back") && !help.contains("not used yet"), "{help}");
        assert!(text("--verify-max-repairs").contains("1000"), "{help}");
        assert!(text("--cache-uri").contains("spooled"), "{help}");
        assert!(text("--load-spool-limit").contains("1GiB"), "{help}");
    }
}
