//! What is printed.

use std::fmt::Write as _;

use integration_tests::bench::report::{self, MB, MIB, line, thousands};
use integration_tests::bench::{Machine, Series, Spread};
use serde_json::Value;

use crate::compare::{Bench, Comparison, Measurement};
use crate::options::Options;

/// How (a) differs from (b), beside what is compared.
const NOT_ALIKE: &str = "\
Not like for like:
  - (a) includes the start of the program, both connections, reading MongoDB (which takes the same cores), rejects and
    progress, comments on tables and columns, the swap, and dropping the tables of the load before. (b) has no source and
    nothing to replace; its rows are encoded before the clock starts, and its connections are open.
  - (b) runs inside of this program, whose processor time is that of sending the rows (column bench). (c) and (d) too.
  - PostgreSQL writes a checkpoint before each of (a) and (b), beside the clock; those that fall into them are part of
    them. What it still has to write after the last commit is part of neither.
  - Both servers and their client share one machine. Column others is what everything else took of it, the kernel's own
    threads included: much of it, and the figures are those of a busy machine.
";

/// The comparison as text.
pub(crate) fn comparison(
    options: &Options,
    machine: &Machine,
    servers: &Value,
    bench: &Bench<'_>,
    found: &Comparison,
) -> String {
    let mut text = head(options, machine, servers);
    data(&mut text, bench);
    method(&mut text, options);
    speed(&mut text, bench, found);
    conclusions(&mut text, found);
    let all = || found.all.iter().map(|(_, series)| series);
    text.push('\n');
    text.push_str(&report::effort(39, all()));
    text.push_str(&report::disturbance(all()));
    text.push('\n');
    text.push_str(NOT_ALIKE);
    text
}

/// Machine, build and servers.
pub(crate) fn head(options: &Options, machine: &Machine, servers: &Value) -> String {
    let mut text = report::head(machine, servers, "");
    text.push_str(&line("workers", &format!("{} (threads and connections)", options.workers)));
    text
}

fn data(text: &mut String, bench: &Bench<'_>) {
    let (orders, encoded) = (&bench.orders, &bench.encoded);
    let tables: Vec<String> =
        encoded.tables.iter().map(|table| format!("{} {}", table.name, thousands(table.rows as f64))).collect();
    let _ = writeln!(
        text,
        "data        {} orders, {:.1} MB of BSON, {} rows ({}), {:.1} MB as binary COPY",
        thousands(orders.documents as f64),
        orders.bytes as f64 / MB,
        thousands(encoded.rows() as f64),
        tables.join(", "),
        encoded.bytes() as f64 / MB,
    );
}

fn method(text: &mut String, options: &Options) {
    let _ = writeln!(
        text,
        "method      in turn, {} rounds after one measurement that does not count; medians, and the least and the most\n",
        options.rounds
    );
}

/// Wall time and throughput.
fn speed(text: &mut String, bench: &Bench<'_>, found: &Comparison) {
    let _ = writeln!(
        text,
        "{:<39} {:>7} {:>15} {:>10} {:>11} {:>7} {:>8}",
        "", "seconds", "least..most", "docs/s", "rows/s", "MB/s", "WAL MB"
    );
    let (documents, rows, bytes) =
        (bench.orders.documents as f64, bench.encoded.rows() as f64, bench.orders.bytes as f64);
    for (measurement, series) in &found.all {
        let wall = series.wall();
        let range = format!("{:.2}..{:.2}", wall.min, wall.max);
        let wal = series.spread(|sample| sample.wal.unwrap_or_default() as f64 / MB).median;
        let _ = writeln!(
            text,
            "{:<39} {:>7.2} {range:>15} {:>10} {:>11} {:>7.1} {:>8}",
            series.title,
            wall.median,
            thousands(documents / wall.median),
            if *measurement == Measurement::Scan { String::new() } else { thousands(rows / wall.median) },
            bytes / wall.median / MB,
            if wal > 0.0 { thousands(wal) } else { String::new() },
        );
        phases(text, series);
    }
    text.push_str("MB are of BSON.\n");
}

fn phases(text: &mut String, series: &Series) {
    let names = series.samples.first().map(|sample| sample.phases.clone()).unwrap_or_default();
    for (i, (name, _)) in names.into_iter().enumerate() {
        let seconds = series.spread(|sample| sample.phases.get(i).map_or(f64::NAN, |(_, seconds)| *seconds));
        let range = format!("{:.2}..{:.2}", seconds.min, seconds.max);
        let _ = writeln!(text, "{:<39} {:>7.2} {range:>15}", format!("     {name}"), seconds.median);
    }
}

fn conclusions(text: &mut String, found: &Comparison) {
    text.push('\n');
    if let Some(limit) = found.limit() {
        let _ = writeln!(text, "The limit is the fastest way: {}.", limit.title);
    }
    if let Some(ratio) = found.ratio() {
        let _ = writeln!(
            text,
            "a/b: gizer takes {:.2} times as long as the limit ({:.2}..{:.2} by round).",
            ratio.median, ratio.min, ratio.max
        );
    }
    let Some(load) = found.series(Measurement::Load) else { return };
    let share = load.spread(|sample| 100.0 * sample.usage.gizer / sample.usage.postgres);
    let peak = load.spread(|sample| sample.peak.unwrap_or_default() as f64 / MIB);
    let _ = writeln!(
        text,
        "gizer's processor time in (a) is {:.0} % of PostgreSQL's ({:.0}..{:.0}).",
        share.median, share.min, share.max
    );
    let _ = writeln!(text, "gizer's peak memory in (a) is {:.0} MiB ({:.0}..{:.0}).", peak.median, peak.min, peak.max);
}

/// (b) with both kinds of tables.
pub(crate) fn staging(all: &[Series]) -> String {
    let mut text = "\nTables of (b), COPY for each table and unit:\n".to_owned();
    for series in all {
        let wall = series.wall();
        let wal = series.spread(|sample| sample.wal.unwrap_or_default() as f64 / MB);
        let _ = writeln!(text, "{:<39} {} s, {:.0} MB of WAL", series.title, wall.text(), wal.median);
        phases(&mut text, series);
    }
    text
}

/// Loads of several sizes or kinds, a line each.
pub(crate) fn loads<'l>(title: &str, loads: impl IntoIterator<Item = (&'l str, u64, Spread, Spread)>) -> String {
    let mut text = format!("\n{title}\n");
    for (name, documents, seconds, peak) in loads {
        let _ = writeln!(
            text,
            "{name:<39} {:>10} documents: {} s, peak {:.0} MiB ({:.0}..{:.0})",
            thousands(documents as f64),
            seconds.text(),
            peak.median,
            peak.min,
            peak.max,
        );
    }
    text
}
