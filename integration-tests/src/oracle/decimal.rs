//! Numbers written out in full, so that two of different types can be compared exactly.

use bson::Bson;

/// A finite number: 0.`digits` × 10^`exponent`, with neither leading nor trailing zeros in `digits`, so that equal
/// numbers have one form. Zero has no digits, and may be negative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// The number, if it is one and finite.
    pub(super) fn of(value: &Bson) -> Option<Self> {
        match value {
            Bson::Int32(number) => Self::parse(&number.to_string()),
            Bson::Int64(number) => Self::parse(&number.to_string()),
            Bson::Double(number) => Self::of_double(*number),
            Bson::Decimal128(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    fn of_double(number: f64) -> Option<Self> {
        // The smallest double is 2^-1074, which has this many digits behind the point: none is rounded away.
        number.is_finite().then(|| Self::parse(&format!("{number:.1074}"))).flatten()
    }

    /// Digits with or without sign, point and exponent; not the names of infinities.
    fn parse(text: &str) -> Option<Self> {
        let (sign_and_digits, exponent) = match text.split_once(['E', 'e']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let unsigned = sign_and_digits.trim_start_matches(['-', '+']);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let digits = all.trim_start_matches('0');
        let leading_zeros = all.len() - digits.len();
        let digits = digits.trim_end_matches('0').to_owned();
        let exponent = if digits.is_empty() { 0 } else { exponent + whole.len() as i64 - leading_zeros as i64 };
        Some(Self { negative: sign_and_digits.starts_with('-'), digits, exponent })
    }

    /// The number, if it is whole and no larger than an int64 can be.
    pub(super) fn whole(&self) -> Option<i64> {
        let width = usize::try_from(self.exponent).ok()?;
        if width < self.digits.len() || width > 19 {
            return None;
        }
        let sign = if self.negative { "-" } else { "" };
        // "-0" would do as well, but not "-".
        format!("{sign}0{:0<width$}", self.digits).parse().ok()
    }

    /// The number, if a double can hold all of it.
    pub(super) fn double(&self) -> Option<f64> {
        let sign = if self.negative { "-" } else { "" };
        let nearest: f64 = format!("{sign}0.{}e{}", self.digits, self.exponent).parse().ok()?;
        (Self::of_double(nearest).as_ref() == Some(self)).then_some(nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: impl Into<Bson>) -> Decimal {
        Decimal::of(&value.into()).unwrap()
    }

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    #[test]
    fn equal_numbers_have_one_form() {
        for five in [Bson::Int64(5), Bson::Double(5.0), decimal("5.000"), decimal("0.5E1"), decimal("500E-2")] {
            assert_eq!(of(five.clone()), of(5), "{five}");
        }
        assert_eq!(of(0.5), of(decimal("0.5")));
        assert_ne!(of(0.1), of(decimal("0.1")), "the double is a little more");
        assert_ne!(of(0.0), of(-0.0));
        for no_number in
            [Bson::Null, "5".into(), f64::NAN.into(), f64::INFINITY.into(), decimal("NaN"), decimal("-Infinity")]
        {
            assert_eq!(Decimal::of(&no_number), None, "{no_number}");
        }
    }

    #[test]
    fn whole_numbers_are_told_from_others() {
        let whole = [
            (of(-120), -120),
            (of(0), 0),
            (of(-0.0), 0),
            (of(decimal("-2E+3")), -2_000),
            (of(i64::MIN), i64::MIN),
            (of(-9_223_372_036_854_775_808.0), i64::MIN),
            (of(decimal("9223372036854775807")), i64::MAX),
        ];
        for (number, expected) in whole {
            assert_eq!(number.whole(), Some(expected), "{number:?}");
        }
        for other in [of(0.5), of(1e19), of(9_223_372_036_854_775_808.0), of(decimal("1E+6000")), of(decimal("10.01"))]
        {
            assert_eq!(other.whole(), None, "{other:?}");
        }
    }

    #[test]
    fn doubles_are_only_those_that_lose_nothing() {
        let exact = [
            (of(1i64 << 53), 9_007_199_254_740_992.0),
            (of(decimal("-1.375")), -1.375),
            (of(decimal("-0.0")), -0.0),
            (of(decimal("1E+22")), 1e22),
        ];
        for (number, expected) in exact {
            assert_eq!(number.double().map(f64::to_bits), Some(f64::to_bits(expected)), "{number:?}");
        }
        for other in
            [of((1i64 << 53) + 1), of(i64::MAX), of(decimal("0.1")), of(decimal("1E+400")), of(decimal("1E-400"))]
        {
            assert_eq!(other.double(), None, "{other:?}");
        }
    }
}
