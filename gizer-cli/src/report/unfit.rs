//! What came that the schema has no place for, as reports have it.

use std::collections::{BTreeMap, HashMap};

use gizer_engine::unfit::{of_mismatch, of_unknown, unfit_line};
use gizer_flatten::{Mismatch, Tally, UnknownField};
use gizer_pg::state::UnfitCount;
use gizer_schema::{Dialect, Layout};
use serde_json::{Value, json};

/// Lines that a person is shown of one collection.
const MAX_LINES: usize = 10;

/// What came to one collection that its schema has no place for.
#[derive(Debug)]
pub(crate) struct UnfitReport {
    dialect: Dialect,
    mismatches: Vec<Mismatch>,
    unknown: Vec<UnknownField>,
    /// Values in further unknown fields, which nobody has counted one by one.
    beyond: u64,
}

impl UnfitReport {
    /// Nothing yet.
    pub(crate) fn new(layout: &Layout) -> UnfitReport {
        UnfitReport { dialect: layout.dialect, mismatches: Vec::new(), unknown: Vec::new(), beyond: 0 }
    }

    /// What a tally has counted.
    pub(crate) fn of(tally: &Tally, layout: &Layout) -> UnfitReport {
        let (mismatches, unknown) = (tally.mismatches(layout), tally.unknown_by_kind());
        UnfitReport { dialect: layout.dialect, mismatches, unknown, beyond: tally.unknown_beyond() }
    }

    /// Adds what came later.
    pub(crate) fn add(&mut self, later: UnfitReport) {
        self.beyond += later.beyond;
        let place = |(at, known): (usize, &Mismatch)| ((known.path.clone(), known.expected, known.actual), at);
        let places: HashMap<_, usize> = self.mismatches.iter().enumerate().map(place).collect();
        for mismatch in later.mismatches {
            match places.get(&(mismatch.path.clone(), mismatch.expected, mismatch.actual)) {
                Some(at) => {
                    self.mismatches[*at].count += mismatch.count;
                    self.mismatches[*at].documents += mismatch.documents;
                }
                None => self.mismatches.push(mismatch),
            }
        }
        let place = |(at, known): (usize, &UnknownField)| ((known.path.clone(), known.kind), at);
        let places: HashMap<_, usize> = self.unknown.iter().enumerate().map(place).collect();
        for field in later.unknown {
            match places.get(&(field.path.clone(), field.kind)) {
                Some(at) => {
                    self.unknown[*at].count += field.count;
                    self.unknown[*at].documents += field.documents;
                }
                None => self.unknown.push(field),
            }
        }
    }

    /// Values that the schema has a field for, and do not fit.
    pub(crate) fn mismatches(&self) -> &[Mismatch] {
        &self.mismatches
    }

    /// What a person should look at, a line each; not more than a few.
    pub(crate) fn lines(&self, collection: &str) -> Vec<String> {
        let mut counts: Vec<UnfitCount> = self.mismatches.iter().map(of_mismatch).collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.count));
        let mut unknown: Vec<UnfitCount> = match self.dialect {
            // Of a value that is not kept the type does not matter.
            Dialect::Classic => self.by_path().into_iter().map(|(path, count, _)| of_path(path, count)).collect(),
            Dialect::Gizer { .. } => self.unknown.iter().map(of_unknown).collect(),
        };
        unknown.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.path.cmp(&b.path)));
        counts.append(&mut unknown);
        let mut lines: Vec<String> =
            counts.iter().take(MAX_LINES).map(|count| unfit_line(collection, count, self.dialect)).collect();
        if let Some(more @ 1..) = counts.len().checked_sub(MAX_LINES) {
            lines.push(format!("… and {more} more such lines about {collection}; --format json lists all"));
        }
        lines
    }

    /// Adds what machines are told to the object of a collection.
    pub(crate) fn add_to(&self, object: &mut Value) {
        let mismatch = |m: &Mismatch| {
            json!({
                "path": m.path, "expected": m.expected, "actual": m.actual.report_name(), "count": m.count,
                "documents": m.documents, "example_id": m.example,
            })
        };
        let unknown = |(path, count, types): (&str, u64, BTreeMap<&str, u64>)| json!({"path": path, "count": count, "types": types});
        object["mismatches"] = self.mismatches.iter().map(mismatch).collect();
        object["unknown_fields"] = self.by_path().into_iter().map(unknown).collect();
        object["unknown_fields_beyond"] = self.beyond.into();
    }

    /// Unknown fields with how often they came, in all and by type; the most frequent first.
    fn by_path(&self) -> Vec<(&str, u64, BTreeMap<&str, u64>)> {
        let mut paths: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        for field in &self.unknown {
            *paths.entry(&field.path).or_default().entry(field.kind.report_name()).or_default() += field.count;
        }
        let mut paths: Vec<_> =
            paths.into_iter().map(|(path, types)| (path, types.values().sum::<u64>(), types)).collect();
        paths.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        paths
    }
}

fn of_path(path: &str, count: u64) -> UnfitCount {
    UnfitCount { path: path.to_owned(), expected: None, came: String::new(), count, documents: 0 }
}
