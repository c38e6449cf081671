//! How expected collections stand, as people and machines read it.

use gizer_engine::due::{CopyStanding, CopyStandings, StandingKind};
use serde_json::{Value, json};

use super::{counted, note, printable};

/// One collection, for machines.
fn standing_json(collection: &str, standing: &CopyStanding) -> Value {
    let CopyStanding { kind, reason, remedy, since, next_try, is_missing } = standing;
    json!({
        "collection": collection, "standing": kind.name(), "missing": is_missing, "reason": reason,
        "remedy": remedy, "since": since, "next_try": next_try,
    })
}

/// Says on standard error what is missing, each by name.
pub(crate) fn missing(standings: &CopyStandings) {
    let count = standings.missing().count() as u64;
    if count == 0 {
        return;
    }
    let expected = standings.0.iter().filter(|(_, standing)| standing.kind != StandingKind::Excluded).count() as u64;
    note(format!("gizer: {count} of {} not copied", counted(expected, "collection is", "collections are")));
    for (name, standing) in standings.missing() {
        note(format!("  {}: {}", printable(name), standing.line()));
        if let Some(remedy) = &standing.remedy {
            note(format!("    help: {remedy}"));
        }
    }
}

/// For machines: what is missing.
pub(crate) fn missing_json(standings: &CopyStandings) -> Value {
    standings.missing().map(|(name, standing)| standing_json(name, standing)).collect()
}

/// For machines: all of them.
pub(crate) fn standings_json(standings: &CopyStandings) -> Value {
    standings.0.iter().map(|(name, standing)| standing_json(name, standing)).collect()
}
