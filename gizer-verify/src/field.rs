//! Whether a stored field is what a cell says.
//!
//! Fields are read as PostgreSQL's `*_send` functions write them. Nothing here is shared with the encoder that wrote them
//! (`copy` in gizer-pg), though both know the same formats and look alike in places: a fault that both had would not be seen.

use gizer_flatten::{Cell, Extra, RawList};
use gizer_schema::ColumnType;

use crate::json;
use crate::numeric::Numeric;

/// Microseconds from 1970-01-01 to 2000-01-01, the zero of PostgreSQL's times.
pub(crate) const EPOCH_MICROS: i128 = 946_684_800_000_000;

/// Compares cells with fields; keeps a buffer for those that are written out to be compared.
#[derive(Debug, Default)]
pub(crate) struct FieldComparer {
    text: Vec<u8>,
}

impl FieldComparer {
    /// Whether the field holds what the cell says; `None` is NULL.
    pub(crate) fn hold(&mut self, field: Option<&[u8]>, cell: &Cell<'_>) -> bool {
        let Some(field) = field else { return *cell == Cell::Null };
        match *cell {
            Cell::Null => false,
            Cell::Text(text) => field == text.as_bytes(),
            Cell::ObjectId(id) => is_hex(field, id),
            Cell::SmallInt(value) => number(field).map(i16::from_be_bytes) == Some(value),
            Cell::Integer(value) => number(field).map(i32::from_be_bytes) == Some(value),
            Cell::BigInt(value) => number(field).map(i64::from_be_bytes) == Some(value),
            // By its bits: NaN is not equal to itself, and −0 is equal to 0.
            Cell::Double(value) => number(field).map(u64::from_be_bytes) == Some(value.to_bits()),
            Cell::Boolean(value) => *field == [u8::from(value)],
            Cell::Timestamp(millis) => number(field)
                .map(i64::from_be_bytes)
                .is_some_and(|micros| i128::from(micros) + EPOCH_MICROS == i128::from(millis) * 1_000),
            Cell::Numeric(value) => Numeric::decode(field).is_some_and(|stored| stored.is(value)),
            Cell::NumericNaN => Numeric::decode(field) == Some(Numeric::NaN),
            Cell::Bytes(bytes) => field == bytes,
            Cell::Uuid(uuid) => *field == uuid,
            Cell::Json(json) => self.holds_json(field, |text| json.write_to(text)),
            Cell::Key(key) => {
                self.text.clear();
                key.write_to(&mut self.text);
                field == self.text
            }
            Cell::List(list) => self.holds_list(field, list),
        }
    }

    /// Whether the field of `_extra` holds this.
    pub(crate) fn hold_extra(&mut self, field: Option<&[u8]>, extra: Extra<'_>) -> bool {
        match field {
            None => extra.is_empty(),
            Some(field) => !extra.is_empty() && self.holds_json(field, |text| extra.write_to(text)),
        }
    }

    fn holds_json(&mut self, field: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> bool {
        // The version of the form, and the text.
        let [1, stored @ ..] = field else { return false };
        self.text.clear();
        write(&mut self.text);
        json::same(&self.text, stored)
    }

    /// An array: dimensions, a flag for NULLs, the elements' type; length and lower bound of the dimension; elements. One
    /// without elements has no dimension.
    fn holds_list(&mut self, field: &[u8], list: RawList<'_>) -> bool {
        let mut rest = FieldReader::new(field);
        let (Some(dimensions), Some(_), Some(ty)) = (rest.i32(), rest.i32(), rest.i32()) else { return false };
        let mut cells = list.cells();
        if dimensions == 0 {
            return rest.left() == 0 && cells.next().is_none();
        }
        let (Some(length), Some(1)) = (rest.i32(), rest.i32()) else { return false };
        if dimensions != 1 || !is_type(ty, list.element_type()) {
            return false;
        }
        for _ in 0..length {
            let (Some(stored), Some(cell)) = (rest.field(), cells.next()) else { return false };
            if !self.hold(stored, &cell) {
                return false;
            }
        }
        rest.left() == 0 && cells.next().is_none()
    }
}

/// In the place of a length: the field is the row's key, which is elsewhere.
pub(crate) const IS_KEY: i32 = -2;

/// Takes numbers and fields from the front of bytes.
pub(crate) struct FieldReader<'b> {
    rest: &'b [u8],
    /// What a field is that is [`IS_KEY`].
    key: &'b [u8],
}

