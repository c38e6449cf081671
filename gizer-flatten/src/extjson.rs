//! Writes values as canonical Extended JSON v2, in a form that `jsonb` preserves.
//!
//! `jsonb` refuses text with NUL or invalid UTF-8 and keeps only the last of duplicate keys; a
//! document with a key that starts with `$` could look like a type wrapper. A value with any of
//! these, or nested deeper than MongoDB allows, becomes `{"$bson": "<base64>"}`: the BSON of a
//! document whose only field, with an empty name, is the value.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use gizer_schema::raw::{Element, Kind, Malformed, RawDoc, Value};

/// MongoDB's limit of nesting ("MongoDB Limits and Thresholds").
const MAX_DEPTH: usize = 100;

/// A value to write as JSON.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawJson<'a>(Element<'a>);

impl<'a> RawJson<'a> {
    /// The value of this element, without its name.
    pub fn new(element: Element<'a>) -> RawJson<'a> {
        RawJson(element)
    }

    /// Appends the JSON text, without blanks, in UTF-8.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let start = out.len();
        if write_element(&self.0, out, 0).is_err() {
            out.truncate(start);
            self.write_bson(out);
        }
    }

    /// The same as `{"$bson": …}`, which keeps every byte.
    pub(crate) fn write_bson(&self, out: &mut Vec<u8>) {
        write_bson(self.0.kind, self.0.bytes, out);
    }
}

/// Appends a document as `{"$bson": …}`, whatever is in it.
pub(crate) fn write_bson_document(document: RawDoc<'_>, out: &mut Vec<u8>) {
    write_bson(Kind::Document, document.as_bytes(), out);
}

fn write_bson(kind: Kind, value: &[u8], out: &mut Vec<u8>) {
    let len = 4 + 1 + 1 + value.len() + 1;
    let mut document = Vec::with_capacity(len);
    // Values of a 48 MB message are far below 2 GiB.
    document.extend_from_slice(&(len as u32).to_le_bytes());
    document.push(kind as u8);
    document.push(0);
    document.extend_from_slice(value);
    document.push(0);
    out.extend_from_slice(b"{\"$bson\":\"");
    out.extend_from_slice(BASE64.encode(document).as_bytes());
    out.extend_from_slice(b"\"}");
}

/// Appends text as a JSON string. NUL, which no field name has, would be escaped too.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        escape(byte, out);
    }
    out.push(b'"');
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        _ => out.push(byte),
    }
}

/// A value that Extended JSON in `jsonb` cannot hold; it is kept as BSON.
struct Unwritable;

impl From<Malformed> for Unwritable {
    fn from(_: Malformed) -> Self {
        Unwritable
    }
}

/// The old binary subtype, whose bytes start with their own length. Extended JSON omits that.
pub(crate) const OLD_BINARY: u8 = 2;

fn without_own_length(bytes: &[u8]) -> Result<&[u8], Unwritable> {
    let (length, rest) = bytes.split_first_chunk().ok_or(Unwritable)?;
    let is_right = usize::try_from(i32::from_le_bytes(*length)).is_ok_and(|length| length == rest.len());
    if is_right { Ok(rest) } else { Err(Unwritable) }
}

