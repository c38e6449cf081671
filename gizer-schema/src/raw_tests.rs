//! The reader against what the `bson` crate writes.

use super::*;
use bson::{Bson, doc, oid::ObjectId, spec::BinarySubtype};

fn every_kind() -> bson::Document {
    doc! {
        "double": 1.5, "string": "a\0b", "document": {"x": 1}, "array": [1, "two"],
        "binary": Bson::Binary(bson::Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2] }),
        "undefined": Bson::Undefined, "oid": ObjectId::from_bytes([7; 12]), "bool": true,
        "date": bson::DateTime::from_millis(-5), "null": Bson::Null,
        "regex": Bson::RegularExpression(bson::Regex { pattern: "a.b".try_into().unwrap(), options: "i".try_into().unwrap() }),
        "js": Bson::JavaScriptCode("f()".into()), "symbol": Bson::Symbol("s".into()),
        "scope": Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code: "g()".into(), scope: doc!{"y": 2} }),
        "int": 5i32, "ts": Bson::Timestamp(bson::Timestamp { time: 9, increment: 3 }), "long": -7i64,
        "decimal": "1.50".parse::<bson::Decimal128>().unwrap(), "min": Bson::MinKey, "max": Bson::MaxKey,
    }
}

#[test]
fn the_first_zero_is_found_wherever_it_stands() {
    for length in 0..30 {
        let mut bytes = vec![1; length];
        assert_eq!(first_zero(&bytes), None);
        for at in (0..length).rev() {
            bytes[at] = 0;
            assert_eq!(first_zero(&bytes), Some(at), "of {length}");
            // What a borrow would mark, and what has its high bit set.
            bytes[at] = if at % 2 == 0 { 1 } else { 0x80 };
        }
    }
}

#[test]
fn every_kind_is_walked_and_decoded() {
    let bytes = every_kind().to_vec().unwrap();
    let raw = RawDoc::new(&bytes).unwrap();
    let seen: Vec<(String, Kind)> = raw
        .elements()
        .map(|e| e.unwrap())
        .map(|e| {
            e.value().unwrap();
            (String::from_utf8(e.name.to_vec()).unwrap(), e.kind)
        })
        .collect();
    let expected: Vec<(String, Kind)> =
        every_kind().iter().map(|(k, v)| (k.clone(), Kind::from_tag(v.element_type() as u8).unwrap())).collect();
    assert_eq!(seen, expected);
    assert_eq!(raw.get(b"string").unwrap().unwrap().value().unwrap(), Value::String(b"a\0b"));
    assert_eq!(raw.get(b"ts").unwrap().unwrap().value().unwrap(), Value::Timestamp { seconds: 9, increment: 3 });
    assert_eq!(raw.get(b"regex").unwrap().unwrap().value().unwrap(), Value::Regex { pattern: b"a.b", options: b"i" });
    assert!(matches!(raw.get(b"scope").unwrap().unwrap().value().unwrap(), Value::CodeWithScope { code: b"g()", .. }));
    assert!(raw.get(b"absent").unwrap().is_none());
}

#[test]
fn kinds_and_tags_agree() {
    for (i, kind) in Kind::ALL.iter().copied().enumerate() {
        assert_eq!(kind.index(), i);
        assert_eq!(Kind::from_tag(kind as u8), Some(kind));
    }
    assert_eq!(Kind::from_tag(0x14), None);
}

/// Every truncation and every single changed byte either walks or is an error, and never panics.
#[test]
fn damaged_bytes_never_panic() {
    fn walk(doc: RawDoc<'_>) {
        for element in doc.elements() {
            let Ok(element) = element else { return };
            match element.value() {
                Ok(Value::Document(d) | Value::Array(d)) => walk(d),
                Ok(Value::CodeWithScope { scope, .. }) => walk(scope),
                _ => {}
            }
        }
    }
    let bytes = every_kind().to_vec().unwrap();
    for end in 0..bytes.len() {
        assert!(RawDoc::new(&bytes[..end]).is_err(), "a document cut at {end} was taken");
    }
    for at in 0..bytes.len() {
        for change in [0x00, 0x01, 0x7F, 0x80, 0xFF, 0x0F, 0x05] {
            let mut damaged = bytes.clone();
            damaged[at] = change;
            if let Ok(doc) = RawDoc::new(&damaged) {
                walk(doc);
            }
        }
    }
}

#[test]
fn undecodable_names_and_text_are_given_as_bytes() {
    let mut bytes = doc! {"ab": "cd"}.to_vec().unwrap();
    let at = bytes.iter().position(|b| *b == b'a').unwrap();
    bytes[at] = 0xFF;
    let at = bytes.iter().position(|b| *b == b'c').unwrap();
    bytes[at] = 0xFE;
    let element = RawDoc::new(&bytes).unwrap().elements().next().unwrap().unwrap();
    assert_eq!(element.name, b"\xFFb");
    assert_eq!(element.value().unwrap(), Value::String(b"\xFEd"));
}
