//! The inverse of flattening: rebuilds a document from its rows.
//!
//! Only for dialect `gizer`: the classic one drops what does not fit.
//!
//! # What comes back
//! Everything, except
//!
//! * the order of fields;
//! * of numbers that MongoDB compares equal, the type: it is the column's, unless the schema says `exact_types`;
//!   `_id` of type `KEY` likewise;
//! * fields with policy `ignore`, and a field that is a document of only such fields: no column
//!   shows that it existed;
//! * duplicate names: nothing is lost, but their document is kept whole.

pub(crate) mod extended;
mod key_decode;
mod part;
pub(crate) mod value;

use std::collections::BTreeMap;

use gizer_schema::raw::{Kind, RawDoc};
use gizer_schema::{ColumnSource, ColumnType, Dialect, DocumentPlan, Layout, Plan, Table};
use serde_json::{Map, Value as Json};
use thiserror::Error;

use crate::change::id_document;
use crate::column_type::column_value;
use crate::row::RowPosition;
use key_decode::decode_key;
pub use part::{ExtraPart, extra_part};
use value::{BuiltFields, BuiltValue};

/// A stored row.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    /// One cell per column, in table order, without `_extra`.
    pub cells: Vec<StoredCell>,
    /// The column `_extra`; `None` for NULL.
    pub extra: Option<Json>,
}

/// A value of a stored row.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum StoredCell {
    Null,
    Text(String),
    SmallInt(i16),
    Integer(i32),
    BigInt(i64),
    Double(f64),
    Boolean(bool),
    /// Milliseconds since 1970-01-01 UTC.
    Timestamp(i64),
    /// As PostgreSQL prints it.
    Numeric(String),
    Bytes(Vec<u8>),
    Uuid([u8; 16]),
    Json(Json),
    List(Vec<StoredCell>),
}

/// Rows that do not form one document of dialect `gizer`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum RebuildError {
    /// The layout is of the classic dialect.
    #[error("a document cannot be rebuilt from tables of the classic dialect")]
    Classic,
    /// There is not exactly one row in the root table.
    #[error("expected one row in {table}, got {rows}")]
    RootRows { table: String, rows: usize },
    /// A cell is not of its column's type.
    #[error("{table}.{column} does not hold {expected}")]
    Cell { table: String, column: String, expected: &'static str },
    /// Array indexes of a child row are missing, or leave a gap.
    #[error("{table} has no row at position {position} of an array that is longer")]
    Gap { table: String, position: i64 },
    /// Child rows have no parent row.
    #[error("{table} has rows of an array that no row has")]
    Orphans { table: String },
    /// `_extra` is not what gizer writes.
    #[error("{table}._extra does not hold {expected} at {pointer:?}")]
    Extra { table: String, expected: &'static str, pointer: String },
}

/// Rebuilds a document from its rows: a list per table, in layout order; rows in any order.
///
/// The result is BSON, since a `bson::Document` cannot hold invalid UTF-8 or duplicate fields.
///
/// # Errors
/// [`RebuildError`] if the rows do not form one document.
pub fn rebuild(layout: &Layout, rows: &[Vec<StoredRow>]) -> Result<Vec<u8>, RebuildError> {
    if layout.dialect == Dialect::Classic {
        return Err(RebuildError::Classic);
    }
    let [root] = rows[0].as_slice() else {
        return Err(RebuildError::RootRows { table: layout.tables[0].name.clone(), rows: rows[0].len() });
    };
    let mut by_position = Vec::with_capacity(rows.len());
    for (table, rows) in layout.tables.iter().zip(rows) {
        let indexed = rows.iter().map(|row| Ok((positions(table, row)?, row)));
        by_position.push(indexed.collect::<Result<BTreeMap<Vec<RowPosition>, &StoredRow>, RebuildError>>()?);
    }
    let mut rebuild = Rebuild { layout, rows: by_position, used: vec![0; rows.len()] };
    let fields = rebuild.document(&layout.document, 0, root, &[])?;
    let document = rebuild.with_extra(0, root, BuiltValue::Document(fields))?;
    for (at, table) in layout.tables.iter().enumerate().skip(1) {
        if rebuild.used[at] != rows[at].len() {
            return Err(RebuildError::Orphans { table: table.name.clone() });
        }
    }
    match document.encode() {
        Some((Kind::Document, bytes)) => Ok(bytes),
        _ => Err(RebuildError::Extra {
            table: layout.tables[0].name.clone(),
            expected: "a document",
            pointer: String::new(),
        }),
    }
}

/// The `_id` from a root row, even with a hashed key; `None` if the row does not tell.
pub fn rebuild_id(layout: &Layout, root: &StoredRow) -> Option<Vec<u8>> {
    let rebuild = Rebuild { layout, rows: Vec::new(), used: Vec::new() };
    let cell = rebuild.cell(0, layout.tables[0].key.0, root).ok()?;
    let mut fields = BuiltFields::default();
    cell.into_iter().for_each(|id| fields.insert("_id".to_owned(), id));
    let mut document = BuiltValue::Document(fields);
    for (pointer, json) in root.extra.iter().filter_map(Json::as_object).flat_map(inner_first) {
        // A document kept whole has its `_id` too.
        if pointer.is_empty() || pointer == "/_id" || pointer.starts_with("/_id/") {
            set(&mut document, pointer, extended::value(json)?);
        }
    }
    let (_, bytes) = document.encode()?;
    Some(id_document(RawDoc::new(&bytes).ok()?).ok()??.to_vec())
}

fn positions(table: &Table, row: &StoredRow) -> Result<Vec<RowPosition>, RebuildError> {
    let data = table.data_columns();
    let cells = row.cells.get(data..data + table.positions).unwrap_or_default();
    if cells.len() != table.positions {
        return Err(wrong_cell(table, data, "a position"));
    }
    let position = |(i, cell): (usize, &StoredCell)| match cell {
        StoredCell::BigInt(position) => Ok(RowPosition::Index(*position)),
        StoredCell::Text(key) => Ok(RowPosition::Key(key.clone())),
        _ => Err(wrong_cell(table, data + i, "a position")),
    };
    cells.iter().enumerate().map(position).collect()
}

fn wrong_cell(table: &Table, column: usize, expected: &'static str) -> RebuildError {
    let column = table.columns.get(column).map(|column| column.name.clone()).unwrap_or_default();
    RebuildError::Cell { table: table.name.clone(), column, expected }
}

struct Rebuild<'r> {
    layout: &'r Layout,
    rows: Vec<BTreeMap<Vec<RowPosition>, &'r StoredRow>>,
    /// Rows of each table already used.
    used: Vec<usize>,
}

