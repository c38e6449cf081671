//! Values without a place in the schema.

use std::collections::{BTreeMap, HashMap};

use gizer_flatten::{Mismatch, Tally, Unfit, UnknownField};
use gizer_pg::state::UnfitCount;
use gizer_schema::{Dialect, Layout};

use crate::wording::counted;

/// A count of values that do not fit, for the state tables.
pub fn of_mismatch(mismatch: &Mismatch) -> UnfitCount {
    UnfitCount {
        path: mismatch.path.clone(),
        expected: Some(mismatch.expected.to_owned()),
        came: mismatch.actual.report_name().to_owned(),
        count: mismatch.count,
        documents: mismatch.documents,
    }
}

/// A count of values in an unknown field, for the state tables.
pub fn of_unknown(field: &UnknownField) -> UnfitCount {
    UnfitCount {
        path: field.path.clone(),
        expected: None,
        came: field.kind.report_name().to_owned(),
        count: field.count,
        documents: field.documents,
    }
}

/// One line about values of one type at one path: `posts.n: 2 values are STRING, expected INT; kept in _extra`.
///
/// Under a classic schema file it is the classic tool's line, which `gizer schema patch` reads.
pub fn unfit_line(collection: &str, unfit: &UnfitCount, dialect: Dialect) -> String {
    let UnfitCount { path, expected, came, count, .. } = unfit;
    let times = counted(*count, "time", "times");
    match (dialect, expected) {
        (Dialect::Classic, Some(expected)) => {
            format!("wrong value ({came}) for {collection}.{path}({expected}): {times}")
        }
        (Dialect::Classic, None) => format!("unknown field {collection}.{path}: {times}, not loaded"),
        (Dialect::Gizer { .. }, None) => format!("unknown field {collection}.{path} ({came}): {times}, kept in _extra"),
        (Dialect::Gizer { .. }, Some(expected)) => {
            let one = |one: &str, many: &str| counted(*count, one, many);
            let is = |unfit: Unfit| came == unfit.report_name();
            let what = if is(Unfit::TextWithNul) {
                one("string contains NUL", "strings contain NUL")
            } else if is(Unfit::TextNotUtf8) {
                one("string is not UTF-8", "strings are not UTF-8")
            } else if is(Unfit::TimeOutOfRange) {
                one("time is out of PostgreSQL's range", "times are out of PostgreSQL's range")
            } else if is(Unfit::KeyTooLong) {
                one("field name is too long for a key", "field names are too long for a key")
            } else if is(Unfit::KeyNotUtf8) {
                one("field name is not UTF-8", "field names are not UTF-8")
            } else if is(Unfit::Duplicate) && expected == "MAP" {
                format!("a field name in it stands more than once, {times}")
            } else if is(Unfit::Duplicate) {
                format!("the field stands more than once, {times}")
            } else {
                let values = one(&format!("value is {came}"), &format!("values are {came}"));
                format!("{values}, expected {expected}")
            };
            format!("{collection}.{path}: {what}; kept in _extra")
        }
    }
}

/// One collection's values without a place in its schema.
#[derive(Debug)]
pub struct UnfitReport {
    dialect: Dialect,
    mismatches: Vec<Mismatch>,
    unknown: Vec<UnknownField>,
    /// Values in further unknown fields, not counted one by one.
    beyond: u64,
}

impl UnfitReport {
    /// An empty report.
    pub fn new(layout: &Layout) -> UnfitReport {
        UnfitReport { dialect: layout.dialect, mismatches: Vec::new(), unknown: Vec::new(), beyond: 0 }
    }

    /// The report of a tally.
    pub fn of(tally: &Tally, layout: &Layout) -> UnfitReport {
        let (mismatches, unknown) = (tally.mismatches(layout), tally.unknown_by_kind());
        UnfitReport { dialect: layout.dialect, mismatches, unknown, beyond: tally.unknown_beyond() }
    }

    /// Adds a later report.
    pub fn add(&mut self, later: UnfitReport) {
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

    /// The dialect of the schema.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Values in unknown fields, by field and type.
    pub fn unknown(&self) -> &[UnknownField] {
        &self.unknown
    }

    /// Values in further unknown fields, not counted one by one.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Values that do not fit their field.
    pub fn mismatches(&self) -> &[Mismatch] {
        &self.mismatches
    }

    /// Unknown fields with their counts, in all and by type; the most frequent first.
    pub fn by_path(&self) -> Vec<(&str, u64, BTreeMap<&str, u64>)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_named_by_dialect() {
        let line = |came: &str, expected: Option<&str>, count, dialect| {
            let (path, came, expected) = ("a.b".to_owned(), came.to_owned(), expected.map(str::to_owned));
            unfit_line("posts", &UnfitCount { path, expected, came, count, documents: 1 }, dialect)
        };
        let (classic, gizer) = (Dialect::Classic, Dialect::Gizer { exact_types: false });
        let of = |came, count| line(came, Some("INT"), count, gizer);
        assert_eq!(of("STRING", 1), "posts.a.b: 1 value is STRING, expected INT; kept in _extra");
        assert_eq!(of("STRING", 1_000), "posts.a.b: 1,000 values are STRING, expected INT; kept in _extra");
        assert_eq!(of("STRING with NUL", 1), "posts.a.b: 1 string contains NUL; kept in _extra");
        assert_eq!(of("DUPLICATE field", 2), "posts.a.b: the field stands more than once, 2 times; kept in _extra");
        assert_eq!(of("KEY too long", 1), "posts.a.b: 1 field name is too long for a key; kept in _extra");
        assert_eq!(of("KEY that is not UTF-8", 2), "posts.a.b: 2 field names are not UTF-8; kept in _extra");
        let duplicate = line("DUPLICATE field", Some("MAP"), 1, gizer);
        assert_eq!(duplicate, "posts.a.b: a field name in it stands more than once, 1 time; kept in _extra");
        assert_eq!(line("INT", None, 2, gizer), "unknown field posts.a.b (INT): 2 times, kept in _extra");
        assert_eq!(line("INT", None, 2, classic), "unknown field posts.a.b: 2 times, not loaded");
        assert_eq!(line("STRING", Some("INT"), 2, classic), "wrong value (STRING) for posts.a.b(INT): 2 times");
    }
}
