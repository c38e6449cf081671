//! One value of a row: as a document says it should be, and as PostgreSQL has it.

use std::error::Error;
use std::fmt;

use bson::Bson;
use serde_json::Value;
use tokio_postgres::types::{FromSql, Type as SqlType};

use super::decimal::Decimal;
use super::json;
use super::tables::Type;

/// From 1970, where MongoDB's times begin, to 2000, where PostgreSQL's do, in microseconds.
const MICROS_1970_TO_2000: i64 = 946_684_800_000_000;

/// PostgreSQL's times: from 4714-11-24 BC (Julian day 0) to before 294277-01-01, in milliseconds since 1970.
const MILLIS_OF_POSTGRES: std::ops::Range<i64> = -210_866_803_200_000..9_224_318_016_000_000;

/// Characters of a text that a report shows.
const SHOWN: usize = 200;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cell {
    /// SQL's NULL.
    Null,
    /// `text`.
    Text(String),
    /// `smallint`, `integer` or `bigint`.
    Integer(i64),
    /// The bits of a `double precision`: −0 is not 0, and NaN is NaN.
    Double(u64),
    /// `boolean`.
    Boolean(bool),
    /// `timestamp with time zone`: microseconds since 1970-01-01 UTC.
    Time(i64),
    /// `jsonb`.
    Json(Value),
    /// A value whose form the oracle does not know. No stored value equals it.
    Unknown(String),
}

impl Cell {
    /// What a column of this type holds for a value: NULL where the value does not fit.
    pub(super) fn of(ty: Type, value: &Bson) -> Self {
        let integer = |lowest: i64, highest: i64| {
            Decimal::of(value)
                .and_then(|number| number.whole())
                .filter(|number| (lowest..=highest).contains(number))
                .map_or(Self::Null, Self::Integer)
        };
        match (ty, value) {
            (_, Bson::Null) => Self::Null,
            (Type::Text, Bson::String(text)) if !text.contains('\0') => Self::Text(text.clone()),
            (Type::Boolean, Bson::Boolean(value)) => Self::Boolean(*value),
            (Type::Timestamp, Bson::DateTime(time)) if MILLIS_OF_POSTGRES.contains(&time.timestamp_millis()) => {
                Self::Time(time.timestamp_millis() * 1_000)
            }
            (Type::Double, Bson::Double(number)) => Self::Double(number.to_bits()),
            (Type::Double, Bson::Int32(number)) => Self::Double(f64::from(*number).to_bits()),
            (Type::Double, number) => Decimal::of(number)
                .and_then(|number| number.double())
                .map_or(Self::Null, |number| Self::Double(number.to_bits())),
            (Type::Integer | Type::BigInt, Bson::Int32(number)) => Self::Integer((*number).into()),
            (Type::BigInt, Bson::Int64(number)) => Self::Integer(*number),
            (Type::SmallInt, _) => integer(i16::MIN.into(), i16::MAX.into()),
            (Type::Integer, _) => integer(i32::MIN.into(), i32::MAX.into()),
            (Type::BigInt, _) => integer(i64::MIN, i64::MAX),
            (Type::Json, value) => json::canonical(value).map_or_else(|| Self::Unknown(value.to_string()), Self::Json),
            (Type::Text | Type::Boolean | Type::Timestamp, _) => Self::Null,
        }
    }

    /// The value as PostgreSQL reads it from text. Only for what can be a key.
    pub(super) fn key_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Double(bits) => f64::from_bits(*bits).to_string(),
            Self::Boolean(value) => value.to_string(),
            other => unreachable!("{other} is no key: the mapping refuses keys of its type"),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Text(text) => match text.char_indices().nth(SHOWN) {
                Some((end, _)) => write!(f, "{:?}… ({} bytes)", &text[..end], text.len()),
                None => write!(f, "{text:?}"),
            },
            Self::Integer(number) => write!(f, "{number}"),
            Self::Double(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Time(micros) => write!(f, "{micros} µs since 1970"),
            Self::Json(value) => write!(f, "{value}"),
            Self::Unknown(value) => write!(f, "{value}, whose form the oracle does not know"),
        }
    }
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &SqlType, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *ty {
            SqlType::TEXT => Self::Text(String::from_sql(ty, raw)?),
            SqlType::INT2 => Self::Integer(i16::from_sql(ty, raw)?.into()),
            SqlType::INT4 => Self::Integer(i32::from_sql(ty, raw)?.into()),
            SqlType::INT8 => Self::Integer(i64::from_sql(ty, raw)?),
            SqlType::FLOAT8 => Self::Double(f64::from_sql(ty, raw)?.to_bits()),
            SqlType::BOOL => Self::Boolean(bool::from_sql(ty, raw)?),
            // Eight bytes, as bigint has them. Infinities are the outermost numbers.
            SqlType::TIMESTAMPTZ => Self::Time(i64::from_sql(&SqlType::INT8, raw)?.saturating_add(MICROS_1970_TO_2000)),
            // A byte of version, then text.
            SqlType::JSONB => Self::Json(json::with_plain_doubles(serde_json::from_slice(&raw[1..])?)),
            _ => return Err(format!("expected a column of a type that the mapping has, got {ty}").into()),
        })
    }

    fn from_sql_null(_: &SqlType) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(_: &SqlType) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, doc, oid::ObjectId};

    use super::*;

    #[test]
    fn values_that_fit_are_kept_and_others_are_null() {
        let double = |number: f64| Cell::Double(number.to_bits());
        let cases: [(Type, Bson, Cell); 22] = [
            (Type::Text, "ü".into(), Cell::Text("ü".into())),
            (Type::Text, "a\0b".into(), Cell::Null),
            (Type::Text, 5.into(), Cell::Null),
            (Type::Text, ObjectId::from_bytes([1; 12]).into(), Cell::Null),
            (Type::Integer, 5.into(), Cell::Integer(5)),
            (Type::Integer, 5.0.into(), Cell::Integer(5)),
            (Type::Integer, 5i64.into(), Cell::Integer(5)),
            (Type::Integer, (1i64 << 31).into(), Cell::Null),
            (Type::Integer, 5.5.into(), Cell::Null),
            (Type::Integer, true.into(), Cell::Null),
            (Type::BigInt, 5.into(), Cell::Integer(5)),
            (Type::BigInt, i64::MIN.into(), Cell::Integer(i64::MIN)),
            (Type::SmallInt, 7.into(), Cell::Integer(7)),
            (Type::SmallInt, 40_000.into(), Cell::Null),
            (Type::Double, 5.into(), double(5.0)),
            (Type::Double, (-0.0).into(), double(-0.0)),
            (Type::Double, ((1i64 << 53) + 1).into(), Cell::Null),
            (Type::Boolean, false.into(), Cell::Boolean(false)),
            (Type::Boolean, 0.into(), Cell::Null),
            (Type::Timestamp, DateTime::from_millis(-1).into(), Cell::Time(-1_000)),
            (Type::Timestamp, DateTime::from_millis(i64::MAX).into(), Cell::Null),
            (Type::Json, vec![Bson::Null].into(), Cell::Json(Value::Array(vec![Value::Null]))),
        ];
        for (ty, value, expected) in cases {
            assert_eq!(Cell::of(ty, &value), expected, "{value} in {ty:?}");
            assert_eq!(Cell::of(ty, &Bson::Null), Cell::Null);
        }
        assert_eq!(Cell::of(Type::Text, &doc! {}.into()), Cell::Null);
        assert_ne!(double(0.0), double(-0.0));
    }
}
