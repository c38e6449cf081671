//! Whether two JSON texts say the same.
//!
//! No values are built of them: those of a document of 16 MiB would take a gigabyte. Both texts are walked at the same time, and of
//! an object whose fields stand in another order only their places are kept.

use std::cmp::Ordering;

use serde_json::Number;

/// How deep values may lie in others; MongoDB's documents have some 100 levels at most.
const MAX_DEPTH: usize = 1_000;

/// Whether `stored`, as `jsonb` gives it, is the value that `expected` says. The order of an object's fields and blanks
/// do not matter. Extended JSON has its numbers in strings, and plain numbers only where they are small integers.
pub(crate) fn same(expected: &[u8], stored: &[u8]) -> bool {
    same_but_for_blanks(expected, stored) || walk(expected, stored).is_some()
}

/// The same whatever the order; `None` if they differ, or one of them is no JSON.
fn walk(expected: &[u8], stored: &[u8]) -> Option<()> {
    let (mut expected, mut stored) = (JsonText { bytes: expected, at: 0 }, JsonText { bytes: stored, at: 0 });
    same_value(&mut expected, &mut stored, MAX_DEPTH)?;
    (expected.peek().is_none() && stored.peek().is_none()).then_some(())
}

fn same_value(expected: &mut JsonText<'_>, stored: &mut JsonText<'_>, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match (expected.peek()?, stored.peek()?) {
        (b'{', b'{') => same_object(expected, stored, depth),
        (b'[', b'[') => same_array(expected, stored, depth),
        (b'"', b'"') => same_string(expected.string()?, stored.string()?),
        (b'{' | b'[' | b'"', _) | (_, b'{' | b'[' | b'"') => None,
        _ => same_word(expected.word(), stored.word()),
    }
}

fn same_array(expected: &mut JsonText<'_>, stored: &mut JsonText<'_>, depth: usize) -> Option<()> {
    let mut ends = (expected.opens(b']')?, stored.opens(b']')?);
    while ends == (false, false) {
        same_value(expected, stored, depth)?;
        ends = (expected.closes(b']')?, stored.closes(b']')?);
    }
    (ends == (true, true)).then_some(())
}

/// Fields that stand in the same order are compared as they come.
fn same_object(expected: &mut JsonText<'_>, stored: &mut JsonText<'_>, depth: usize) -> Option<()> {
    let mut ends = (expected.opens(b'}')?, stored.opens(b'}')?);
    while ends == (false, false) {
        let at = (expected.at, stored.at);
        if same_string(expected.name()?, stored.name()?).is_none() {
            (expected.at, stored.at) = at;
            return same_fields(expected, stored, depth);
        }
        same_value(expected, stored, depth)?;
        ends = (expected.closes(b'}')?, stored.closes(b'}')?);
    }
    (ends == (true, true)).then_some(())
}

/// The fields from here on, to the end of both objects.
fn same_fields(expected: &mut JsonText<'_>, stored: &mut JsonText<'_>, depth: usize) -> Option<()> {
    let (fields, others) = (expected.fields()?, stored.fields()?);
    if fields.len() != others.len() {
        return None;
    }
    for (field, other) in fields.iter().zip(&others) {
        let (mut field, mut other) = (expected.from(*field), stored.from(*other));
        same_string(field.name()?, other.name()?)?;
        same_value(&mut field, &mut other, depth)?;
    }
    Some(())
}

fn order_of_names(a: &[u8], b: &[u8]) -> Ordering {
    if !a.contains(&b'\\') && !b.contains(&b'\\') {
        return a.len().cmp(&b.len()).then_with(|| a.cmp(b));
    }
    let length = |text| Unescaped::of(text).count();
    length(a).cmp(&length(b)).then_with(|| Unescaped::of(a).cmp(Unescaped::of(b)))
}

/// Whether two strings, between their quotes, are the same however they are escaped.
fn same_string(expected: &[u8], stored: &[u8]) -> Option<()> {
    (expected == stored || Unescaped::of(expected).eq(Unescaped::of(stored))).then_some(())
}

