//! Numbers by their exact value, as MongoDB compares them; and by value and type.
//!
//! Shares nothing with the flattener, which decides by rules of its own what a column holds exactly.

use gizer_schema::raw::Value;

/// The value of a number, of whatever type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// `rest` × 2^`twos` × 5^`fives`, where neither 2 nor 5 divides `rest`: there is one such form for each value. Of 0
    /// all is 0, and it has no sign.
    Finite { negative: bool, rest: u128, twos: i32, fives: i32 },
    /// ∞ or −∞.
    Infinite { negative: bool },
    /// Not a number; MongoDB knows only one.
    NaN,
}

impl Number {
    /// The number that this value is; `None` if it is none.
    pub(super) fn of(value: Value<'_>) -> Option<Number> {
        Some(match value {
            Value::Int32(number) => Number::whole(number.into()),
            Value::Int64(number) => Number::whole(number),
            Value::Double(number) => Number::double(number),
            Value::Decimal128(bytes) => match ComparedDecimal::decode(bytes) {
                ComparedDecimal::Finite { negative, digits, exponent } => Number::decimal(negative, digits, exponent),
                ComparedDecimal::Infinite { negative } => Number::Infinite { negative },
                ComparedDecimal::NaN => Number::NaN,
            },
            _ => return None,
        })
    }

    pub(super) fn whole(number: i64) -> Number {
        Number::decimal(number < 0, number.unsigned_abs().into(), 0)
    }

    pub(super) fn double(number: f64) -> Number {
        let negative = number.is_sign_negative();
        if number.is_nan() {
            return Number::NaN;
        }
        if number.is_infinite() {
            return Number::Infinite { negative };
        }
        // IEEE 754 binary64: sign, 11 bits of exponent, 52 of fraction.
        let bits = number.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        match (bits >> 52) as i32 & 0x7FF {
            0 => Number::finite(negative, fraction.into(), -1074, 0),
            exponent => Number::finite(negative, (fraction | 1 << 52).into(), exponent - 1075, 0),
        }
    }

    /// `digits` × 10^`exponent`.
    pub(super) fn decimal(negative: bool, digits: u128, exponent: i32) -> Number {
        Number::finite(negative, digits, exponent, exponent)
    }

    fn finite(negative: bool, mut rest: u128, mut twos: i32, mut fives: i32) -> Number {
        if rest == 0 {
            return Number::Finite { negative: false, rest: 0, twos: 0, fives: 0 };
        }
        let even = rest.trailing_zeros();
        rest >>= even;
        twos += even as i32;
        while rest.is_multiple_of(5) {
            rest /= 5;
            fives += 1;
        }
        Number::Finite { negative, rest, twos, fives }
    }
}

/// A decimal128, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ComparedDecimal {
    /// `digits` × 10^`exponent`; the exponent is the scale.
    Finite {
        negative: bool,
        digits: u128,
        exponent: i32,
    },
    Infinite {
        negative: bool,
    },
    NaN,
}

impl ComparedDecimal {
    /// IEEE 754-2008, binary integer encoding. More than 34 digits count as 0, as the standard says.
    fn decode(bytes: [u8; 16]) -> ComparedDecimal {
        let bits = u128::from_le_bytes(bytes);
        let negative = bits >> 127 != 0;
        let combination = (bits >> 122) as u8 & 0x1F;
        if combination == 0x1F {
            return ComparedDecimal::NaN;
        }
        if combination == 0x1E {
            return ComparedDecimal::Infinite { negative };
        }
        // Where the first two bits are set, the exponent stands two further on, and there are too many digits.
        let (shift, digits) = if combination >> 3 == 3 { (111, u128::MAX) } else { (113, bits & ((1 << 113) - 1)) };
        let digits = if digits < 10u128.pow(34) { digits } else { 0 };
        ComparedDecimal::Finite { negative, digits, exponent: ((bits >> shift) & 0x3FFF) as i32 - 6176 }
    }
}

/// Whether two decimal128 are one number of one scale; 0 and −0 are two.
pub(super) fn same_decimal(a: [u8; 16], b: [u8; 16]) -> bool {
    a == b || ComparedDecimal::decode(a) == ComparedDecimal::decode(b)
}

/// Whether a decimal128 is this number of this scale.
pub(super) fn same_decimal_as(negative: bool, digits: u128, exponent: i32, bytes: [u8; 16]) -> bool {
    ComparedDecimal::decode(bytes) == ComparedDecimal::Finite { negative, digits, exponent }
}

/// Whether two doubles are one, by their bits. What stands behind "not a number" does not matter: Extended JSON has no
/// room for it.
pub(super) fn same_double(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> [u8; 16] {
        text.parse::<bson::Decimal128>().unwrap().bytes()
    }

    #[test]
    fn one_value_is_one_number_whatever_its_type() {
        let groups: [&[Value<'_>]; 9] = [
            &[
                Value::Int32(12),
                Value::Int64(12),
                Value::Double(12.0),
                Value::Decimal128(decimal("12")),
                Value::Decimal128(decimal("1200E-2")),
                Value::Decimal128(decimal("1.2E+1")),
            ],
            &[Value::Int32(-12), Value::Double(-12.0), Value::Decimal128(decimal("-12.0"))],
            &[
                Value::Int32(0),
                Value::Double(-0.0),
                Value::Decimal128(decimal("-0")),
                Value::Decimal128(decimal("0E+6000")),
                // More than 34 digits.
                Value::Decimal128((0b11u128 << 125 | 7).to_le_bytes()),
            ],
            &[Value::Double(0.5), Value::Decimal128(decimal("0.50"))],
            // The double 0.1 is a little more than the decimal.
            &[Value::Double(0.1)],
            &[Value::Decimal128(decimal("0.1"))],
            &[Value::Double(f64::NAN), Value::Decimal128(decimal("NaN"))],
            &[Value::Double(f64::NEG_INFINITY), Value::Decimal128(decimal("-Infinity"))],
            // 41 digits: more than a decimal128 has, but for the zeros.
            &[Value::Double(10f64.powi(22) * 2f64.powi(60)), Value::Decimal128(decimal("1152921504606846976E+22"))],
        ];
        for (i, group) in groups.iter().enumerate() {
            for (j, other) in groups.iter().enumerate() {
                for (a, b) in group.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                    assert_eq!(Number::of(*a).unwrap() == Number::of(*b).unwrap(), i == j, "{a:?} {b:?}");
                }
            }
        }
        assert_eq!(Number::of(Value::Double(f64::from_bits(1))), Number::of(Value::Double(5e-324)));
        assert_ne!(Number::of(Value::Int64(i64::MAX)), Number::of(Value::Double(i64::MAX as f64)));
        assert_eq!(Number::of(Value::Int64(i64::MIN)), Number::of(Value::Double(i64::MIN as f64)));
        assert_eq!(Number::of(Value::Boolean(true)), None);
    }

    #[test]
    fn the_scale_of_a_decimal_is_part_of_it() {
        assert!(same_decimal(decimal("1.50"), decimal("1.50")));
        assert!(!same_decimal(decimal("1.50"), decimal("1.5")));
        assert!(!same_decimal(decimal("-0"), decimal("0")));
        let signalling = (0x7Eu128 << 120 | 9).to_le_bytes();
        assert!(same_decimal(decimal("NaN"), signalling));
        assert!(same_double(f64::NAN, -f64::NAN) && !same_double(0.0, -0.0));
    }
}
