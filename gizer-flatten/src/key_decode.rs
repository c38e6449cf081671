//! From the tagged form of an `_id` back to the `_id`; the table of forms is that of [`TaggedKey`](crate::TaggedKey).

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document};

/// The value whose tagged form this is. Numbers come back as the first of int32, int64, decimal128 and double that
/// holds them. `None` for a hash, for values that the form does not keep whole, and for text that is no tagged form.
pub fn decode_key(form: &str) -> Option<Bson> {
    if let Some(text) = form.strip_prefix('s') {
        return unescape(text).map(Bson::String);
    }
    let mut reader = Reader { rest: form };
    let value = reader.value()?;
    reader.rest.is_empty().then_some(value)
}

struct Reader<'f> {
    rest: &'f str,
}

impl<'f> Reader<'f> {
    fn value(&mut self) -> Option<Bson> {
        let tag = self.rest.chars().next()?;
        if tag != '{' && tag != '[' {
            self.rest = &self.rest[tag.len_utf8()..];
        }
        match tag {
            'n' => number(self.word()),
            's' => unescape(&self.json_string()?).map(Bson::String),
            'o' => Some(Bson::ObjectId(self.word().parse().ok()?)),
            'b' => Some(Bson::Boolean(self.word().parse().ok()?)),
            'd' => Some(Bson::DateTime(bson::DateTime::from_millis(self.word().parse().ok()?))),
            'z' => Some(Bson::Null),
            'x' => {
                let (subtype, bytes) = self.word().split_once(':')?;
                let subtype = BinarySubtype::from(u8::from_str_radix(subtype, 16).ok()?);
                Some(Bson::Binary(Binary { subtype, bytes: unhex(bytes)? }))
            }
            't' => {
                let (time, increment) = self.word().split_once(':')?;
                let (time, increment) = (time.parse().ok()?, increment.parse().ok()?);
                Some(Bson::Timestamp(bson::Timestamp { time, increment }))
            }
            '{' => self.document().map(Bson::Document),
            '[' => self.array().map(Bson::Array),
            _ => None,
        }
    }

    fn document(&mut self) -> Option<Document> {
        let mut document = Document::new();
        self.list('{', '}', |reader| {
            reader.take('s')?;
            let name = reader.json_string()?;
            reader.take(':')?;
            document.insert(unescape(&name)?, reader.value()?);
            Some(())
        })?;
        Some(document)
    }

    fn array(&mut self) -> Option<Vec<Bson>> {
        let mut elements = Vec::new();
        self.list('[', ']', |reader| {
            elements.push(reader.value()?);
            Some(())
        })?;
        Some(elements)
    }

    fn list(&mut self, open: char, close: char, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.take(open)?;
        if self.take(close).is_some() {
            return Some(());
        }
        loop {
            each(self)?;
            if self.take(',').is_none() {
                return self.take(close);
            }
        }
    }

    fn take(&mut self, c: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(c)?;
        Some(())
    }

    /// Everything up to what can follow a value.
    fn word(&mut self) -> &'f str {
        let end = self.rest.find([',', '}', ']']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn json_string(&mut self) -> Option<String> {
        let mut stream = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        let text = stream.next()?.ok()?;
        self.rest = &self.rest[stream.byte_offset()..];
        Some(text)
    }
}

fn number(text: &str) -> Option<Bson> {
    match text {
        "NaN" => return Some(Bson::Double(f64::NAN)),
        "Infinity" => return Some(Bson::Double(f64::INFINITY)),
        "-Infinity" => return Some(Bson::Double(f64::NEG_INFINITY)),
        _ => {}
    }
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    if (0..=18).contains(&exponent) {
        let whole = digits.parse::<i64>().ok().zip(10i64.checked_pow(exponent.unsigned_abs()));
        if let Some(whole) = whole.and_then(|(digits, power)| digits.checked_mul(power)) {
            return Some(i32::try_from(whole).map_or(Bson::Int64(whole), Bson::Int32));
        }
    }
    let scientific = format!("{digits}E{exponent}");
    if digits.trim_start_matches('-').len() <= 34
        && let Ok(decimal) = scientific.parse()
    {
        return Some(Bson::Decimal128(decimal));
    }
    scientific.parse().ok().map(Bson::Double)
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                '\\' => plain.push('\\'),
                '0' => plain.push('\0'),
                _ => return None,
            },
            c => plain.push(c),
        }
    }
    Some(plain)
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok()).collect()
}
