//! How many bytes values have in a row at least.
//!
//! A row lies in one page of 8 kB (PostgreSQL documentation, "Database Page Layout"). Text and the like can be stored outside of it
//! ("TOAST") and leave a pointer then; numbers cannot, and begin at multiples of their length.

use std::ops::{AddAssign, Sub};

use crate::column_type::ScalarType;
use crate::raw::{Element, Kind};

/// What is longer than a pointer of 18 bytes, rounded up, can be stored outside, and leaves no more than that.
const OUTSIDE: usize = 24;

/// Bytes of values in one row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RowWidth {
    /// Bytes of values that begin anywhere, and how many there are.
    anywhere: usize,
    beginnings: usize,
    /// Numbers of four and of eight bytes.
    fours: usize,
    eights: usize,
}

impl RowWidth {
    /// Adds a value, if it has a column, whose type may be wider. Types of values are hard to predict: there are no branches.
    pub(super) fn add_value(&mut self, element: &Element<'_>) {
        let is_nothing = matches!(element.kind, Kind::Null | Kind::Undefined | Kind::Array | Kind::Document);
        let is_number =
            matches!(element.kind, Kind::Boolean | Kind::Int32 | Kind::Int64 | Kind::Double | Kind::DateTime);
        // A byte of length, and the text without the length and the end that it has in BSON.
        let text = element.bytes.len().saturating_sub(4).min(OUTSIDE);
        let bytes = if element.kind == Kind::String { text } else { OUTSIDE };
        let is_anywhere = usize::from(!is_nothing & !is_number);
        self.eights += usize::from(is_number);
        self.anywhere += is_anywhere * bytes;
        self.beginnings += is_anywhere;
    }

    /// The most of a column of this type.
    pub(super) fn of_column(scalar: ScalarType) -> RowWidth {
        match scalar {
            ScalarType::Boolean => RowWidth::anywhere(1),
            ScalarType::TinyInt => RowWidth::anywhere(2),
            ScalarType::Int => RowWidth { fours: 1, ..RowWidth::default() },
            ScalarType::BigInt | ScalarType::Double | ScalarType::Timestamp => {
                RowWidth { eights: 1, ..RowWidth::default() }
            }
            ScalarType::Uuid => RowWidth::anywhere(16),
            ScalarType::String
            | ScalarType::ObjectId
            | ScalarType::Decimal
            | ScalarType::Binary
            | ScalarType::Json
            | ScalarType::Key => RowWidth::anywhere(OUTSIDE),
        }
    }

    /// Of a value in a column that takes any type, or any number: as text.
    pub(super) const AS_TEXT: usize = OUTSIDE;

    pub(super) fn anywhere(bytes: usize) -> RowWidth {
        RowWidth { anywhere: bytes, beginnings: 1, ..RowWidth::default() }
    }

    /// All bytes, with those that are left free before numbers where columns come in the worst order.
    pub(super) fn bytes(&self) -> usize {
        let RowWidth { anywhere, beginnings, fours, eights } = *self;
        anywhere + 4 * fours + 8 * eights + 3 * fours.min(beginnings) + 7 * eights.min(beginnings + fours)
    }
}

impl AddAssign for RowWidth {
    fn add_assign(&mut self, other: RowWidth) {
        self.anywhere += other.anywhere;
        self.beginnings += other.beginnings;
        self.fours += other.fours;
        self.eights += other.eights;
    }
}

impl Sub for RowWidth {
    type Output = RowWidth;

    fn sub(self, other: RowWidth) -> RowWidth {
        RowWidth {
            anywhere: self.anywhere.saturating_sub(other.anywhere),
            beginnings: self.beginnings.saturating_sub(other.beginnings),
            fours: self.fours.saturating_sub(other.fours),
            eights: self.eights.saturating_sub(other.eights),
        }
    }
}
