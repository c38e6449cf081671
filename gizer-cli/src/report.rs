//! What commands print: results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use serde_json::{Value, json};

use crate::args::Format;
use crate::exit::Failure;
use crate::log;

/// Prints text to standard output as it is.
pub fn text(text: &str) {
    let mut out = io::stdout().lock();
    // A reader that has gone, as `head` does, wants no more: not a fault of ours.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints one JSON object to standard output.
pub fn json(value: &Value) {
    text(&format!("{value:#}\n"));
}

/// Prints a line to standard error: what goes on, what was skipped, what to look at. Where the log is JSON, it is a line of that.
pub fn note(line: impl Display) {
    match log::is_json() {
        true => tracing::info!(target: log::NOTE_TARGET, "{line}"),
        false => drop(writeln!(io::stderr().lock(), "{line}")),
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
    let Failure { exit, message, remedy, .. } = failure;
    if log::is_json() {
        let (exit_code, remedy) = (*exit as u8, remedy.as_deref());
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
        json(&json!({"error": failure.json()}));
    }
}

/// A line under the header, and nothing else that is not text.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table for people; the columns named in `numbers` stand to the right.
pub fn table(header: &[&str], numbers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for (column, name) in table.column_iter_mut().zip(header) {
        if numbers.contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}

/// A number with its thousands apart: `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 document`, `1,200 documents`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

/// A number of bytes in units of 1024: `12.3 MiB`.
pub fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

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
