//! A `timestamptz` by the calendar, in UTC.
//!
//! By hand: the calendar crates end at the year 9999, PostgreSQL at 294276.

/// A time of the proleptic Gregorian calendar, in which 0 is the year before 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CivilTime {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
    pub microsecond: i64,
}

impl CivilTime {
    /// Of microseconds since 2000-01-01, as PostgreSQL has them.
    pub fn of_postgres_micros(micros: i64) -> CivilTime {
        const MICROS_A_DAY: i64 = 86_400_000_000;
        /// Days from 0000-03-01 to 2000-01-01.
        const EPOCH: i64 = 730_425;
        let (year, month, day) = date(micros.div_euclid(MICROS_A_DAY) + EPOCH);
        let time = micros.rem_euclid(MICROS_A_DAY);
        CivilTime {
            year,
            month,
            day,
            hour: time / 3_600_000_000,
            minute: time / 60_000_000 % 60,
            second: time / 1_000_000 % 60,
            microsecond: time % 1_000_000,
        }
    }
}

/// Year, month and day of a number of days since 0000-03-01. In years that begin in March the leap day is the last,
/// and one formula gives the lengths of months.
fn date(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    let (cycle, day) = (days.div_euclid(DAYS_IN_400_YEARS), days.rem_euclid(DAYS_IN_400_YEARS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * cycle + year + next, month, of_month)
}
