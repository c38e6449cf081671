//! What `gizer sync` reports: one line, or JSON.

use std::collections::BTreeMap;
use std::time::Instant;

use gizer_flatten::Tally;
use gizer_flatten::change::{ClusterTime, Positions};
use serde_json::{Value, json};

use crate::args::Format;
use crate::exit::Failure;
use crate::follow::{ChangeCounts, Follow, Progress};
use crate::report::{self, counted, thousands};

/// What was done in all, over everything that made following begin anew.
#[derive(Debug)]
pub(super) struct SyncReport {
    started: Instant,
    done: Progress,
    positions: Positions,
    ahead: Option<ClusterTime>,
    /// A collection that was replaced, and could not be loaded anew, while the others are followed on.
    pub(super) failed_reload: Option<Failure>,
    /// Values that did not fit, a line each, as a load tells them.
    unfit: BTreeMap<String, u64>,
}

impl Default for SyncReport {
    fn default() -> SyncReport {
        SyncReport {
            started: Instant::now(),
            done: Progress::default(),
            positions: Positions::new(),
            ahead: None,
            failed_reload: None,
            unfit: BTreeMap::new(),
        }
    }
}

impl SyncReport {
    /// Transactions committed so far.
    pub(super) fn batches(&self) -> u64 {
        self.done.batches
    }

    /// Adds a collection that was loaded anew.
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
        self.done.add(follow.progress());
        self.positions.clone_from(follow.positions());
        self.ahead = follow.ahead();
        for (name, tally, layout) in follow.tallies() {
            for mismatch in Tally::mismatches(tally, layout) {
                *self.unfit.entry(mismatch.classic_warning(name)).or_default() += mismatch.count;
            }
        }
    }

    pub(super) fn print(&self, format: Format, failure: Option<&Failure>) {
        match format {
            Format::Text => {
                report::text(&report::lines(&self.line()));
                for (warning, count) in &self.unfit {
                    report::note(format!("{warning}: {}", counted(*count, "time", "times")));
                }
            }
            Format::Json => {
                let mut object = self.json();
                if let Some(failure) = failure {
                    object["error"] = failure.json();
                }
                report::json(&object);
            }
        }
        if let Some(failure) = failure {
            report::problem(None, failure);
        }
    }

    fn line(&self) -> String {
        let Progress { changes, documents, rows, batches, rejected, repaired, .. } = &self.done;
        let ChangeCounts { inserts, replacements, updates, deletes, .. } = changes;
        let rejected = match rejected {
            0 => String::new(),
            rejected => format!(", {} rejected", counted(*rejected, "document", "documents")),
        };
        let repaired = match repaired {
            0 => String::new(),
            repaired => format!(", {} repaired", counted(*repaired, "document", "documents")),
        };
        format!(
            "{} ({}, {}, {}, {}) of {} applied in {}: {} added, {} changed, {} deleted{rejected}{repaired}; {:.1} s; {}\n",
            counted(changes.total(), "change", "changes"),
            counted(*inserts, "insert", "inserts"),
            counted(*replacements, "replacement", "replacements"),
            counted(*updates, "update", "updates"),
            counted(*deletes, "delete", "deletes"),
            counted(*documents, "document", "documents"),
            counted(*batches, "batch", "batches"),
            counted(rows.inserted, "row", "rows"),
            thousands(rows.updated),
            thousands(rows.deleted),
            self.started.elapsed().as_secs_f64(),
            self.standing(),
        )
    }

    /// Where the tables stand.
    fn standing(&self) -> String {
        let positions: Vec<String> =
            self.positions.iter().map(|(shard, position)| format!("{shard} {}", position.time)).collect();
        match self.ahead {
            // It has not come so far as to know.
            _ if positions.is_empty() => "nothing was followed".to_owned(),
            None => format!("equal to MongoDB at {}", positions.join(", ")),
            Some(ahead) => format!("catching up at {}, exact from {ahead} on", positions.join(", ")),
        }
    }

    pub(super) fn json(&self) -> Value {
        let Progress { changes, documents, rows, batches, catching_up, rejected, repaired, statements, events, .. } =
            &self.done;
        let ChangeCounts { inserts, replacements, updates, deletes, migrations, passed_over } = changes;
        let positions: BTreeMap<&str, String> =
            self.positions.iter().map(|(shard, position)| (shard.as_str(), position.time.to_string())).collect();
        json!({
            "changes": {
                "inserts": inserts, "replacements": replacements, "updates": updates, "deletes": deletes,
                "migrations": migrations,
            },
            "passed_over": passed_over,
            "documents": documents,
            "rows": { "inserted": rows.inserted, "updated": rows.updated, "deleted": rows.deleted },
            "batches": batches, "catching_up": catching_up, "rejected": rejected, "repaired": repaired,
            "statements": statements,
            "events": events, "wrong_values": self.unfit,
            "positions": positions, "exact": self.ahead.is_none(),
            "ahead": self.ahead.map(|ahead| ahead.to_string()),
            "seconds": self.started.elapsed().as_secs_f64(),
        })
    }
}
