//! What is printed.

use std::fmt::Write as _;

use serde_json::Value;

use crate::bed::Verify;
use crate::compare::{Found, Measurement};
use crate::machine::Machine;
use crate::rounds::{Sample, Series};

/// Bytes of a MB.
const MB: f64 = 1e6;

/// Bytes of a MiB.
pub(crate) const MIB: f64 = 1024.0 * 1024.0;

/// Percent of the cores' time that others may take. The kernel's own threads take some of it.
const MOST_OTHERS: f64 = 10.0;

/// The least speed, as a part of that of pre-made SQL, in percent.
const TARGETS: [(Verify, f64); 2] = [(Verify::Off, 60.0), (Verify::All, 40.0)];

/// How it is measured.
pub(crate) const METHOD: &str = "\
method      in turn; medians, and the least and the most; each on a fresh copy of the same loaded tables, vacuumed and
            analysed, after a checkpoint; after the first round all tables were the same, by a hash over their rows
";

/// How (b) and (c) differ from (a), beside what is compared.
pub(crate) const NOT_ALIKE: &str = "
Not like for like:
  - (b) and (c) include the start of the program, both connections, the oplog, reading documents and stored rows
    (MongoDB takes the same cores), and the state tables. (a) knows which rows change, and has them encoded and sorted
    before the clock starts, on an open connection; it deletes the rows of a document by its key alone.
  - (a) runs inside of this program, whose processor time is that of sending the rows (column bench).
  - Both servers and their client share one machine. Column others is what everything else took of it, the kernel's own
    threads included: much of it, and the figures are those of a busy machine.
";

/// Machine, build and servers.
pub(crate) fn head(machine: &Machine, servers: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<11} {value}");
    };
    line("machine", &machine.line());
    line("build", &machine.build_line());
    let mongod = &servers["mongod"];
    let version = mongod["version"].as_str().unwrap_or_default();
    let (cache, history) = (&mongod["cache_gb"], &mongod["history_s"]);
    line(
        "mongod",
        &format!("{version}, a replica set of one, cache of {cache} GiB, history of {history} s, over loopback"),
    );
    let settings = servers["postgres"].as_object().into_iter().flatten();
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let settings: Vec<String> = settings.map(|(name, value)| format!("{name}={}", shown(value))).collect();
    for (i, settings) in settings.chunks(4).enumerate() {
        line(if i == 0 { "PostgreSQL" } else { "" }, &settings.join(", "));
    }
    text
}

/// One kind of backlog.
pub(crate) fn case(found: &Found) -> String {
    let (documents, rows, batches) = found.premade;
    let mut text = format!(
        "\n{} operations on {} orders: {}; {}\n(a) writes {} documents, {} rows, in {batches} transactions\n",
        thousands(found.operations as f64),
        thousands(found.orders as f64),
        found.case.mix.title(),
        found.case.ids.title(),
        thousands(documents as f64),
        thousands(rows as f64),
    );
    for (measurement, report) in &found.reports {
        let rows = &report["rows"];
        let rows: u64 = ["inserted", "updated", "deleted"].iter().filter_map(|kind| rows[kind].as_u64()).sum();
        let _ = writeln!(
            text,
            "({}) writes {} documents, {} rows, in {} transactions ({} of them catching up), with {} statements",
            if *measurement == Measurement::Sync(Verify::Off) { "b" } else { "c" },
            thousands(report["documents"].as_f64().unwrap_or_default()),
            thousands(rows as f64),
            report["batches"],
            report["catching_up"],
            report["statements"],
        );
    }
    speed(&mut text, found);
    effort(&mut text, found);
    text
}

