//! What came that the schema has no place for, as reports have it.

use std::collections::BTreeMap;

use gizer_engine::unfit::{UnfitReport, of_mismatch, of_unknown, unfit_line};
use gizer_flatten::Mismatch;
use gizer_pg::state::UnfitCount;
use gizer_schema::Dialect;
use serde_json::{Value, json};

/// Lines that a person is shown of one collection.
const MAX_LINES: usize = 10;

/// What a person should look at, a line each; not more than a few.
pub(crate) fn unfit_lines(report: &UnfitReport, collection: &str) -> Vec<String> {
    let mut counts: Vec<UnfitCount> = report.mismatches().iter().map(of_mismatch).collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.count));
    let mut unknown: Vec<UnfitCount> = match report.dialect() {
        // Of a value that is not kept the type does not matter.
        Dialect::Classic => report.by_path().into_iter().map(|(path, count, _)| of_path(path, count)).collect(),
        Dialect::Gizer { .. } => report.unknown().iter().map(of_unknown).collect(),
    };
    unknown.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.path.cmp(&b.path)));
    counts.append(&mut unknown);
    let mut lines: Vec<String> =
        counts.iter().take(MAX_LINES).map(|count| unfit_line(collection, count, report.dialect())).collect();
    if let Some(more @ 1..) = counts.len().checked_sub(MAX_LINES) {
        lines.push(format!("… and {more} more such lines about {collection}; --format json lists all"));
    }
    lines
}

/// Adds it to the object of a collection, for machines.
pub(crate) fn add_unfit(report: &UnfitReport, object: &mut Value) {
    let mismatch = |m: &Mismatch| {
        json!({
            "path": m.path, "expected": m.expected, "actual": m.actual.report_name(), "count": m.count,
            "documents": m.documents, "example_id": m.example,
        })
    };
    let unknown =
        |(path, count, types): (&str, u64, BTreeMap<&str, u64>)| json!({"path": path, "count": count, "types": types});
    object["mismatches"] = report.mismatches().iter().map(mismatch).collect();
    object["unknown_fields"] = report.by_path().into_iter().map(unknown).collect();
    object["unknown_fields_beyond"] = report.beyond().into();
}

fn of_path(path: &str, count: u64) -> UnfitCount {
    UnfitCount { path: path.to_owned(), expected: None, came: String::new(), count, documents: 0 }
}