fn same_word(expected: &[u8], stored: &[u8]) -> Option<()> {
    let number = |word| serde_json::from_slice::<Number>(word).ok();
    match expected {
        b"null" | b"true" | b"false" => (expected == stored).then_some(()),
        _ => (number(expected)? == number(stored)?).then_some(()),
    }
}

/// JSON, and how far it has been walked through.
#[derive(Clone, Copy)]
struct JsonText<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl<'t> JsonText<'t> {
    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.bytes.get(self.at)?, b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Enters an array or object; gives whether it ends at once.
    fn opens(&mut self, end: u8) -> Option<bool> {
        self.at += 1;
        let ends = self.peek()? == end;
        self.at += usize::from(ends);
        Some(ends)
    }

    /// Behind an element or a field: whether it was the last.
    fn closes(&mut self, end: u8) -> Option<bool> {
        let ends = self.peek()? == end;
        match ends {
            true => self.at += 1,
            false => self.take(b',')?,
        }
        Some(ends)
    }

    /// The same text from another place on.
    fn from(&self, at: u32) -> JsonText<'t> {
        JsonText { bytes: self.bytes, at: at as usize }
    }

    /// Where the object's remaining fields begin, by name; of two with one name the last, as in `jsonb`. Leaves the
    /// object.
    fn fields(&mut self) -> Option<Vec<u32>> {
        let mut fields = Vec::new();
        loop {
            fields.push(u32::try_from(self.at).ok()?);
            self.name()?;
            self.skip_value()?;
            if self.closes(b'}')? {
                break;
            }
        }
        let name = |at: u32| self.from(at).string().unwrap_or_default();
        fields.sort_by(|a, b| order_of_names(name(*a), name(*b)).then(b.cmp(a)));
        fields.dedup_by(|later, first| order_of_names(name(*later), name(*first)) == Ordering::Equal);
        Some(fields)
    }

    /// What is between the quotes.
    fn string(&mut self) -> Option<&'t [u8]> {
        self.take(b'"')?;
        let begins = self.at;
        loop {
            let rest = self.bytes.get(self.at..)?;
            self.at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Some(&self.bytes[begins..self.at - 1]);
            }
            self.at += 2;
        }
    }

    /// The name of a field, and what divides it from its value.
    fn name(&mut self) -> Option<&'t [u8]> {
        let name = self.string()?;
        self.take(b':')?;
        Some(name)
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> &'t [u8] {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| b",]} \n\r\t".contains(byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => drop(self.string()?),
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if open > 0 => self.at += 1,
                _ if self.word().is_empty() => return None,
                _ => {}
            }
            if open == 0 {
                return Some(());
            }
        }
    }
}

/// In the place of a byte: what stands there is no escape.
const INVALID: u16 = 0x100;

/// The bytes of a string without its escapes.
struct Unescaped<'t> {
    rest: &'t [u8],
    /// The rest of a character that was escaped.
    character: [u8; 4],
    left: std::ops::Range<usize>,
}

