//! Stored fields as the values that they are: PostgreSQL's binary formats, read as its `*_send` functions write them.
//!
//! Shares nothing with the encoder of gizer-pg, nor with the comparison of cells in `field`: each has to find the
//! other's faults.

use gizer_flatten::{RebuildError, StoredCell, StoredRow};
use gizer_schema::{ColumnType, Table};

use crate::field::FieldReader;

/// Milliseconds from 1970-01-01 to 2000-01-01, the zero of PostgreSQL's times.
const EPOCH_MILLIS: i64 = 946_684_800_000;

/// A row of this table.
///
/// # Errors
/// [`RebuildError::Cell`] where a field is not of the form of its column's type.
pub(crate) fn row(table: &Table, mut fields: FieldReader<'_>) -> Result<StoredRow, RebuildError> {
    let wrong = |at: usize| RebuildError::Cell {
        table: table.name.clone(),
        column: table.columns[at].name.clone(),
        expected: table.columns[at].ty.schema_name(),
    };
    let mut row = StoredRow { cells: Vec::with_capacity(table.columns.len()), extra: None };
    let cells = table.columns.len() - usize::from(table.has_extra);
    for (at, column) in table.columns.iter().enumerate() {
        let cell = match fields.field().ok_or_else(|| wrong(at))? {
            None => StoredCell::Null,
            Some(field) => cell(column.ty, field).ok_or_else(|| wrong(at))?,
        };
        match cell {
            cell if at < cells => row.cells.push(cell),
            StoredCell::Json(extra) => row.extra = Some(extra),
            _ => {}
        }
    }
    Ok(row)
}

pub(crate) fn cell(ty: ColumnType, field: &[u8]) -> Option<StoredCell> {
    Some(match ty {
        ColumnType::Text | ColumnType::ObjectId | ColumnType::Key => {
            StoredCell::Text(std::str::from_utf8(field).ok()?.to_owned())
        }
        ColumnType::SmallInt => StoredCell::SmallInt(i16::from_be_bytes(field.try_into().ok()?)),
        ColumnType::Integer => StoredCell::Integer(i32::from_be_bytes(field.try_into().ok()?)),
        ColumnType::BigInt => StoredCell::BigInt(i64::from_be_bytes(field.try_into().ok()?)),
        ColumnType::Double => StoredCell::Double(f64::from_be_bytes(field.try_into().ok()?)),
        ColumnType::Boolean => StoredCell::Boolean(match field {
            [0] => false,
            [1] => true,
            _ => return None,
        }),
        ColumnType::TimestampTz => StoredCell::Timestamp(millis(field)?),
        ColumnType::Numeric => StoredCell::Numeric(numeric(field)?),
        ColumnType::Bytea => StoredCell::Bytes(field.to_vec()),
        ColumnType::Uuid => StoredCell::Uuid(field.try_into().ok()?),
        // The version of the form, and the text.
        ColumnType::Json => StoredCell::Json(serde_json::from_slice(field.strip_prefix(&[1])?).ok()?),
        ColumnType::List(element) => {
            let mut cells = Vec::new();
            for field in ListElements::of(field)? {
                cells.push(match field? {
                    None => StoredCell::Null,
                    Some(field) => cell(element.into(), field)?,
                });
            }
            StoredCell::List(cells)
        }
    })
}

/// A `timestamptz`: microseconds since 2000-01-01. `None` if a date of MongoDB cannot be it: it has no microseconds.
pub(super) fn millis(field: &[u8]) -> Option<i64> {
    let micros = i64::from_be_bytes(field.try_into().ok()?);
    (micros % 1_000 == 0).then_some(micros / 1_000 + EPOCH_MILLIS)
}

/// A `numeric` as PostgreSQL prints it: groups of four digits, the first worth 10,000^`weight`, and how many digits are
/// shown behind the point.
fn numeric(field: &[u8]) -> Option<String> {
    let (words, []) = field.as_chunks::<2>() else { return None };
    let [count, weight, sign, scale, groups @ ..] = words else { return None };
    if groups.len() != usize::from(u16::from_be_bytes(*count)) {
        return None;
    }
    let minus = match u16::from_be_bytes(*sign) {
        0 => "",
        0x4000 => "-",
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let weight = i32::from(i16::from_be_bytes(*weight));
    let scale = usize::from(u16::from_be_bytes(*scale));
    let group = |worth: i32| {
        let group = usize::try_from(weight - worth).ok().and_then(|at| groups.get(at));
        group.map_or(0, |group| u16::from_be_bytes(*group))
    };
    let whole: String = (0..=weight.max(0)).rev().map(|worth| format!("{:04}", group(worth))).collect();
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    if scale == 0 {
        return Some(format!("{minus}{whole}"));
    }
    let shown = scale.div_ceil(4) as i32;
    let fraction: String = (1..=shown).map(|place| format!("{:04}", group(-place))).collect();
    Some(format!("{minus}{whole}.{}", &fraction[..scale]))
}

/// The elements of an array of one dimension: its header, then fields.
pub(super) struct ListElements<'f> {
    rest: FieldReader<'f>,
    left: usize,
}

