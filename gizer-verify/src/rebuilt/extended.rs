//! Whether JSON text, as `jsonb` gives it, is the canonical Extended JSON of a value: read along with the value, without building
//! anything. Only what is common; of the rest it says that it does not know.

use gizer_schema::raw::{Element, RawDoc, Value};

use super::number::same_double;

/// Most fields of a document that are looked for by going through all of them.
const MAX_FIELDS: usize = 32;

/// Whether the text is surely this value, type and all.
pub(super) fn is(text: &[u8], element: &Element<'_>) -> bool {
    let mut text = ExtendedText(text);
    text.is(element) == Some(true) && text.is_at_end()
}

/// The entries of an object, names and values as they are in the text; `None` if a name has escapes.
pub(super) fn entries<'t>(text: &'t [u8], mut each: impl FnMut(&'t [u8], &'t [u8])) -> Option<()> {
    let mut text = ExtendedText(text);
    text.eat(b"{")?;
    if text.eat(b"}").is_some() {
        return text.is_at_end().then_some(());
    }
    loop {
        let name = text.plain_string()?;
        text.eat(b":")?;
        each(name, text.skip_value()?);
        if text.eat(b",").is_none() {
            text.eat(b"}")?;
            return text.is_at_end().then_some(());
        }
    }
}

/// What is left of the text. Every step gives `None` where something else stands.
struct ExtendedText<'t>(&'t [u8]);

impl<'t> ExtendedText<'t> {
    fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes this token; `jsonb` has blanks before some.
    fn eat(&mut self, token: &[u8]) -> Option<()> {
        while let Some(rest) = self.0.strip_prefix(b" ") {
            self.0 = rest;
        }
        self.0 = self.0.strip_prefix(token)?;
        Some(())
    }

    /// A string without escapes.
    fn plain_string(&mut self) -> Option<&'t [u8]> {
        self.eat(b"\"")?;
        let end = self.0.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        let (string, rest) = self.0.split_at(end);
        self.0 = rest.strip_prefix(b"\"")?;
        Some(string)
    }

    /// A whole value, however deep: the next end of a string or of what was opened.
    fn skip_value(&mut self) -> Option<&'t [u8]> {
        self.eat(b"")?;
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        for (at, byte) in self.0.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' | b'[' => depth += 1,
                b',' | b'}' if depth == 0 => {
                    let (value, rest) = self.0.split_at(at);
                    self.0 = rest;
                    return Some(value);
                }
                b'}' | b']' => depth = depth.checked_sub(1)?,
                _ => {}
            }
        }
        None
    }

    /// `{"<name>": "<text>"}`.
    fn wrapped(&mut self, name: &[u8]) -> Option<&'t [u8]> {
        self.eat(b"{")?;
        self.name(name)?;
        let text = self.plain_string()?;
        self.eat(b"}")?;
        Some(text)
    }

    /// `"<name>":`.
    fn name(&mut self, name: &[u8]) -> Option<()> {
        (self.plain_string()? == name).then_some(())?;
        self.eat(b":")
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &[u8]) -> Option<T> {
        std::str::from_utf8(self.wrapped(name)?).ok()?.parse().ok()
    }

    fn is(&mut self, element: &Element<'_>) -> Option<bool> {
        Some(match element.value().ok()? {
            Value::Null => self.eat(b"null").is_some(),
            Value::Boolean(true) => self.eat(b"true").is_some(),
            Value::Boolean(false) => self.eat(b"false").is_some(),
            Value::String(string) => self.is_string(string)?,
            Value::Int32(number) => self.parsed::<i32>(b"$numberInt")? == number,
            Value::Int64(number) => self.parsed::<i64>(b"$numberLong")? == number,
            Value::Double(number) => same_double(self.parsed(b"$numberDouble")?, number),
            Value::ObjectId(id) => is_hex(self.wrapped(b"$oid")?, &id),
            Value::DateTime(millis) => {
                self.eat(b"{")?;
                self.name(b"$date")?;
                let same = self.parsed::<i64>(b"$numberLong")? == millis;
                self.eat(b"}")?;
                same
            }
            Value::Document(document) => self.is_document(document)?,
            Value::Array(array) => self.is_array(array)?,
            _ => return None,
        })
    }

    fn is_string(&mut self, string: &[u8]) -> Option<bool> {
        self.eat(b"\"")?;
        let mut string = string;
        loop {
            let end = self.0.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            let (plain, rest) = self.0.split_at(end);
            let Some(left) = string.strip_prefix(plain) else { return Some(false) };
            string = left;
            let (character, rest) = match rest {
                [b'"', rest @ ..] => {
                    self.0 = rest;
                    return Some(string.is_empty());
                }
                [_, b'n', rest @ ..] => (b'\n', rest),
                [_, b'r', rest @ ..] => (b'\r', rest),
                [_, b't', rest @ ..] => (b'\t', rest),
                [_, b'b', rest @ ..] => (0x08, rest),
                [_, b'f', rest @ ..] => (0x0C, rest),
                [_, b @ (b'"' | b'\\' | b'/'), rest @ ..] => (*b, rest),
                [_, b'u', b'0', b'0', high, low, rest @ ..] => {
                    let code = digit(*high)? << 4 | digit(*low)?;
                    (code.is_ascii().then_some(code)?, rest)
                }
                _ => return None,
            };
            let Some(left) = string.strip_prefix(&[character]) else { return Some(false) };
            (string, self.0) = (left, rest);
        }
    }

    /// `jsonb` has the fields in an order of its own.
    fn is_document(&mut self, document: RawDoc<'_>) -> Option<bool> {
        let mut fields = [None; MAX_FIELDS];
        let mut left = 0;
        for element in document.elements() {
            *fields.get_mut(left)? = Some(element.ok()?);
            left += 1;
        }
        let fields = &mut fields[..left];
        self.eat(b"{")?;
        while left > 0 {
            let name = self.plain_string()?;
            if name.starts_with(b"$") {
                return None;
            }
            let Some(field) = fields.iter_mut().find(|field| field.is_some_and(|field| field.name == name)) else {
                return Some(false);
            };
            self.eat(b":")?;
            if !self.is(&field.take()?)? {
                return Some(false);
            }
            left -= 1;
            if left > 0 {
                self.eat(b",")?;
            }
        }
        Some(self.eat(b"}").is_some())
    }

    fn is_array(&mut self, array: RawDoc<'_>) -> Option<bool> {
        self.eat(b"[")?;
        for (at, element) in array.elements().enumerate() {
            if at > 0 {
                self.eat(b",")?;
            }
            if !self.is(&element.ok()?)? {
                return Some(false);
            }
        }
        Some(self.eat(b"]").is_some())
    }
}

