//! Which types the values of a path have, and which family of types rules.

use strum::VariantArray;

use crate::column_type::ScalarType;
use crate::model::Dialect;
use crate::raw::Kind;

const NUMBERS: [Kind; 4] = [Kind::Int32, Kind::Int64, Kind::Double, Kind::Decimal128];

/// Families of types, in the order in which ties are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub(super) enum TypeFamily {
    Document,
    Array,
    Text,
    Number,
    Time,
    Truth,
    Id,
    Uuid,
    Binary,
    Other,
}

/// How often each type was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct TypesSeen {
    /// By type; a path has one or a few, and there are many paths.
    counts: Vec<(Kind, u64)>,
    /// Binary of subtype 0, and of subtype 4 with 16 bytes.
    pub(super) plain_binary: u64,
    pub(super) uuid: u64,
    /// int64 that no double holds exactly.
    pub(super) wide_int64: u64,
}

/// Which family has a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Nothing but null was seen.
    Nothing,
    Family(TypeFamily),
    /// None holds enough of it.
    Mixed,
}

impl TypesSeen {
    pub(super) fn merge(&mut self, other: &TypesSeen) {
        for (kind, count) in &other.counts {
            self.add(*kind, *count);
        }
        self.plain_binary += other.plain_binary;
        self.uuid += other.uuid;
        self.wide_int64 += other.wide_int64;
    }

    pub(super) fn add(&mut self, kind: Kind, count: u64) {
        if let Some((_, known)) = self.counts.iter_mut().find(|(known, _)| *known == kind) {
            *known += count;
            return;
        }
        self.counts.reserve_exact(1);
        self.counts.push((kind, count));
    }

    pub(super) fn count(&self, kind: Kind) -> u64 {
        self.counts.iter().find(|(known, _)| *known == kind).map_or(0, |(_, count)| *count)
    }

    /// All values, nulls among them.
    pub(super) fn all(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Whether one family has 99 % of the values that are not null, or all are null.
    pub(super) fn is_of_one_family(&self) -> bool {
        !matches!(self.ruling(Dialect::NEW), Ruling::Mixed | Ruling::Family(TypeFamily::Other))
    }

    /// Whether that family is that of documents.
    pub(super) fn is_mostly_documents(&self) -> bool {
        self.ruling(Dialect::NEW) == Ruling::Family(TypeFamily::Document)
    }

    pub(super) fn family_count(&self, family: TypeFamily) -> u64 {
        let sum = |kinds: &[Kind]| kinds.iter().map(|kind| self.count(*kind)).sum::<u64>();
        match family {
            TypeFamily::Document => self.count(Kind::Document),
            TypeFamily::Array => self.count(Kind::Array),
            TypeFamily::Text => self.count(Kind::String),
            TypeFamily::Number => sum(&NUMBERS),
            TypeFamily::Time => self.count(Kind::DateTime),
            TypeFamily::Truth => self.count(Kind::Boolean),
            TypeFamily::Id => self.count(Kind::ObjectId),
            TypeFamily::Uuid => self.uuid,
            TypeFamily::Binary => self.plain_binary,
            TypeFamily::Other => {
                // Null and the old `undefined` are of no family.
                let kinds = [
                    Kind::Regex,
                    Kind::DbPointer,
                    Kind::JavaScript,
                    Kind::Symbol,
                    Kind::CodeWithScope,
                    Kind::Timestamp,
                    Kind::MaxKey,
                    Kind::MinKey,
                ];
                sum(&kinds) + self.count(Kind::Binary).saturating_sub(self.uuid + self.plain_binary)
            }
        }
    }

    /// The family with most values that are not null; in gizer's dialect only if it holds at least 99 % of them.
    pub(super) fn ruling(&self, dialect: Dialect) -> Ruling {
        let (mut largest, mut most, mut total) = (TypeFamily::Document, 0, 0);
        for family in TypeFamily::VARIANTS {
            let count = self.family_count(*family);
            total += count;
            if count > most {
                (largest, most) = (*family, count);
            }
        }
        match dialect {
            _ if most == 0 => Ruling::Nothing,
            Dialect::Gizer { .. } if u128::from(most) * 100 < u128::from(total) * 99 => Ruling::Mixed,
            Dialect::Gizer { .. } | Dialect::Classic => Ruling::Family(largest),
        }
    }

    pub(super) fn number(&self, dialect: Dialect) -> ScalarType {
        let has = |kind| self.count(kind) > 0;
        match dialect {
            Dialect::Classic if has(Kind::Double) || has(Kind::Decimal128) => ScalarType::Double,
            Dialect::Gizer { .. } if has(Kind::Decimal128) => ScalarType::Decimal,
            Dialect::Gizer { .. } if has(Kind::Double) && self.wide_int64 > 0 => ScalarType::Decimal,
            Dialect::Gizer { .. } if has(Kind::Double) => ScalarType::Double,
            _ if has(Kind::Int64) => ScalarType::BigInt,
            _ => ScalarType::Int,
        }
    }

    /// The type of a column for a family; `None` of documents and arrays.
    pub(super) fn scalar_of(&self, family: TypeFamily, dialect: Dialect) -> Option<ScalarType> {
        Some(match family {
            TypeFamily::Document | TypeFamily::Array => return None,
            TypeFamily::Text => ScalarType::String,
            TypeFamily::Number => self.number(dialect),
            TypeFamily::Time => ScalarType::Timestamp,
            TypeFamily::Truth => ScalarType::Boolean,
            TypeFamily::Id => ScalarType::ObjectId,
            TypeFamily::Uuid => ScalarType::Uuid,
            TypeFamily::Binary => ScalarType::Binary,
            TypeFamily::Other => ScalarType::Json,
        })
    }

    /// The types seen, without null.
    pub(super) fn seen(&self) -> Vec<(Kind, u64)> {
        let kinds = Kind::ALL.iter().copied().filter(|kind| !matches!(kind, Kind::Null | Kind::Undefined));
        kinds.map(|kind| (kind, self.count(kind))).filter(|(_, count)| *count > 0).collect()
    }

    /// Whether values were seen that the chosen type has no place for, or may not hold exactly.
    pub(super) fn is_worth_telling(&self, dialect: Dialect, ruling: &Ruling) -> bool {
        let Ruling::Family(chosen) = *ruling else { return *ruling == Ruling::Mixed };
        let strays = TypeFamily::VARIANTS.iter().any(|family| *family != chosen && self.family_count(*family) > 0);
        let [int32, int64, double, decimal] = NUMBERS.map(|kind| self.count(kind) > 0);
        let inexact = match dialect {
            Dialect::Classic => decimal || (int64 && double),
            Dialect::Gizer { .. } => [int32, int64, double, decimal].into_iter().filter(|seen| *seen).count() > 1,
        };
        let no_type =
            dialect == Dialect::Classic && matches!(chosen, TypeFamily::Uuid | TypeFamily::Binary | TypeFamily::Other);
        strays || no_type || (chosen == TypeFamily::Number && inexact)
    }
}
