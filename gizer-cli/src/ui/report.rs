//! What commands print: results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
pub use gizer_engine::wording::{command, counted, is_obeyed, lines, positions, printable, thousands, utc};
use gizer_flatten::change::ClusterTime;
use serde_json::{Value, json};

use super::{Format, log};
use crate::exit::{ExitCode, Failure, failure_json};

mod failures;
mod standings;
mod unfit;

pub(crate) use failures::{add_failures, exit, failures};
pub(crate) use standings::{missing, missing_json, standings_json};
pub(crate) use unfit::{add_unfit, unfit_lines};

/// Prints text to standard output as it is.
pub fn text(text: &str) {
    let mut out = io::stdout().lock();
    // A reader that has gone, as `head` does, wants no more: not a fault of ours.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints one JSON object to standard output.
pub fn json(value: &Value) {
    let mut shown = String::new();
    // Such characters stand in texts only, and JSON itself leaves most of them as they are.
    for c in format!("{value:#}").chars() {
        if is_obeyed(c) && c != '\n' { shown.push_str(&format!("\\u{:04x}", u32::from(c))) } else { shown.push(c) }
    }
    text(&(shown + "\n"));
}

/// Prints a line to standard error: what goes on, what was skipped, what to look at. Where the log is JSON, it is a line of that.
pub fn note(line: impl Display) {
    match log::is_json() {
        true => tracing::info!(target: log::NOTE_TARGET, "{line}"),
        false => drop(writeln!(io::stderr().lock(), "{}", lines(&line.to_string()))),
    }
}

/// As [`note`], for what is not as it should be.
pub fn warning(line: impl Display) {
    match log::is_json() {
        true => tracing::warn!(target: log::NOTE_TARGET, "{line}"),
        false => note(format!("gizer: warning: {line}")),
    }
}

/// Says on standard error what has failed, of a collection if it is known which, and what can be done.
pub fn problem(collection: Option<&str>, failure: &Failure) {
    let Failure { message, remedy, .. } = failure;
    if log::is_json() {
        let (exit_code, remedy) = (ExitCode::of(failure) as u8, remedy.as_deref());
        tracing::error!(target: log::NOTE_TARGET, collection, exit_code, remedy, "{message}");
        return;
    }
    let of = collection.map(|name| format!("{name}: ")).unwrap_or_default();
    note(format!("gizer: {of}{message}"));
    if let Some(remedy) = remedy {
        note(format!("  help: {remedy}"));
    }
}

/// Says why a command failed, and what can be done.
pub fn failure(failure: &Failure, format: Format) {
    problem(None, failure);
    if format == Format::Json {
        json(&json!({"error": failure_json(failure)}));
    }
}

/// A line under the header, and nothing else that is not text.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table for people; the columns named in `numbers` stand to the right.
pub fn table(header: &[&str], numbers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for (column, name) in table.column_iter_mut().zip(header) {
        if numbers.contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}

/// A number of bytes in units of 1024: `12.3 MiB`.
pub fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}

/// A stretch of time: `2016-02-08T19:45:32Z`, or with its end, if that is another second.
pub fn stretch(from: ClusterTime, until: ClusterTime) -> String {
    match (utc(from), utc(until)) {
        (from, until) if from == until => from,
        (from, until) => format!("{from} to {until}"),
    }
}

/// A time in its two largest units: `12 s`, `3 min 5 s`, `2 h`, `3 d 4 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_millis() >= 500);
    let units = [(365 * 86_400, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(at) = units.iter().position(|(unit, _)| seconds >= *unit) else { return "0 s".to_owned() };
    let (unit, name) = units[at];
    let mut text = format!("{} {name}", seconds / unit);
    if let Some((next, next_name)) = units.get(at + 1)
        && seconds % unit >= *next
    {
        text.push_str(&format!(" {} {next_name}", seconds % unit / next));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_at_most() {
        let cases = [
            (0, "0 s"),
            (499, "0 s"),
            (500, "1 s"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h"),
            (3_659_000, "1 h"),
            (90_000_000, "1 d 1 h"),
            (315_360_000_000, "10 y"),
        ];
        for (millis, text) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn cluster_times_are_times() {
        assert_eq!(utc(ClusterTime { seconds: 1_454_960_732, increment: 7 }), "2016-02-08T19:45:32Z");
        assert_eq!(utc(ClusterTime { seconds: u32::MAX, increment: 0 }), "2106-02-07T06:28:15Z");
    }

    #[test]
    fn what_is_shown_to_be_run_runs_nothing_else() {
        assert_eq!(command("load", ["orders", "we.b"], &[]), "gizer load orders we.b");
        assert_eq!(command("load", ["a; rm -rf ~"], &[]), "gizer load 'a; rm -rf ~'");
        assert_eq!(command("load", ["`id`", "it's", ""], &[]), r"gizer load '`id`' 'it'\''s' ''");
        assert_eq!(command("verify", ["orders"], &["--repair"]), "gizer verify orders --repair");
        assert_eq!(command("verify", ["--postgres-uri=x"], &["--repair"]), "gizer verify --repair -- --postgres-uri=x");
    }

    #[test]
    fn terminals_are_told_nothing() {
        assert_eq!(lines("a\nb\u{1b}[2J\r"), "a\nb\\u{1b}[2J\\r");
        let table = table(&["name"], &[], [vec!["a\n\u{1b}b".to_owned()]]);
        assert!(table.contains("a\\n\\u{1b}b"), "{table}");
    }

    #[test]
    fn thousands_stand_apart() {
        let cases =
            [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567"), (u64::MAX, "18,446,744,073,709,551,615")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(counted(1, "row", "rows"), "1 row");
    }
}
