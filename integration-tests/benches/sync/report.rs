//! What is printed.

use std::fmt::Write as _;

use integration_tests::bench::Machine;
use integration_tests::bench::report::{self, MB, MIB, target, thousands};
use serde_json::Value;

use crate::bed::Verify;
use crate::compare::{Found, Measurement};

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
    let history = format!(", history of {} s", servers["mongod"]["history_s"]);
    report::head(machine, servers, &history)
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
    let all = || found.all.iter().map(|(_, series)| series);
    text.push_str(&report::effort(36, all()));
    text.push_str(&report::disturbance(all()));
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