impl<'f> ListElements<'f> {
    /// Number of dimensions, whether NULLs are among the elements, and their type; length and lower bound of the
    /// dimension. An array without elements has no dimension. `None` if it is of another form.
    pub(super) fn of(field: &'f [u8]) -> Option<ListElements<'f>> {
        let (header, rest) = field.split_first_chunk::<12>()?;
        match header[..4] {
            [0, 0, 0, 0] if rest.is_empty() => Some(ListElements { rest: FieldReader::new(rest), left: 0 }),
            [0, 0, 0, 1] => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let rest = rest.strip_prefix(&[0, 0, 0, 1])?;
                Some(ListElements { rest: FieldReader::new(rest), left: u32::from_be_bytes(*length) as usize })
            }
            _ => None,
        }
    }
}

impl<'f> Iterator for ListElements<'f> {
    /// The element, NULL as `None`; or `None` if there is none where one should be, or something follows the last one.
    type Item = Option<Option<&'f [u8]>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            // Said once.
            let left = std::mem::replace(&mut self.rest, FieldReader::new(&[])).left();
            return (left > 0).then_some(None);
        }
        self.left -= 1;
        let field = self.rest.field();
        if field.is_none() {
            (self.left, self.rest) = (0, FieldReader::new(&[]));
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gizer_schema::ScalarType;

    fn words(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// As PostgreSQL 15 sends them.
    #[test]
    fn numbers_read_as_the_server_prints_them() {
        let cases: [(&[u16], &str); 9] = [
            (&[2, 0, 0, 2, 1, 5000], "1.50"),
            (&[3, 1, 0x4000, 3, 1, 2345, 6780], "-12345.678"),
            (&[0, 0, 0, 2], "0.00"),
            (&[0, 0, 0, 0], "0"),
            (&[1, 1, 0, 0, 100], "1000000"),
            (&[1, 0xFFFF, 0, 4, 1], "0.0001"),
            (&[1, 0xFFFE, 0, 7, 10], "0.0000001"),
            (&[0, 0, 0xC000, 0], "NaN"),
            (&[0, 0, 0xF000, 0], "-Infinity"),
        ];
        for (field, text) in cases {
            assert_eq!(numeric(&words(field)).as_deref(), Some(text));
        }
        assert_eq!(numeric(&words(&[2, 0, 0, 0, 1])), None, "a group is missing");
        assert_eq!(numeric(&[0; 7]), None);
    }

    #[test]
    fn times_are_milliseconds() {
        assert_eq!(millis(&0i64.to_be_bytes()), Some(946_684_800_000));
        assert_eq!(millis(&(-946_684_800_000_000i64 - 5_000).to_be_bytes()), Some(-5));
        assert_eq!(millis(&1i64.to_be_bytes()), None, "a microsecond");
        assert_eq!(millis(&i64::MAX.to_be_bytes()), None, "infinity");
    }

    #[test]
    fn arrays_have_one_dimension_and_end_where_they_say() {
        let ty = ColumnType::List(ScalarType::TinyInt);
        let list = |tail: &[u8]| cell(ty, &[&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 21], tail].concat());
        let two = [0, 0, 0, 2, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 2, 0, 7];
        assert_eq!(list(&two), Some(StoredCell::List(vec![StoredCell::Null, StoredCell::SmallInt(7)])));
        assert_eq!(list(&two[..two.len() - 1]), None, "cut off");
        assert_eq!(list(&[&two[..], &[0]].concat()), None, "something follows");
        assert_eq!(list(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 7]), None, "it begins at 2");
        assert_eq!(cell(ty, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 21]), Some(StoredCell::List(vec![])));
        assert_eq!(cell(ty, &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 21]), None);
    }
}
