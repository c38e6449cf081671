//! What is documented is what there is.

use gizer_engine::{InFlight, Observer};
use std::collections::BTreeSet;

use serde_json::Value;

use super::catalog::*;
use super::registry::{Registry, histogram_series};
use super::*;

const DOCUMENTED: &str = include_str!("../../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../../docs/grafana/gizer.json");

fn kind(of: &MetricDefinition) -> &'static str {
    match of.kind {
        MetricKind::Counter => "counter",
        MetricKind::Histogram(_) => "histogram",
        MetricKind::Gauge(_) => "gauge",
    }
}

/// All names that series can have.
fn names() -> BTreeSet<String> {
    let of = |of: &&MetricDefinition| match of.kind {
        MetricKind::Histogram(_) => {
            let series = histogram_series(of).into_iter();
            series.map(|name| name.split('{').next().unwrap_or_default().to_owned()).collect()
        }
        _ => vec![of.name.to_owned()],
    };
    ALL.iter().flat_map(of).collect()
}

/// The metrics in an expression.
fn used(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("gizer_") || word.starts_with("process_")).map(str::to_owned).collect()
}

#[test]
fn every_metric_stands_in_the_table_and_no_other() {
    let rows: Vec<&str> = DOCUMENTED.lines().filter(|line| line.starts_with("| `")).collect();
    let row =
        |of: &&MetricDefinition| format!("| `{}` | {} | {} | {} |", of.name, kind(of), of.labels.join(", "), of.help);
    assert_eq!(rows, ALL.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn names_follow_the_conventions() {
    for of in ALL {
        assert!(of.name.starts_with("gizer_") || of.name.starts_with("process_"), "{}", of.name);
        assert!(of.name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()), "{}", of.name);
        assert_eq!(of.name.ends_with("_total"), of.kind == MetricKind::Counter, "{}", of.name);
        assert!(!of.help.contains(['\n', '\\', '|']) && of.help.ends_with('.'), "{}", of.help);
        assert!(!of.labels.contains(&"le"), "{}", of.name);
        assert!(
            !matches!(of.kind, MetricKind::Histogram(_)) || of.labels.is_empty(),
            "{}: a histogram has no labels",
            of.name
        );
    }
    assert_eq!(ALL.iter().map(|of| of.name).collect::<BTreeSet<_>>().len(), ALL.len());
}

/// Every text under this key, at any depth.
fn texts<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(key).and_then(Value::as_str));
            object.values().for_each(|value| texts(value, key, found));
        }
        Value::Array(array) => array.iter().for_each(|value| texts(value, key, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut expressions = Vec::new();
    texts(&dashboard, "expr", &mut expressions);
    texts(&dashboard, "definition", &mut expressions);
    let names = names();
    for expression in &expressions {
        let used = used(expression);
        assert!(!used.is_empty(), "{expression}");
        assert!(used.is_subset(&names), "{expression}");
        assert_eq!(expression.matches('(').count(), expression.matches(')').count(), "{expression}");
    }
    let mut sources = Vec::new();
    texts(&dashboard, "uid", &mut sources);
    assert!(sources.iter().all(|uid| ["gizer", "${DS_PROMETHEUS}"].contains(uid)), "{sources:?}");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    // What an operator looks for is there.
    let all: BTreeSet<String> = expressions.iter().flat_map(|expression| used(expression)).collect();
    for of in [&LAG, &HEADROOM, &POSITION, &CHANGES, &BATCHES, &REPAIRS, &RELOADS, &REJECTED, &RUN_EXIT_CODE] {
        assert!(all.contains(of.name), "{}", of.name);
    }
}

#[test]
fn alerts_ask_for_what_there_is() {
    let blocks: Vec<&str> = DOCUMENTED.split("```").collect();
    let languages: BTreeSet<&str> = blocks.iter().skip(1).step_by(2).filter_map(|block| block.lines().next()).collect();
    assert_eq!(languages, BTreeSet::from(["console", "text", "toml", "yaml"]));
    let rules = blocks.iter().find(|block| block.contains("- alert:")).unwrap();
    let expressions: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(expressions.len(), rules.matches("- alert: Gizer").count());
    let names = names();
    for expression in expressions {
        let used = used(expression);
        assert!(!used.is_empty() && used.is_subset(&names), "{expression}");
    }
    let toml = blocks.iter().find_map(|block| block.strip_prefix("toml\n")).unwrap();
    crate::config::file::parse(toml).unwrap();
}

#[test]
fn the_text_is_that_of_the_format() {
    let registry = Registry::new();
    registry.together(|values| {
        values.add(&CHANGES, &["a\\b\"c\nd", "insert"], 2);
        values.observe(&BATCH_SECONDS, 0.01);
        values.observe(&BATCH_SECONDS, 1000.5);
        values.set(&LAG, &["rs0"], 1.5);
        values.set(&LAG, &["rs1"], 1.5);
        values.forget(&LAG, &["rs1"]);
    });
    let text = registry.snapshot().text();
    assert!(
        text.contains("\ngizer_changes_applied_total{collection=\"a\\\\b\\\"c\\nd\",operation=\"insert\"} 2\n"),
        "{text}"
    );
    assert!(text.contains(
        "# TYPE gizer_batch_duration_seconds histogram\ngizer_batch_duration_seconds_bucket{le=\"0.005\"} 0\n"
    ));
    assert!(text.contains("_bucket{le=\"0.01\"} 1\n") && text.contains("_bucket{le=\"+Inf\"} 2\n"), "{text}");
    assert!(text.contains("_sum 1000.51\ngizer_batch_duration_seconds_count 2\n"), "{text}");
    assert!(text.contains("gizer_lag_seconds{shard=\"rs0\"} 1.5\n") && !text.contains("rs1"), "{text}");
}

/// What is not known is not there, and what is known is told as it is.
#[test]
fn lag_and_headroom_are_told_once_both_ends_are_known() {
    let config = Config::read(None, |_| Vec::new(), |_| None).unwrap();
    let metrics = Metrics::new(&config);
    let position = |seconds| {
        let time = gizer_flatten::change::ClusterTime { seconds, increment: 1 };
        gizer_flatten::change::Positions::from([(
            "rs0".to_owned(),
            gizer_flatten::change::SourcePosition::new(time, &[]),
        )])
    };
    let told = || {
        let text = metrics.text();
        let of = |of: &MetricDefinition| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{}{{shard=\"rs0\"}} ", of.name)))?;
            line.parse::<f64>().ok()
        };
        (of(&POSITION), of(&LAG), of(&HEADROOM))
    };
    assert_eq!(told(), (None, None, None));
    metrics.restate("rs0", |standing| standing.newest = Some(1_010));
    assert_eq!(told(), (None, None, None));
    metrics.stands_at(&position(1_000), None);
    assert_eq!(told(), (Some(1000.0), Some(10.0), None));
    metrics.restate("rs0", |standing| standing.oldest = Some(400));
    metrics.stands_at(&position(1_020), None);
    assert_eq!(told(), (Some(1020.0), Some(0.0), Some(620.0)));
    metrics.restate("rs0", |standing| (standing.newest, standing.oldest) = (None, Some(1_100)));
    assert_eq!(told(), (Some(1020.0), None, Some(-80.0)));
}

