//! Whether a stored field gives back a value, without making a value of it.

use gizer_schema::ColumnType;
use gizer_schema::raw::{Element, Kind, Value};

use super::decode::{ListElements, millis};
use super::extended::{self, is_hex};
use super::number::{Number, same_decimal_as, same_double};
use super::same::Numbers;
use crate::numeric::Numeric;

/// Whether a field of a column of this type surely comes back as this value. What is rare it does not know.
pub(super) fn holds(ty: ColumnType, numbers: Numbers, field: &[u8], element: &Element<'_>) -> bool {
    sure(ty, numbers, field, element) == Some(true)
}

fn sure(ty: ColumnType, numbers: Numbers, field: &[u8], element: &Element<'_>) -> Option<bool> {
    let bytes = element.bytes;
    Some(match (ty, element.kind) {
        (ColumnType::Text, Kind::String) => element.string()? == field,
        (ColumnType::ObjectId, Kind::ObjectId) => is_hex(field, bytes),
        (ColumnType::SmallInt, Kind::Int32) => {
            i32::from(i16::from_be_bytes(field.try_into().ok()?)).to_le_bytes() == *bytes
        }
        (ColumnType::Integer, Kind::Int32) => i32::from_be_bytes(field.try_into().ok()?).to_le_bytes() == *bytes,
        (ColumnType::BigInt, Kind::Int64) => i64::from_be_bytes(field.try_into().ok()?).to_le_bytes() == *bytes,
        (ColumnType::Double, Kind::Double) => {
            let (stored, number) =
                (f64::from_be_bytes(field.try_into().ok()?), f64::from_le_bytes(bytes.try_into().ok()?));
            same_double(stored, number) || (numbers == Numbers::ByValue && stored == number)
        }
        (ColumnType::Boolean, Kind::Boolean) => matches!((field, bytes), ([0], [0]) | ([1], [1])),
        (ColumnType::TimestampTz, Kind::DateTime) => millis(field)?.to_le_bytes() == *bytes,
        (ColumnType::Bytea, Kind::Binary) => bytes.get(4..)?.split_first()? == (&0, field),
        (ColumnType::Uuid, Kind::Binary) => field.len() == 16 && bytes.get(4..)?.split_first()? == (&4, field),
        (ColumnType::Json, _) => extended::is(field.strip_prefix(&[1])?, element),
        (ColumnType::Key, _) => numbers == Numbers::ByValue && holds_key(field, element)?,
        (ColumnType::Numeric, _) => holds_numeric(field, numbers, element)?,
        (ColumnType::List(scalar), Kind::Array) => {
            let Value::Array(array) = element.value().ok()? else { return None };
            let (mut stored, mut elements) = (ListElements::of(field)?, array.elements());
            loop {
                let (field, element) = match (stored.next(), elements.next()) {
                    (Some(field), Some(element)) => (field?, element.ok()?),
                    (None, None) => return Some(true),
                    _ => return Some(false),
                };
                let same = match field {
                    None => element.kind == Kind::Null,
                    Some(field) => sure(scalar.into(), numbers, field, &element)?,
                };
                if !same {
                    return Some(false);
                }
            }
        }
        // A number of another type.
        _ if numbers == Numbers::ByValue => number(ty, field)? == Number::of(element.value().ok()?)?,
        _ => return None,
    })
}

fn number(ty: ColumnType, field: &[u8]) -> Option<Number> {
    Some(match ty {
        ColumnType::SmallInt => Number::whole(i16::from_be_bytes(field.try_into().ok()?).into()),
        ColumnType::Integer => Number::whole(i32::from_be_bytes(field.try_into().ok()?).into()),
        ColumnType::BigInt => Number::whole(i64::from_be_bytes(field.try_into().ok()?)),
        ColumnType::Double => Number::double(f64::from_be_bytes(field.try_into().ok()?)),
        _ => return None,
    })
}

/// A number comes back with the scale that it is shown with, if 34 digits are enough for that.
fn holds_numeric(field: &[u8], numbers: Numbers, element: &Element<'_>) -> Option<bool> {
    let Numeric::Finite { negative, digits, exponent, scale } = Numeric::decode(field)? else { return None };
    let shown = 10u128.checked_pow(u32::try_from(exponent + i32::from(scale)).ok()?)?;
    let digits = digits.checked_mul(shown).filter(|digits| *digits < 10u128.pow(34))?;
    let exponent = -i32::from(scale);
    Some(match (numbers, element.value().ok()?) {
        (Numbers::ByValue, value) => Number::decimal(negative, digits, exponent) == Number::of(value)?,
        (Numbers::Exactly, Value::Decimal128(bytes)) => same_decimal_as(negative, digits, exponent, bytes),
        (Numbers::Exactly, _) => false,
    })
}

/// The tagged form of the most usual ids.
fn holds_key(form: &[u8], element: &Element<'_>) -> Option<bool> {
    let (tag, rest) = form.split_first()?;
    Some(match (tag, element.value().ok()?) {
        (b'o', Value::ObjectId(id)) => is_hex(rest, &id),
        (b's', Value::String(text)) if !text.contains(&b'\\') => text == rest,
        (b'n', value) => {
            let text = std::str::from_utf8(rest).ok()?;
            let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
            // Fewer than 10^36, which is no more than a whole number of some type or a decimal128 of few digits.
            let exponent = exponent.parse().ok().filter(|exponent| (0..=17).contains(exponent))?;
            let digits: i64 = digits.parse().ok().filter(|_| digits.len() <= 18)?;
            Number::decimal(digits < 0, digits.unsigned_abs().into(), exponent) == Number::of(value)?
        }
        _ => return None,
    })
}
