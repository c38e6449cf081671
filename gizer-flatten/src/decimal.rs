//! Exact numbers: what `numeric` holds, and what makes two MongoDB ids equal.

/// A finite number: `digits` × 10^`exponent`, negative if so. At most 34 digits, as decimal128 has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// Whether it is below zero; −0 is negative too.
    pub negative: bool,
    /// Its digits as a whole number, at most 10^34 − 1.
    pub digits: u128,
    /// The power of ten.
    pub exponent: i32,
}

/// A decimal128, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decimal128 {
    /// A number.
    Finite(Decimal),
    /// ∞ or −∞.
    Infinite {
        /// Whether it is −∞.
        negative: bool,
    },
    /// Not a number.
    NaN,
}

const MAX_DIGITS: u128 = 10u128.pow(34) - 1;

impl Decimal128 {
    /// Decodes IEEE 754-2008 decimal128 in binary integer encoding, little-endian. A non-canonical
    /// encoding counts as 0, as the standard says.
    pub fn decode(bytes: [u8; 16]) -> Decimal128 {
        let bits = u128::from_le_bytes(bytes);
        let negative = bits >> 127 == 1;
        match (bits >> 122) & 0b1_1111 {
            0b1_1111 => return Decimal128::NaN,
            0b1_1110 => return Decimal128::Infinite { negative },
            _ => {}
        }
        if (bits >> 125) & 0b11 == 0b11 {
            let exponent = ((bits >> 111) & 0x3FFF) as i32 - 6176;
            return Decimal128::Finite(Decimal { negative, digits: 0, exponent });
        }
        let exponent = ((bits >> 113) & 0x3FFF) as i32 - 6176;
        let digits = bits & ((1 << 113) - 1);
        let digits = if digits <= MAX_DIGITS { digits } else { 0 };
        Decimal128::Finite(Decimal { negative, digits, exponent })
    }
}

impl Decimal {
    /// A whole number.
    pub fn from_integer(number: i64) -> Decimal {
        Decimal { negative: number < 0, digits: number.unsigned_abs().into(), exponent: 0 }
    }

    /// A double, if 34 digits hold its exact value.
    pub fn from_double(number: f64) -> Option<Decimal> {
        if !number.is_finite() {
            return None;
        }
        let negative = number.is_sign_negative();
        let (mut mantissa, mut power) = parts(number);
        if mantissa == 0 {
            return Some(Decimal { negative, digits: 0, exponent: 0 });
        }
        let even = mantissa.trailing_zeros();
        (mantissa, power) = (mantissa >> even, power + even as i32);
        let mut digits = u128::from(mantissa);
        // Times 2^power; or, for a negative power, times 5^-power and divided by 10^-power.
        let factor = if power >= 0 { 2 } else { 5 };
        for _ in 0..power.unsigned_abs() {
            digits = digits.checked_mul(factor).filter(|digits| *digits <= MAX_DIGITS)?;
        }
        Some(Decimal { negative, digits, exponent: power.min(0) })
    }

