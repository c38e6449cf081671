//! The bytes of one COPY in binary format: a header, tuples, a trailer.
//!
//! A tuple is the number of its fields (16 bits), then each field as its length (32 bits) and its value in the binary
//! form of its type; a NULL has the length −1. Everything is big-endian.

use gizer_flatten::{Cell, Extra};

use super::timestamp::to_postgres_micros;
use super::{array, numeric};

/// Signature, flags (no OIDs), and the length of the header's extension (none).
pub(crate) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The file trailer: a tuple with −1 fields.
pub(crate) const TRAILER: [u8; 2] = (-1i16).to_be_bytes();

const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// `jsonb` begins with a version; so far there is one (`jsonb_recv` in PostgreSQL's `jsonb.c`).
const JSONB_VERSION: u8 = 1;

/// Most bytes of a cell of fixed length: length and value of an ObjectId's 24 digits.
const FIXED_CELL: usize = 28;

/// Appends a tuple; `fields` is the number of its columns, as [`field_count`] has it. The column `_extra`, if the table
/// has one, is the last.
pub(crate) fn write_tuple(out: &mut Vec<u8>, fields: [u8; 2], cells: &[Cell<'_>], extra: Option<Extra<'_>>) {
    // One check of the capacity for all cells of fixed length.
    out.reserve(fields.len() + (cells.len() + 1) * FIXED_CELL);
    out.extend_from_slice(&fields);
    for cell in cells {
        write_cell(out, cell);
    }
    match extra {
        None => {}
        Some(extra) if extra.is_empty() => out.extend_from_slice(&NULL),
        Some(extra) => write_jsonb(out, |out| extra.write_to(out)),
    }
}

/// The number of fields as a tuple begins with it.
pub(crate) fn field_count(columns: usize) -> [u8; 2] {
    i16::try_from(columns)
        .expect("PostgreSQL has at most 1,600 columns a table, and Layout keeps to that")
        .to_be_bytes()
}

/// Appends length and value of a cell.
#[inline]
pub(crate) fn write_cell(out: &mut Vec<u8>, cell: &Cell<'_>) {
    match *cell {
        Cell::Null => out.extend_from_slice(&NULL),
        Cell::Text(text) => write_bytes(out, text.as_bytes()),
        Cell::ObjectId(id) => out.extend_from_slice(&object_id(id)),
        Cell::SmallInt(value) => out.extend_from_slice(&fixed::<2, 6>(value.to_be_bytes())),
        Cell::Integer(value) => out.extend_from_slice(&fixed::<4, 8>(value.to_be_bytes())),
        Cell::BigInt(value) => out.extend_from_slice(&fixed::<8, 12>(value.to_be_bytes())),
        // The bits as they are: NaN, infinities and −0 are values of float8.
        Cell::Double(value) => out.extend_from_slice(&fixed::<8, 12>(value.to_bits().to_be_bytes())),
        Cell::Boolean(value) => out.extend_from_slice(&fixed::<1, 5>([u8::from(value)])),
        Cell::Timestamp(millis) => {
            out.extend_from_slice(&fixed::<8, 12>(to_postgres_micros(millis).to_be_bytes()));
        }
        Cell::Numeric(number) => numeric::write(out, number),
        Cell::NumericNaN => out.extend_from_slice(&numeric::NAN),
        Cell::Bytes(bytes) => write_bytes(out, bytes),
        Cell::Uuid(uuid) => out.extend_from_slice(&fixed::<16, 20>(uuid)),
        Cell::Json(json) => write_jsonb(out, |out| json.write_to(out)),
        Cell::Key(key) => {
            let start = start_value(out);
            key.write_to(out);
            end_value(out, start);
        }
        Cell::List(list) => array::write(out, list),
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&length(bytes.len()));
    out.extend_from_slice(bytes);
}

fn write_jsonb(out: &mut Vec<u8>, text: impl FnOnce(&mut Vec<u8>)) {
    let start = start_value(out);
    out.push(JSONB_VERSION);
    text(out);
    end_value(out, start);
}

/// Leaves room for the length of a value that is known once it is written, and tells where the value begins.
pub(crate) fn start_value(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len()
}

/// Fills in the length of the value that begins at `start` and ends here.
pub(crate) fn end_value(out: &mut [u8], start: usize) {
    let length = length(out.len() - start);
    out[start - 4..start].copy_from_slice(&length);
}

fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).expect("a value of a document of at most 16 MiB takes less than 2 GiB").to_be_bytes()
}

/// Length and value in one array, which is one copy; `WITH_LENGTH` is `LEN` + 4.
#[inline]
fn fixed<const LEN: usize, const WITH_LENGTH: usize>(value: [u8; LEN]) -> [u8; WITH_LENGTH] {
    const { assert!(LEN + 4 == WITH_LENGTH) };
    let mut cell = [0; WITH_LENGTH];
    cell[3] = LEN as u8;
    cell[4..].copy_from_slice(&value);
    cell
}

/// An ObjectId as text: its length and 24 lower-case hex digits.
#[inline]
fn object_id(id: [u8; 12]) -> [u8; FIXED_CELL] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut cell = [0; FIXED_CELL];
    cell[3] = 24;
    for (digits, byte) in cell[4..].chunks_exact_mut(2).zip(id) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    cell
}
