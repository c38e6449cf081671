//! What `gizer sync` reports: one line, or JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use gizer_engine::follow::{ChangeCounts, DELETIONS_UNKNOWN, Follow, FollowProgress, Rejects};
use gizer_flatten::change::{ClusterTime, Positions};
use serde_json::{Value, json};

use crate::args::Format;
use crate::exit::{Failure, FailureKind, failure_json};
use crate::report::{self, UnfitReport, counted, thousands};

/// What was done in all, over everything that made following begin anew.
#[derive(Debug)]
pub(super) struct SyncReport {
    started: Instant,
    done: FollowProgress,
    positions: Positions,
    ahead: Option<ClusterTime>,
    /// A collection that was replaced, and could not be loaded anew, while the others are followed on.
    pub(super) failed_reload: Option<Failure>,
    /// What is expected and not copied, for machines; `None` if whoever asked tells it.
    pub(super) missing: Option<Value>,
    /// Whether all that was written was read back and compared.
    reads_all_back: bool,
    /// What the schemas have no place for, by collection.
    unfit: BTreeMap<String, UnfitReport>,
}

impl Default for SyncReport {
    fn default() -> SyncReport {
        SyncReport {
            started: Instant::now(),
            done: FollowProgress::default(),
            positions: Positions::new(),
            ahead: None,
            failed_reload: None,
            reads_all_back: false,
            missing: None,
            unfit: BTreeMap::new(),
        }
    }
}

impl SyncReport {
    /// Transactions committed so far.
    pub(super) fn batches(&self) -> u64 {
        self.done.batches
    }

    /// Whether any document was rejected.
    pub(super) fn has_rejected(&self) -> bool {
        self.done.rejected > 0
    }

    /// Adds a collection that was reloaded.
    pub(super) fn reloaded(&mut self, collection: &str, documents: u64) {
        let event = format!("{collection}: loaded anew, {}", counted(documents, "document", "documents"));
        report::note(&event);
        self.done.events.push(event);
    }

