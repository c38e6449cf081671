//! The root key of a document, from its `_id` alone.

use gizer_schema::raw::{Element, Kind, Malformed, RawDoc, Value};
use gizer_schema::{ColumnType, KeySource, Layout, Plan};

use crate::column_type::fit;
use crate::flatten::RejectReason;
use crate::row::Cell;
use crate::tally::Unfit;

/// Longest text or binary key in bytes: a btree entry with indexes ends at 2,704 bytes.
pub(crate) const MAX_KEY_BYTES: usize = 1_000;

/// Where documents have the root key, and how it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyShape {
    source: KeySource,
    ty: ColumnType,
    /// Whether the key is an ObjectId in two columns.
    pair: bool,
}

impl KeyShape {
    pub(crate) fn of(layout: &Layout) -> KeyShape {
        let source = layout.key.source;
        let field = layout.document.fields.iter().find(|field| field.name == source.field());
        let pair = field.is_some_and(|field| matches!(field.plan, Plan::ObjectIdPair { .. }));
        KeyShape { source, ty: layout.key.ty, pair }
    }

    /// The root key of a document; reads only up to the key's field.
    pub(crate) fn key_of<'b>(&self, document: RawDoc<'b>) -> Result<Cell<'b>, RejectReason> {
        let expected = if self.pair { "OBJECTID" } else { self.ty.schema_name() };
        let cell = match document.get(self.source.field().as_bytes())? {
            None => Ok(Cell::Null),
            Some(element) if self.pair => pair_key(&element)?,
            Some(element) => fit(self.ty, &element)?,
        };
        match (cell, self.source) {
            (Ok(Cell::Null), KeySource::UnderscoreId) => Err(RejectReason::NoKey { expected }),
            (Ok(cell), KeySource::UnderscoreId) if key_bytes(&cell) > MAX_KEY_BYTES => {
                Err(RejectReason::KeyTooLong { bytes: key_bytes(&cell) })
            }
            (Ok(cell), _) => Ok(cell),
            (Err(actual), KeySource::UnderscoreId) => Err(RejectReason::KeyUnfit { expected, actual }),
            // `id` is optional: the row has no key, as in the classic tool; its column counts why.
            (Err(_), KeySource::Id) => Ok(Cell::Null),
        }
    }
}

/// The longest key of a row, of the root key and of all positions, in bytes. An entry of a PostgreSQL btree ends at 2,704 bytes;
/// what is left is for headers and alignment.
const MAX_ROW_KEY_BYTES: usize = 2_600;

/// Bytes of a position that are not its text, at most: header and alignment, or a `bigint`.
const POSITION_BYTES: usize = 8;

/// Whether the key of a row fits into an entry of an index, and so do those of rows in so many arrays below.
pub(crate) fn fits_index(root_key: &Cell<'_>, positions: &[Cell<'_>], arrays_below: usize) -> bool {
    let root = match root_key {
        // As long as the tagged form may be.
        Cell::Key(_) => MAX_KEY_BYTES,
        // Hexadecimal digits, or a value of fixed size.
        _ => key_bytes(root_key).max(24),
    };
    let positions: usize = positions.iter().map(|position| POSITION_BYTES + key_bytes(position)).sum();
    root + positions + arrays_below * POSITION_BYTES <= MAX_ROW_KEY_BYTES
}

fn key_bytes(cell: &Cell<'_>) -> usize {
    match cell {
        Cell::Text(text) => text.as_bytes().len(),
        Cell::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

/// The key of an ObjectId in two columns, or of a sub-document `{oid, bsontype}`.
fn pair_key<'b>(element: &Element<'b>) -> Result<Result<Cell<'b>, Unfit>, Malformed> {
    Ok(match element.value()? {
        Value::ObjectId(id) => Ok(Cell::ObjectId(id)),
        Value::Null => Ok(Cell::Null),
        Value::Document(document) => {
            // With other fields two documents could have one key.
            let alone = document.elements().all(|e| e.is_ok_and(|e| matches!(e.name, b"oid" | b"bsontype")));
            match document.get(b"oid")? {
                Some(oid) if alone && document.elements().count() <= 2 => fit(ColumnType::Text, &oid)?,
                _ => Err(Unfit::Kind(Kind::Document)),
            }
        }
        _ => Err(Unfit::Kind(element.kind)),
    })
}
