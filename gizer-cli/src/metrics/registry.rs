//! The values of all metrics, and their text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::catalog::{ALL, MetricDefinition, MetricKind};

/// Every metric with its values by labels.
///
/// A lock is held for one event, once a batch and not once a change, and while a snapshot copies
/// the numbers: whoever reads slowly has a copy.
#[derive(Debug)]
pub(super) struct Registry {
    values: Mutex<Values>,
}

/// The values of all metrics, changed by somebody who holds them.
#[derive(Debug, Clone, Default)]
pub(super) struct Values(BTreeMap<&'static str, BTreeMap<Vec<String>, Value>>);

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Histogram(Histogram),
}

#[derive(Debug, Clone, PartialEq)]
struct Histogram {
    /// What was observed, by the first bound that it does not exceed; one more for what exceeds all.
    counts: Vec<u64>,
    sum: f64,
}

impl Values {
    fn change(&mut self, of: &MetricDefinition, labels: &[&str], change: impl FnOnce(f64) -> f64) {
        debug_assert_eq!(of.labels.len(), labels.len(), "{}", of.name);
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        if let Value::Number(number) = self.0.entry(of.name).or_default().entry(labels).or_insert(Value::Number(0.0)) {
            *number = change(*number);
        }
    }

    /// Adds to a counter.
    pub(super) fn add(&mut self, of: &MetricDefinition, labels: &[&str], count: u64) {
        // Below 2^53, which no counter reaches, this is exact.
        self.change(of, labels, |number| number + count as f64);
    }

    /// Sets a gauge.
    pub(super) fn set(&mut self, of: &MetricDefinition, labels: &[&str], value: f64) {
        self.change(of, labels, |_| value);
    }

    /// From now on the value is not known.
    pub(super) fn forget(&mut self, of: &MetricDefinition, labels: &[&str]) {
        if let Some(of_labels) = self.0.get_mut(of.name) {
            of_labels.retain(|other, _| !other.iter().eq(labels.iter()));
        }
    }

    /// Adds to a histogram without labels.
    pub(super) fn observe(&mut self, of: &MetricDefinition, observed: f64) {
        let MetricKind::Histogram(bounds) = of.kind else { return };
        let empty = || Value::Histogram(Histogram { counts: vec![0; bounds.len() + 1], sum: 0.0 });
        let value = self.0.entry(of.name).or_default().entry(Vec::new()).or_insert_with(empty);
        if let Value::Histogram(histogram) = value {
            histogram.counts[bounds.iter().position(|bound| observed <= *bound).unwrap_or(bounds.len())] += 1;
            histogram.sum += observed;
        }
    }
}

impl Registry {
    pub(super) fn new() -> Registry {
        Registry { values: Mutex::default() }
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        // What a panicking thread has left are whole numbers all the same.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what belongs together: a snapshot has all of it, or nothing.
    pub(super) fn together(&self, change: impl FnOnce(&mut Values)) {
        change(&mut self.values());
    }

    /// Adds to a counter.
    pub(super) fn add(&self, of: &MetricDefinition, labels: &[&str], count: u64) {
        self.values().add(of, labels, count);
    }

    /// Sets a gauge.
    pub(super) fn set(&self, of: &MetricDefinition, labels: &[&str], value: f64) {
        self.values().set(of, labels, value);
    }

    /// Moves a gauge up or down.
    pub(super) fn shift(&self, of: &MetricDefinition, by: f64) {
        self.values().change(of, &[], |number| number + by);
    }

    /// The sum of a counter over all labels.
    pub(super) fn sum(&self, of: &MetricDefinition) -> u64 {
        self.sum_where(of, |_| true)
    }

    /// The sum of a counter over the labels for which this holds.
    pub(super) fn sum_where(&self, of: &MetricDefinition, holds: impl Fn(&[String]) -> bool) -> u64 {
        let number = |value: &Value| match value {
            Value::Number(number) => *number as u64,
            Value::Histogram(_) => 0,
        };
        let values = self.values();
        let of_labels = values.0.get(of.name).into_iter().flatten();
        of_labels.filter(|(labels, _)| holds(labels)).map(|(_, value)| number(value)).sum()
    }

    /// All series with their values, as they are now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let values = self.values().clone();
        let family = |of: &&'static MetricDefinition| {
            let of_labels = values.0.get(of.name)?;
            let mut series = Vec::new();
            for (labels, value) in of_labels {
                match value {
                    Value::Number(number) => series.push((series_name(of.name, of.labels, labels), *number)),
                    Value::Histogram(histogram) => series.extend(histogram.series(of)),
                }
            }
            (!series.is_empty()).then_some(MetricFamily { of, series })
        };
        Snapshot { families: ALL.iter().filter_map(family).collect() }
    }
}

impl Histogram {
    fn series(&self, of: &MetricDefinition) -> Vec<(String, f64)> {
        let mut total = 0;
        let cumulative = self.counts.iter().map(|count| {
            total += count;
            total as f64
        });
        let count: u64 = self.counts.iter().sum();
        histogram_series(of).into_iter().zip(cumulative.chain([self.sum, count as f64])).collect()
    }
}

/// The names of a histogram's series, in the order in which they must stand.
pub(super) fn histogram_series(of: &MetricDefinition) -> Vec<String> {
    let MetricKind::Histogram(bounds) = of.kind else { return Vec::new() };
    let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
    let buckets = bounds.map(|bound| format!("{}_bucket{{le=\"{bound}\"}}", of.name));
    buckets.chain(["_sum", "_count"].map(|suffix| of.name.to_owned() + suffix)).collect()
}

/// The values of all metrics at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Snapshot {
    pub(super) families: Vec<MetricFamily>,
}

/// One metric with its series: `name{label="value"}` and a number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MetricFamily {
    pub(super) of: &'static MetricDefinition,
    pub(super) series: Vec<(String, f64)>,
}

impl PartialEq for MetricDefinition {
    fn eq(&self, other: &MetricDefinition) -> bool {
        self.name == other.name
    }
}

impl Snapshot {
    /// As Prometheus reads it: the text format of version 0.0.4.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for MetricFamily { of, series } in &self.families {
            let kind = match of.kind {
                MetricKind::Counter => "counter",
                MetricKind::Histogram(_) => "histogram",
                MetricKind::Gauge(_) => "gauge",
            };
            let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {kind}", of.name, of.help, of.name);
            for (name, value) in series {
                let _ = writeln!(text, "{name} {value}");
            }
        }
        text
    }
}

/// `name{label="value"}`, with what must be escaped in a value.
fn series_name(name: &str, labels: &[&str], values: &[String]) -> String {
    if labels.is_empty() {
        return name.to_owned();
    }
    let escaped = |value: &String| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        labels.iter().zip(values).map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
    format!("{name}{{{}}}", pairs.join(","))
}