#[test]
fn what_is_under_way_ends_when_it_is_dropped() {
    let metrics = Metrics::new(&Config::read(None, |_| Vec::new(), |_| None).unwrap());
    let observer: Arc<dyn Observer> = Arc::new(metrics.clone());
    let (one, other) = (InFlight::of(&observer, 100), InFlight::of(&observer, 11));
    assert!(metrics.text().contains("\ngizer_documents_under_way_bytes 111\n"));
    drop(one);
    assert!(metrics.text().contains("\ngizer_documents_under_way_bytes 11\n"));
    drop(other);
    assert!(metrics.text().contains("\ngizer_documents_under_way_bytes 0\n"));
}

/// Who reads while a collection begins to be followed finds all of its counters, or none: a counter
/// that came later would rise from nothing, which is no increase.
#[test]
fn what_belongs_together_is_read_together() {
    let metrics = Metrics::new(&Config::read(None, |_| Vec::new(), |_| None).unwrap());
    let names: Vec<String> = (0..500).map(|n| format!("c{n}")).collect();
    let counters = 5 + 3 + 3;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for name in &names {
                metrics.observe(gizer_engine::Event::Follows { collections: &[name], oplogs: &[] });
            }
        });
        while !writer.is_finished() {
            let series = metrics.text().matches("{collection=").count();
            assert!(series.is_multiple_of(counters), "{series} series");
        }
    });
    assert_eq!(metrics.text().matches("{collection=").count(), names.len() * counters);
}
