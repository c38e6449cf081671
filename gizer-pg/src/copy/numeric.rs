//! `numeric` in binary (`numeric_recv` in PostgreSQL's `numeric.c`).
//!
//! Four numbers of 16 bits, then groups of four decimal digits, 16 bits each, the highest first:
//!
//! | number | is |
//! |---|---|
//! | ndigits | how many groups follow; 0 for zero |
//! | weight | the power of 10,000 that the first group is multiplied by |
//! | sign | 0 or `0x4000` for below zero; `0xC000` is NaN |
//! | dscale | how many decimal digits are shown behind the point |

use gizer_flatten::Decimal;

/// Most groups that 128 bits take: 39 decimal digits, moved by up to three.
const MAX_GROUPS: usize = 11;

const LENGTH: usize = 4;
const HEADER: usize = 8;
const NEGATIVE: [u8; 2] = 0x4000u16.to_be_bytes();

/// Length and value of NaN.
pub(super) const NAN: [u8; LENGTH + HEADER] = [0, 0, 0, HEADER as u8, 0, 0, 0, 0, 0xC0, 0, 0, 0];

/// Appends length and value of a number. Its scale stays: 1.50 is shown as 1.50. There is no −0.
pub(super) fn write(out: &mut Vec<u8>, number: Decimal) {
    let (groups, lowest_weight) = groups(number);
    let used = groups.iter().rposition(|group| *group != 0).map_or(0, |highest| highest + 1);
    // Groups of zeros at the end are not sent.
    let skipped = groups.iter().position(|group| *group != 0).unwrap_or(0);
    let weight = if used == 0 { 0 } else { lowest_weight + used as i32 - 1 };
    let count = used - skipped;

    let mut cell = [0; LENGTH + HEADER + 2 * MAX_GROUPS];
    cell[3] = (HEADER + 2 * count) as u8;
    cell[5] = count as u8;
    cell[6..8].copy_from_slice(&in_range::<i16>(weight).to_be_bytes());
    if number.negative && used > 0 {
        cell[8..10].copy_from_slice(&NEGATIVE);
    }
    cell[10..12].copy_from_slice(&in_range::<u16>(-number.exponent.min(0)).to_be_bytes());
    for (bytes, group) in cell[LENGTH + HEADER..].chunks_exact_mut(2).zip(groups[skipped..used].iter().rev()) {
        bytes.copy_from_slice(&group.to_be_bytes());
    }
    out.extend_from_slice(&cell[..LENGTH + HEADER + 2 * count]);
}

/// The digits in groups of four, the lowest first, and the power of 10,000 of the lowest one.
fn groups(number: Decimal) -> ([u16; MAX_GROUPS], i32) {
    // Groups begin at powers of 10,000: the digits move up by as many places as the exponent is above one.
    let moved = number.exponent.rem_euclid(4).unsigned_abs();
    let mut groups = [0; MAX_GROUPS];
    let lowest = 10u128.pow(4 - moved);
    groups[0] = (number.digits % lowest) as u16 * 10u16.pow(moved);
    let mut rest = number.digits / lowest;
    let mut at = 1;
    // Division of 128 bits is slow.
    while rest > u64::MAX.into() {
        groups[at] = (rest % 10_000) as u16;
        rest /= 10_000;
        at += 1;
    }
    let mut rest = rest as u64;
    while rest > 0 {
        groups[at] = (rest % 10_000) as u16;
        rest /= 10_000;
        at += 1;
    }
    (groups, number.exponent.div_euclid(4))
}

fn in_range<T: TryFrom<i32>>(number: i32) -> T {
    T::try_from(number).ok().expect("exponents of decimal128 are within ±6,200, and numeric takes 16 bits of them")
}
