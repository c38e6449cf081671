//! What `gizer status` says of audits: the last full one of each collection, and one that did not finish.

use gizer_engine::audit::AuditReport;
use gizer_pg::state::{CollectionStatus, FinishedAudit};
use serde_json::{Value, json};

use crate::ui::report::{self, counted, thousands};

/// A table of the last full audits, and a line for each that is running or was interrupted; nothing if there are none.
pub(super) fn text(collections: &[CollectionStatus]) -> String {
    let mut text = String::new();
    let rows: Vec<Vec<String>> = collections.iter().filter_map(row).collect();
    if !rows.is_empty() {
        let header =
            ["collection", "finished", "outcome", "documents", "differing", "repaired", "not compared", "as of"];
        text.push_str("\nlast full audits\n");
        text.push_str(&report::table(&header, &header[3..7], rows));
    }
    let unfinished = collections.iter().filter_map(|each| Some((each, each.audits.unfinished.as_ref()?)));
    for (i, (each, audit)) in unfinished.enumerate() {
        let what = if audit.kind == "full" { "an audit" } else { "an audit of a sample" };
        let (began, done, all) = (&audit.started_at, thousands(audit.done), thousands(audit.segments));
        let how = match audit.under_way {
            true => format!("is running, {done} of {all} segments are done"),
            false => format!("was interrupted, {done} of {all} segments were done; `gizer verify` resumes it"),
        };
        let gap = if i == 0 { "\n" } else { "" };
        text.push_str(&format!("{gap}{}: {what} that began at {began} {how}\n", each.collection));
    }
    text
}

fn row(each: &CollectionStatus) -> Option<Vec<String>> {
    let audit = each.audits.last_full.as_ref()?;
    let found = found(audit);
    let mut outcome = audit.outcome.clone().unwrap_or_default();
    if !is_of_these_tables(each, audit) {
        outcome.push_str(", before the last load");
    }
    let counts = [found.documents, found.differing(), found.repaired, found.not_compared];
    let mut row = vec![each.collection.clone(), audit.finished_at.clone(), outcome];
    row.extend(counts.map(thousands));
    row.push(match &found.proven {
        None => String::new(),
        Some(proven) => report::stretch(proven.from, proven.until),
    });
    Some(row)
}

/// The last full audit; null if there was none.
pub(super) fn last_full_json(each: &CollectionStatus) -> Value {
    let Some(audit) = &each.audits.last_full else { return Value::Null };
    let found = found(audit);
    json!({
        "started_at": audit.started_at, "finished_at": audit.finished_at, "state": audit.outcome,
        "proven": found.proven, "documents": found.documents, "differing": found.differing(),
        "repaired": found.repaired, "not_compared": found.not_compared, "of_these_tables": is_of_these_tables(each, audit),
    })
}

/// An audit that is running or was interrupted; null if there is none.
pub(super) fn unfinished_json(each: &CollectionStatus) -> Value {
    let Some(audit) = &each.audits.unfinished else { return Value::Null };
    json!({
        "kind": audit.kind, "started_at": audit.started_at, "under_way": audit.under_way,
        "segments_done": audit.done, "segments": audit.segments,
    })
}

/// What the last full audit has found, if it is of these tables and they were not made equal.
pub(super) fn unequal(each: &CollectionStatus) -> Option<String> {
    let audit = each.audits.last_full.as_ref().filter(|audit| is_of_these_tables(each, audit))?;
    let found = found(audit);
    let differing = found.differing().saturating_sub(found.repaired);
    (differing > 0).then(|| {
        let documents = counted(differing, "document differs", "documents differ");
        format!(
            "{documents}, as the last full audit found at {}; `gizer verify --repair` fixes that",
            audit.finished_at
        )
    })
}

/// Whether the tables that it looked at are the live ones still: a load puts others in their place.
fn is_of_these_tables(each: &CollectionStatus, audit: &FinishedAudit) -> bool {
    each.live_epoch == Some(audit.live_epoch)
}

fn found(audit: &FinishedAudit) -> AuditReport {
    serde_json::from_value(audit.report.clone()).unwrap_or_default()
}
