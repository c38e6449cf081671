//! Messages without connection strings.
//!
//! What a setting was given is worth showing when it is wrong, and often it is a URI that stands under the wrong name.

/// What stands in the place of what is not shown.
const HIDDEN: &str = "\"…\"";

/// Whether a text looks like a connection string or a part of one.
fn may_be_secret(text: &str) -> bool {
    text.contains("://") || text.contains('@')
}

/// A value in quotes, for a message.
pub(super) fn shown(value: &str) -> String {
    if may_be_secret(value) { HIDDEN.to_owned() } else { format!("{value:?}") }
}

/// A message of the TOML reader, which quotes keys and values as they are written, without those that may be secret.
pub(super) fn redact(message: &str) -> String {
    let mut safe = String::new();
    let mut rest = message;
    while let Some(at) = rest.find(['"', '`']) {
        let (before, quoted) = rest.split_at(at);
        safe.push_str(before);
        let end = quote_end(quoted);
        let (run, after) = quoted.split_at(end);
        safe.push_str(if may_be_secret(run) { HIDDEN } else { run });
        rest = after;
    }
    if may_be_secret(rest) {
        // Not what any message is known to do; better to say too little.
        return format!("{safe}…");
    }
    safe + rest
}

/// How far a text in quotes goes, the quotes included.
///
/// A key in backticks may hold backticks, which are not escaped: there it ends before what is known to follow a key.
fn quote_end(quoted: &str) -> usize {
    if quoted.starts_with('`') {
        let key = quoted.find("`, expected").or_else(|| quoted.rfind('`').filter(|end| *end > 0));
        return key.map_or(quoted.len(), |end| end + 1);
    }
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    quoted.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_not_shown_and_all_else_is() {
        let cases = [
            (
                r#"invalid type: string "mongodb://u:s3@h/d", expected struct Mongo"#,
                r#"invalid type: string "…", expected struct Mongo"#,
            ),
            (
                r#"invalid type: string "u:s3\"s3@h", expected struct Mongo"#,
                r#"invalid type: string "…", expected struct Mongo"#,
            ),
            (
                "unknown field `mongodb://u:s`3@h`, expected `uri` or `database`",
                r#"unknown field "…", expected `uri` or `database`"#,
            ),
            ("unknown field `mongodb://u:s`3@h`, there are no fields", r#"unknown field "…", there are no fields"#),
            ("unknown field `url`, expected `uri` or `database`", "unknown field `url`, expected `uri` or `database`"),
            (r#"expected a size such as 256MiB, got "lots""#, r#"expected a size such as 256MiB, got "lots""#),
            (r#"unclosed "mongodb://u:s3@h"#, r#"unclosed "…""#),
            ("bare mongodb://u:s3@h", "…"),
        ];
        for (message, safe) in cases {
            assert_eq!(redact(message), safe);
        }
        assert_eq!(shown("lots"), "\"lots\"");
        assert_eq!(shown("u:s3@h"), "\"…\"");
    }
}