    /// Adds what one way along the stream has done.
    pub(super) fn add<S, L>(&mut self, follow: &Follow<'_, S, L>)
    where
        S: gizer_oplog::ChangeSource,
        L: gizer_oplog::LookUp,
    {
        let progress = follow.progress();
        self.done.add(progress);
        self.positions.clone_from(follow.positions());
        self.ahead = follow.ahead();
        self.reads_all_back = follow.reads_all_back();
        for (name, tally, layout) in follow.tallies() {
            let unfit = UnfitReport::of(tally, layout);
            match self.unfit.get_mut(name) {
                Some(known) => known.add(unfit),
                None => drop(self.unfit.insert(name.to_owned(), unfit)),
            }
        }
    }

    /// A collection stays where it stands, or a load of it is due, while the others are followed.
    pub(super) fn set_apart(&mut self, collection: &str, failure: &Failure) {
        report::note(format!("{}; the others go on", failure.message));
        self.done.events.push(failure.message.clone());
        self.done.failing.insert(collection.to_owned(), failure.clone());
    }

    /// The collections that are failing, as the failure that they are together.
    pub(super) fn failing(&self) -> Option<Failure> {
        let failing = &self.done.failing;
        let with = |kind: FailureKind| failing.values().find(move |failure| failure.kind == kind);
        let first = with(FailureKind::Differs).or(with(FailureKind::LoadDue)).or(failing.values().next())?;
        let messages: Vec<&str> = failing.values().map(|failure| failure.message.as_str()).collect();
        let failure = Failure::new(first.kind, messages.join("; "));
        Some(match &first.remedy {
            Some(remedy) => failure.remedy(remedy.clone()),
            None => failure,
        })
    }

    pub(super) fn print(&self, format: Format, failure: Option<&Failure>) {
        match format {
            Format::Text => {
                report::text(&report::lines(&self.line(failure.is_some())));
                self.remarks().for_each(report::note);
            }
            Format::Json => {
                let mut object = self.json();
                if let Some(missing) = &self.missing {
                    object["missing"] = missing.clone();
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
        let rejects = self.done.rejects.iter().flat_map(|(collection, rejects)| {
            rejects.iter().map(move |(reason, count)| {
                let documents = counted(count.documents, "document", "documents");
                format!("{collection}: {documents} rejected: {reason}")
            })
        });
        let gone = self.done.deletions_unknown.iter().map(|name| format!("{name}: {DELETIONS_UNKNOWN}"));
        gone.chain(rejects).chain(self.unfit.iter().flat_map(|(collection, unfit)| unfit.lines(collection)))
    }

    /// The same for machines, an object for each collection that there is something to say of.
    fn collections(&self) -> Vec<Value> {
        let names: BTreeSet<&String> = self.done.rejects.keys().chain(self.unfit.keys()).collect();
        let object = |name: &String| {
            let rejects = self.done.rejects.get(name).into_iter().flat_map(Rejects::iter);
            let rejects = rejects.map(
                |(reason, count)| json!({"reason": reason, "documents": count.documents, "example_id": count.example}),
            );
            let mut object = json!({
                "name": name, "rejects": rejects.collect::<Vec<Value>>(),
                "mismatches": [], "unknown_fields": [], "unknown_fields_beyond": 0,
            });
            if let Some(unfit) = self.unfit.get(name) {
                unfit.add_to(&mut object);
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
        self.unfit.iter().flat_map(of).collect()
    }

    /// What was done, if anything was, and where the tables stand.
    fn line(&self, failed: bool) -> String {
        let FollowProgress { changes, documents, rows, batches, rejected, repaired, .. } = &self.done;
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
            let accepted = &self.done.accepted;
            for (count, what) in [(rejected, "rejected"), (accepted, "no longer rejected"), (repaired, "repaired")] {
                if *count > 0 {
                    part.push_str(&format!(", {} {what}", counted(*count, "document", "documents")));
                }
            }
            parts.push(part);
            if self.reads_all_back && *documents > 0 {
                parts.push(format!("{} compared", counted(*documents, "document", "documents")));
            }
            parts.push(format!("{:.1} s", self.started.elapsed().as_secs_f64()));
        }
        parts.push(self.standing(failed));
        parts.join("; ") + "\n"
    }

    /// Where the tables stand. What nobody has compared is not called equal.
    fn standing(&self, failed: bool) -> String {
        let at = report::positions(&self.positions);
        match self.ahead {
            // It has not come so far as to know.
            _ if self.positions.is_empty() => "nothing was followed".to_owned(),
            None if failed => format!("applied up to {at}"),
            None if !self.done.deletions_unknown.is_empty() => {
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
        } = &self.done;
        let ChangeCounts { inserts, replacements, updates, deletes, migrations, skipped } = changes;
        let positions: BTreeMap<&str, String> =
            self.positions.iter().map(|(shard, position)| (shard.as_str(), position.time.to_string())).collect();
        let failing: BTreeMap<&str, Value> =
            self.done.failing.iter().map(|(name, failure)| (name.as_str(), failure_json(failure))).collect();
        json!({
            "changes": {
                "inserts": inserts, "replacements": replacements, "updates": updates, "deletes": deletes,
                "migrations": migrations,
            },
            "passed_over": skipped,
            "documents": documents,
            "rows": { "inserted": rows.inserted, "updated": rows.updated, "deleted": rows.deleted },
            "batches": batches, "catching_up": catching_up, "rejected": rejected, "repaired": repaired,
            "no_longer_rejected": self.done.accepted,
            "failing": failing,
            "statements": statements,
            "events": events, "wrong_values": self.wrong_values(), "collections": self.collections(),
            "positions": positions, "exact": self.ahead.is_none() && self.done.deletions_unknown.is_empty(),
            "deletions_unknown": self.done.deletions_unknown,
            "ahead": self.ahead.map(|ahead| ahead.to_string()),
            "seconds": self.started.elapsed().as_secs_f64(),
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
