//! Decodes the tagged form of an `_id`; [`TaggedKey`](crate::TaggedKey) has the table of forms.

use gizer_schema::raw::Kind;

use super::value::{BuiltFields, BuiltValue};

/// The value of a tagged form. Numbers become the first of int32, int64, decimal128 and double that
/// holds them. `None` for a hash, for values that the form does not keep completely, and for other
/// text.
pub(super) fn decode_key(form: &str) -> Option<BuiltValue> {
    if let Some(text) = form.strip_prefix('s') {
        return BuiltValue::text(Kind::String, &unescape(text)?);
    }
    let mut reader = KeyReader { rest: form };
    let value = reader.value()?;
    reader.rest.is_empty().then_some(value)
}

struct KeyReader<'f> {
    rest: &'f str,
}

impl<'f> KeyReader<'f> {
    fn value(&mut self) -> Option<BuiltValue> {
        let tag = self.rest.chars().next()?;
        if tag != '{' && tag != '[' {
            self.rest = &self.rest[tag.len_utf8()..];
        }
        match tag {
            'n' => number(self.word()),
            's' => BuiltValue::text(Kind::String, &unescape(&self.json_string()?)?),
            'o' => {
                let id: bson::oid::ObjectId = self.word().parse().ok()?;
                Some(BuiltValue::raw(Kind::ObjectId, id.bytes()))
            }
            'b' => Some(BuiltValue::raw(Kind::Boolean, [u8::from(self.word().parse::<bool>().ok()?)])),
            'd' => Some(BuiltValue::raw(Kind::DateTime, self.word().parse::<i64>().ok()?.to_le_bytes())),
            'z' => Some(BuiltValue::NULL),
            'x' => {
                let (subtype, bytes) = self.word().split_once(':')?;
                BuiltValue::binary(u8::from_str_radix(subtype, 16).ok()?, &hex::decode(bytes).ok()?)
            }
            't' => {
                let (seconds, increment) = self.word().split_once(':')?;
                let (seconds, increment): (u32, u32) = (seconds.parse().ok()?, increment.parse().ok()?);
                Some(BuiltValue::raw(Kind::Timestamp, (u64::from(seconds) << 32 | u64::from(increment)).to_le_bytes()))
            }
            '{' => self.document().map(BuiltValue::Document),
            '[' => self.array().map(BuiltValue::Array),
            _ => None,
        }
    }

    fn document(&mut self) -> Option<BuiltFields> {
        // Duplicate names stay.
        let mut fields = BuiltFields::default();
        self.list('{', '}', |reader| {
            reader.take('s')?;
            let name = reader.json_string()?;
            reader.take(':')?;
            fields.0.push((unescape(&name)?, reader.value()?));
            Some(())
        })?;
        Some(fields)
    }

    fn array(&mut self) -> Option<Vec<BuiltValue>> {
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

    /// Everything up to a delimiter.
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

fn number(text: &str) -> Option<BuiltValue> {
    let double = |number: f64| BuiltValue::raw(Kind::Double, number.to_le_bytes());
    match text {
        "NaN" => return Some(double(f64::NAN)),
        "Infinity" => return Some(double(f64::INFINITY)),
        "-Infinity" => return Some(double(f64::NEG_INFINITY)),
        _ => {}
    }
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    if (0..=18).contains(&exponent) {
        let whole = digits.parse::<i64>().ok().zip(10i64.checked_pow(exponent.unsigned_abs()));
        if let Some(whole) = whole.and_then(|(digits, power)| digits.checked_mul(power)) {
            return Some(match i32::try_from(whole) {
                Ok(whole) => BuiltValue::raw(Kind::Int32, whole.to_le_bytes()),
                Err(_) => BuiltValue::raw(Kind::Int64, whole.to_le_bytes()),
            });
        }
    }
    let scientific = format!("{digits}E{exponent}");
    if digits.trim_start_matches('-').len() <= 34
        && let Ok(decimal) = scientific.parse::<bson::Decimal128>()
    {
        return Some(BuiltValue::raw(Kind::Decimal128, decimal.bytes()));
    }
    scientific.parse().ok().map(double)
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
