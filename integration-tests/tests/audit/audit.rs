//! Runs of `gizer verify`, and what they report.

use std::collections::{BTreeMap, BTreeSet};

use integration_tests::rig::Finished;
use serde_json::Value;

use super::faults::Injector;
use super::rows::Difference;
use super::world::World;

/// What a run has reported of each collection.
#[derive(Debug)]
pub(crate) struct Report(BTreeMap<String, Value>);

/// `gizer verify --format json` and these arguments, to be ended with this exit code.
#[track_caller]
pub(crate) fn verify(world: &World<'_>, args: &[&str], code: i32) -> impl Future<Output = Report> {
    let caller = std::panic::Location::caller();
    async move {
        let finished = world.run(&[&["verify", "--format", "json"], args].concat()).await;
        if finished.code() != Some(code) {
            println!("at {caller}");
        }
        Report::of(&finished.expect_code(code), code)
    }
}

impl Report {
    /// What a run has printed.
    pub(crate) fn of(finished: &Finished, code: i32) -> Report {
        let report: Value = serde_json::from_str(&finished.stdout).expect("one object on standard output");
        assert_eq!(report["exit_code"], code, "{report}");
        let collections = report["collections"].as_array().unwrap().iter();
        Report(collections.map(|each| (each["collection"].as_str().unwrap().to_owned(), each.clone())).collect())
    }

    /// The collections that were looked at.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    pub(crate) fn of_collection(&self, collection: &str) -> &Value {
        self.0.get(collection).unwrap_or_else(|| panic!("{collection} is not among {:?}", self.names()))
    }

    pub(crate) fn count(&self, collection: &str, name: &str) -> u64 {
        let report = self.of_collection(collection);
        report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
    }

    /// Nothing is reported, of any collection.
    #[track_caller]
    pub(crate) fn expect_nothing(&self) {
        for name in self.names() {
            self.expect_nothing_of(name);
        }
    }

    #[track_caller]
    pub(crate) fn expect_nothing_of(&self, collection: &str) {
        self.expect(collection, "equal", &BTreeSet::new());
        for name in ["different", "only_in_mongodb", "only_in_postgresql"] {
            assert_eq!(self.count(collection, name), 0, "{name}: {}", self.of_collection(collection));
        }
    }

    /// Exactly what has been put in is reported.
    #[track_caller]
    pub(crate) fn expect_faults(&self, injector: &Injector) {
        let collection = &injector.collection;
        let state = if injector.expected.is_empty() { "equal" } else { "differs" };
        self.expect(collection, state, &injector.expected);
        let count = |name| self.count(collection, name);
        let report = self.of_collection(collection);
        assert_eq!(count("only_in_postgresql"), injector.unknown(), "{report}");
        // A document that has lost its root row alone may be counted as either.
        let known = injector.documents() - injector.unknown();
        assert_eq!(count("different") + count("only_in_mongodb"), known, "{report}");
        assert_eq!(count("equal"), count("documents") - known, "{report}");
    }

    /// These differences are reported of a collection, and no other: all that are named, and the rest by its counts.
    #[track_caller]
    pub(crate) fn expect(&self, collection: &str, state: &str, expected: &BTreeSet<Difference>) {
        let report = self.of_collection(collection);
        let named = named(report);
        let wrong: Vec<&Difference> = named.difference(expected).collect();
        let more = self.count(collection, "more");
        let missed: Vec<&Difference> = expected.difference(&named).take(if more == 0 { 20 } else { 0 }).collect();
        assert!(
            wrong.is_empty() && missed.is_empty(),
            "{collection}:\n  reported, and equal: {wrong:#?}\n  not reported: {missed:#?}"
        );
        assert_eq!(named.len() as u64 + more, expected.len() as u64, "{collection}: {more} are not named");
        assert_eq!(counts_of(report), counts(expected), "{collection}, by table");
        assert_eq!(report["state"], state, "{report}");
        assert_eq!(self.count(collection, "rejected"), 0, "{report}");
    }
}

fn named(report: &Value) -> BTreeSet<Difference> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let differences = report["differences"].as_array().unwrap().iter().map(|each| Difference {
        table: text(&each["table"]).unwrap(),
        key: text(&each["key"]).unwrap_or_else(|| panic!("no key in {each}")),
        positions: each["positions"].as_array().unwrap().iter().map(|at| at.as_i64().unwrap()).collect(),
        fault: match each["fault"].as_str().unwrap() {
            "missing" => "missing",
            "left over" => "left over",
            "repeated" => "repeated",
            "cell" => "cell",
            other => panic!("a fault that is none: {other}"),
        },
        column: text(&each["column"]),
    });
    let differences: Vec<Difference> = differences.collect();
    let apart: BTreeSet<Difference> = differences.iter().cloned().collect();
    assert_eq!(apart.len(), differences.len(), "something is reported twice: {differences:#?}");
    apart
}

/// How many there are of each fault: table, fault, column.
type Counts = BTreeMap<(String, String, String), u64>;

fn counts(differences: &BTreeSet<Difference>) -> Counts {
    let mut counts = Counts::new();
    for Difference { table, fault, column, .. } in differences {
        let column = column.clone().unwrap_or_default();
        *counts.entry((table.clone(), (*fault).to_owned(), column)).or_default() += 1;
    }
    counts
}

fn counts_of(report: &Value) -> Counts {
    let mut counts = Counts::new();
    for each in report["tables"].as_array().unwrap() {
        let table = each["table"].as_str().unwrap();
        let mut add = |fault: &str, column: &str, count: &Value| {
            let count = count.as_u64().unwrap_or_else(|| panic!("no number of {fault} in {each}"));
            if count > 0 {
                counts.insert((table.to_owned(), fault.to_owned(), column.to_owned()), count);
            }
        };
        add("missing", "", &each["missing"]);
        add("left over", "", &each["left_over"]);
        add("repeated", "", &each["repeated"]);
        for (column, count) in each["cells"].as_object().unwrap() {
            add("cell", column, count);
        }
    }
    counts
}

/// The rows of each table, as the report counts them.
pub(crate) fn rows_by_table(report: &Value) -> BTreeMap<String, u64> {
    let tables = report["tables"].as_array().unwrap().iter();
    tables.map(|each| (each["table"].as_str().unwrap().to_owned(), each["rows"].as_u64().unwrap())).collect()
}