fn write_element(element: &Element<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Unwritable> {
    match element.value()? {
        Value::Double(number) => wrapped(out, "$numberDouble", &double(number)),
        Value::String(text) => string(text, out)?,
        Value::Document(document) => write_document(document, out, depth + 1)?,
        Value::Array(array) => write_array(array, out, depth + 1)?,
        Value::Binary { subtype, bytes } => write_binary(subtype, bytes, out)?,
        Value::Undefined => out.extend_from_slice(b"{\"$undefined\":true}"),
        Value::ObjectId(id) => wrapped(out, "$oid", &hex::encode(id)),
        Value::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::DateTime(millis) => {
            out.extend_from_slice(format!("{{\"$date\":{{\"$numberLong\":\"{millis}\"}}}}").as_bytes());
        }
        Value::Null => out.extend_from_slice(b"null"),
        Value::Regex { pattern, options } => {
            out.extend_from_slice(b"{\"$regularExpression\":{\"pattern\":");
            string(pattern, out)?;
            out.extend_from_slice(b",\"options\":");
            string(options, out)?;
            out.extend_from_slice(b"}}");
        }
        Value::DbPointer { namespace, id } => {
            out.extend_from_slice(b"{\"$dbPointer\":{\"$ref\":");
            string(namespace, out)?;
            out.extend_from_slice(format!(",\"$id\":{{\"$oid\":\"{}\"}}}}}}", hex::encode(id)).as_bytes());
        }
        Value::JavaScript(code) => named(out, "$code", code)?,
        Value::Symbol(symbol) => named(out, "$symbol", symbol)?,
        Value::CodeWithScope { code, scope } => {
            out.extend_from_slice(b"{\"$code\":");
            string(code, out)?;
            out.extend_from_slice(b",\"$scope\":");
            write_document(scope, out, depth + 1)?;
            out.push(b'}');
        }
        Value::Int32(number) => wrapped(out, "$numberInt", &number.to_string()),
        Value::Timestamp { seconds, increment } => {
            out.extend_from_slice(format!("{{\"$timestamp\":{{\"t\":{seconds},\"i\":{increment}}}}}").as_bytes());
        }
        Value::Int64(number) => wrapped(out, "$numberLong", &number.to_string()),
        Value::Decimal128(bytes) => {
            wrapped(out, "$numberDecimal", &bson::Decimal128::from_bytes(bytes).to_string());
        }
        Value::MaxKey => out.extend_from_slice(b"{\"$maxKey\":1}"),
        Value::MinKey => out.extend_from_slice(b"{\"$minKey\":1}"),
    }
    Ok(())
}

fn write_binary(subtype: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable> {
    let bytes = if subtype == OLD_BINARY { without_own_length(bytes)? } else { bytes };
    out.extend_from_slice(b"{\"$binary\":{\"base64\":\"");
    out.extend_from_slice(BASE64.encode(bytes).as_bytes());
    out.extend_from_slice(format!("\",\"subType\":\"{subtype:02x}\"}}}}").as_bytes());
    Ok(())
}

fn write_document(document: RawDoc<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Unwritable> {
    if depth > MAX_DEPTH {
        return Err(Unwritable);
    }
    let mut names = HashSet::new();
    out.push(b'{');
    for (i, element) in document.elements().enumerate() {
        let element = element?;
        if element.name.first() == Some(&b'$') || !names.insert(element.name) {
            return Err(Unwritable);
        }
        if i > 0 {
            out.push(b',');
        }
        string(element.name, out)?;
        out.push(b':');
        write_element(&element, out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_array(array: RawDoc<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Unwritable> {
    if depth > MAX_DEPTH {
        return Err(Unwritable);
    }
    out.push(b'[');
    for (i, element) in array.elements().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_element(&element?, out, depth)?;
    }
    out.push(b']');
    Ok(())
}

/// `{"<name>":"<text>"}` for text that needs no escapes.
fn wrapped(out: &mut Vec<u8>, name: &str, text: &str) {
    out.extend_from_slice(format!("{{\"{name}\":\"{text}\"}}").as_bytes());
}

fn named(out: &mut Vec<u8>, name: &str, text: &[u8]) -> Result<(), Unwritable> {
    out.extend_from_slice(format!("{{\"{name}\":").as_bytes());
    string(text, out)?;
    out.push(b'}');
    Ok(())
}

fn string(text: &[u8], out: &mut Vec<u8>) -> Result<(), Unwritable> {
    let text = std::str::from_utf8(text).map_err(|_| Unwritable)?;
    if text.contains('\0') {
        return Err(Unwritable);
    }
    write_text(text, out);
    Ok(())
}

/// Shortest text that reads back as the same number, with Extended JSON's special names.
fn double(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{number:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, doc};

    fn written(value: impl Into<Bson>) -> String {
        let bytes = doc! {"v": value.into()}.to_vec().unwrap();
        let element = RawDoc::new(&bytes).unwrap().elements().next().unwrap().unwrap();
        let mut out = Vec::new();
        RawJson::new(element).write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// The `bson` crate reads it back to the same value: an independent reader of Extended JSON.
    #[test]
    fn every_type_reads_back() {
        let scope = bson::JavaScriptCodeWithScope { code: "g".into(), scope: doc! {"y": 2i64} };
        let values: Vec<Bson> = vec![
            1.0.into(),
            (-0.0).into(),
            1e300.into(),
            f64::INFINITY.into(),
            "a\"\\\n\r\t\u{1}ü".into(),
            Bson::Document(doc! {"a": 1i32, "b": [1i64, "x", Bson::Null]}),
            Bson::Array(vec![]),
            Bson::Document(doc! {}),
            true.into(),
            bson::DateTime::from_millis(-5).into(),
            Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0, 255] }),
            Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::BinaryOld, bytes: vec![1, 2, 3] }),
            bson::oid::ObjectId::from_bytes([0xAB; 12]).into(),
            Bson::Undefined,
            Bson::MinKey,
            Bson::MaxKey,
            Bson::RegularExpression(bson::Regex {
                pattern: "a\"b".try_into().unwrap(),
                options: "i".try_into().unwrap(),
            }),
            Bson::JavaScriptCode("f()".into()),
            Bson::Symbol("s".into()),
            Bson::JavaScriptCodeWithScope(scope),
            Bson::Timestamp(bson::Timestamp { time: 9, increment: 3 }),
            Bson::Decimal128("1.50E+3".parse().unwrap()),
            Bson::Int64(i64::MIN),
            Bson::Null,
        ];
        for value in values {
            let text = written(value.clone());
            let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(serde_json::from_value::<Bson>(json).unwrap(), value, "{text}");
        }
        assert_eq!(written(f64::NAN), r#"{"$numberDouble":"NaN"}"#);
    }

    #[test]
    fn what_jsonb_would_not_give_back_is_kept_as_bson() {
        let deep = (0..150).fold(Bson::Int32(1), |inner, _| Bson::Array(vec![inner]));
        for value in [Bson::from("a\0b"), Bson::Document(doc! {"$oid": "no id"}), deep] {
            let text = written(value.clone());
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let bytes = BASE64.decode(json["$bson"].as_str().expect(&text)).unwrap();
            let back = bson::Document::from_reader(bytes.as_slice()).unwrap();
            assert_eq!(back.get(""), Some(&value));
        }
    }

    #[test]
    fn the_old_binary_is_written_without_its_own_length() {
        let old = |bytes: &[u8]| {
            let length = u8::try_from(bytes.len()).unwrap();
            let document = [&[13 + length, 0, 0, 0, 5, b'o', 0, length, 0, 0, 0, 2][..], bytes, &[0]].concat();
            let element = RawDoc::new(&document).unwrap().elements().next().unwrap().unwrap();
            let mut out = Vec::new();
            RawJson::new(element).write_to(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(old(b"\x03\0\0\0abc"), r#"{"$binary":{"base64":"YWJj","subType":"02"}}"#);
        // A length that is not its own would be lost.
        for odd in [&b"\x04\0\0\0abc"[..], b"\xff\xff\xff\xffabc", b"ab"] {
            assert!(old(odd).starts_with("{\"$bson\":"), "{odd:?}");
        }
    }

    #[test]
    fn duplicate_keys_are_kept_as_bson() {
        let bytes = doc! {"v": {"a": 1, "b": 2}}.to_vec().unwrap();
        let at = bytes.iter().position(|b| *b == b'b').unwrap();
        let mut bytes = bytes;
        bytes[at] = b'a';
        let element = RawDoc::new(&bytes).unwrap().elements().next().unwrap().unwrap();
        let mut out = Vec::new();
        RawJson::new(element).write_to(&mut out);
        assert!(out.starts_with(b"{\"$bson\":"));
    }
}
