//! Runs of `gizer verify`, and what they report.

use std::collections::{BTreeMap, BTreeSet};

use integration_tests::rig::Finished;
use serde_json::{Value, json};

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
        let finished = world.run(&[&["verify", "--format", "json", "--differences", "1000000"], args].concat()).await;
        if finished.code() != Some(code) {
            let differing = differing(&finished.stdout);
            let (status, stderr) = (finished.status, &finished.stderr);
            panic!("at {caller}: expected exit code {code}, got {status}\n{stderr}\n{differing}");
        }
        Report::of(&finished, code)
    }
}

/// What is worth reading of a report of many collections.
fn differing(stdout: &str) -> String {
    let report: Value = serde_json::from_str(stdout).unwrap_or_default();
    let collections = report["collections"].as_array().into_iter().flatten();
    let differing = collections.filter(|each| each["state"] != "equal").map(|each| {
        let named: Vec<Option<Difference>> =
            each["differences"].as_array().into_iter().flatten().take(20).map(difference).collect();
        let counts = ["documents", "different", "only_in_mongodb", "only_in_postgresql", "not_compared", "repaired"];
        let counts: Vec<String> = counts.iter().map(|name| format!("{name} {}", each[name])).collect();
        format!("{} {}: {}: {named:#?}\n", each["collection"], each["state"], counts.join(", "))
    });
    differing.collect()
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
        if let Err(problem) = is_exactly(report, expected) {
            panic!("{collection}: {problem}");
        }
        assert_eq!(report["state"], state, "{report}");
        assert_eq!(self.count(collection, "rejected"), 0, "{report}");
    }
}

fn is_exactly(report: &Value, expected: &BTreeSet<Difference>) -> Result<(), String> {
    let named = named(report)?;
    let more = report["more"].as_u64().ok_or("no number of those that are not named")?;
    let wrong: Vec<&Difference> = named.difference(expected).collect();
    let missed: Vec<&Difference> = expected.difference(&named).collect();
    if !wrong.is_empty() || missed.len() as u64 != more {
        let missed = &missed[..missed.len().min(20)];
        return Err(format!("reported, and no fault: {wrong:#?}\nnot among them, and {more} not named: {missed:#?}"));
    }
    let (said, expected) = (counts_of(report)?, counts(expected));
    if said == expected { Ok(()) } else { Err(format!("by table expected {expected:#?}, reported {said:#?}")) }
}

fn named(report: &Value) -> Result<BTreeSet<Difference>, String> {
    let mut named = BTreeSet::new();
    for each in report["differences"].as_array().ok_or("no list of differences")? {
        let difference = difference(each).ok_or_else(|| format!("no difference: {each}"))?;
        if !named.insert(difference) {
            return Err(format!("reported twice: {each}"));
        }
    }
    Ok(named)
}

fn difference(each: &Value) -> Option<Difference> {
    let text = |name: &str| each[name].as_str().map(str::to_owned);
    let faults = ["missing", "left over", "repeated", "cell"];
    let fault = faults.into_iter().find(|fault| each["fault"] == *fault)?;
    let positions: Option<Vec<i64>> = each["positions"].as_array()?.iter().map(Value::as_i64).collect();
    Some(Difference { table: text("table")?, key: text("key")?, positions: positions?, fault, column: text("column") })
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

fn counts_of(report: &Value) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for each in report["tables"].as_array().ok_or("no list of tables")? {
        let table = each["table"].as_str().ok_or("a table without a name")?;
        let mut add = |fault: &str, column: &str, count: &Value| {
            let count = count.as_u64().ok_or_else(|| format!("no number of {fault} in {each}"))?;
            if count > 0 {
                counts.insert((table.to_owned(), fault.to_owned(), column.to_owned()), count);
            }
            Ok::<(), String>(())
        };
        add("missing", "", &each["missing"])?;
        add("left over", "", &each["left_over"])?;
        add("repeated", "", &each["repeated"])?;
        for (column, count) in each["cells"].as_object().ok_or("no counts of cells")? {
            add("cell", column, count)?;
        }
    }
    Ok(counts)
}

/// The rows of each table, as the report counts them.
pub(crate) fn rows_by_table(report: &Value) -> BTreeMap<String, u64> {
    let tables = report["tables"].as_array().unwrap().iter();
    tables.map(|each| (each["table"].as_str().unwrap().to_owned(), each["rows"].as_u64().unwrap())).collect()
}

/// A report that is not what it has to be is not taken for it.
#[test]
fn reports_are_looked_at_closely() {
    let difference = |table: &str, positions: &[i64], fault, column: Option<&str>| Difference {
        table: table.to_owned(),
        key: "7".to_owned(),
        positions: positions.to_vec(),
        fault,
        column: column.map(str::to_owned),
    };
    let expected = BTreeSet::from([
        difference("orders", &[], "cell", Some("name")),
        difference("order_items", &[1], "missing", None),
        difference("order_items", &[2], "left over", None),
    ]);
    let good = json!({
        "tables": [
            { "table": "orders", "rows": 9, "missing": 0, "left_over": 0, "repeated": 0, "cells": { "name": 1 } },
            { "table": "order_items", "rows": 9, "missing": 1, "left_over": 1, "repeated": 0, "cells": {} },
        ],
        "differences": [
            { "table": "orders", "key": "7", "positions": [], "fault": "cell", "column": "name" },
            { "table": "order_items", "key": "7", "positions": [1], "fault": "missing" },
            { "table": "order_items", "key": "7", "positions": [2], "fault": "left over", "column": null },
        ],
        "more": 0,
    });
    is_exactly(&good, &expected).unwrap();
    type Spoil = fn(&mut Value);
    let fewer: Spoil = |report| report["differences"].as_array_mut().unwrap().truncate(2);
    let cases: [(&str, Spoil); 9] = [
        ("one is not reported", fewer),
        ("another column", |report| report["differences"][0]["column"] = json!("names")),
        ("another row", |report| report["differences"][1]["positions"] = json!([3])),
        ("another fault", |report| report["differences"][1]["fault"] = json!("repeated")),
        ("no such fault", |report| report["differences"][1]["fault"] = json!("gone")),
        ("another key", |report| report["differences"][1]["key"] = json!("8")),
        ("twice", |report| report["differences"][1] = report["differences"][0].take()),
        ("one more that is not named", |report| report["more"] = json!(1)),
        ("counts", |report| report["tables"][1]["missing"] = json!(2)),
    ];
    for (what, spoil) in cases {
        let mut report = good.clone();
        spoil(&mut report);
        assert!(is_exactly(&report, &expected).is_err(), "{what}");
    }
    let mut report = good;
    fewer(&mut report);
    report["more"] = json!(1);
    is_exactly(&report, &expected).expect("the rest is counted by table");
}
