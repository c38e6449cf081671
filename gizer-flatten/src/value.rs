//! Which value fits which column.
//!
//! | column | takes |
//! |---|---|
//! | text | string that is UTF-8 without NUL |
//! | smallint, integer, bigint | int32, int64, double and decimal128 whose value is a whole number in range |
//! | double precision | double; int32, int64 and decimal128 that a double holds exactly |
//! | boolean | boolean |
//! | timestamptz | date within PostgreSQL's range |
//! | jsonb | everything |
//!
//! Null fits everywhere. Whatever else comes is NULL and counted.

use gizer_schema::ColumnType;
use gizer_schema::raw::{Element, Kind, Malformed, Value};

use crate::extjson::RawJson;
use crate::row::Cell;
use crate::tally::Unfit;

/// First and one past the last millisecond since 1970 of PostgreSQL's `timestamptz` ("Date/Time Types": 4713 BC to
/// 294276 AD; the bounds are those of its source, `MIN_TIMESTAMP` and `END_TIMESTAMP`).
pub const TIMESTAMP_MILLIS: std::ops::Range<i64> = -210_866_803_200_000..9_224_318_016_000_000;

/// The cell for `element` in a column of type `ty`, or why it does not fit.
///
/// # Errors
/// [`Malformed`] if the bytes of the value are not what its type says.
pub(crate) fn fit<'a>(ty: ColumnType, element: &Element<'a>) -> Result<Result<Cell<'a>, Unfit>, Malformed> {
    if ty == ColumnType::Json && element.kind != Kind::Null {
        // Checked here, because a value nested in it is written only when no error can be given any more.
        element.value()?;
        return Ok(Ok(Cell::Json(RawJson::new(*element))));
    }
    let kind = element.kind;
    let unfit = Err(Unfit::Kind(kind));
    Ok(match (ty, element.value()?) {
        (_, Value::Null) => Ok(Cell::Null),
        (ColumnType::Text, Value::String(bytes)) => text(bytes).map(Cell::Text),
        (ColumnType::Integer, Value::Int32(number)) => Ok(Cell::Integer(number)),
        (ColumnType::BigInt, Value::Int64(number)) => Ok(Cell::BigInt(number)),
        (ColumnType::BigInt, Value::Int32(number)) => Ok(Cell::BigInt(number.into())),
        (ColumnType::Double, Value::Double(number)) => Ok(Cell::Double(number)),
        (ColumnType::Double, value) => exact_double(value).map_or(unfit, |number| Ok(Cell::Double(number))),
        (ColumnType::Boolean, Value::Boolean(value)) => Ok(Cell::Boolean(value)),
        (ColumnType::TimestampTz, Value::DateTime(millis)) => {
            if TIMESTAMP_MILLIS.contains(&millis) {
                Ok(Cell::Timestamp(millis))
            } else {
                Err(Unfit::TimeOutOfRange)
            }
        }
        (ColumnType::SmallInt, value) => whole::<i16>(value).map_or(unfit, |n| Ok(Cell::SmallInt(n))),
        (ColumnType::Integer, value) => whole::<i32>(value).map_or(unfit, |n| Ok(Cell::Integer(n))),
        (ColumnType::BigInt, value) => whole::<i64>(value).map_or(unfit, |n| Ok(Cell::BigInt(n))),
        _ => unfit,
    })
}

fn text(bytes: &[u8]) -> Result<&str, Unfit> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unfit::TextNotUtf8)?;
    if bytes.contains(&0) { Err(Unfit::TextWithNul) } else { Ok(text) }
}

/// The number as an integer, if it is one and is in range.
fn whole<T: TryFrom<i128>>(value: Value<'_>) -> Option<T> {
    let number = match value {
        Value::Int32(number) => number.into(),
        Value::Int64(number) => number.into(),
        // Beyond 2^63 no column holds it; below, the cast of a whole double is exact.
        Value::Double(number) if number.trunc() == number && number.abs() <= 9.3e18 => number as i128,
        Value::Decimal128(bytes) => Decimal::decode(bytes)?.whole()?,
        _ => return None,
    };
    T::try_from(number).ok()
}

/// The number as a double, if none of it is lost.
fn exact_double(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Int32(number) => Some(number.into()),
        Value::Int64(number) => exact_from_integer(number.into()),
        Value::Decimal128(bytes) => Decimal::decode(bytes)?.double(),
        _ => None,
    }
}

fn exact_from_integer(number: i128) -> Option<f64> {
    let double = number as f64;
    (double as i128 == number).then_some(double)
}

/// A finite decimal128: `digits` × 10^`exponent`, negative if so.
#[derive(Debug, Clone, Copy)]
struct Decimal {
    negative: bool,
    digits: u128,
    exponent: i32,
}

impl Decimal {
    const MAX_DIGITS: u128 = 10u128.pow(34) - 1;

    /// IEEE 754-2008, decimal128 in binary integer encoding; `None` for NaN, infinities and what is not canonical.
    fn decode(bytes: [u8; 16]) -> Option<Decimal> {
        let bits = u128::from_le_bytes(bytes);
        let negative = bits >> 127 == 1;
        if (bits >> 125) & 0b11 == 0b11 {
            // Infinities, NaN, or digits beyond the largest that are written: 0 to some, so no exact value.
            return None;
        }
        let exponent = ((bits >> 113) & 0x3FFF) as i32 - 6176;
        let digits = bits & ((1 << 113) - 1);
        (digits <= Self::MAX_DIGITS).then_some(Decimal { negative, digits, exponent })
    }

    fn whole(self) -> Option<i128> {
        let mut digits = self.digits;
        let mut exponent = if digits == 0 { 0 } else { self.exponent };
        while exponent < 0 {
            if !digits.is_multiple_of(10) {
                return None;
            }
            digits /= 10;
            exponent += 1;
        }
        let scaled = 10u128.checked_pow(exponent.unsigned_abs()).and_then(|power| digits.checked_mul(power))?;
        let number = i128::try_from(scaled).ok()?;
        Some(if self.negative { -number } else { number })
    }

    fn double(self) -> Option<f64> {
        let sign = if self.negative { -1.0 } else { 1.0 };
        if self.digits == 0 {
            return Some(0.0 * sign);
        }
        if self.exponent >= 0 {
            return self.whole().and_then(exact_from_integer);
        }
        // digits / 10^k is a double only if 5^k divides the digits; what is left is divided by 2^k, which is exact.
        let mut digits = self.digits;
        let k = self.exponent.unsigned_abs();
        for _ in 0..k {
            if !digits.is_multiple_of(5) {
                return None;
            }
            digits /= 5;
        }
        let mut double = exact_from_integer(i128::try_from(digits).ok()?)?;
        for _ in 0..k {
            double /= 2.0;
        }
        Some(double * sign)
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
        assert_eq!(text(b"a\0b"), Err(Unfit::TextWithNul));
        assert_eq!(text(b"\xFF"), Err(Unfit::TextNotUtf8));
        assert_eq!(text("ü".as_bytes()), Ok("ü"));
    }

    #[test]
    fn times_fit_from_4713_bc_to_294276_ad() {
        let time = |millis| fits(ColumnType::TimestampTz, bson::DateTime::from_millis(millis));
        assert!(time(TIMESTAMP_MILLIS.start).is_some() && time(TIMESTAMP_MILLIS.end - 1).is_some());
        assert!(time(TIMESTAMP_MILLIS.start - 1).is_none() && time(TIMESTAMP_MILLIS.end).is_none());
        assert!(time(i64::MAX).is_none() && time(i64::MIN).is_none());
    }
}
