//! What `gizer load` reports: a summary table and what to look at, or JSON.

use std::time::Duration;

use gizer_pg::load::Written;
use gizer_pg::state::Ledger;
use serde_json::{Value, json};

use super::failures::Failures;
use crate::args::Format;
use crate::report::{self, UnfitReport, thousands};

/// What became of one collection.
#[derive(Debug)]
pub(super) struct CollectionReport {
    pub(super) name: String,
    pub(super) ledger: Ledger,
    /// Rows by table, in the order of the layout.
    pub(super) tables: Vec<(String, u64)>,
    /// Bytes that each of them takes, with keys and indexes, or as text files.
    pub(super) sizes: Vec<u64>,
    /// What the schema has no place for.
    pub(super) unfit: UnfitReport,
    /// Bytes of BSON.
    pub(super) bytes: u64,
    /// Documents that this run has read: less than all if it took up the load of another.
    pub(super) read_now: u64,
    pub(super) took: Duration,
    pub(super) written: Written,
}

/// Prints what was loaded, and what was not.
pub(super) fn print(format: Format, reports: &[CollectionReport], failures: &Failures) {
    match format {
        Format::Text => {
            if !reports.is_empty() {
                report::text(&summary(reports));
                reports.iter().map(ledger_line).for_each(|line| report::text(&line));
            }
            reports.iter().flat_map(|each| each.unfit.lines(&each.name)).for_each(report::note);
        }
        Format::Json => report::json(&as_json(reports, failures)),
    }
    failures.print();
}

/// One object of all that became of them.
pub(super) fn as_json(reports: &[CollectionReport], failures: &Failures) -> Value {
    let mut object = json!({"collections": collections(reports)});
    failures.add_to(&mut object);
    object
}

fn collections(reports: &[CollectionReport]) -> Vec<Value> {
    reports.iter().map(collection).collect()
}

fn collection(report: &CollectionReport) -> Value {
    let table = |((name, rows), bytes): (&(String, u64), &u64)| json!({"name": name, "rows": rows, "bytes": bytes});
    let tables: Vec<Value> = report.tables.iter().zip(&report.sizes).map(table).collect();
    let mut object = json!({
        "name": report.name,
        "read": report.ledger.read, "loaded": report.ledger.loaded,
        "rejected": report.ledger.rejected, "filtered": report.ledger.filtered,
        "tables": tables,
        "bytes": report.bytes,
        "seconds": report.took.as_secs_f64(),
    });
    report.unfit.add_to(&mut object);
    object
}

fn summary(reports: &[CollectionReport]) -> String {
    let header = ["collection", "table", "rows", "size", "documents", "rejected", "read", "time", "docs/s"];
    let numbers = &header[2..];
    let mut rows = Vec::new();
    for each in reports {
        for (i, ((table, count), size)) in each.tables.iter().zip(&each.sizes).enumerate() {
            let mut row = vec![String::new(); header.len()];
            (row[1], row[2], row[3]) = (table.clone(), thousands(*count), report::bytes(*size));
            if i == 0 {
                row[0].clone_from(&each.name);
                row[4] = thousands(each.ledger.loaded);
                row[5] = thousands(each.ledger.rejected);
                row[6..].clone_from_slice(&effort(each.bytes, each.took, each.read_now));
            }
            rows.push(row);
        }
    }
    if reports.len() > 1 {
        rows.push(total(reports));
    }
    report::table(&header, numbers, rows)
}

/// What became of every document: `orders: 400,000 read = 399,999 loaded + 1 rejected`.
fn ledger_line(each: &CollectionReport) -> String {
    let Ledger { read, loaded, rejected, filtered, .. } = &each.ledger;
    let filtered = if *filtered > 0 { format!(" + {} filtered", thousands(*filtered)) } else { String::new() };
    format!(
        " {}: {} read = {} loaded + {} rejected{filtered}\n",
        report::printable(&each.name),
        thousands(*read),
        thousands(*loaded),
        thousands(*rejected)
    )
}

fn total(reports: &[CollectionReport]) -> Vec<String> {
    let sum = |of: fn(&CollectionReport) -> u64| reports.iter().map(of).sum::<u64>();
    let rows = sum(|each| each.tables.iter().map(|(_, rows)| rows).sum());
    let sizes = sum(|each| each.sizes.iter().sum());
    let mut row = vec!["all".to_owned(), String::new(), thousands(rows), report::bytes(sizes)];
    row.push(thousands(sum(|each| each.ledger.loaded)));
    row.push(thousands(sum(|each| each.ledger.rejected)));
    row.extend(effort(sum(|each| each.bytes), reports.iter().map(|each| each.took).sum(), sum(|each| each.read_now)));
    row
}

/// Bytes read, time, and documents a second.
fn effort(bytes: u64, took: Duration, documents: u64) -> [String; 3] {
    let seconds = took.as_secs_f64();
    let rate = (documents as f64 / seconds.max(0.001)) as u64;
    [report::bytes(bytes), format!("{seconds:.1} s"), thousands(rate)]
}
