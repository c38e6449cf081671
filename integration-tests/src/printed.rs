//! What gizer prints for people, by heart: compared with a file in which everything is masked that is another one in each run.

use std::path::Path;

use regex::Regex;

/// What is masked, in this order: times and positions, sizes and speeds, addresses, widths of columns.
const MASKS: &[(&str, &str)] = &[
    (r"Timestamp\(\d+, \d+\)", "TIME"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "WHEN"),
    (r"\b[\d,]+(\.\d+)? (docs|documents|rows)/s", "SPEED"),
    (r"\b[\d,.]+ (B|[KMG]iB)(/s)?\b", "SIZE"),
    (r"\b\d+(\.\d+)? (s|min|h|d|y)( \d+ (s|min|h|d))?\b", "SPAN"),
    (r"\b(ms|lag_seconds)=\d+", "$1=N"),
    (r"127\.0\.0\.1:\d+", "HOST"),
    (r"/[^\s:'\x22]*/(gizer\.toml|schemas|spool|out)\b", "FOLDER/$1"),
    (r"\b(shop|gizer)_\d+_\d+\b", "$1_N"),
    (r" {2,}", "  "),
    (r"─+", "──"),
    // The last column of a load's table.
    (r"(?m)  SPAN  [\d,]+$", "  SPAN  SPEED"),
];

/// The text with what changes from run to run masked, and without blanks at the ends of lines.
///
/// # Panics
/// If a mask is no regular expression.
pub fn masked(text: &str) -> String {
    let mask = |text: String, (pattern, by): &(&str, &str)| {
        Regex::new(pattern).expect("the masks are regular expressions").replace_all(&text, *by).into_owned()
    };
    let text = MASKS.iter().fold(text.to_owned(), mask);
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// What was printed is what this file holds; with `WRITE_OUTPUT=1` the file is made to hold it, to be looked at.
///
/// # Panics
/// If it is something else, or the file cannot be read.
#[track_caller]
pub fn expect_printed(text: &str, file: &Path) {
    let text = masked(text);
    if std::env::var_os("WRITE_OUTPUT").is_some() {
        let folder = file.parent().expect("a file is in a folder");
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(file, &text)).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(text, expected, "not as in {}, it printed:\n{text}", file.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_masked_and_what_does_not_is_kept() {
        let text =
            "rs0 Timestamp(17, 2), as of 2026-11-22T10:00:01Z; 12,000 docs/s, 1.5 MiB/s in 3 min 5 s   \n 3 documents";
        assert_eq!(masked(text), "rs0 TIME, as of WHEN; SPEED, SIZE in SPAN\n 3 documents\n");
    }
}
