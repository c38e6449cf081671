//! What all benchmarks print.

use std::fmt::Write as _;

use serde_json::Value;

use super::{CoreShares, Machine, Sample, Series};

/// Bytes of a MB.
pub const MB: f64 = 1e6;

/// Bytes of a MiB.
pub const MIB: f64 = 1024.0 * 1024.0;

/// Percent of the cores' time that others may take. The kernel's own threads take some of it.
const MOST_OTHERS: f64 = 10.0;

/// Machine, build and servers; `mongod_has` is what else there is to say of mongod.
pub fn head(machine: &Machine, servers: &Value, mongod_has: &str) -> String {
    let mut text = line("machine", &machine.line());
    text.push_str(&line("build", &machine.build_line()));
    let mongod = &servers["mongod"];
    let version = mongod["version"].as_str().unwrap_or_default();
    let cache = &mongod["cache_gb"];
    text.push_str(&line(
        "mongod",
        &format!("{version}, a replica set of one, cache of {cache} GiB{mongod_has}, over loopback"),
    ));
    let settings = servers["postgres"].as_object().into_iter().flatten();
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let settings: Vec<String> = settings.map(|(name, value)| format!("{name}={}", shown(value))).collect();
    for (i, settings) in settings.chunks(4).enumerate() {
        text.push_str(&line(if i == 0 { "PostgreSQL" } else { "" }, &settings.join(", ")));
    }
    text
}

/// A line of the head.
pub fn line(name: &str, value: &str) -> String {
    format!("{name:<11} {value}\n")
}

/// Seconds of processor time by process, and how idle the cores were; titles are `width` wide.
pub fn effort<'s>(width: usize, all: impl IntoIterator<Item = &'s Series>) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<width$} {:>7} {:>7} {:>10} {:>7} {:>7}   idle by core (of it waiting for a disk; stolen)",
        "seconds of processor time, medians", "gizer", "bench", "PostgreSQL", "mongod", "others"
    );
    for series in all {
        let median = |of: fn(&Sample) -> f64| series.spread(of).median;
        let _ = writeln!(
            text,
            "{:<width$} {:>7.2} {:>7.2} {:>10.2} {:>7.2} {:>7.2}   {}",
            series.title,
            median(|sample| sample.usage.gizer),
            median(|sample| sample.usage.bench),
            median(|sample| sample.usage.postgres),
            median(|sample| sample.usage.mongod),
            median(|sample| sample.usage.others),
            cores(series),
        );
    }
    text
}

fn cores(series: &Series) -> String {
    let count = series.samples.first().map_or(0, |sample| sample.usage.cores.len());
    let core = |number: usize| {
        let percent = |of: fn(&CoreShares) -> f64| {
            100.0 * series.spread(|sample| sample.usage.cores.get(number).map_or(f64::NAN, of)).median
        };
        let (idle, waiting, stolen) = (percent(|core| core.idle), percent(|core| core.waiting), percent(|c| c.stolen));
        format!("{idle:.0} % ({waiting:.0} %; {stolen:.0} %)")
    };
    (0..count).map(core).collect::<Vec<String>>().join(", ")
}

/// Whether the figures are worth anything.
pub fn disturbance<'s>(all: impl IntoIterator<Item = &'s Series>) -> String {
    let samples = all.into_iter().flat_map(|series| &series.samples);
    let (others, all) = samples.fold((0.0, 0.0), |(others, all), Sample { usage, .. }| {
        (others + usage.others, all + usage.wall * usage.cores.len() as f64)
    });
    let percent = 100.0 * others / all;
    let mut text = format!("Others took {percent:.0} % of all cores' time.\n");
    if percent > MOST_OTHERS {
        text.push_str("WARNING: the machine was busy with something else; these figures are only rough.\n");
    }
    text
}

/// One figure that there is an aim for.
pub fn target(line: &str, aim: &str, met: bool) -> String {
    format!("{} {line} (aim: {aim})\n", if met { "met   " } else { "MISSED" })
}

/// `1,234,567`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
