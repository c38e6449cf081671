//! What PostgreSQL's types are in its protocol. Their names are in `column_type.rs` of gizer-schema.
//!
//! Values are written by `copy/wire.rs` (binary) and `csv/encoder.rs` (text), a match over cells each.

use std::borrow::Cow;

use gizer_schema::ColumnType;
use serde_json::Value;
use tokio_postgres::types::{Kind, Type};

/// The type's `pg_type.oid`, which is the same on every server (`pg_type.dat`).
pub(crate) fn type_oid(ty: ColumnType) -> u32 {
    match ty {
        ColumnType::Boolean => 16,
        ColumnType::Bytea => 17,
        ColumnType::BigInt => 20,
        ColumnType::SmallInt => 21,
        ColumnType::Integer => 23,
        ColumnType::Text | ColumnType::ObjectId | ColumnType::Key => 25,
        ColumnType::Double => 701,
        ColumnType::TimestampTz => 1184,
        ColumnType::Numeric => 1700,
        ColumnType::Uuid => 2950,
        ColumnType::Json | ColumnType::List(_) => 3802,
    }
}

/// Whether a column that came has this type, so that its binary form is that of the type.
pub(crate) fn is_of(ty: ColumnType, came: &Type) -> bool {
    match (ty, came.kind()) {
        (ColumnType::List(element), Kind::Array(came)) => came.oid() == type_oid(element.into()),
        (ColumnType::List(_), _) => false,
        (ty, _) => came.oid() == type_oid(ty),
    }
}

/// The same bytes for values that PostgreSQL takes for equal.
pub(crate) fn identity(ty: ColumnType, field: &[u8]) -> Cow<'_, [u8]> {
    match ty {
        ColumnType::Double => match field.try_into().map(f64::from_be_bytes) {
            Ok(number) if number.is_nan() => f64::NAN.to_be_bytes().to_vec().into(),
            Ok(0.0) => 0f64.to_be_bytes().to_vec().into(),
            _ => field.into(),
        },
        // All but the scale, which is how many digits are shown.
        ColumnType::Numeric if field.len() >= 8 => [&field[..6], &field[8..]].concat().into(),
        // jsonb comes back with its fields in another order, and with blanks.
        ColumnType::Json => match serde_json::from_slice::<Value>(field.get(1..).unwrap_or_default()) {
            Ok(mut value) => {
                value.sort_all_objects();
                value.to_string().into_bytes().into()
            }
            Err(_) => field.into(),
        },
        _ => field.into(),
    }
}

/// Whether values that are equal may differ in their bits.
pub(crate) fn is_equal_in_many_forms(ty: ColumnType) -> bool {
    matches!(ty, ColumnType::Double | ColumnType::Numeric)
}
