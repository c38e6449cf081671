//! Whether two JSON texts say the same.

use serde_json::Value;

/// Whether `stored`, as `jsonb` gives it, is the value that `expected` says. The order of an object's fields and blanks
/// do not matter. Extended JSON has its numbers in strings, and plain numbers only where they are small integers.
pub(crate) fn same(expected: &[u8], stored: &[u8]) -> bool {
    same_but_for_blanks(expected, stored)
        || matches!(
            (serde_json::from_slice::<Value>(expected), serde_json::from_slice::<Value>(stored)),
            (Ok(expected), Ok(stored)) if expected == stored
        )
}

/// The quick way, for values whose fields `jsonb` has left in their order. `expected` has no blanks outside of strings;
/// `stored` has one behind each `:` and `,`.
fn same_but_for_blanks(expected: &[u8], stored: &[u8]) -> bool {
    let mut expected = expected.iter();
    let (mut in_string, mut escaped) = (false, false);
    for byte in stored {
        if *byte == b' ' && !in_string {
            continue;
        }
        if expected.next() != Some(byte) {
            return false;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    expected.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_order_and_blanks_may_differ() {
        let expected = r#"{"b":[{"$numberInt":"1"},"x \" : , y"],"aa":null}"#;
        let same_as = |stored: &str| same(expected.as_bytes(), stored.as_bytes());
        assert!(same_as(r#"{"b": [{"$numberInt": "1"}, "x \" : , y"], "aa": null}"#));
        assert!(same_as(r#"{"aa": null, "b": [{"$numberInt": "1"}, "x \" : , y"]}"#));
        for other in [
            r#"{"b": [{"$numberInt": "2"}, "x \" : , y"], "aa": null}"#,
            r#"{"b": [{"$numberInt": "1"}, "x \" :, y"], "aa": null}"#,
            r#"{"b": ["x \" : , y", {"$numberInt": "1"}], "aa": null}"#,
            r#"{"b": [{"$numberInt": "1"}, "x \" : , y"]}"#,
            r#"{"b": [{"$numberInt": "1"}, "x \" : , y"], "aa": null, "c": 1}"#,
            r#"{"b": [{"$numberInt": "1"}, "x \" : , y"], "aa": "null"}"#,
            "",
        ] {
            assert!(!same_as(other), "{other}");
        }
        assert!(same(b"{\"$maxKey\":1}", b"{\"$maxKey\": 1}"));
        assert!(!same(b"{\"$maxKey\":1}", b"{\"$maxKey\": 1.0}"));
        assert!(!same(b"\"a\"", b"\"a \"") && !same(b"\"a b\"", b"\"ab\""));
        assert!(same("\"ü\u{1}\"".replace('\u{1}', "\\u0008").as_bytes(), "\"ü\\b\"".as_bytes()));
    }
}
