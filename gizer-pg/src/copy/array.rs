//! PostgreSQL arrays in binary (`array_recv` in PostgreSQL's `arrayfuncs.c`).
//!
//! Number of dimensions, whether a NULL is among the elements, the elements' type, then for each dimension its length
//! and its lower bound, then the elements as fields of a tuple are. An empty array has no dimensions.
//!
//! gizer-verify reads the same form by code of its own, the numbers of types included: it judges what is written here.

use gizer_flatten::{Cell, RawList};

use super::wire::{end_value, start_value, write_cell};
use crate::column_type::type_oid;

/// Dimensions, NULLs, and type: what an empty array consists of.
const EMPTY: usize = 12;

/// Appends length and value of an array.
#[inline(never)]
pub(super) fn write(out: &mut Vec<u8>, list: RawList<'_>) {
    let start = start_value(out);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&0i32.to_be_bytes());
    out.extend_from_slice(&type_oid(list.element_type()).to_be_bytes());
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
