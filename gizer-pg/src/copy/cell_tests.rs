//! Cells of gizer's dialect, from documents to bytes.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc, oid::ObjectId};
use gizer_flatten::{Cell, Decimal, DocumentBatch, Extra, Flattener, Row, RowSink};
use gizer_schema::{Layout, TableId, file};
use proptest::prelude::*;

use super::CopyEncoder;
use super::decode::{Tuple, array, numeric, tuples};

fn layout(fields: &str) -> Layout {
    let schema = format!(r#"{{ "$gizer": 1, "collection": "things", "fields": {fields} }}"#);
    Layout::new(&file::parse("things", &schema).unwrap()).unwrap()
}

/// The tuples of each table of a document's rows.
fn encoded(layout: &Layout, document: &Document) -> Vec<Vec<Tuple>> {
    let batch = DocumentBatch::from_sequence(document.to_vec().unwrap().into()).unwrap();
    let mut encoder = CopyEncoder::new(layout);
    Flattener::new(layout).flatten(batch.documents(), &mut encoder, |_, rejection| panic!("{rejection:?}"));
    let unit = encoder.take();
    let of_table = |i| unit.tables.iter().find(|data| data.table == TableId(i));
    (0..layout.tables.len()).map(|i| of_table(i).map_or_else(Vec::new, |data| tuples(&data.bytes))).collect()
}

/// What comes of `value` in the column `v`, with an integer for `_id`.
fn encoded_value(ty: &str, value: impl Into<Bson>) -> Option<Vec<u8>> {
    let layout = layout(&format!(r#"{{ "_id": "INT", "v": {ty} }}"#));
    let tables = encoded(&layout, &doc! {"_id": 1, "v": value.into()});
    let [tuple] = &tables[0][..] else { panic!("{tables:?}") };
    let [id, v, extra] = &tuple[..] else { panic!("{tuple:?}") };
    // A null leaves its mark.
    assert_eq!((id, extra.is_some()), (&Some(vec![0, 0, 0, 1]), v.is_none()));
    v.clone()
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

/// A number of this sign, these digits and this power of ten, written out: nothing but text.
fn written_out(negative: bool, digits: &str, exponent: i32) -> String {
    let digits = digits.trim_start_matches('0');
    let zeros = "0".repeat(exponent.unsigned_abs() as usize);
    let places = if exponent < 0 { zeros.len() } else { 0 };
    let all = if exponent < 0 { format!("{zeros}{digits}") } else { format!("{digits}{zeros}") };
    let (whole, fraction) = all.split_at(all.len() - places);
    let whole = whole.trim_start_matches('0');
    let minus = if negative && !digits.is_empty() { "-" } else { "" };
    let point = if places == 0 { "" } else { "." };
    format!("{minus}{}{point}{fraction}", if whole.is_empty() { "0" } else { whole })
}

#[test]
fn decimals_keep_value_and_scale() {
    let nines = "9".repeat(34);
    let cases = [
        ("0", "0"),
        ("-0", "0"),
        ("1.50", "1.50"),
        ("-1.50", "-1.50"),
        ("0E-10", "0.0000000000"),
        ("-0.00", "0.00"),
        ("0E+300", "0"),
        ("2E+3", "2000"),
        ("1E+4", "10000"),
        ("10000", "10000"),
        ("9999", "9999"),
        ("0.0001", "0.0001"),
        ("0.00001", "0.00001"),
        ("123456789.000000", "123456789.000000"),
        ("NaN", "NaN"),
    ];
    for (value, expected) in cases {
        let bytes = encoded_value(r#""DECIMAL""#, decimal(value)).unwrap();
        assert_eq!(numeric(&bytes), expected, "{value}");
    }
    for (digits, exponent) in [(nines.as_str(), 6111), (&nines, -6176), ("1", 6111), ("1", -6176), ("0", -6176)] {
        let bytes = encoded_value(r#""DECIMAL""#, decimal(&format!("-{digits}E{exponent}"))).unwrap();
        assert_eq!(numeric(&bytes), written_out(true, digits, exponent));
    }
    assert_eq!(numeric(&encoded_value(r#""DECIMAL""#, i64::MIN).unwrap()), "-9223372036854775808");
    assert_eq!(numeric(&encoded_value(r#""DECIMAL""#, 0.375).unwrap()), "0.375");
    assert_eq!(encoded_value(r#""DECIMAL""#, Bson::Null), None);
    // The layout of the bytes, once by hand: 12345.678 is 1, 2345, 6780.
    let expected = [0, 3, 0, 1, 0x40, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c];
    assert_eq!(encoded_value(r#""DECIMAL""#, decimal("-12345.678")).unwrap(), expected);
    assert_eq!(encoded_value(r#""DECIMAL""#, decimal("NaN")).unwrap(), [0, 0, 0, 0, 0xC0, 0, 0, 0]);
}

#[test]
fn bytes_ids_and_keys() {
    let binary = |subtype, bytes: &[u8]| Binary { subtype, bytes: bytes.to_vec() };
    let bytes = [0, 0xff, b'\\', 1];
    assert_eq!(encoded_value(r#""BINARY""#, binary(BinarySubtype::Generic, &bytes)), Some(bytes.to_vec()));
    assert_eq!(encoded_value(r#""BINARY""#, binary(BinarySubtype::Generic, &[])), Some(vec![]));
    let uuid: Vec<u8> = (0xf0..=0xff).collect();
    assert_eq!(encoded_value(r#""UUID""#, binary(BinarySubtype::Uuid, &uuid)), Some(uuid.clone()));
    let oid = ObjectId::from_bytes([0xab; 12]);
    assert_eq!(encoded_value(r#""OBJECTID""#, oid), Some(b"abababababababababababab".to_vec()));

    let layout = layout(r#"{ "_id": "KEY", "l": ["INT"] }"#);
    let tables = encoded(&layout, &doc! {"_id": {"b": 1.0, "a": "x"}, "l": [5]});
    let key = Some(br#"{s"b":n1,s"a":s"x"}"#.to_vec());
    assert_eq!(tables[0][0][0], key);
    assert_eq!(tables[1], [vec![Some(vec![0, 0, 0, 5]), key, Some(vec![0, 0, 0, 0, 0, 0, 0, 1]), None]]);
}

#[test]
fn arrays_of_every_type() {
    let list = |ty: &str| format!(r#"{{ "$as": "array", "$type": "{ty}" }}"#);
    let uuid = Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] };
    let generic = Binary { subtype: BinarySubtype::Generic, bytes: vec![7; 3] };
    let cases: Vec<(&str, Bson, i32, Vec<u8>)> = vec![
        ("STRING", "ü".into(), 25, "ü".into()),
        ("OBJECTID", ObjectId::from_bytes([0xcd; 12]).into(), 25, "cdcdcdcdcdcdcdcdcdcdcdcd".into()),
        ("INT", 1i32.into(), 23, vec![0, 0, 0, 1]),
        ("BIGINT", 1i64.into(), 20, vec![0, 0, 0, 0, 0, 0, 0, 1]),
        ("DOUBLE", 1.0.into(), 701, vec![0x3f, 0xf0, 0, 0, 0, 0, 0, 0]),
        ("BOOLEAN", true.into(), 16, vec![1]),
        ("TIMESTAMP", bson::DateTime::from_millis(946_684_800_000).into(), 1184, vec![0; 8]),
        ("DECIMAL", decimal("7"), 1700, vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 7]),
        ("BINARY", generic.into(), 17, vec![7; 3]),
        ("UUID", uuid.into(), 2950, vec![7; 16]),
    ];
    for (ty, value, oid, bytes) in cases {
        let elements = vec![value.clone(), Bson::Null, value.clone()];
        let came = array(&encoded_value(&list(ty), elements).unwrap());
        assert_eq!(came, (oid, vec![Some(bytes.clone()), None, Some(bytes.clone())]), "{ty}");
        assert_eq!(array(&encoded_value(&list(ty), vec![value]).unwrap()), (oid, vec![Some(bytes)]), "{ty}");
        assert_eq!(array(&encoded_value(&list(ty), vec![Bson::Null]).unwrap()), (oid, vec![None]), "{ty}");
        assert_eq!(encoded_value(&list(ty), Bson::Array(vec![])).map(|bytes| array(&bytes)), Some((oid, vec![])));
    }
}

#[test]
fn what_does_not_fit_comes_last() {
    let layout = layout(r#"{ "_id": "INT", "l": [{ "n": "INT" }], "s": "STRING" }"#);
    let document = doc! {"_id": 1, "s": 5, "more/~": "\u{1}\"\\", "l": [{"n": 1}, {"n": "x"}, "stray"]};
    let tables = encoded(&layout, &document);
    let extra = |tuple: &Tuple| {
        let jsonb = tuple.last().unwrap().clone()?;
        assert_eq!(jsonb[0], 1, "jsonb's version");
        Some(serde_json::from_slice::<serde_json::Value>(&jsonb[1..]).unwrap())
    };
    let root = serde_json::json!({"/s": {"$numberInt": "5"}, "/more~1~0": "\u{1}\"\\"});
    assert_eq!((tables[0][0].len(), extra(&tables[0][0])), (3, Some(root)));
    let expected = [None, Some(serde_json::json!({"/n": "x"})), Some(serde_json::json!({"": "stray"}))];
    let came: Vec<Option<serde_json::Value>> = tables[1].iter().map(extra).collect();
    assert_eq!(came, expected);
}

fn encode_cell(cell: Cell<'_>) -> Vec<u8> {
    let mut encoder = CopyEncoder::new(&layout(r#"{ "_id": "DECIMAL" }"#));
    encoder.begin_document();
    encoder.row(Row { table: TableId(0), cells: &[cell], extra: Extra::default() });
    tuples(&encoder.take().tables[0].bytes)[0][0].clone().unwrap()
}

proptest! {
    #[test]
    fn any_decimal_is_written_exactly(
        negative: bool,
        digits in prop_oneof!["[0-9]{1,34}", "[1-9]0{0,33}", "0{1,30}[0-9]"],
        exponent in prop_oneof![-6176..=6111, -40..=40],
    ) {
        let number = Decimal { negative, digits: digits.parse().unwrap(), exponent };
        prop_assert_eq!(numeric(&encode_cell(Cell::Numeric(number))), written_out(negative, &digits, exponent));
    }

    #[test]
    fn no_digits_are_too_many(digits: u128, exponent in -6176..=6111) {
        let number = Decimal { negative: false, digits, exponent };
        let expected = written_out(false, &digits.to_string(), exponent);
        prop_assert_eq!(numeric(&encode_cell(Cell::Numeric(number))), expected);
    }
}
