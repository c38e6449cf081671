//! What is printed.

use std::fmt::Write as _;

use integration_tests::bench::report::{self, MIB, line, target, thousands};
use integration_tests::bench::{Machine, Series};
use serde_json::Value;

use crate::compare::{Comparison, Measurement};
use crate::options::Options;

/// The most memory that gizer may have, in MiB.
const MOST_MEMORY: f64 = 256.0;

/// How (b) differs from (a), beside what is compared.
const NOT_ALIKE: &str = "
Not like for like:
  - (a) writes rows, builds keys, analyses, and replaces the tables of the load before. (b) reads both sides and writes
    down how far it has come; its tables were loaded just before by (a1), and are where (a1) has left them: in the cache
    of PostgreSQL and of the system. After a load there is no sync: the tables stand at the time of the load.
  - PostgreSQL writes a checkpoint before each of them, beside the clock.
  - Both servers and their client share one machine. Column others is what everything else took of it, the kernel's own
    threads included: much of it, and the figures are those of a busy machine.
";

/// Machine, build, servers and method.
pub(crate) fn head(options: &Options, machine: &Machine, servers: &Value) -> String {
    let mut text = report::head(machine, servers, "");
    text.push_str(&line("workers", &options.workers.to_string()));
    let rounds = options.rounds;
    let method =
        format!("in turn, {rounds} rounds after one load that does not count; medians, and the least and the most");
    text.push_str(&line("method", &method));
    text
}

/// The comparison as text.
pub(crate) fn comparison(found: &Comparison) -> String {
    let (documents, rows) = (thousands(found.documents as f64), thousands(found.rows as f64));
    let mut text = line("data", &format!("{documents} orders, {rows} rows\n"));
    speed(&mut text, found);
    let all = || found.all.iter().map(|(_, series)| series);
    text.push('\n');
    text.push_str(&report::effort(36, all()));
    text.push_str(&report::disturbance(all()));
    conclusions(&mut text, found);
    text.push_str(NOT_ALIKE);
    text
}

fn speed(text: &mut String, found: &Comparison) {
    let _ = writeln!(
        text,
        "{:<36} {:>7} {:>13} {:>10} {:>10} {:>6} {:>14} {:>9}",
        "", "seconds", "least..most", "docs/s", "rows/s", "of a1", "by round", "peak MiB"
    );
    for (measurement, series) in &found.all {
        let wall = series.wall();
        let (documents, rows) = match measurement {
            Measurement::Sample => found.sampled,
            _ => (found.documents, found.rows),
        };
        let ratio = found.ratio(*measurement, Measurement::Load).filter(|_| *measurement != Measurement::Load);
        let (ratio, by_round) = ratio.map_or_else(Default::default, |ratio| {
            (format!("{:.2}", ratio.median), format!("{:.2}..{:.2}", ratio.min, ratio.max))
        });
        let _ = writeln!(
            text,
            "{:<36} {:>7.2} {:>13} {:>10} {:>10} {ratio:>6} {by_round:>14} {:>9.0}",
            series.title,
            wall.median,
            format!("{:.2}..{:.2}", wall.min, wall.max),
            thousands(documents as f64 / wall.median),
            thousands(rows as f64 / wall.median),
            peak(found, *measurement),
        );
    }
}

/// MiB, the most of all rounds.
fn peak(found: &Comparison, measurement: Measurement) -> f64 {
    let peak = |series: &Series| series.spread(|sample| sample.peak.unwrap_or_default() as f64 / MIB).max;
    found.series(measurement).map_or(f64::NAN, peak)
}

fn conclusions(text: &mut String, found: &Comparison) {
    text.push('\n');
    if let Some(ratio) = found.ratio(Measurement::Audit, Measurement::Load) {
        let figure = format!(
            "b/a1: a full audit takes {:.2} times as long as the load ({:.2}..{:.2} by round)",
            ratio.median, ratio.min, ratio.max
        );
        text.push_str(&target(&figure, "at most 1", ratio.median <= 1.0));
    }
    let peak = peak(found, Measurement::Audit);
    let figure = format!("its peak memory: {peak:.0} MiB");
    text.push_str(&target(&figure, &format!("at most {MOST_MEMORY:.0} MiB"), peak <= MOST_MEMORY));
}