impl<'b> FieldReader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> FieldReader<'b> {
        FieldReader { rest: bytes, key: &[] }
    }

    /// Of a row whose key is elsewhere.
    pub(crate) fn of_row(bytes: &'b [u8], key: &'b [u8]) -> FieldReader<'b> {
        FieldReader { rest: bytes, key }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(i32::from_be_bytes(*head))
    }

    /// A value with its length before it; `Some(None)` is NULL, whose length is −1.
    pub(crate) fn field(&mut self) -> Option<Option<&'b [u8]>> {
        let length = self.i32()?;
        match length {
            -1 => return Some(None),
            IS_KEY => return Some(Some(self.key)),
            _ => {}
        }
        let (value, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(Some(value))
    }
}

fn number<const LEN: usize>(field: &[u8]) -> Option<[u8; LEN]> {
    field.try_into().ok()
}

fn is_hex(field: &[u8], id: [u8; 12]) -> bool {
    let (pairs, []) = field.as_chunks::<2>() else { return false };
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    pairs.len() == id.len()
        && pairs
            .iter()
            .zip(id)
            .all(|([high, low], byte)| value(*high).zip(value(*low)).is_some_and(|(high, low)| high << 4 | low == byte))
}

/// Whether an array's elements are of this type, by its `pg_type.oid`. The table is the judge's own: it shares none with gizer-pg. Only for arrays whose column says so already:
/// an array of domains or the like cannot be in it.
fn is_type(oid: i32, ty: ColumnType) -> bool {
    let expected = match ty {
        ColumnType::Boolean => 16,
        ColumnType::Bytea => 17,
        ColumnType::BigInt => 20,
        ColumnType::SmallInt => 21,
        ColumnType::Integer => 23,
        ColumnType::Text | ColumnType::ObjectId | ColumnType::Key => 25,
        ColumnType::Double => 701,
        ColumnType::TimestampTz => 1184,
        ColumnType::Numeric => 1700,
        ColumnType::Uuid => 2950,
        ColumnType::Json | ColumnType::List(_) => 3802,
    };
    oid == expected
}

#[cfg(test)]
mod tests {
    use super::*;
    use gizer_flatten::Decimal;

    fn hold(field: &[u8], cell: Cell<'_>) -> bool {
        FieldComparer::default().hold(Some(field), &cell)
    }

    /// As the server sends them: seen with `int4send`, `float8send` and the like.
    #[test]
    fn a_field_holds_its_value_and_no_other() {
        let cases: Vec<(Vec<u8>, Cell<'_>)> = vec![
            (b"text".to_vec(), Cell::Text("text".into())),
            (b"00ab00000000000000000000".to_vec(), Cell::ObjectId([0, 0xAB, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            (b"00ab00000000000000000001".to_vec(), Cell::ObjectId([0, 0xAB, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])),
            (vec![0xFF, 0xFE], Cell::SmallInt(-2)),
            (vec![0xFF, 0xFF, 0xFF, 0xFE], Cell::Integer(-2)),
            (vec![0, 0, 0, 0, 0, 0, 0, 5], Cell::BigInt(5)),
            (vec![0, 0, 0, 0, 0, 0, 0, 6], Cell::BigInt(6)),
            (vec![0; 8], Cell::Double(0.0)),
            (vec![0x80, 0, 0, 0, 0, 0, 0, 0], Cell::Double(-0.0)),
            (vec![0x7F, 0xF8, 0, 0, 0, 0, 0, 0], Cell::Double(f64::NAN)),
            (vec![0x7F, 0xF8, 0, 0, 0, 0, 0, 1], Cell::Double(f64::from_bits(0x7FF8_0000_0000_0001))),
            (vec![1], Cell::Boolean(true)),
            (vec![0], Cell::Boolean(false)),
            // 1999-12-31 23:59:59.999 and 1970-01-01.
            (vec![0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFC, 0x18], Cell::Timestamp(946_684_799_999)),
            (vec![0xFF, 0xFC, 0xA2, 0xFE, 0xC4, 0xC8, 0x20, 0x00], Cell::Timestamp(0)),
            (vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 7], Cell::Numeric(Decimal::from_integer(7))),
            (vec![0, 0, 0, 0, 0xC0, 0, 0, 0], Cell::NumericNaN),
            (vec![1, 2, 3], Cell::Bytes(&[1, 2, 3])),
            (vec![9; 16], Cell::Uuid([9; 16])),
        ];
        for (i, (field, _)) in cases.iter().enumerate() {
            assert!(!hold(field, Cell::Null));
            for (j, (_, cell)) in cases.iter().enumerate() {
                assert_eq!(hold(field, *cell), i == j, "{field:?} and {cell:?}");
                assert!(!FieldComparer::default().hold(None, cell));
            }
        }
        assert!(FieldComparer::default().hold(None, &Cell::Null));
        assert!(
            !hold(b"00AB00000000000000000000", Cell::ObjectId([0, 0xAB, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            "lower case"
        );
        let micro = (-946_684_800_000_000i64 + 1).to_be_bytes();
        assert!(!hold(&micro, Cell::Timestamp(0)), "a microsecond more");
    }
}
