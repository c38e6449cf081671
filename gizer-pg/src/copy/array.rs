//! PostgreSQL arrays in binary (`array_recv` in PostgreSQL's `arrayfuncs.c`).
//!
//! Number of dimensions, whether a NULL is among the elements, the elements' type, then for each dimension its length
//! and its lower bound, then the elements as fields of a tuple are. An empty array has no dimensions.
//!
//! gizer-verify reads the same form by code of its own, the numbers of types included: it judges what is written here.

use gizer_flatten::{Cell, RawList};
use gizer_schema::ColumnType;

use super::wire::{end_value, start_value, write_cell};

/// Dimensions, NULLs, and type: what an empty array consists of.
const EMPTY: usize = 12;

/// Appends length and value of an array.
#[inline(never)]
pub(super) fn write(out: &mut Vec<u8>, list: RawList<'_>) {
    let start = start_value(out);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&0i32.to_be_bytes());
    out.extend_from_slice(&element_oid(list.element_type()).to_be_bytes());
    // Known once the elements have come.
    out.extend_from_slice(&0i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let (mut elements, mut has_null) = (0i32, false);
    for cell in list.cells() {
        has_null |= matches!(cell, Cell::Null);
        elements += 1;
        write_cell(out, &cell);
    }
    if elements == 0 {
        out[start..start + 4].copy_from_slice(&0i32.to_be_bytes());
        out.truncate(start + EMPTY);
    } else {
        out[start + 4..start + 8].copy_from_slice(&i32::from(has_null).to_be_bytes());
        out[start + EMPTY..start + EMPTY + 4].copy_from_slice(&elements.to_be_bytes());
    }
    end_value(out, start);
}

/// The type's `pg_type.oid`, which is the same on every server (`pg_type.dat`).
pub(crate) fn element_oid(ty: ColumnType) -> u32 {
    match ty {
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
    }
}
