//! Keys as text, for reports.

use gizer_schema::ColumnType;

use crate::numeric::Numeric;

/// A key, from the binary form of its column, about as SQL would show it.
pub(crate) fn key_text(ty: ColumnType, field: &[u8]) -> String {
    plain(ty, field).unwrap_or_else(|| hex(field))
}

fn plain(ty: ColumnType, field: &[u8]) -> Option<String> {
    Some(match ty {
        ColumnType::Text | ColumnType::ObjectId | ColumnType::Key => std::str::from_utf8(field).ok()?.to_owned(),
        ColumnType::SmallInt => i16::from_be_bytes(field.try_into().ok()?).to_string(),
        ColumnType::Integer => i32::from_be_bytes(field.try_into().ok()?).to_string(),
        ColumnType::BigInt => i64::from_be_bytes(field.try_into().ok()?).to_string(),
        ColumnType::Double => format!("{:?}", f64::from_be_bytes(field.try_into().ok()?)),
        ColumnType::Boolean => (*field != [0]).to_string(),
        ColumnType::TimestampTz => format!("{} µs since 2000-01-01", i64::from_be_bytes(field.try_into().ok()?)),
        ColumnType::Numeric => match Numeric::decode(field)? {
            Numeric::NaN => "NaN".to_owned(),
            Numeric::Finite { negative, digits, exponent, .. } => {
                let sign = if negative { "-" } else { "" };
                if exponent == 0 { format!("{sign}{digits}") } else { format!("{sign}{digits}e{exponent}") }
            }
            Numeric::Other => return None,
        },
        ColumnType::Json => String::from_utf8(field.get(1..)?.to_vec()).ok()?,
        ColumnType::Bytea | ColumnType::Uuid | ColumnType::List(_) => hex(field),
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_readable() {
        let cases: [(ColumnType, &[u8], &str); 7] = [
            (ColumnType::Text, "ü".as_bytes(), "ü"),
            (ColumnType::Integer, &(-5i32).to_be_bytes(), "-5"),
            (ColumnType::Double, &(-0.5f64).to_be_bytes(), "-0.5"),
            (ColumnType::Boolean, &[1], "true"),
            (ColumnType::Numeric, &[0, 1, 0, 0, 0x40, 0, 0, 1, 0, 7], "-7"),
            (ColumnType::Uuid, &[0xab, 1], "ab01"),
            (ColumnType::Integer, &[1], "01"),
        ];
        for (ty, field, text) in cases {
            assert_eq!(key_text(ty, field), text);
        }
    }
}
