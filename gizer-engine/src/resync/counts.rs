//! What a resync counts, segment by segment and run by run.

use std::time::Duration;

use gizer_flatten::{DocumentBatch, Mismatch, Tally};
use gizer_pg::rows::TableCounts;
use gizer_pg::state::{Ledger, ResyncCounts};
use gizer_schema::Layout;
use gizer_verify::{Audited, Reconciled};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ResyncedCollection;
use crate::audit::AuditReport;
use crate::failure::Failure;
use crate::unfit::UnfitReport;

/// Rows that a resync has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResyncedRows {
    /// Inserted rows.
    pub inserted: u64,
    /// Updated rows.
    pub updated: u64,
    /// Deleted rows.
    pub deleted: u64,
}

impl ResyncedRows {
    fn add(&mut self, counts: TableCounts) {
        self.inserted += counts.inserted;
        self.updated += counts.updated;
        self.deleted += counts.deleted;
    }
}

/// What was counted in a part of a collection.
#[derive(Debug, Default)]
pub(super) struct ResyncReport {
    /// What differed.
    pub(super) found: AuditReport,
    pub(super) written: ResyncedRows,
    /// Rows that are stored now, by table.
    pub(super) rows: Vec<u64>,
    /// Documents that PostgreSQL has refused.
    pub(super) refused: u64,
    /// Bytes of BSON.
    pub(super) bytes: u64,
    /// What the flattener has counted.
    pub(super) tally: Tally,
}

/// The form in the state tables.
#[derive(Serialize, Deserialize)]
struct RecordedReport {
    found: AuditReport,
    written: ResyncedRows,
    rows: Vec<u64>,
    refused: u64,
    bytes: u64,
    tally: Value,
}

impl ResyncReport {
    pub(super) fn new(layout: &Layout) -> ResyncReport {
        ResyncReport { rows: vec![0; layout.tables.len()], ..ResyncReport::default() }
    }

    /// Adds a chunk as it was found.
    pub(super) fn add_chunk(&mut self, layout: &Layout, documents: &[DocumentBatch], audited: &Audited, named: usize) {
        let found = &mut self.found;
        found.documents += audited.verdict.documents + audited.rejected.len() as u64;
        found.rows += audited.verdict.rows;
        found.rejected += audited.rejected.len() as u64;
        let with_document = audited.differing.iter().filter(|key| key.stand != gizer_verify::Stand::OnlyRows).count();
        found.equal += audited.verdict.documents.saturating_sub(with_document as u64);
        found.add_stored(layout, &audited.stored);
        found.add_differences(layout, audited, named);
        self.rows.iter_mut().zip(&audited.stored).for_each(|(sum, rows)| *sum += rows);
        self.bytes += documents.iter().map(|batch| batch.document_bytes() as u64).sum::<u64>();
        self.tally.add(audited.tally.clone());
    }

    /// Adds rows that were written for a chunk. Of `left_over` rows that no chunk has counted
    /// nothing is taken off.
    pub(super) fn add_written(&mut self, reconciled: &Reconciled, left_over: bool) {
        self.written.add(reconciled.changes.sum());
        for (sum, table) in self.rows.iter_mut().zip(&reconciled.changes.tables) {
            let deleted = if left_over { 0 } else { table.deleted };
            *sum = (*sum + table.inserted).saturating_sub(deleted);
        }
        self.found.repaired += reconciled.repaired;
    }

    pub(super) fn add(&mut self, other: ResyncReport, named: usize) {
        let ResyncReport { found, written, rows, refused, bytes, tally } = other;
        self.found.add(found, named);
        self.written.inserted += written.inserted;
        self.written.updated += written.updated;
        self.written.deleted += written.deleted;
        self.rows.iter_mut().zip(rows).for_each(|(sum, rows)| *sum += rows);
        self.refused += refused;
        self.bytes += bytes;
        self.tally.add(tally);
    }

    /// As the state tables have it.
    pub(super) fn recorded(&self) -> Result<ResyncCounts, Failure> {
        let recorded = RecordedReport {
            found: self.found.without_values(),
            written: self.written,
            rows: self.rows.clone(),
            refused: self.refused,
            bytes: self.bytes,
            tally: self.tally.to_json(),
        };
        Ok(ResyncCounts {
            documents: self.found.documents,
            rows: self.found.rows,
            differed: self.found.differing(),
            report: serde_json::to_string(&recorded).map_err(|error| Failure::failed(error.to_string()))?,
        })
    }

    /// The inverse; nothing of a segment that was not begun, or `None` if it is something else.
    pub(super) fn read(recorded: &ResyncCounts, layout: &Layout) -> Option<ResyncReport> {
        if recorded.report.is_empty() {
            return Some(ResyncReport::new(layout));
        }
        let RecordedReport { found, written, rows, refused, bytes, tally } =
            serde_json::from_str(&recorded.report).ok()?;
        let tally = Tally::from_json(&tally, layout)?;
        (rows.len() == layout.tables.len()).then_some(ResyncReport { found, written, rows, refused, bytes, tally })
    }
}

/// What is reported of a resync; `resumed` documents were done before this run.
pub(super) fn resynced(layout: &Layout, report: ResyncReport, resumed: u64) -> ResyncedCollection {
    let ResyncReport { found, written, rows, refused, bytes, tally } = report;
    let unfit = |mismatch: Mismatch| (mismatch.classic_warning(&layout.collection), mismatch.count);
    let names = || layout.tables.iter().map(|table| table.name.clone());
    let ledger = Ledger {
        read: found.documents,
        loaded: found.documents.saturating_sub(found.rejected + refused),
        rejected: found.rejected + refused,
        filtered: 0,
        rows: names().zip(rows.iter().copied()).collect(),
        unfit: tally.mismatches(layout).into_iter().map(unfit).collect(),
        millis: None,
        resync_millis: None,
    };
    ResyncedCollection {
        name: layout.collection.clone(),
        read_now: found.documents.saturating_sub(resumed),
        found,
        written,
        ledger,
        tables: names().zip(rows).collect(),
        unfit: UnfitReport::of(&tally, layout),
        bytes,
        took: Duration::ZERO,
    }
}
