//! What `gizer load` reports: a summary table and what to look at, or JSON.

use std::time::Duration;

use gizer_engine::Failures;
use gizer_engine::load::LoadedCollection;
use gizer_pg::state::Ledger;
use serde_json::{Value, json};

use crate::args::Format;
use crate::ui::report::{self, thousands};

/// Prints what was loaded, and what was not.
pub(super) fn print(format: Format, reports: &[LoadedCollection], failures: &Failures) {
    match format {
        Format::Text => {
            if !reports.is_empty() {
                report::text(&summary(reports));
                reports.iter().map(ledger_line).for_each(|line| report::text(&line));
            }
            reports.iter().flat_map(|each| report::unfit_lines(&each.unfit, &each.name)).for_each(report::note);
        }
        Format::Json => report::json(&as_json(reports, failures)),
    }
    report::failures(failures);
}

/// One object of all that became of them.
pub(super) fn as_json(reports: &[LoadedCollection], failures: &Failures) -> Value {
    let mut object = json!({"collections": reports.iter().map(collection).collect::<Vec<Value>>()});
    report::add_failures(failures, &mut object);
    object
}

fn collection(loaded: &LoadedCollection) -> Value {
    let table = |((name, rows), bytes): (&(String, u64), &u64)| json!({"name": name, "rows": rows, "bytes": bytes});
    let tables: Vec<Value> = loaded.tables.iter().zip(&loaded.sizes).map(table).collect();
    let mut object = json!({
        "name": loaded.name,
        "read": loaded.ledger.read, "loaded": loaded.ledger.loaded,
        "rejected": loaded.ledger.rejected, "filtered": loaded.ledger.filtered,
        "tables": tables,
        "bytes": loaded.bytes,
        "seconds": loaded.took.as_secs_f64(),
    });
    report::add_unfit(&loaded.unfit, &mut object);
    object
}

fn summary(reports: &[LoadedCollection]) -> String {
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
fn ledger_line(each: &LoadedCollection) -> String {
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

fn total(reports: &[LoadedCollection]) -> Vec<String> {
    let sum = |of: fn(&LoadedCollection) -> u64| reports.iter().map(of).sum::<u64>();
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