/// Whether text is the lower-case hex of these bytes.
pub(super) fn is_hex(text: &[u8], bytes: &[u8]) -> bool {
    let (pairs, []) = text.as_chunks::<2>() else { return false };
    let digits = |byte: u8| [byte >> 4, byte & 0xF].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    pairs.len() == bytes.len() && pairs.iter().zip(bytes).all(|(pair, byte)| *pair == digits(*byte))
}

fn digit(hex: u8) -> Option<u8> {
    (hex as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, doc};

    fn with(value: impl Into<Bson>, text: &str) -> bool {
        let bytes = doc! {"v": value.into()}.to_vec().unwrap();
        is(text.as_bytes(), &RawDoc::new(&bytes).unwrap().elements().next().unwrap().unwrap())
    }

    #[test]
    fn text_is_read_beside_its_value() {
        let document = doc! {"bb": [1, 2.5, "x\"\\\n\u{1}ü"], "a": {"d": bson::DateTime::from_millis(-5), "n": 1i64}};
        let text = r#"{"a": {"d": {"$date": {"$numberLong": "-5"}}, "n": {"$numberLong": "1"}}, "bb": [{"$numberInt": "1"}, {"$numberDouble": "2.5"}, "x\"\\\n\u0001ü"]}"#;
        assert!(with(document.clone(), text));
        for (from, to) in [("-5", "5"), ("Long\": \"1", "Int\": \"1"), ("2.5", "2.25"), ("ü", "u"), ("\"n\"", "\"m\"")]
        {
            assert!(!with(document.clone(), &text.replace(from, to)), "{from} to {to}");
        }
        assert!(!with(document.clone(), &text.replace("]}", ", null]}")));
        assert!(!with(document, &format!("{text} 1")));
        assert!(with(Bson::Null, "null") && with(true, "true") && !with(true, "false") && !with(Bson::Null, "\"\""));
        assert!(with(doc! {}, "{}") && with(Vec::<Bson>::new(), "[]") && !with(doc! {}, "[]"));
        assert!(!with(doc! {}, r#"{"a": null}"#) && !with(doc! {"a": 1}, "{}"));
        assert!(with(-0.0, r#"{"$numberDouble": "-0.0"}"#) && !with(0.0, r#"{"$numberDouble": "-0.0"}"#));
    }

    #[test]
    fn entries_are_told_apart() {
        let mut found = Vec::new();
        entries(br#"{"": {"a": [1, "}, \" "]}, "/x": null}"#, |name, value| found.push((name, value))).unwrap();
        let expected: [(&[u8], &[u8]); 2] = [(b"", br#"{"a": [1, "}, \" "]}"#), (b"/x", b"null")];
        assert_eq!(found, expected);
        for other in ["", "{", "[]", r#"{"a"}"#, r#"{"a": 1"#, r#"{"a\n": 1}"#, "{} 1"] {
            assert_eq!(entries(other.as_bytes(), |_, _| ()), None, "{other}");
        }
    }
}
