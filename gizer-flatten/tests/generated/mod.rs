//! Random documents of every BSON type, with names that need care; and when two documents are the same.
//!
//! The tests against real servers include this file too.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};
use proptest::prelude::*;

fn leaf() -> impl Strategy<Value = Bson> {
    let text = prop_oneof!["[a-c~/\"\\\\ü]{0,4}", Just("a\0b".to_owned()), Just(String::new())];
    let double = prop_oneof![any::<f64>(), Just(0.5), Just(-0.0), Just(2.0), Just(f64::NAN), Just(f64::INFINITY)];
    let decimal = prop_oneof![
        Just("1.50"),
        Just("-0"),
        Just("NaN"),
        Just("Infinity"),
        Just("9999999999999999999999999999999999E6111"),
        Just("1E-6176"),
        Just("0.1"),
        Just("7"),
        Just("12E+5"),
    ];
    prop_oneof![
        any::<i32>().prop_map(Bson::from),
        prop_oneof![any::<i64>(), -3i64..3].prop_map(Bson::from),
        double.prop_map(Bson::from),
        decimal.prop_map(|text| Bson::Decimal128(text.parse().unwrap())),
        text.prop_map(Bson::from),
        any::<bool>().prop_map(Bson::from),
        prop_oneof![any::<i64>(), -5i64..5].prop_map(|ms| bson::DateTime::from_millis(ms).into()),
        any::<[u8; 12]>().prop_map(|id| bson::oid::ObjectId::from_bytes(id).into()),
        (prop_oneof![Just(0u8), Just(2), Just(4), Just(5), Just(0x80)], prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(subtype, bytes)| Binary { subtype: BinarySubtype::from(subtype), bytes }.into()),
        any::<[u8; 16]>().prop_map(|id| Binary { subtype: BinarySubtype::Uuid, bytes: id.to_vec() }.into()),
        Just(Bson::Null),
        Just(Bson::Undefined),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        Just(Bson::Symbol("sym".into())),
        Just(Bson::JavaScriptCode("f()".into())),
        Just(Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code: "g".into(), scope: doc! {"$x": 1} })),
        any::<(u32, u32)>().prop_map(|(time, increment)| Bson::Timestamp(bson::Timestamp { time, increment })),
        Just(Bson::RegularExpression(bson::Regex {
            pattern: "a.b".try_into().unwrap(),
            options: "i".try_into().unwrap()
        })),
    ]
}

fn name() -> impl Strategy<Value = String> {
    // Names that collide once mapped, and names that need care.
    prop_oneof![8 => "[a-d]", 1 => "_[ab]", 1 => "a_[bc]", 1 => "[$./~]{1,2}x?", 1 => Just(String::new()), 1 => Just("idx".to_owned())]
}

fn value() -> impl Strategy<Value = Bson> {
    leaf().prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Bson::from),
            prop::collection::btree_map(name(), inner, 0..5).prop_map(|m| Bson::Document(m.into_iter().collect())),
        ]
    })
}

fn id() -> impl Strategy<Value = Bson> {
    prop_oneof![
        6 => any::<i32>().prop_map(Bson::from),
        1 => value().prop_filter("MongoDB takes no array, regex or undefined as _id", |v| {
            !matches!(v, Bson::Array(_) | Bson::RegularExpression(_) | Bson::Undefined)
        }),
        1 => Just(Bson::from("x".repeat(1200))),
    ]
}

pub(crate) fn document() -> impl Strategy<Value = Document> {
    (id(), prop::collection::btree_map(name(), value(), 0..6)).prop_map(|(id, fields)| {
        std::iter::once(("_id".to_owned(), id)).chain(fields.into_iter().filter(|(name, _)| name != "_id")).collect()
    })
}

/// Whether two values are the same but for the order of fields and, unless `exact`, the types of equal numbers.
pub(crate) fn same(a: &Bson, b: &Bson, exact: bool) -> bool {
    match (a, b) {
        (Bson::Document(a), Bson::Document(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b, exact)))
        }
        (Bson::Array(a), Bson::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, exact)),
        (Bson::Double(a), Bson::Double(b)) if exact => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        (a, b) if a == b => true,
        (a, b) if !exact => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
        // The scale of a decimal128 is kept, and so the text of it.
        _ => false,
    }
}

/// The exact value of a number as text: no trailing zeros, no sign of zero.
fn number(value: &Bson) -> Option<String> {
    let text = match value {
        Bson::Int32(n) => n.to_string(),
        Bson::Int64(n) => n.to_string(),
        Bson::Double(n) if n.is_finite() => format!("{n:.1074}"),
        Bson::Double(n) => n.to_string().replace("inf", "Infinity"),
        Bson::Decimal128(n) => plain(&n.to_string())?,
        _ => return None,
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    Some(if text == "-0" { "0".to_owned() } else { text })
}

/// A decimal128's text without its exponent.
fn plain(text: &str) -> Option<String> {
    let Some((digits, exponent)) = text.split_once('E') else { return Some(text.to_owned()) };
    let exponent: i64 = exponent.parse().ok()?;
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let point = whole.len() as i64 + exponent;
    let moved = if point <= 0 {
        format!("0.{}{all}", "0".repeat(point.unsigned_abs() as usize))
    } else if point as usize >= all.len() {
        format!("{all}{}", "0".repeat(point as usize - all.len()))
    } else {
        format!("{}.{}", &all[..point as usize], &all[point as usize..])
    };
    let trimmed = moved.trim_start_matches('0');
    let trimmed =
        if trimmed.is_empty() || trimmed.starts_with('.') { format!("0{trimmed}") } else { trimmed.to_owned() };
    Some(format!("{sign}{trimmed}"))
}
