//! What gizer says, held against what is so.

use integration_tests::rig::Finished;
use serde_json::Value;

use super::judged::{Rejects, collections};
use super::plan::Plan;
use crate::world::World;

/// Panics if a command's exit code or report says more than is true, or less. The tables are equal but for `rejects`.
pub(super) async fn expect_true(world: &World<'_>, plan: &Plan, rejects: &Rejects) {
    // An oplog that is minutes old has no headroom to speak of.
    let check = world.run(&["status", "--check", "--max-lag", "1d", "--min-headroom", "0s"]).await;
    let expected = if rejects.is_empty() { 0 } else { 6 };
    expect(&check, expected, "status --check");
    let status = world.run(&["status", "--format", "json"]).await.expect_code(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let known: Vec<&str> = status["collections"].as_array().into_iter().flatten().filter_map(name_of).collect();
    for collection in collections(plan) {
        assert!(known.contains(&collection), "status does not name {collection}: {status}");
    }
}

/// An audit of tables that are equal finds nothing.
pub(super) async fn expect_audit_to_agree(world: &World<'_>) {
    let audit = world.run(&["verify"]).await;
    expect(&audit, 0, "verify");
}

fn name_of(collection: &Value) -> Option<&str> {
    collection["collection"].as_str().or_else(|| collection["name"].as_str())
}

fn expect(finished: &Finished, code: i32, command: &str) {
    let Finished { status, stdout, stderr } = finished;
    assert_eq!(
        finished.code(),
        Some(code),
        "{command} ended with {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
    );
}
