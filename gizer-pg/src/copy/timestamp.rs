//! Times as PostgreSQL's `timestamptz` has them.

/// Milliseconds from 1970-01-01 to 2000-01-01, the zero of PostgreSQL's times.
const EPOCH_MILLIS: i64 = 946_684_800_000;

/// Microseconds since 2000-01-01 UTC of milliseconds since 1970-01-01 UTC.
///
/// Times outside of the range of `timestamptz` come out as such, so that the server refuses them. Where not even 64
/// bits hold them, they must not become `i64::MIN` or `i64::MAX`: those are PostgreSQL's ±infinity.
pub(crate) fn to_postgres_micros(millis: i64) -> i64 {
    millis.checked_sub(EPOCH_MILLIS).and_then(|millis| millis.checked_mul(1_000)).unwrap_or(if millis < 0 {
        i64::MIN + 1
    } else {
        i64::MAX - 1
    })
}

#[cfg(test)]
mod tests {
    use gizer_schema::TIMESTAMP_MILLIS;

    use super::*;

    #[test]
    fn the_range_is_that_of_the_server() {
        // MIN_TIMESTAMP and END_TIMESTAMP of src/include/datatype/timestamp.h
        assert_eq!(to_postgres_micros(TIMESTAMP_MILLIS.start), -211_813_488_000_000_000);
        assert_eq!(to_postgres_micros(TIMESTAMP_MILLIS.end), 9_223_371_331_200_000_000);
        assert_eq!(to_postgres_micros(EPOCH_MILLIS), 0);
    }

    #[test]
    fn what_does_not_fit_never_becomes_infinity() {
        for millis in [i64::MIN, i64::MAX, i64::MIN / 1_000, i64::MAX / 1_000] {
            let micros = to_postgres_micros(millis);
            assert!(micros != i64::MIN && micros != i64::MAX);
            assert_eq!(micros < 0, millis < 0);
        }
    }
}