impl<'t> Unescaped<'t> {
    fn of(rest: &'t [u8]) -> Unescaped<'t> {
        Unescaped { rest, character: [0; 4], left: 0..0 }
    }

    /// The four digits behind a `\u`.
    fn unit(&mut self) -> Option<u16> {
        let (digits, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    /// A character behind `\u`, which may take a second one.
    fn escaped(&mut self) -> Option<char> {
        let first = self.unit()?;
        let mut units = vec![first];
        if (0xD800..0xDC00).contains(&first) {
            self.rest = self.rest.strip_prefix(b"\\u")?;
            units.push(self.unit()?);
        }
        char::decode_utf16(units).next()?.ok()
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some(at) = self.left.next() {
            return Some(self.character[at].into());
        }
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        if byte != b'\\' {
            return Some(byte.into());
        }
        let Some((&kind, rest)) = self.rest.split_first() else { return Some(INVALID) };
        self.rest = rest;
        Some(match kind {
            b'"' | b'\\' | b'/' => kind.into(),
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => 0x0A,
            b'r' => 0x0D,
            b't' => 0x09,
            b'u' => match self.escaped() {
                Some(character) => {
                    self.left = 1..character.encode_utf8(&mut self.character).len();
                    self.character[0].into()
                }
                None => INVALID,
            },
            _ => INVALID,
        })
    }
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
    use proptest::prelude::*;
    use serde_json::{Map, Value};

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

    #[test]
    fn escapes_say_what_they_stand_for() {
        let same_as = |expected: &str, stored: &str| walk(expected.as_bytes(), stored.as_bytes()).is_some();
        assert!(same_as(r#"{"b":1,"a\u00fc":["\ud83d\ude00\/\t"]}"#, "{\"b\": 1, \"aü\": [\"😀/\\t\"]}"));
        assert!(
            same_as(r#"{"\u0062":1,"a":2}"#, r#"{"a": 2, "b": 1}"#),
            "a name that is escaped stands where it belongs"
        );
        assert!(!same_as(r#"{"\u0062":1,"a":2}"#, r#"{"a": 2, "c": 1}"#));
        assert!(same_as(r#"{"b":0,"a":1,"a":2}"#, r#"{"a": 2, "b": 0}"#), "the last of two");
        assert!(
            !same_as(r#"{"b":1,"a":2,"c":3}"#, r#"{"a": 2, "b": 1}"#) && !same_as(r#"{"b":1,"a":2}"#, r#"{"a": 2}"#)
        );
        for broken in
            ["", "{", "[1", "[1,", "{\"a\"", "{\"a\":", "\"a", "\"\\", r#"["\ud800"]"#, "nul", "[1 2]", "[]]", "{},"]
        {
            assert!(!same_as(broken, "[1]") && !same_as("[1]", broken) && !same_as(broken, "{\"a\": 1}"), "{broken}");
        }
    }

    #[test]
    fn values_may_lie_deep() {
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(900), "]".repeat(900));
        let (expected, stored) = (deep(r#"{"b":1,"a":2}"#), deep(r#"{"a": 2, "b": 1}"#));
        assert!(same(expected.as_bytes(), stored.as_bytes()));
        assert!(!same(expected.as_bytes(), deep(r#"{"a": 2, "b": 2}"#).as_bytes()));
        let endless = "[".repeat(1 << 20);
        assert!(walk(endless.as_bytes(), endless.as_bytes()).is_none());
    }

    /// As `jsonb` writes it.
    fn stored(value: &Value, text: &mut String) {
        match value {
            Value::Array(elements) => {
                text.push('[');
                for (n, element) in elements.iter().enumerate() {
                    text.push_str(if n > 0 { ", " } else { "" });
                    stored(element, text);
                }
                text.push(']');
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by(|a, b| a.0.len().cmp(&b.0.len()).then_with(|| a.0.as_bytes().cmp(b.0.as_bytes())));
                text.push('{');
                for (n, (name, value)) in fields.into_iter().enumerate() {
                    text.push_str(if n > 0 { ", " } else { "" });
                    text.push_str(&Value::String(name.clone()).to_string());
                    text.push_str(": ");
                    stored(value, text);
                }
                text.push('}');
            }
            other => text.push_str(&other.to_string()),
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = || prop_oneof!["[a-c\\\\\"/\n\t ü😀{}:,\\[\\]]{0,3}", "[ab]"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3_i64).prop_map(Value::from),
            text().prop_map(Value::from)
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec((text(), inner), 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn as_values_would_say(a in values(), b in values()) {
            let text = |value: &Value| { let mut text = String::new(); stored(value, &mut text); text };
            for (expected, of) in [(&a, &a), (&a, &b), (&b, &a)] {
                let says = walk(expected.to_string().as_bytes(), text(of).as_bytes()).is_some();
                prop_assert_eq!(says, expected == of, "{} {}", expected, text(of));
            }
        }
    }
}
