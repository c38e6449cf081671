//! The tagged form of an `_id`: text, equal if and only if MongoDB considers the ids equal.
//!
//! | value | form | example |
//! |---|---|---|
//! | number of any type, by its value | `n`, sign, digits without trailing zeros, `e` and the power of ten unless 0 | `n15e-1` (1.5) |
//! | NaN, ∞, −∞ | `nNaN`, `nInfinity`, `n-Infinity` | |
//! | string, symbol | `s` and the text; `\` before `\`, NUL as `\0`, a byte that is not UTF-8 as `\xff` | `sA1` |
//! | ObjectId | `o` and 24 hex digits | `o56b8…` |
//! | boolean | `btrue`, `bfalse` | |
//! | date | `d` and milliseconds since 1970 | `d0` |
//! | null | `z` | |
//! | binary | `x`, subtype in hex, `:`, bytes in hex | `x00:ff` |
//! | timestamp | `t`, seconds, `:`, increment | `t9:1` |
//! | document | `{`, for each field in its order its name as JSON, `:`, its value's form, joined by `,`, `}` | `{"a":n1,"b":"x"}` |
//! | array, inside of a document | `[`, the elements' forms joined by `,`, `]` | `[n1,n2]` |
//! | anything else | `?`, type number in hex, `:`, the value's bytes in hex | `?7f:` |
//!
//! Inside a document text is a JSON string after its tag: `s"x"`. A form of more than 1,000 bytes
//! becomes `#` and its SHA-256 in hex, with the id in `_extra`.

use gizer_schema::raw::{Element, Malformed, RawDoc, Value};
use sha2::{Digest, Sha256};

use crate::decimal::{Decimal128, exact_digits};
use crate::extjson::write_text;

/// Longest form that a key column holds, in bytes: an entry of a PostgreSQL btree ends at 2,704 bytes.
const MAX_FORM_BYTES: usize = 1_000;

/// An `_id` to write in its tagged form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaggedKey<'a>(Element<'a>);

impl<'a> TaggedKey<'a> {
    /// The key of this value.
    ///
    /// # Errors
    /// [`Malformed`] if it is no BSON.
    pub(crate) fn new(element: Element<'a>) -> Result<(TaggedKey<'a>, Form), Malformed> {
        let mut text = Vec::new();
        let mut faithful = true;
        write(&element, &mut text, false, &mut faithful)?;
        let form = if faithful && text.len() <= MAX_FORM_BYTES { Form::Faithful } else { Form::Lossy };
        Ok((TaggedKey(element), form))
    }

    /// Appends the text.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let start = out.len();
        // new() has read all of it.
        let _ = write(&self.0, out, false, &mut true);
        if out.len() - start > MAX_FORM_BYTES {
            let hash = Sha256::digest(&out[start..]);
            out.truncate(start);
            out.push(b'#');
            out.extend_from_slice(hex::encode(hash).as_bytes());
        }
    }
}

/// Whether the id can be decoded from its form, except for the types of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Faithful,
    Lossy,
}

fn write(element: &Element<'_>, out: &mut Vec<u8>, nested: bool, faithful: &mut bool) -> Result<(), Malformed> {
    match element.value()? {
        Value::Int32(number) => whole(number.into(), out),
        Value::Int64(number) => whole(number.into(), out),
        Value::Double(number) => double(number, out),
        Value::Decimal128(bytes) => decimal(Decimal128::decode(bytes), out),
        Value::String(text) => string(text, nested, out, faithful),
        Value::Symbol(text) => {
            // MongoDB compares symbols as strings.
            *faithful = false;
            string(text, nested, out, faithful);
        }
        Value::ObjectId(id) => {
            out.push(b'o');
            out.extend_from_slice(hex::encode(id).as_bytes());
        }
        Value::Boolean(value) => out.extend_from_slice(if value { b"btrue" } else { b"bfalse" }),
        Value::DateTime(millis) => out.extend_from_slice(format!("d{millis}").as_bytes()),
        Value::Null => out.push(b'z'),
        Value::Binary { subtype, bytes } => {
            out.extend_from_slice(format!("x{subtype:02x}:").as_bytes());
            out.extend_from_slice(hex::encode(bytes).as_bytes());
        }
        Value::Timestamp { seconds, increment } => {
            out.extend_from_slice(format!("t{seconds}:{increment}").as_bytes());
        }
        Value::Document(document) => write_document(document, out, faithful)?,
        Value::Array(array) => {
            out.push(b'[');
            for (i, element) in array.elements().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(&element?, out, true, faithful)?;
            }
            out.push(b']');
        }
        _ => {
            *faithful = false;
            out.extend_from_slice(format!("?{:02x}:", element.kind as u8).as_bytes());
            out.extend_from_slice(hex::encode(element.bytes).as_bytes());
        }
    }
    Ok(())
}

fn write_document(document: RawDoc<'_>, out: &mut Vec<u8>, faithful: &mut bool) -> Result<(), Malformed> {
    out.push(b'{');
    for (i, element) in document.elements().enumerate() {
        let element = element?;
        if i > 0 {
            out.push(b',');
        }
        string(element.name, true, out, faithful);
        out.push(b':');
        write(&element, out, true, faithful)?;
    }
    out.push(b'}');
    Ok(())
}