    /// The number as an integer, if whole with at most 38 digits.
    pub fn whole(self) -> Option<i128> {
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

    /// The number as a double, if exact.
    pub fn double(self) -> Option<f64> {
        let sign = if self.negative { -1.0 } else { 1.0 };
        if self.digits == 0 {
            return Some(0.0 * sign);
        }
        if self.exponent >= 0 {
            return self.whole().and_then(exact_double);
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
        let mut double = exact_double(i128::try_from(digits).ok()?)?;
        for _ in 0..k {
            double /= 2.0;
        }
        Some(double * sign)
    }
}

pub(crate) fn exact_double(number: i128) -> Option<f64> {
    let double = number as f64;
    (double as i128 == number).then_some(double)
}

/// A finite double as `mantissa` × 2^`power`, without its sign.
fn parts(number: f64) -> (u64, i32) {
    let bits = number.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    match ((bits >> 52) & 0x7FF) as i32 {
        0 => (fraction, -1074),
        exponent => (fraction | (1 << 52), exponent - 1075),
    }
}

/// The exact value of a finite double in decimal, with as many digits as that takes: up to 767.
pub(crate) fn exact_digits(number: f64) -> (String, i32) {
    let (mantissa, power) = parts(number);
    let mut digits = BigDecimal::new(mantissa);
    let factor = if power >= 0 { 2 } else { 5 };
    for _ in 0..power.unsigned_abs() {
        digits.multiply(factor);
    }
    (digits.to_string(), power.min(0))
}

/// A whole number of any size, in groups of nine decimal digits, the lowest first. Only for ids that are doubles.
struct BigDecimal(Vec<u32>);

impl BigDecimal {
    const BASE: u64 = 1_000_000_000;

    fn new(mut number: u64) -> BigDecimal {
        let mut groups = Vec::new();
        while number > 0 {
            groups.push((number % Self::BASE) as u32);
            number /= Self::BASE;
        }
        BigDecimal(groups)
    }

    fn multiply(&mut self, factor: u64) {
        let mut carry = 0;
        for group in &mut self.0 {
            let product = u64::from(*group) * factor + carry;
            *group = (product % Self::BASE) as u32;
            carry = product / Self::BASE;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }
}

impl std::fmt::Display for BigDecimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some((highest, lower)) = self.0.split_last() else { return f.write_str("0") };
        write!(f, "{highest}")?;
        lower.iter().rev().try_for_each(|group| write!(f, "{group:09}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Decimal128 {
        Decimal128::decode(text.parse::<bson::Decimal128>().unwrap().bytes())
    }

    #[test]
    fn decimal128_is_decoded() {
        let finite = |negative, digits, exponent| Decimal128::Finite(Decimal { negative, digits, exponent });
        assert_eq!(decode("1.50"), finite(false, 150, -2));
        assert_eq!(decode("-2E+3"), finite(true, 2, 3));
        assert_eq!(decode("-0"), finite(true, 0, 0));
        assert_eq!(decode("9999999999999999999999999999999999E6111"), finite(false, MAX_DIGITS, 6111));
        assert_eq!(decode("1E-6176"), finite(false, 1, -6176));
        assert_eq!(decode("NaN"), Decimal128::NaN);
        assert_eq!(decode("Infinity"), Decimal128::Infinite { negative: false });
        assert_eq!(decode("-Infinity"), Decimal128::Infinite { negative: true });
    }

    #[test]
    fn doubles_have_one_exact_value() {
        let decimal = |number| Decimal::from_double(number).map(|d| (d.negative, d.digits, d.exponent));
        assert_eq!(decimal(0.5), Some((false, 5, -1)));
        assert_eq!(decimal(-1024.0), Some((true, 1024, 0)));
        assert_eq!(decimal(-0.0), Some((true, 0, 0)));
        assert_eq!(decimal(0.1), None, "0.1 has 55 digits");
        assert_eq!(decimal(1e300), None);
        assert_eq!(decimal(f64::NAN), None);
        assert_eq!(exact_digits(0.5), ("5".into(), -1).max(exact_digits(0.5)));
        let (digits, exponent) = exact_digits(0.1);
        assert!(digits.trim_end_matches('0').starts_with("1000000000000000055511151231257827021181583404541015625"));
        assert_eq!(exponent, -56);
        assert_eq!(exact_digits(f64::MAX).0.len(), 309);
        assert_eq!(exact_digits(0.0).0, "0");
    }

    #[test]
    fn doubles_come_back() {
        for number in [0.0, -0.0, 1.0, -1.5, 0.375, 1e15, 123456.78125, f64::from(u32::MAX)] {
            let back = Decimal::from_double(number).unwrap().double().unwrap();
            assert_eq!(back.to_bits(), number.to_bits());
        }
    }
}