impl<'r> Rebuild<'r> {
    fn document(
        &mut self,
        plan: &'r DocumentPlan,
        table: usize,
        row: &'r StoredRow,
        at: &[RowPosition],
    ) -> Result<BuiltFields, RebuildError> {
        let mut document = BuiltFields::default();
        for field in &plan.fields {
            let value = match &field.plan {
                Plan::Document(inner) => {
                    let inner = self.document(inner, table, row, at)?;
                    (!inner.0.is_empty()).then_some(BuiltValue::Document(inner))
                }
                Plan::Table { table: child, element } => {
                    let elements = self.elements(child.0, element, at)?;
                    (!elements.is_empty()).then_some(BuiltValue::Array(elements))
                }
                Plan::Map { table: child, value, .. } => {
                    let entries = self.entries(child.0, value, at)?;
                    (!entries.0.is_empty()).then_some(BuiltValue::Document(entries))
                }
                Plan::Column(column) => self.cell(table, column.0, row)?,
                Plan::ObjectIdPair { .. } => return Err(RebuildError::Classic),
                Plan::Ignored => None,
            };
            if let Some(value) = value {
                document.insert(field.name.clone(), value);
            }
        }
        Ok(document)
    }

    /// The elements of the array at these enclosing positions.
    fn elements(&mut self, table: usize, plan: &'r Plan, at: &[RowPosition]) -> Result<Vec<BuiltValue>, RebuildError> {
        let mut elements = Vec::new();
        for (position, row) in self.rows_within(table, at) {
            let index = elements.len() as i64 + 1;
            if position.last() != Some(&RowPosition::Index(index)) {
                return Err(RebuildError::Gap { table: self.layout.tables[table].name.clone(), position: index });
            }
            elements.push(self.element(table, plan, row, &position)?);
        }
        Ok(elements)
    }

    /// The entries of the map whose enclosing positions are `at`.
    fn entries(&mut self, table: usize, plan: &'r Plan, at: &[RowPosition]) -> Result<BuiltFields, RebuildError> {
        let mut entries = BuiltFields::default();
        for (position, row) in self.rows_within(table, at) {
            let value = self.element(table, plan, row, &position)?;
            if let Some(RowPosition::Key(key)) = position.last() {
                entries.insert(key.clone(), value);
            }
        }
        Ok(entries)
    }

