//! Formats names, numbers, times and commands for messages.

use gizer_flatten::change::{ClusterTime, Positions};
pub use gizer_pg::printable::is_obeyed;

/// A name on one line of a terminal, with control characters escaped.
///
/// Names may hold anything, even terminal control sequences.
pub fn printable(name: &str) -> String {
    escaped(name, |_| false)
}

/// A text of several lines, escaped like [`printable`].
pub fn lines(text: &str) -> String {
    escaped(text, |c| c == '\n')
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) && !stays(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// A command of gizer for messages, quoted for a shell: `gizer load orders`.
///
/// A hostile collection name cannot inject anything.
pub fn command<N: AsRef<str>>(command: &str, names: impl IntoIterator<Item = N>, flags: &[&str]) -> String {
    let names: Vec<String> = names.into_iter().map(|name| shell_word(name.as_ref())).collect();
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let words = match names.iter().any(|name| name.starts_with('-')) {
        true => [flags, vec!["--".to_owned()], names].concat(),
        false => [names, flags].concat(),
    };
    format!("gizer {command} {}", words.join(" "))
}

/// What to do about a collection whose position is lost.
pub fn resync_or_load(collection: &str) -> String {
    let (resync, load) = (command("resync", [collection], &[]), command("load", [collection], &[]));
    format!("run `{resync}`, which brings its tables up to date in place, or `{load}`")
}

fn shell_word(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-.:/@%+=,".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("'{}'", printable(name).replace('\'', "'\\''"))
}

/// A number with separated thousands: `1,234,567`.
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

/// A time of the server's clock: `2016-02-08T19:45:32Z`.
pub fn utc(time: ClusterTime) -> String {
    let millis = i64::from(time.seconds) * 1_000;
    // Cluster times end before the year 10000.
    bson::DateTime::from_millis(millis).try_to_rfc3339_string().unwrap_or_else(|_| time.to_string())
}

/// Positions as text: `rs0 2016-02-08T19:45:32Z`, …
pub fn positions(positions: &Positions) -> String {
    let shards: Vec<String> = positions.iter().map(|(shard, at)| format!("{shard} {}", utc(at.time()))).collect();
    shards.join(", ")
}