fn speed(text: &mut String, found: &Found) {
    let _ = writeln!(
        text,
        "{:<36} {:>7} {:>13} {:>9} {:>9} {:>14} {:>7} {:>9}",
        "", "seconds", "least..most", "ops/s", "% of a", "by round", "WAL MB", "peak MiB"
    );
    for (measurement, series) in &found.all {
        let wall = series.wall();
        let part = found.part_of_limit(*measurement);
        let (part, by_round) = part.map_or_else(Default::default, |part| {
            (format!("{:.0}", 100.0 * part.median), format!("{:.0}..{:.0}", 100.0 * part.min, 100.0 * part.max))
        });
        let wal = series.spread(|sample| sample.wal.unwrap_or_default() as f64 / MB).median;
        let peak = series.spread(|sample| sample.peak.unwrap_or_default() as f64 / MIB).max;
        let _ = writeln!(
            text,
            "{:<36} {:>7.2} {:>13} {:>9} {part:>9} {by_round:>14} {:>7} {:>9}",
            series.title,
            wall.median,
            format!("{:.2}..{:.2}", wall.min, wall.max),
            thousands(found.operations as f64 / wall.median),
            thousands(wal),
            if peak > 0.0 { format!("{peak:.0}") } else { String::new() },
        );
    }
}

/// Processor time by process, and whether the figures are worth anything.
fn effort(text: &mut String, found: &Found) {
    let _ = writeln!(
        text,
        "{:<36} {:>7} {:>7} {:>10} {:>7} {:>7} {:>7}",
        "seconds of processor time, medians", "gizer", "bench", "PostgreSQL", "mongod", "others", "idle %"
    );
    let idle = |sample: &Sample| {
        let cores = &sample.usage.cores;
        100.0 * cores.iter().map(|core| core.idle).sum::<f64>() / cores.len() as f64
    };
    for (_, series) in &found.all {
        let median = |of: fn(&Sample) -> f64| series.spread(of).median;
        let _ = writeln!(
            text,
            "{:<36} {:>7.2} {:>7.2} {:>10.2} {:>7.2} {:>7.2} {:>7.0}",
            series.title,
            median(|sample| sample.usage.gizer),
            median(|sample| sample.usage.bench),
            median(|sample| sample.usage.postgres),
            median(|sample| sample.usage.mongod),
            median(|sample| sample.usage.others),
            series.spread(idle).median,
        );
    }
    let samples = found.all.iter().flat_map(|(_, Series { samples, .. })| samples);
    let (others, all) = samples.fold((0.0, 0.0), |(others, all), Sample { usage, .. }| {
        (others + usage.others, all + usage.wall * usage.cores.len() as f64)
    });
    let percent = 100.0 * others / all;
    if percent > MOST_OTHERS {
        let _ = writeln!(text, "WARNING: others took {percent:.0} % of all cores' time; these figures are only rough.");
    }
}

/// The targets, a line each and kind of backlog.
pub(crate) fn targets(cases: &[Found]) -> String {
    let mut text = "\n".to_owned();
    for found in cases {
        for (verify, least) in TARGETS {
            let Some(part) = found.part_of_limit(Measurement::Sync(verify)) else { continue };
            let percent = 100.0 * part.median;
            let line = format!(
                "gizer sync, {}, {}; {}: {percent:.0} % of pre-made SQL's speed",
                if verify == Verify::Off { "not verified" } else { "verified" },
                found.case.mix.title(),
                found.case.ids.title(),
            );
            text.push_str(&target(&line, &format!("at least {least:.0} %"), percent >= least));
        }
        let peaks = found.all.iter().map(|(_, series)| series.spread(|sample| sample.peak.unwrap_or_default() as f64));
        let peak = peaks.map(|peak| peak.max / MIB).fold(0.0, f64::max);
        text.push_str(&target(&format!("its peak memory: {peak:.0} MiB"), "at most 256 MiB", peak <= 256.0));
    }
    text
}

/// One figure that there is an aim for.
pub(crate) fn target(line: &str, aim: &str, met: bool) -> String {
    format!("{} {line} (aim: {aim})\n", if met { "met   " } else { "MISSED" })
}

/// `1,234,567`.
pub(crate) fn thousands(number: f64) -> String {
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
