//! What documents are known by: several types of `_id`, each with values that need care.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, doc};

use crate::random::Random;

/// What the `_id`s of a collection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Text, with quotes, line ends, and whatever else a language of queries may take for its own.
    Text,
    /// Whole numbers, each written as an int32, an int64, a double or a decimal128: MongoDB takes them for one `_id`.
    Number,
    /// Numbers, text, ObjectIds, dates, binary data and documents side by side.
    Mixed,
}

impl Ids {
    /// The `_id` with this number. Two numbers never have one `_id`; one number may be written in several ways.
    pub(super) fn of(self, number: u64, random: &mut Random) -> Bson {
        match self {
            Self::Text => text(number).into(),
            Self::Number => any_number(number, random),
            Self::Mixed => match number % 8 {
                0 => text(number).into(),
                1 => ObjectId::from_bytes(bytes(number)).into(),
                2 => doc! { "a": any_number(number, random), "b": "x" }.into(),
                3 => doc! { "b": [any_number(number, random), { "c": Bson::Null }] }.into(),
                4 => DateTime::from_millis(1_700_000_000_000 + number as i64).into(),
                5 => Binary { subtype: BinarySubtype::Generic, bytes: bytes(number).to_vec() }.into(),
                _ => any_number(number, random),
            },
        }
    }
}

fn text(number: u64) -> String {
    match number % 10 {
        0 => number.to_string(),
        1 => format!("O'Brien \"{number}\""),
        2 => format!("ü € 😀 {number}"),
        3 => format!("back\\slash\\{number}\\"),
        4 => format!("'; DROP TABLE things; -- {number}"),
        5 => format!("tab\tline\n{number}"),
        6 => format!("$1 %s {{}} {number}"),
        7 => format!(" {number} "),
        8 => format!("a.b/c~{number}"),
        _ => format!("plain {number}"),
    }
}

/// Two of five are too large for an int32, and one of these for a double that would have to be exact to the last digit.
fn any_number(number: u64, random: &mut Random) -> Bson {
    let value = match number % 5 {
        0 => (number as i64) << 33,
        1 => (1 << 53) + 1 + 2 * number as i64,
        _ => number as i64,
    };
    let small = i32::try_from(value).ok();
    let exact = value < 1 << 53;
    match (random.below(4), small) {
        (0, Some(small)) => small.into(),
        (1, _) if exact => (value as f64).into(),
        (2, _) => Bson::Decimal128(format!("{value}.0").parse().expect("a decimal128 holds any int64")),
        _ => value.into(),
    }
}

fn bytes(number: u64) -> [u8; 12] {
    let mut bytes = [0xA7; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_has_an_id_of_its_own() {
        let mut random = Random::of(1, 0, 0);
        for ids in [Ids::Text, Ids::Mixed] {
            // Numbers are looked at below: they have several forms.
            let all: Vec<Bson> = (0..400).map(|number| ids.of(number, &mut random)).collect();
            let apart: BTreeSet<String> = all.iter().map(|id| format!("{id:?}")).collect();
            assert_eq!(apart.len(), all.len(), "{ids:?}");
        }
    }

    #[test]
    fn numbers_are_written_in_all_ways_that_are_exact() {
        let mut random = Random::of(1, 0, 0);
        for number in 0..20 {
            let mut types = BTreeSet::new();
            let mut values = BTreeSet::new();
            for _ in 0..100 {
                let id = any_number(number, &mut random);
                types.insert(format!("{:?}", id.element_type()));
                values.insert(match id {
                    Bson::Int32(value) => value.into(),
                    Bson::Int64(value) => value,
                    Bson::Double(value) => value as i64,
                    Bson::Decimal128(value) => value.to_string().trim_end_matches(".0").parse().unwrap(),
                    other => panic!("{other} is no number"),
                });
            }
            assert_eq!(values.len(), 1, "{number}: {values:?}");
            assert_eq!(types.len(), [3, 2, 4, 4, 4][number as usize % 5] + usize::from(number == 0), "{types:?}");
        }
    }
}