fn string(text: &[u8], nested: bool, out: &mut Vec<u8>, faithful: &mut bool) {
    let mut escaped = String::with_capacity(text.len() + 1);
    escaped.push('s');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => escaped.push_str("\\\\"),
                '\0' => escaped.push_str("\\0"),
                c => escaped.push(c),
            }
        }
        for byte in chunk.invalid() {
            *faithful = false;
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if nested {
        out.push(b's');
        write_text(&escaped[1..], out);
    } else {
        out.extend_from_slice(escaped.as_bytes());
    }
}

fn whole(number: i128, out: &mut Vec<u8>) {
    normal(number < 0, &number.unsigned_abs().to_string(), 0, out);
}

fn double(number: f64, out: &mut Vec<u8>) {
    if number.is_nan() {
        out.extend_from_slice(b"nNaN");
    } else if number.is_infinite() {
        infinite(number < 0.0, out);
    } else {
        let (digits, exponent) = exact_digits(number);
        normal(number < 0.0, &digits, exponent, out);
    }
}

fn decimal(number: Decimal128, out: &mut Vec<u8>) {
    match number {
        Decimal128::NaN => out.extend_from_slice(b"nNaN"),
        Decimal128::Infinite { negative } => infinite(negative, out),
        Decimal128::Finite(number) => normal(number.negative, &number.digits.to_string(), number.exponent, out),
    }
}

fn infinite(negative: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if negative { b"n-Infinity" } else { b"nInfinity" });
}

/// One form for one value: no trailing zeros, no sign of zero.
fn normal(negative: bool, digits: &str, exponent: i32, out: &mut Vec<u8>) {
    let short = digits.trim_end_matches('0');
    if short.is_empty() {
        out.extend_from_slice(b"n0");
        return;
    }
    let exponent = exponent + (digits.len() - short.len()) as i32;
    out.extend_from_slice(if negative { b"n-" } else { b"n" });
    out.extend_from_slice(short.as_bytes());
    if exponent != 0 {
        out.extend_from_slice(format!("e{exponent}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, doc};

    fn form(value: impl Into<Bson>) -> String {
        let bytes = doc! {"_id": value.into()}.to_vec().unwrap();
        let element = RawDoc::new(&bytes).unwrap().get(b"_id").unwrap().unwrap();
        let mut out = Vec::new();
        TaggedKey::new(element).unwrap().0.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    #[test]
    fn numbers_of_one_value_are_one_id() {
        for same in [Bson::from(1i32), 1i64.into(), 1.0.into(), decimal("1"), decimal("1.00"), decimal("10E-1")] {
            assert_eq!(form(same.clone()), "n1", "{same:?}");
        }
        for same in [Bson::from(0i32), (-0.0).into(), decimal("-0.00")] {
            assert_eq!(form(same), "n0");
        }
        assert_eq!(form(1.5), "n15e-1");
        assert_eq!(form(decimal("1.5")), "n15e-1");
        assert_eq!(form(1e22), "n1e22");
        assert_eq!(form(-1200i32), "n-12e2");
        assert_eq!(form(i64::MIN), "n-9223372036854775808");
        assert_eq!(form(-9223372036854775808.0), "n-9223372036854775808");
        assert_ne!(form(0.1), form(decimal("0.1")), "the double 0.1 is a little more than the decimal");
        assert_eq!(form(f64::NAN), form(decimal("NaN")));
        assert_eq!(form(f64::NEG_INFINITY), form(decimal("-Infinity")));
    }

    #[test]
    fn every_type_has_its_form() {
        let oid = bson::oid::ObjectId::from_bytes([0xAB; 12]);
        let cases: Vec<(Bson, &str)> = vec![
            ("A1".into(), "sA1"),
            ("a\0b\\".into(), "sa\\0b\\\\"),
            (Bson::Symbol("A1".into()), "sA1"),
            (oid.into(), "oabababababababababababab"),
            (true.into(), "btrue"),
            (bson::DateTime::from_millis(-5).into(), "d-5"),
            (Bson::Null, "z"),
            (Bson::Timestamp(bson::Timestamp { time: 9, increment: 1 }), "t9:1"),
            (Bson::MaxKey, "?7f:"),
            (
                Bson::Document(doc! {"b": 1, "a": "x\"", "c": [1.0, true]}),
                "{s\"b\":n1,s\"a\":s\"x\\\"\",s\"c\":[n1,btrue]}",
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(form(value), expected);
        }
        assert_ne!(form(doc! {"a": 1, "b": 2}), form(doc! {"b": 2, "a": 1}), "the order of fields makes two ids");
        assert_eq!(form(doc! {"a": 1}), form(doc! {"a": 1.0}));
    }

    #[test]
    fn a_long_form_is_hashed() {
        let long = form("x".repeat(1000));
        assert!(long.starts_with('#') && long.len() == 65, "{long}");
        assert_ne!(long, form("y".repeat(1000)));
        assert_eq!(form("x".repeat(999)).len(), 1000);
    }
}
