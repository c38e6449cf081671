//! What `gizer sync` reports: one line, or JSON.

use std::collections::{BTreeMap, BTreeSet};

use gizer_engine::follow::{ChangeCounts, DELETIONS_UNKNOWN, FollowProgress, Rejects, SyncReport};
use gizer_engine::unfit::UnfitReport;
use serde_json::{Value, json};

use crate::args::Format;
use crate::exit::{Failure, failure_json};
use crate::ui::report::{self, counted, thousands};

/// A [`SyncReport`] as people and machines read it.
pub(super) struct Shown<'r>(pub(super) &'r SyncReport);

impl Shown<'_> {
    /// Prints it, with what is expected and not copied, for machines, if the caller does not say so itself.
    pub(super) fn print(&self, format: Format, failure: Option<&Failure>, missing: Option<Value>) {
        match format {
            Format::Text => {
                report::text(&report::lines(&self.line(failure.is_some())));
                self.remarks().for_each(report::note);
            }
            Format::Json => {
                let mut object = self.json();
                if let Some(missing) = missing {
                    object["missing"] = missing;
                }
                if let Some(failure) = failure {
                    object["error"] = failure_json(failure);
                }
                report::json(&object);
            }
        }
        if let Some(failure) = failure {
            report::problem(None, failure);
        }
    }

    /// What a person should look at: documents without rows, and values without a place.
    fn remarks(&self) -> impl Iterator<Item = String> {
        let rejects = self.0.done().rejects.iter().flat_map(|(collection, rejects)| {
            rejects.iter().map(move |(reason, count)| {
                let documents = counted(count.documents, "document", "documents");
                format!("{collection}: {documents} rejected: {reason}")
            })
        });
        let gone = self.0.done().deletions_unknown.iter().map(|name| format!("{name}: {DELETIONS_UNKNOWN}"));
        gone.chain(rejects)
            .chain(self.0.unfit().iter().flat_map(|(collection, unfit)| report::unfit_lines(unfit, collection)))
    }

    /// The same for machines, an object for each collection that there is something to say of.
    fn collections(&self) -> Vec<Value> {
        let names: BTreeSet<&String> = self.0.done().rejects.keys().chain(self.0.unfit().keys()).collect();
        let object = |name: &String| {
            let rejects = self.0.done().rejects.get(name).into_iter().flat_map(Rejects::iter);
            let rejects = rejects.map(
                |(reason, count)| json!({"reason": reason, "documents": count.documents, "example_id": count.example}),
            );
            let mut object = json!({
                "name": name, "rejects": rejects.collect::<Vec<Value>>(),
                "mismatches": [], "unknown_fields": [], "unknown_fields_beyond": 0,
            });
            if let Some(unfit) = self.0.unfit().get(name) {
                report::add_unfit(unfit, &mut object);
            }
            object
        };
        names.into_iter().map(object).collect()
    }

    /// Values that did not fit as the classic tool words them.
    fn wrong_values(&self) -> BTreeMap<String, u64> {
        let of = |(name, unfit): (&String, &UnfitReport)| -> Vec<(String, u64)> {
            unfit.mismatches().iter().map(|mismatch| (mismatch.classic_warning(name), mismatch.count)).collect()
        };
        self.0.unfit().iter().flat_map(of).collect()
    }

    /// What was done, if anything was, and where the tables stand.
    fn line(&self, failed: bool) -> String {
        let FollowProgress { changes, documents, rows, batches, rejected, repaired, .. } = self.0.done();
        let mut parts = Vec::new();
        if *batches > 0 {
            let [done, batches] = [applied(changes, *documents), counted(*batches, "batch", "batches")];
            let done = if changes.total() > 0 { format!("{done} applied in {batches}") } else { batches };
            let added = counted(rows.inserted, "row", "rows");
            let mut part = format!(
                "{done}: {added} added, {} changed, {} deleted",
                thousands(rows.updated),
                thousands(rows.deleted)
            );
            let accepted = &self.0.done().accepted;
            for (count, what) in [(rejected, "rejected"), (accepted, "no longer rejected"), (repaired, "repaired")] {
                if *count > 0 {
                    part.push_str(&format!(", {} {what}", counted(*count, "document", "documents")));
                }
            }
            parts.push(part);
            if self.0.reads_all_back() && *documents > 0 {
                parts.push(format!("{} compared", counted(*documents, "document", "documents")));
            }
            parts.push(format!("{:.1} s", self.0.took().as_secs_f64()));
        }
        parts.push(self.standing(failed));
        parts.join("; ") + "\n"
    }

    /// Where the tables stand. What nobody has compared is not called equal.
    fn standing(&self, failed: bool) -> String {
        let at = report::positions(self.0.positions());
        match self.0.ahead() {
            // It has not come so far as to know.
            _ if self.0.positions().is_empty() => "nothing was followed".to_owned(),
            None if failed => format!("applied up to {at}"),
            None if !self.0.done().deletions_unknown.is_empty() => {
                format!("up to date as of {at}, but for deletions that are not logged")
            }
            None => format!("up to date as of {at}"),
            Some(ahead) => format!("catching up: applied up to {at}, exact from {} on", report::utc(ahead)),
        }
    }

    pub(super) fn json(&self) -> Value {
        let FollowProgress {
            changes,
            documents,
            rows,
            batches,
            catching_up,
            rejected,
            repaired,
            statements,
            events,
            ..
        } = self.0.done();
        let ChangeCounts { inserts, replacements, updates, deletes, migrations, skipped } = changes;
        let positions: BTreeMap<&str, String> =
            self.0.positions().iter().map(|(shard, position)| (shard.as_str(), position.time().to_string())).collect();
        let failing: BTreeMap<&str, Value> =
            self.0.done().failing.iter().map(|(name, failure)| (name.as_str(), failure_json(failure))).collect();
        json!({
            "changes": {
                "inserts": inserts, "replacements": replacements, "updates": updates, "deletes": deletes,
                "migrations": migrations,
            },
            "passed_over": skipped,
            "documents": documents,
            "rows": { "inserted": rows.inserted, "updated": rows.updated, "deleted": rows.deleted },
            "batches": batches, "catching_up": catching_up, "rejected": rejected, "repaired": repaired,
            "no_longer_rejected": self.0.done().accepted,
            "failing": failing,
            "statements": statements,
            "events": events, "wrong_values": self.wrong_values(), "collections": self.collections(),
            "positions": positions, "exact": self.0.ahead().is_none() && self.0.done().deletions_unknown.is_empty(),
            "deletions_unknown": self.0.done().deletions_unknown,
            "ahead": self.0.ahead().map(|ahead| ahead.to_string()),
            "seconds": self.0.took().as_secs_f64(),
        })
    }
}

/// `3 changes (1 insert, 2 updates) of 3 documents`.
fn applied(changes: &ChangeCounts, documents: u64) -> String {
    let ChangeCounts { inserts, replacements, updates, deletes, .. } = *changes;
    let kinds = [
        (inserts, "insert", "inserts"),
        (replacements, "replacement", "replacements"),
        (updates, "update", "updates"),
        (deletes, "delete", "deletes"),
    ];
    let kinds: Vec<String> =
        kinds.into_iter().filter(|kind| kind.0 > 0).map(|(count, one, many)| counted(count, one, many)).collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    let documents = counted(documents, "document", "documents");
    format!("{}{kinds} of {documents}", counted(changes.total(), "change", "changes"))
}