    /// The rows of a table within some positions, in their order; they have found their array or map.
    fn rows_within(&mut self, table: usize, at: &[RowPosition]) -> Vec<(Vec<RowPosition>, &'r StoredRow)> {
        let rows = self.rows[table].range(at.to_vec()..).take_while(|(position, _)| position.starts_with(at));
        let rows: Vec<_> = rows.map(|(position, row)| (position.clone(), *row)).collect();
        self.used[table] += rows.len();
        rows
    }

    fn element(
        &mut self,
        table: usize,
        plan: &'r Plan,
        row: &'r StoredRow,
        at: &[RowPosition],
    ) -> Result<BuiltValue, RebuildError> {
        let value = match plan {
            Plan::Column(column) => self.cell(table, column.0, row)?.unwrap_or(BuiltValue::NULL),
            Plan::Document(inner) => BuiltValue::Document(self.document(inner, table, row, at)?),
            Plan::Table { table: child, element } => BuiltValue::Array(self.elements(child.0, element, at)?),
            Plan::Map { table: child, value, .. } => BuiltValue::Document(self.entries(child.0, value, at)?),
            Plan::ObjectIdPair { .. } => return Err(RebuildError::Classic),
            Plan::Ignored => BuiltValue::NULL,
        };
        self.with_extra(table, row, value)
    }

    fn cell(&self, table: usize, column: usize, row: &StoredRow) -> Result<Option<BuiltValue>, RebuildError> {
        let table = &self.layout.tables[table];
        debug_assert!(matches!(table.columns[column].source, ColumnSource::Field(_)));
        let ty = table.columns[column].ty;
        let cell = row.cells.get(column).ok_or_else(|| wrong_cell(table, column, ty.schema_name()))?;
        match cell {
            StoredCell::Null => Ok(None),
            // A hash has no value; the id is in `_extra`.
            StoredCell::Text(form) if ty == ColumnType::Key => Ok(decode_key(form)),
            cell => match column_value(ty, cell) {
                Some(value) => Ok(Some(value)),
                None => Err(wrong_cell(table, column, ty.schema_name())),
            },
        }
    }

    /// Overlays `_extra` on the columns' values.
    fn with_extra(&self, table: usize, row: &StoredRow, mut value: BuiltValue) -> Result<BuiltValue, RebuildError> {
        let Some(extra) = &row.extra else { return Ok(value) };
        let name = &self.layout.tables[table].name;
        let wrong = |expected, pointer: &str| RebuildError::Extra {
            table: name.clone(),
            expected,
            pointer: pointer.to_owned(),
        };
        let entries = extra.as_object().ok_or_else(|| wrong("an object", ""))?;
        for (pointer, json) in inner_first(entries) {
            let kept = extended::value(json).ok_or_else(|| wrong("Extended JSON", pointer))?;
            if !set(&mut value, pointer, kept) {
                return Err(wrong("a pointer into the row's documents", pointer));
            }
        }
        Ok(value)
    }
}

/// What `_extra` holds, inner values first, so that values kept whole win.
fn inner_first(extra: &Map<String, Json>) -> Vec<(&String, &Json)> {
    let mut entries: Vec<(&String, &Json)> = extra.iter().collect();
    entries.sort_by_key(|(pointer, _)| std::cmp::Reverse(pointer.len()));
    entries
}

/// The names in a JSON Pointer, none in one that is malformed.
fn names_of_pointer(pointer: &str) -> impl Iterator<Item = String> {
    let names = pointer.strip_prefix('/').map(|rest| rest.split('/'));
    names.into_iter().flatten().map(|name| name.replace("~1", "/").replace("~0", "~"))
}

/// Sets the value at a JSON Pointer, creating documents; `false` if that is impossible.
fn set(root: &mut BuiltValue, pointer: &str, kept: BuiltValue) -> bool {
    let mut names = names_of_pointer(pointer);
    let Some(mut name) = names.next() else {
        *root = kept;
        return pointer.is_empty();
    };
    let BuiltValue::Document(fields) = root else { return false };
    let mut fields: &mut BuiltFields = fields;
    for next in names {
        match fields.document(name) {
            Some(inner) => (fields, name) = (inner, next),
            None => return false,
        }
    }
    fields.insert(name, kept);
    true
}
