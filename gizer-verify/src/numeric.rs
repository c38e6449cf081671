//! `numeric` as the server sends it (`numeric_send` in PostgreSQL's `numeric.c`).

use gizer_flatten::Decimal;

/// A stored number, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numeric {
    /// `digits` × 10^`exponent` without zeros at the end of the digits; `scale` digits are shown behind the point.
    Finite { negative: bool, digits: u128, exponent: i32, scale: u16 },
    /// Not a number.
    NaN,
    /// ∞, −∞, or more digits than a document's number can have.
    Other,
}

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;

impl Numeric {
    /// Decodes a field; `None` if it is of another form.
    pub(crate) fn decode(field: &[u8]) -> Option<Numeric> {
        let (words, []) = field.as_chunks::<2>() else { return None };
        let [count, weight, sign, scale, groups @ ..] = words else { return None };
        if groups.len() != usize::from(u16::from_be_bytes(*count)) {
            return None;
        }
        let negative = match u16::from_be_bytes(*sign) {
            0 => false,
            NEGATIVE => true,
            NAN => return Some(Numeric::NaN),
            _ => return Some(Numeric::Other),
        };
        let mut digits: u128 = 0;
        for (at, group) in groups.iter().enumerate() {
            let group = u16::from_be_bytes(*group);
            // Zeros at the very end may be more than 128 bits hold: they are the exponent's.
            let last = at + 1 == groups.len();
            let (group, places) = if last { without_zeros(group) } else { (group, 4) };
            let longer = digits.checked_mul(10u128.pow(places)).and_then(|digits| digits.checked_add(group.into()));
            let Some(longer) = longer else { return Some(Numeric::Other) };
            digits = longer;
            if last {
                let lowest = i32::from(i16::from_be_bytes(*weight)) - at as i32;
                let (digits, exponent) = shortest(digits, 4 * lowest + 4 - places as i32);
                return Some(Numeric::Finite { negative, digits, exponent, scale: u16::from_be_bytes(*scale) });
            }
        }
        Some(Numeric::Finite { negative: false, digits: 0, exponent: 0, scale: u16::from_be_bytes(*scale) })
    }

    /// Whether it is this number, shown with as many digits behind the point. There is no −0 in `numeric`.
    pub(crate) fn is(self, number: Decimal) -> bool {
        let Numeric::Finite { negative, digits, exponent, scale } = self else { return false };
        let (expected, power) = shortest(number.digits, number.exponent);
        let shown = number.exponent.min(0).unsigned_abs();
        (digits, exponent, u32::from(scale)) == (expected, power, shown) && (negative == number.negative || digits == 0)
    }
}

/// A group of four digits without the zeros at its end, and how many digits that leaves.
fn without_zeros(mut group: u16) -> (u16, u32) {
    let mut places = 4;
    while places > 0 && group.is_multiple_of(10) {
        group /= 10;
        places -= 1;
    }
    (group, places)
}

fn shortest(mut digits: u128, mut exponent: i32) -> (u128, i32) {
    if digits == 0 {
        return (0, 0);
    }
    while digits.is_multiple_of(10) {
        digits /= 10;
        exponent += 1;
    }
    (digits, exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn number(negative: bool, digits: u128, exponent: i32) -> Decimal {
        Decimal { negative, digits, exponent }
    }

    #[test]
    fn numbers_are_compared_by_value_and_scale() {
        // As PostgreSQL 15 sends them: 1.50, -12345.678, 0.00, 1E+6, 0.0001, 10000.
        let cases = [
            (field(&[2, 0, 0, 2, 1, 5000]), number(false, 150, -2)),
            (field(&[3, 1, NEGATIVE, 3, 1, 2345, 6780]), number(true, 12_345_678, -3)),
            (field(&[0, 0, 0, 2]), number(true, 0, -2)),
            (field(&[1, 1, 0, 0, 100]), number(false, 1, 6)),
            (field(&[1, 0xFFFF, 0, 4, 1]), number(false, 1, -4)),
            (field(&[1, 1, 0, 0, 1]), number(false, 10_000, 0)),
        ];
        for (i, (field, _)) in cases.iter().enumerate() {
            for (j, (_, number)) in cases.iter().enumerate() {
                assert_eq!(Numeric::decode(field).unwrap().is(*number), i == j, "{i} {j}");
            }
        }
        let stored = Numeric::decode(&cases[0].0).unwrap();
        assert!(!stored.is(number(false, 15, -1)), "1.5 is shown otherwise than 1.50");
        assert!(!stored.is(number(true, 150, -2)) && !stored.is(number(false, 151, -2)));
    }

    #[test]
    fn what_no_document_holds_equals_nothing() {
        assert_eq!(Numeric::decode(&field(&[0, 0, NAN, 0])), Some(Numeric::NaN));
        assert_eq!(Numeric::decode(&field(&[0, 0, 0xD000, 0])), Some(Numeric::Other), "infinity");
        let long: Vec<u16> = [40, 39, 0, 0].into_iter().chain([1234; 40]).collect();
        assert_eq!(Numeric::decode(&field(&long)), Some(Numeric::Other));
        assert_eq!(Numeric::decode(&field(&[2, 0, 0, 0, 1])), None);
        assert_eq!(Numeric::decode(&[0; 7]), None);
        // 34 digits, moved by three within the groups.
        let nines = number(false, 10u128.pow(34) - 1, -1);
        let words = [&[10, 8, 0, 1, 9][..], &[9999; 8], &[9000]].concat();
        assert!(Numeric::decode(&field(&words)).unwrap().is(nines));
    }
}
