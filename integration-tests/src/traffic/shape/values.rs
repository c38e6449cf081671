//! Values of random shapes.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, doc};

use crate::random::Random;

/// A type of values, by what a schema file calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Text,
    Int,
    BigInt,
    Double,
    Decimal,
    Bool,
    Date,
    ObjectId,
    Bytes,
    Uuid,
}

impl Scalar {
    pub(super) const ALL: [Scalar; 10] = [
        Self::Text,
        Self::Int,
        Self::BigInt,
        Self::Double,
        Self::Decimal,
        Self::Bool,
        Self::Date,
        Self::ObjectId,
        Self::Bytes,
        Self::Uuid,
    ];

    pub(super) fn schema(self) -> &'static str {
        match self {
            Self::Text => "STRING",
            Self::Int => "INT",
            Self::BigInt => "BIGINT",
            Self::Double => "DOUBLE",
            Self::Decimal => "DECIMAL",
            Self::Bool => "BOOLEAN",
            Self::Date => "TIMESTAMP",
            Self::ObjectId => "OBJECTID",
            Self::Bytes => "BINARY",
            Self::Uuid => "UUID",
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::BigInt | Self::Double | Self::Decimal)
    }

    pub(super) fn value(self, random: &mut Random) -> Bson {
        match self {
            Self::Text => random.pick(&["", "a", "O'Brien", "\\N", "ü 😀", "tab\tline\n", "nul\0", "{\"a\":1}"]).into(),
            Self::Int => (random.below(2_000) as i32 - 1_000).into(),
            Self::BigInt => (random.next() as i64 >> random.below(50)).into(),
            Self::Double => match random.below(5) {
                0 => random.pick(&[-0.0, f64::NAN, f64::INFINITY, 1e300, 0.1]).into(),
                _ => (random.below(1 << 20) as f64 / 8.0).into(),
            },
            Self::Decimal => decimal(random),
            Self::Bool => random.percent(50).into(),
            Self::Date => DateTime::from_millis((random.below(1 << 42) as i64) - (1 << 40)).into(),
            Self::ObjectId => ObjectId::from_bytes(std::array::from_fn(|_| random.next() as u8)).into(),
            Self::Bytes => binary(BinarySubtype::Generic, random.below(10), random),
            Self::Uuid => binary(BinarySubtype::Uuid, 16, random),
        }
    }
}

fn decimal(random: &mut Random) -> Bson {
    let text = match random.below(6) {
        0 => random.pick(&["NaN", "Infinity", "0", "-0.00", "1E+20", "1E-30"]).to_owned(),
        _ => format!("{}.{}0", random.below(1_000), random.below(10)),
    };
    Bson::Decimal128(text.parse().expect("written as decimal128 is"))
}

fn binary(subtype: BinarySubtype, length: u64, random: &mut Random) -> Bson {
    Binary { subtype, bytes: (0..length).map(|_| random.next() as u8).collect() }.into()
}

/// A value of a type that its path hardly ever has.
pub(super) fn stray(random: &mut Random) -> Bson {
    match random.below(9) {
        0 => Bson::Null,
        1 => Bson::Array(Vec::new()),
        2 => doc! {}.into(),
        3 => doc! { "odd": [1, { "a": "nul\0" }], "a": 1 }.into(),
        4 => vec![Bson::from(1), "two".into(), Bson::Null, vec![Bson::from(3)].into(), doc! { "a": 4 }.into()].into(),
        5 => Bson::Timestamp(bson::Timestamp { time: random.below(1 << 30) as u32, increment: 1 }),
        6 if random.percent(50) => Bson::MinKey,
        6 => Bson::MaxKey,
        _ => random.pick(&Scalar::ALL).value(random),
    }
}
