//! Keys as text, for reports.

use gizer_pg::civil_time::CivilTime;
use gizer_schema::ColumnType;

use crate::numeric::Numeric;

/// A key, from the binary form of its column, about as SQL would show it.
pub(crate) fn key_text(ty: ColumnType, field: &[u8]) -> String {
    plain(ty, field).unwrap_or_else(|| hex::encode(field))
}

fn plain(ty: ColumnType, field: &[u8]) -> Option<String> {
    Some(match ty {
        ColumnType::Text | ColumnType::ObjectId | ColumnType::Key => std::str::from_utf8(field).ok()?.to_owned(),
        ColumnType::SmallInt => i16::from_be_bytes(field.try_into().ok()?).to_string(),
        ColumnType::Integer => i32::from_be_bytes(field.try_into().ok()?).to_string(),
        ColumnType::BigInt => i64::from_be_bytes(field.try_into().ok()?).to_string(),
        ColumnType::Double => format!("{:?}", f64::from_be_bytes(field.try_into().ok()?)),
        ColumnType::Boolean => (*field != [0]).to_string(),
        ColumnType::TimestampTz => time_text(i64::from_be_bytes(field.try_into().ok()?)),
        ColumnType::Numeric => match Numeric::decode(field)? {
            Numeric::NaN => "NaN".to_owned(),
            Numeric::Finite { negative, digits, exponent, .. } => {
                let sign = if negative { "-" } else { "" };
                if exponent == 0 { format!("{sign}{digits}") } else { format!("{sign}{digits}e{exponent}") }
            }
            Numeric::Other => return None,
        },
        ColumnType::Json => String::from_utf8(field.get(1..)?.to_vec()).ok()?,
        ColumnType::Bytea | ColumnType::Uuid | ColumnType::List(_) => hex::encode(field),
    })
}

/// A time in microseconds since 2000-01-01, as ISO 8601 in UTC. Years without four digits have a sign. What stands for
/// infinity in PostgreSQL is called so.
pub(crate) fn time_text(micros: i64) -> String {
    match micros {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let CivilTime { year, month, day, hour, minute, second, microsecond } = CivilTime::of_postgres_micros(micros);
    let fraction = match microsecond {
        0 => String::new(),
        fraction => format!(".{fraction:06}").trim_end_matches('0').to_owned(),
    };
    let year = if (0..=9_999).contains(&year) { format!("{year:04}") } else { format!("{year:+05}") };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_readable() {
        let cases: [(ColumnType, &[u8], &str); 8] = [
            (ColumnType::TimestampTz, &[0; 8], "2000-01-01T00:00:00Z"),
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
    /// Seconds as `date -u -d … +%s` gives them; the zero of PostgreSQL's times is 946684800.
    #[test]
    fn times_are_iso_8601() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (-1, 999_000, "1969-12-31T23:59:59.999Z"),
            (951_782_399, 1, "2000-02-28T23:59:59.000001Z"),
            (951_868_799, 120_000, "2000-02-29T23:59:59.12Z"),
            (951_868_800, 0, "2000-03-01T00:00:00Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59Z"),
            (253_402_300_799, 999_000, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800, 0, "+10000-01-01T00:00:00Z"),
            (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
            (-62_135_596_801, 0, "0000-12-31T23:59:59Z"),
            (-62_167_219_200, 0, "0000-01-01T00:00:00Z"),
            (-62_167_219_201, 0, "-0001-12-31T23:59:59Z"),
        ];
        for (seconds, micros, text) in cases {
            assert_eq!(time_text((seconds - 946_684_800) * 1_000_000 + micros), text);
        }
        assert_eq!((time_text(i64::MAX).as_str(), time_text(i64::MIN).as_str()), ("infinity", "-infinity"));
        // The ends of what PostgreSQL takes: '294276-12-31 23:59:59.999999' and '4714-11-24 BC'.
        assert_eq!(time_text(9_223_371_331_199_999_999), "+294276-12-31T23:59:59.999999Z");
        assert_eq!(time_text(-211_813_488_000_000_000), "-4713-11-24T00:00:00Z");
    }
}
