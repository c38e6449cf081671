//! Which values fit which column, and how they come back.
//!
//! | column | takes |
//! |---|---|
//! | `STRING` | string that is UTF-8 without NUL |
//! | `TINYINT`, `INT`, `BIGINT` | int32, int64, double and decimal128 whose value is a whole number in range |
//! | `DOUBLE` | double; int32, int64 and decimal128 that a double holds exactly |
//! | `DECIMAL` | decimal128 but ±∞; int32, int64; double whose exact value has at most 34 digits |
//! | `BOOLEAN` | boolean |
//! | `TIMESTAMP` | date within PostgreSQL's range |
//! | `OBJECTID` | ObjectId |
//! | `BINARY` | binary of subtype 0 |
//! | `UUID` | binary of subtype 4 with 16 bytes |
//! | `JSON` | everything |
//! | `KEY` | everything |
//! | array in one column | an array of which every element is null or fits |
//!
//! Null fits everywhere. Other values are counted: NULL in the classic dialect, kept in `_extra` in
//! dialect `gizer`.

use gizer_schema::raw::{Element, Kind, Malformed, Value};
use gizer_schema::{ColumnType, TIMESTAMP_MILLIS};

use crate::decimal::{Decimal, Decimal128, exact_double};
use crate::extjson::RawJson;
use crate::key::TaggedKey;
use crate::list::RawList;
use crate::rebuild::value::BuiltValue;
use crate::rebuild::{StoredCell, extended};
use crate::row::Cell;
use crate::tally::Unfit;
use crate::text::Text;

/// The cell of a value of its column's usual type; `None` for others, see [`fit`].
#[inline]
pub(crate) fn usual<'a>(ty: ColumnType, element: &Element<'a>) -> Option<Cell<'a>> {
    let bytes = element.bytes;
    Some(match (ty, element.kind) {
        (ColumnType::Text, Kind::String) => Cell::Text(Text::new(element.string()?).ok()?),
        (ColumnType::Integer, Kind::Int32) => Cell::Integer(i32::from_le_bytes(bytes.try_into().ok()?)),
        (ColumnType::Double, Kind::Double) => Cell::Double(f64::from_le_bytes(bytes.try_into().ok()?)),
        (ColumnType::BigInt, Kind::Int64) => Cell::BigInt(i64::from_le_bytes(bytes.try_into().ok()?)),
        (ColumnType::ObjectId, Kind::ObjectId) => Cell::ObjectId(bytes.try_into().ok()?),
        (ColumnType::Boolean, Kind::Boolean) if *bytes == [0] => Cell::Boolean(false),
        (ColumnType::Boolean, Kind::Boolean) if *bytes == [1] => Cell::Boolean(true),
        (ColumnType::TimestampTz, Kind::DateTime) => {
            let millis = i64::from_le_bytes(bytes.try_into().ok()?);
            Cell::Timestamp(TIMESTAMP_MILLIS.contains(&millis).then_some(millis)?)
        }
        _ => return None,
    })
}

/// The cell for `element` in a column of type `ty`, or why it does not fit.
///
/// # Errors
/// [`Malformed`] if the value's bytes do not match its type.
pub(crate) fn fit<'a>(ty: ColumnType, element: &Element<'a>) -> Result<Result<Cell<'a>, Unfit>, Malformed> {
    let kind = element.kind;
    let unfit = Err(Unfit::Kind(kind));
    Ok(match (ty, element.value()?) {
        (ColumnType::Key, _) => Ok(Cell::Key(TaggedKey::new(*element)?.0)),
        (_, Value::Null) => Ok(Cell::Null),
        (ColumnType::Text, Value::String(bytes)) => Text::new(bytes).map(Cell::Text),
        (ColumnType::ObjectId, Value::ObjectId(id)) => Ok(Cell::ObjectId(id)),
        (ColumnType::Integer, Value::Int32(number)) => Ok(Cell::Integer(number)),
        (ColumnType::BigInt, Value::Int64(number)) => Ok(Cell::BigInt(number)),
        (ColumnType::BigInt, Value::Int32(number)) => Ok(Cell::BigInt(number.into())),
        (ColumnType::Double, Value::Double(number)) => Ok(Cell::Double(number)),
        (ColumnType::Double, value) => exactly(value).map_or(unfit, |number| Ok(Cell::Double(number))),
        (ColumnType::Boolean, Value::Boolean(value)) => Ok(Cell::Boolean(value)),
        (ColumnType::TimestampTz, Value::DateTime(millis)) => {
            if TIMESTAMP_MILLIS.contains(&millis) {
                Ok(Cell::Timestamp(millis))
            } else {
                Err(Unfit::TimeOutOfRange)
            }
        }
        (ColumnType::Numeric, Value::Decimal128(bytes)) => match Decimal128::decode(bytes) {
            Decimal128::Finite(number) => Ok(Cell::Numeric(number)),
            Decimal128::NaN => Ok(Cell::NumericNaN),
            Decimal128::Infinite { .. } => unfit,
        },
        (ColumnType::Numeric, Value::Int32(number)) => Ok(Cell::Numeric(Decimal::from_integer(number.into()))),
        (ColumnType::Numeric, Value::Int64(number)) => Ok(Cell::Numeric(Decimal::from_integer(number))),
        (ColumnType::Numeric, Value::Double(number)) => {
            Decimal::from_double(number).map_or(unfit, |number| Ok(Cell::Numeric(number)))
        }
        (ColumnType::Bytea, Value::Binary { subtype: 0, bytes }) => Ok(Cell::Bytes(bytes)),
        (ColumnType::Uuid, Value::Binary { subtype: 4, bytes }) => {
            bytes.try_into().map_or(unfit, |uuid| Ok(Cell::Uuid(uuid)))
        }
        (ColumnType::Json, _) => Ok(Cell::Json(RawJson::new(*element))),
        (ColumnType::List(scalar), Value::Array(array)) => RawList::new(array, scalar)?.map(Cell::List),
        (ColumnType::SmallInt, value) => whole::<i16>(value).map_or(unfit, |n| Ok(Cell::SmallInt(n))),
        (ColumnType::Integer, value) => whole::<i32>(value).map_or(unfit, |n| Ok(Cell::Integer(n))),
        (ColumnType::BigInt, value) => whole::<i64>(value).map_or(unfit, |n| Ok(Cell::BigInt(n))),
        _ => unfit,
    })
}

