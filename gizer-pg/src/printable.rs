//! SQL that a terminal shows as it is, whatever the names in it hold.

/// Whether a terminal would obey a character, and not show it: a control character, or one that turns the line round.
pub fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same statements with such characters escaped: in names as `U&"\202E"`, in texts as `E'\u202e'` (PostgreSQL documentation,
/// "Lexical Structure").
///
/// It knows the statements of [`render`](crate::ddl::render): names and texts in quotes, no comments, no dollar quotes.
pub fn sql(statements: &str) -> String {
    let mut shown = String::with_capacity(statements.len());
    let mut rest = statements;
    while let Some(start) = rest.find(['"', '\'']) {
        let (before, quoted) = rest.split_at(start);
        let end = end_of_quoted(quoted);
        let is_name = quoted.starts_with('"');
        let escapes = !is_name && before.ends_with('E');
        shown.push_str(if escapes { &before[..before.len() - 1] } else { before });
        let inner = &quoted[1..end - 1];
        match is_name {
            true => push_name(inner, &mut shown),
            false => push_text(inner, escapes, &mut shown),
        }
        rest = &quoted[end..];
    }
    shown + rest
}

/// Where what begins with a quote ends, with its last quote; a quote inside it is doubled.
fn end_of_quoted(quoted: &str) -> usize {
    let bytes = quoted.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] != bytes[0] {
            at += 1;
        } else if bytes.get(at + 1) == Some(&bytes[0]) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    bytes.len()
}

fn push_name(name: &str, shown: &mut String) {
    if !name.contains(is_obeyed) {
        return shown.push_str(&format!("\"{name}\""));
    }
    shown.push_str("U&\"");
    for c in name.chars() {
        match c {
            '\\' => shown.push_str("\\\\"),
            c if is_obeyed(c) => shown.push_str(&format!("\\{:04X}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown.push('"');
}

/// `escapes` says that a backslash means itself only where it is doubled.
fn push_text(text: &str, escapes: bool, shown: &mut String) {
    let obeyed = text.contains(is_obeyed);
    shown.push_str(if escapes || obeyed { "E'" } else { "'" });
    for c in text.chars() {
        match c {
            c if is_obeyed(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_in_names_and_texts() {
        let cases = [
            ("CREATE TABLE \"a\" (\n  \"b\"\"c\" TEXT)", "CREATE TABLE \"a\" (\n  \"b\"\"c\" TEXT)"),
            ("COMMENT ON TABLE \"a\u{1b}\\\"\"\" IS 'it''s'", "COMMENT ON TABLE U&\"a\\001B\\\\\"\"\" IS 'it''s'"),
            ("IS 'a\u{202e}b''\nc'; IS 'plain'", "IS E'a\\u202eb''\\u000ac'; IS 'plain'"),
            ("IS E'a\\\\b\u{9b}'", "IS E'a\\\\b\\u009b'"),
            ("\"\" IS ''", "\"\" IS ''"),
        ];
        for (statements, expected) in cases {
            assert_eq!(sql(statements), expected);
        }
    }
}
