//! What gizer says, held against what is so.

use std::collections::{BTreeMap, BTreeSet};

use integration_tests::rig::Finished;
use serde_json::Value;

use super::judged::{Rejects, collections};
use super::plan::Plan;
use crate::world::World;

/// How each collection stands that `status` calls missing, by name.
pub(super) async fn missing(world: &World<'_>) -> BTreeMap<String, String> {
    let status = json(world, &["status", "--format", "json"]).await;
    let expected = status["expected"].as_array().into_iter().flatten();
    let missing = expected.filter(|each| each["missing"] == Value::Bool(true));
    let text = |each: &Value, key: &str| each[key].as_str().unwrap_or_default().to_owned();
    missing.map(|each| (text(each, "collection"), text(each, "standing"))).collect()
}

/// Panics if a command's exit code or report says more than is true, or less. The tables are equal but for `rejects`, and those of
/// `missing`.
pub(super) async fn expect_true(world: &World<'_>, plan: &Plan, rejects: &Rejects, missing: &BTreeSet<String>) {
    // An oplog that is minutes old has no headroom to speak of.
    let check = ["status", "--check", "--max-lag", "1d", "--min-headroom", "0s", "--format", "json"];
    let checked = world.run(&check).await;
    let expected = if rejects.is_empty() && missing.is_empty() { 0 } else { 6 };
    expect(&checked, expected, "status --check");
    let status: Value = serde_json::from_str(&checked.stdout).unwrap();
    let due = json(world, &["plan", "--format", "json"]).await;
    for collection in collections(plan) {
        let is_missing = missing.contains(collection);
        let of = |list: &Value| {
            let mut all = list.as_array().into_iter().flatten();
            all.find(|each| each["collection"] == collection).cloned().unwrap_or_default()
        };
        let stands = of(&status["expected"]);
        let is_followed = stands["standing"] == "followed" && stands["missing"] == Value::Bool(false);
        assert_eq!(is_followed, !is_missing, "status says of {collection}: {stands}");
        let step = of(&due["steps"]);
        assert_eq!(step["due"] == "sync", !is_missing, "plan says of {collection}: {step}");
    }
}

/// An audit of tables that are equal finds nothing, and says what it has not compared.
pub(super) async fn expect_audit_to_agree(world: &World<'_>, missing: &BTreeSet<String>) {
    let audit = world.run(&["verify"]).await;
    expect(&audit, if missing.is_empty() { 0 } else { 7 }, "verify");
    for collection in missing {
        let names = audit.stdout.contains(collection.as_str()) || audit.stderr.contains(collection.as_str());
        assert!(names, "verify does not name {collection}: {audit:?}");
    }
}

async fn json(world: &World<'_>, args: &[&str]) -> Value {
    let finished = world.run(args).await.expect_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

fn expect(finished: &Finished, code: i32, command: &str) {
    let Finished { status, stdout, stderr } = finished;
    assert_eq!(
        finished.code(),
        Some(code),
        "{command} ended with {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
    );
}
