//! What `gizer load` reports: a summary table and what to look at, or JSON.

use std::time::Duration;

use gizer_flatten::Mismatch;
use gizer_pg::load::Written;
use gizer_pg::state::Ledger;
use gizer_schema::Dialect;
use serde_json::{Value, json};

use super::failures::Failures;
use crate::args::Format;
use crate::report::{self, thousands};

/// Lines of mismatches and unknown fields that a person is shown of one collection.
const MOST_LINES: usize = 10;

/// What became of one collection.
#[derive(Debug)]
pub(super) struct CollectionReport {
    pub(super) name: String,
    pub(super) ledger: Ledger,
    /// Rows by table, in the order of the layout.
    pub(super) tables: Vec<(String, u64)>,
    /// Bytes that each of them takes, with keys and indexes, or as text files.
    pub(super) sizes: Vec<u64>,
    pub(super) mismatches: Vec<Mismatch>,
    /// Fields that the schema does not have, with how often they came.
    pub(super) unknown: Vec<(String, u64)>,
    pub(super) unknown_beyond: u64,
    /// What becomes of what has no column.
    pub(super) dialect: Dialect,
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
            reports.iter().flat_map(remarks).for_each(report::note);
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
    let mismatch = |m: &Mismatch| {
        json!({
            "path": m.path, "expected": m.expected, "actual": m.actual.report_name(), "count": m.count,
            "example_id": m.example,
        })
    };
    let unknown = report.unknown.iter().map(|(path, count)| json!({"path": path, "count": count}));
    json!({
        "name": report.name,
        "read": report.ledger.read, "loaded": report.ledger.loaded,
        "rejected": report.ledger.rejected, "filtered": report.ledger.filtered,
        "tables": tables,
        "mismatches": report.mismatches.iter().map(mismatch).collect::<Vec<Value>>(),
        "unknown_fields": unknown.collect::<Vec<Value>>(),
        "unknown_fields_beyond": report.unknown_beyond,
        "bytes": report.bytes,
        "seconds": report.took.as_secs_f64(),
    })
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

/// What a person should look at, a line each.
fn remarks(each: &CollectionReport) -> Vec<String> {
    let times = |count: u64| report::counted(count, "time", "times");
    let (kept, lost) = match each.dialect {
        Dialect::Classic => ("", ", not loaded"),
        Dialect::Gizer { .. } => (", kept in _extra", ", kept in _extra"),
    };
    let mut mismatches: Vec<&Mismatch> = each.mismatches.iter().collect();
    mismatches.sort_by_key(|m| std::cmp::Reverse(m.count));
    let mismatches = mismatches.iter().map(|m| {
        // Which document it was is told where it is asked for: --format json has the first one's _id.
        format!("{}: {}{kept}", m.classic_warning(&each.name), times(m.count))
    });
    let unknown =
        each.unknown.iter().map(|(path, count)| format!("unknown field {}.{path}: {}{lost}", each.name, times(*count)));
    let mut lines: Vec<String> = mismatches.chain(unknown).collect();
    if lines.len() > MOST_LINES {
        let more = lines.len() - MOST_LINES;
        lines.truncate(MOST_LINES);
        lines.push(format!("… and {more} more such lines about {}; --format json lists all", each.name));
    }
    lines
}