/// The BSON type of a column's values when they come back; other types were converted.
pub(crate) fn own_kind(ty: ColumnType) -> Option<Kind> {
    match ty {
        ColumnType::Text => Some(Kind::String),
        ColumnType::Integer | ColumnType::SmallInt => Some(Kind::Int32),
        ColumnType::BigInt => Some(Kind::Int64),
        ColumnType::Double => Some(Kind::Double),
        ColumnType::Boolean => Some(Kind::Boolean),
        ColumnType::TimestampTz => Some(Kind::DateTime),
        ColumnType::ObjectId => Some(Kind::ObjectId),
        ColumnType::Numeric => Some(Kind::Decimal128),
        ColumnType::Bytea | ColumnType::Uuid => Some(Kind::Binary),
        // These keep any type.
        ColumnType::Json | ColumnType::Key | ColumnType::List(_) => None,
    }
}

/// Whether the column takes numbers of several types.
pub(crate) fn is_number(ty: ColumnType) -> bool {
    use ColumnType::{BigInt, Double, Integer, Numeric, SmallInt};
    matches!(ty, SmallInt | Integer | BigInt | Double | Numeric)
}

/// A cell as a MongoDB value; `None` if it is not of the column's type.
pub(crate) fn column_value(ty: ColumnType, cell: &StoredCell) -> Option<BuiltValue> {
    Some(match (ty, cell) {
        (ColumnType::Text, StoredCell::Text(text)) => BuiltValue::text(Kind::String, text)?,
        (ColumnType::ObjectId, StoredCell::Text(hex)) => {
            BuiltValue::raw(Kind::ObjectId, hex.parse::<bson::oid::ObjectId>().ok()?.bytes())
        }
        (ColumnType::SmallInt, StoredCell::SmallInt(number)) => {
            BuiltValue::raw(Kind::Int32, i32::from(*number).to_le_bytes())
        }
        (ColumnType::Integer, StoredCell::Integer(number)) => BuiltValue::raw(Kind::Int32, number.to_le_bytes()),
        (ColumnType::BigInt, StoredCell::BigInt(number)) => BuiltValue::raw(Kind::Int64, number.to_le_bytes()),
        (ColumnType::Double, StoredCell::Double(number)) => BuiltValue::raw(Kind::Double, number.to_le_bytes()),
        (ColumnType::Boolean, StoredCell::Boolean(value)) => BuiltValue::raw(Kind::Boolean, [u8::from(*value)]),
        (ColumnType::TimestampTz, StoredCell::Timestamp(millis)) => {
            BuiltValue::raw(Kind::DateTime, millis.to_le_bytes())
        }
        (ColumnType::Numeric, StoredCell::Numeric(text)) => {
            BuiltValue::raw(Kind::Decimal128, decimal128(text)?.bytes())
        }
        (ColumnType::Bytea, StoredCell::Bytes(bytes)) => BuiltValue::binary(0, bytes)?,
        (ColumnType::Uuid, StoredCell::Uuid(bytes)) => BuiltValue::binary(4, bytes)?,
        (ColumnType::Json, StoredCell::Json(json)) => extended::value(json)?,
        (ColumnType::List(element), StoredCell::List(cells)) => {
            let element = |cell: &StoredCell| match cell {
                StoredCell::Null => Some(BuiltValue::NULL),
                cell => column_value(element.into(), cell),
            };
            BuiltValue::Array(cells.iter().map(element).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// A `numeric` as PostgreSQL prints it: with more zeros than decimal128 holds.
fn decimal128(text: &str) -> Option<bson::Decimal128> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let digits = text.trim_end_matches('0');
    format!("{digits}E+{}", text.len() - digits.len()).parse().ok()
}

/// The number as an integer, if whole and in range.
fn whole<T: TryFrom<i128>>(value: Value<'_>) -> Option<T> {
    let number = match value {
        Value::Int32(number) => number.into(),
        Value::Int64(number) => number.into(),
        // Beyond 2^63 no column holds it; below, the cast of a whole double is exact.
        Value::Double(number) if number.trunc() == number && number.abs() <= 9.3e18 => number as i128,
        Value::Decimal128(bytes) => finite(bytes)?.whole()?,
        _ => return None,
    };
    T::try_from(number).ok()
}

/// The number as a double, if exact.
fn exactly(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Int32(number) => Some(number.into()),
        Value::Int64(number) => exact_double(number.into()),
        Value::Decimal128(bytes) => finite(bytes)?.double(),
        _ => None,
    }
}

fn finite(bytes: [u8; 16]) -> Option<Decimal> {
    match Decimal128::decode(bytes) {
        Decimal128::Finite(number) => Some(number),
        Decimal128::Infinite { .. } | Decimal128::NaN => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, doc};
    use gizer_schema::raw::RawDoc;

    fn fits(ty: ColumnType, value: impl Into<Bson>) -> Option<String> {
        let bytes = doc! {"v": value.into()}.to_vec().unwrap();
        let element = RawDoc::new(&bytes).unwrap().elements().next().unwrap().unwrap();
        fit(ty, &element).unwrap().ok().map(|cell| format!("{cell:?}"))
    }

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    #[test]
    fn numbers_that_a_column_holds_exactly_are_stored() {
        use ColumnType::{BigInt, Double, Integer, SmallInt};
        let yes: [(ColumnType, Bson, &str); 17] = [
            (Integer, 5i64.into(), "Integer(5)"),
            (Integer, 5.0.into(), "Integer(5)"),
            (Integer, decimal("5.00"), "Integer(5)"),
            (Integer, decimal("-2E+3"), "Integer(-2000)"),
            (BigInt, 5i32.into(), "BigInt(5)"),
            (BigInt, i64::MIN.into(), "BigInt(-9223372036854775808)"),
            (BigInt, (-9223372036854775808.0).into(), "BigInt(-9223372036854775808)"),
            (BigInt, decimal("9223372036854775807"), "BigInt(9223372036854775807)"),
            (SmallInt, 7i32.into(), "SmallInt(7)"),
            (Double, 5i32.into(), "Double(5.0)"),
            (Double, (1i64 << 53).into(), "Double(9007199254740992.0)"),
            (Double, decimal("0.5"), "Double(0.5)"),
            (Double, decimal("-1.375"), "Double(-1.375)"),
            (Double, decimal("-0.0"), "Double(-0.0)"),
            (Double, decimal("1E+22"), "Double(1e22)"),
            (Double, f64::NAN.into(), "Double(NaN)"),
            (Integer, Bson::Null, "Null"),
        ];
        for (ty, value, cell) in yes {
            assert_eq!(fits(ty, value.clone()).as_deref(), Some(cell), "{value} in {ty:?}");
        }
        let no: [(ColumnType, Bson); 15] = [
            (Integer, (1i64 << 31).into()),
            (Integer, 5.5.into()),
            (Integer, f64::NAN.into()),
            (Integer, true.into()),
            (Integer, "5".into()),
            (BigInt, 9223372036854775808.0.into()),
            (BigInt, f64::INFINITY.into()),
            (BigInt, decimal("9223372036854775808")),
            (BigInt, decimal("NaN")),
            (BigInt, decimal("1E+6000")),
            (SmallInt, 40_000i32.into()),
            (Double, ((1i64 << 53) + 1).into()),
            (Double, i64::MAX.into()),
            (Double, decimal("0.1")),
            (Double, decimal("Infinity")),
        ];
        for (ty, value) in no {
            assert_eq!(fits(ty, value.clone()), None, "{value} in {ty:?}");
        }
    }

    #[test]
    fn text_that_postgresql_has_no_form_for_is_named() {
        assert_eq!(Text::new(b"a\0b"), Err(Unfit::TextWithNul));
        assert_eq!(Text::new(b"\xFF"), Err(Unfit::TextNotUtf8));
        assert_eq!(Text::new("ü".as_bytes()), Ok("ü".into()));
    }

    #[test]
    fn times_fit_from_4713_bc_to_294276_ad() {
        let time = |millis| fits(ColumnType::TimestampTz, bson::DateTime::from_millis(millis));
        assert!(time(TIMESTAMP_MILLIS.start).is_some() && time(TIMESTAMP_MILLIS.end - 1).is_some());
        assert!(time(TIMESTAMP_MILLIS.start - 1).is_none() && time(TIMESTAMP_MILLIS.end).is_none());
        assert!(time(i64::MAX).is_none() && time(i64::MIN).is_none());
    }
}
