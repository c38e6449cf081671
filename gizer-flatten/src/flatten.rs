//! Walks through documents and gives their rows.

mod map;

use gizer_schema::field_index::Walk;
use gizer_schema::raw::{Element, Kind, Malformed, RawDoc, Value};
use gizer_schema::{ColumnId, ColumnType, Dialect, Layout, PathId, TableId};
use thiserror::Error;

use crate::column_type::{fit, is_number, own_kind, usual};
use crate::decimal::Decimal128;
use crate::extjson::RawJson;
use crate::extra::{ExtraValue, Gathered};
use crate::key::{Form, TaggedKey};
use crate::program::{ActionId, FieldAction, FoundField, NodeId, PlanField, Program, ValueOrigin};
use crate::root_key::{KeyShape, MAX_KEY_BYTES};
use crate::row::{Cell, Row, RowSink};
use crate::tally::{MismatchCounts, Tally, Unfit};

/// Why a document gave no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum RejectReason {
    /// There is no `_id`, or it is null.
    #[error("no _id: expected {expected}")]
    NoKey { expected: &'static str },
    /// The `_id` does not fit the key's column.
    #[error("_id is {}: expected {expected}", actual.report_name())]
    KeyUnfit { expected: &'static str, actual: Unfit },
    /// The `_id` is too long for an index.
    #[error("_id has {bytes} bytes: expected at most {MAX_KEY_BYTES}")]
    KeyTooLong { bytes: usize },
    /// The document is not BSON.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl RejectReason {
    /// Whether a key of type `KEY` would take the `_id`.
    pub fn is_unfit_key(&self) -> bool {
        matches!(self, RejectReason::KeyUnfit { .. } | RejectReason::KeyTooLong { .. })
    }
}

/// A document without rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its `_id` as Extended JSON; `null` if it has none.
    pub id: String,
    /// Why.
    pub reason: RejectReason,
}

/// Turns documents into the rows of a layout.
#[derive(Debug, Clone)]
pub struct Flattener {
    program: Program,
    tables: Vec<RowShape>,
    key: KeyShape,
    keeping: Keeping,
    counts: MismatchCounts,
    tally: Tally,
    /// Row buffers, empty between batches; kept for their memory.
    rows: Vec<Vec<Cell<'static>>>,
    /// Number of the last walked document, nested or not.
    walked: u64,
}

#[derive(Debug, Clone, Copy)]
struct RowShape {
    /// Without `_extra`.
    columns: usize,
    key: usize,
    positions: usize,
    /// How many positions arrays can add to the key in tables below, down to the next map.
    arrays_below: usize,
}

/// What goes into `_extra`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeping {
    /// Nothing: there is no such column.
    Nothing,
    /// What does not fit.
    Strays,
    /// That, and numbers in columns of another type.
    Types,
}

impl Flattener {
    /// A flattener for the documents of this layout's collection.
    pub fn new(layout: &Layout) -> Flattener {
        Flattener {
            program: Program::compile(layout),
            tables: row_shapes(layout),
            key: KeyShape::of(layout),
            keeping: match layout.dialect {
                Dialect::Classic => Keeping::Nothing,
                Dialect::Gizer { exact_types: false } => Keeping::Strays,
                Dialect::Gizer { exact_types: true } => Keeping::Types,
            },
            counts: MismatchCounts::new(layout),
            tally: Tally::default(),
            rows: vec![Vec::new(); layout.tables.len()],
            walked: 0,
        }
    }

    /// Gives these documents' rows to `sink`, in order, and documents without rows to `rejected`.
    pub fn flatten<'b, S: RowSink>(
        &mut self,
        documents: impl IntoIterator<Item = RawDoc<'b>>,
        sink: &mut S,
        mut rejected: impl FnMut(RawDoc<'b>, Rejection),
    ) {
        let mut run = FlattenPass {
            program: &mut self.program,
            tables: &self.tables,
            key_shape: self.key,
            keeping: self.keeping,
            counts: &mut self.counts,
            rows: std::mem::take(&mut self.rows).into_iter().zip(&self.tables).map(start_row).collect(),
            extras: vec![Gathered::default(); self.tables.len()],
            walked: self.walked,
            whole: self.walked,
            key: Cell::Null,
            sink,
        };
        for document in documents {
            self.tally.read += 1;
            match run.whole(document) {
                Ok(()) => self.tally.loaded += 1,
                Err(reason) => {
                    self.tally.rejected += 1;
                    rejected(document, Rejection { id: id_text(document), reason });
                }
            }
        }
        self.walked = run.walked;
        self.rows = run.rows.into_iter().map(recycle).collect();
        // Data used as field names must not accumulate: it goes into the tally, which has a limit.
        for node in &mut self.program.nodes {
            for (path, kind, times) in node.drain_unknown() {
                self.tally.add_unknown(path, kind, times);
            }
        }
    }

    /// The root key of a document's rows. A raw `{"_id": …}` gives the key of the whole document,
    /// so that touched documents can be looked for before they are read.
    ///
    /// # Errors
    /// The reason why a document with this `_id` has no rows, stored ones included.
    pub fn key_of<'b>(&self, document: RawDoc<'b>) -> Result<Cell<'b>, RejectReason> {
        self.key.key_of(document)
    }

    /// Takes out the counts since the last call.
    pub fn take_tally(&mut self) -> Tally {
        self.counts.drain_into(&mut self.tally);
        std::mem::take(&mut self.tally)
    }
}

fn row_shapes(layout: &Layout) -> Vec<RowShape> {
    let mut arrays_below = vec![0; layout.tables.len()];
    // A table comes after its parent.
    for (at, table) in layout.tables.iter().enumerate().rev() {
        let is_array = table.position_columns().last().is_some_and(|own| own.ty == ColumnType::BigInt);
        if let Some(parent) = table.parent.filter(|_| is_array) {
            arrays_below[parent.0] = arrays_below[parent.0].max(arrays_below[at] + 1);
        }
    }
    let shape = |(table, arrays_below): (&gizer_schema::Table, usize)| RowShape {
        columns: table.data_columns() + table.positions,
        key: table.key.0,
        positions: table.positions,
        arrays_below,
    };
    layout.tables.iter().zip(arrays_below).map(shape).collect()
}

/// A row buffer of a table's length, in memory of the last batch.
fn start_row<'b>((memory, shape): (Vec<Cell<'static>>, &RowShape)) -> Vec<Cell<'b>> {
    let mut row: Vec<Cell<'b>> = memory;
    row.resize(shape.columns, Cell::Null);
    row
}

/// Keeps a row buffer's memory beyond the lifetime of its borrows.
fn recycle(mut row: Vec<Cell<'_>>) -> Vec<Cell<'static>> {
    row.clear();
    row.into_iter().map(|_| Cell::Null).collect()
}

/// The `_id` of a document as [`Rejection::id`] has it.
pub fn id_text(document: RawDoc<'_>) -> String {
    match document.get(b"_id") {
        Ok(Some(element)) => {
            let mut json = Vec::new();
            RawJson::new(element).write_to(&mut json);
            String::from_utf8_lossy(&json).into_owned()
        }
        _ => "null".to_owned(),
    }
}

/// One pass over documents that live for `'b`.
struct FlattenPass<'f, 'b, S> {
    program: &'f mut Program,
    tables: &'f [RowShape],
    key_shape: KeyShape,
    keeping: Keeping,
    counts: &'f mut MismatchCounts,
    /// The current row of each table: one each, because no table is inside itself.
    rows: Vec<Vec<Cell<'b>>>,
    /// What goes into `_extra` of that row.
    extras: Vec<Gathered<'b>>,
    walked: u64,
    /// Number of the current whole document.
    whole: u64,
    key: Cell<'b>,
    sink: &'f mut S,
}

impl<'b, S: RowSink> FlattenPass<'_, 'b, S> {
    fn whole(&mut self, document: RawDoc<'b>) -> Result<(), RejectReason> {
        self.counts.begin_document();
        self.whole = self.walked + 1;
        self.key = self.key_shape.key_of(document)?;
        self.sink.begin_document();
        self.begin_row(0);
        match self.document(0, 0, document) {
            Ok(()) => {
                self.emit(0);
                self.counts.commit_document(|| id_text(document));
                Ok(())
            }
            Err(malformed) => {
                self.sink.discard_document();
                Err(malformed.into())
            }
        }
    }

    fn begin_row(&mut self, table: usize) {
        let shape = self.tables[table];
        let row = &mut self.rows[table];
        row[..shape.columns - shape.positions].fill(Cell::Null);
        if table != 0 {
            row[shape.key] = self.key;
        }
        if self.keeping != Keeping::Nothing {
            self.extras[table].clear();
        }
    }

    fn emit(&mut self, table: usize) {
        let extra = self.extras[table].extra();
        self.sink.row(Row { table: TableId(table), cells: &self.rows[table], extra });
    }

    fn document(&mut self, node: NodeId, table: usize, document: RawDoc<'b>) -> Result<(), Malformed> {
        self.walked += 1;
        let number = self.walked;
        let mut walk = Walk::default();
        let mut keep_whole = false;
        for element in document.elements() {
            let element = element?;
            match self.program.nodes[node].find(&mut walk, &element, number, self.whole) {
                FoundField::Known(field) => {
                    let PlanField { path, action } = self.program.nodes[node].fields[field];
                    self.place(table, action, path, ValueOrigin::Field { node, field }, &element)?;
                }
                FoundField::Unknown => keep_whole |= !self.keep_unknown(table, node, &element),
                FoundField::Again(path) => {
                    if let Some(path) = path {
                        self.counts.count(path, Unfit::Duplicate);
                    }
                    keep_whole = true;
                }
            }
        }
        if keep_whole && self.keeping != Keeping::Nothing {
            self.extras[table].keep(&self.program.nodes[node].pointer, ExtraValue::Whole(document));
        }
        Ok(())
    }

    /// Keeps an unknown field; `false` if its name cannot be written.
    fn keep_unknown(&mut self, table: usize, node: NodeId, element: &Element<'b>) -> bool {
        if self.keeping == Keeping::Nothing {
            return true;
        }
        let Ok(name) = std::str::from_utf8(element.name) else { return false };
        self.extras[table].keep_unknown(&self.program.nodes[node].pointer, name, *element);
        true
    }

    fn keep(&mut self, table: usize, origin: ValueOrigin, element: &Element<'b>) {
        if self.keeping == Keeping::Nothing {
            return;
        }
        let pointer = self.program.pointer_of(origin);
        self.extras[table].keep(pointer, ExtraValue::Element(*element));
    }

    /// Counts a value that does not fit, and keeps it.
    fn stray(&mut self, table: usize, origin: ValueOrigin, path: PathId, unfit: Unfit, element: &Element<'b>) {
        self.counts.count(path, unfit);
        self.keep(table, origin, element);
    }

    /// Puts a value of a field or array element into the current row of `table`.
    fn place(
        &mut self,
        table: usize,
        action: ActionId,
        path: PathId,
        origin: ValueOrigin,
        element: &Element<'b>,
    ) -> Result<(), Malformed> {
        match self.program.actions[action] {
            FieldAction::Column { column, ty } => self.column(table, column, ty, path, origin, element),
            FieldAction::Document { node } => self.nested(table, node, path, origin, element),
            FieldAction::ObjectIdPair { oid, bsontype, node } => match element.value()? {
                Value::ObjectId(id) => {
                    let row = &mut self.rows[table];
                    row[oid.0] = Cell::ObjectId(id);
                    row[bsontype.0] = Cell::Integer(Kind::ObjectId as i32);
                    Ok(())
                }
                _ => self.nested(table, node, path, origin, element),
            },
            FieldAction::Table { table: child, element: action } => {
                self.array(table, child, action, path, origin, element)
            }
            FieldAction::Map(map) => self.map(table, map, path, origin, element),
            FieldAction::Ignore => Ok(()),
        }
    }

    fn column(
        &mut self,
        table: usize,
        column: ColumnId,
        ty: ColumnType,
        path: PathId,
        origin: ValueOrigin,
        element: &Element<'b>,
    ) -> Result<(), Malformed> {
        if let Some(cell) = usual(ty, element) {
            // It comes back unchanged.
            self.rows[table][column.0] = cell;
            return Ok(());
        }
        match fit(ty, element)? {
            // A bare NULL reads as null for an element, and as missing for a field.
            Ok(Cell::Null) if matches!(origin, ValueOrigin::Element) => {}
            Ok(Cell::Null) => self.keep(table, origin, element),
            Ok(cell) => {
                self.rows[table][column.0] = cell;
                if self.keeping != Keeping::Nothing && self.loses_something(ty, element)? {
                    match origin {
                        // Two documents are the same `_id` only with the same order of fields.
                        ValueOrigin::Field { node, field }
                            if ty == ColumnType::Key && element.kind == Kind::Document =>
                        {
                            let pointer = self.program.nodes[node].pointers[field].as_str();
                            self.extras[table].keep(pointer, ExtraValue::Ordered(*element));
                        }
                        _ => self.keep(table, origin, element),
                    }
                }
            }
            Err(unfit) => self.stray(table, origin, path, unfit, element),
        }
        Ok(())
    }

    /// Whether a fitting value would not come back unchanged from its column.
    fn loses_something(&self, ty: ColumnType, element: &Element<'b>) -> Result<bool, Malformed> {
        if ty == ColumnType::Key {
            return Ok(self.keeping == Keeping::Types || TaggedKey::new(*element)?.1 == Form::Lossy);
        }
        if self.keeping != Keeping::Types {
            return Ok(false);
        }
        Ok(match (ty, element.value()?) {
            // `numeric` keeps the scale, but neither an exponent above 0 nor the sign of 0.
            (ColumnType::Numeric, Value::Decimal128(bytes)) => match Decimal128::decode(bytes) {
                Decimal128::Finite(number) => number.exponent > 0 || (number.negative && number.digits == 0),
                Decimal128::Infinite { .. } | Decimal128::NaN => true,
            },
            (ColumnType::List(_), _) => true,
            _ => is_number(ty) && own_kind(ty) != Some(element.kind),
        })
    }

    fn nested(
        &mut self,
        table: usize,
        node: NodeId,
        path: PathId,
        origin: ValueOrigin,
        element: &Element<'b>,
    ) -> Result<(), Malformed> {
        match element.value()? {
            Value::Document(document) if !document.is_empty() => self.document(node, table, document)?,
            // An element's row itself stands for the document.
            Value::Document(_) if matches!(origin, ValueOrigin::Element) => {}
            Value::Document(_) | Value::Null => self.keep(table, origin, element),
            _ => self.stray(table, origin, path, Unfit::Kind(element.kind), element),
        }
        Ok(())
    }

    /// The rows of a child table.
    fn array(
        &mut self,
        parent: usize,
        table: usize,
        action: ActionId,
        path: PathId,
        origin: ValueOrigin,
        element: &Element<'b>,
    ) -> Result<(), Malformed> {
        let array = match element.value()? {
            Value::Array(array) if !array.is_empty() => array,
            // An element's row itself stands for the array.
            Value::Array(_) if matches!(origin, ValueOrigin::Element) => return Ok(()),
            Value::Array(_) | Value::Null => {
                self.keep(parent, origin, element);
                return Ok(());
            }
            _ => {
                self.stray(parent, origin, path, Unfit::Kind(element.kind), element);
                return Ok(());
            }
        };
        self.enter(parent, table);
        for (i, element) in array.elements().enumerate() {
            self.begin_row(table);
            if let Some(own) = self.rows[table].last_mut() {
                // Array indexes are stored from 1; an array of 16 MiB has fewer than 2^24 elements.
                *own = Cell::BigInt(i as i64 + 1);
            }
            self.place(table, action, path, ValueOrigin::Element, &element?)?;
            self.emit(table);
        }
        Ok(())
    }

    /// Copies the parent row's array indexes, which all child rows share.
    fn enter(&mut self, parent: usize, table: usize) {
        let outer = self.tables[parent];
        let inner = self.tables[table];
        for i in 0..outer.positions {
            let position = self.rows[parent][outer.columns - outer.positions + i];
            self.rows[table][inner.columns - inner.positions + i] = position;
        }
    }
}
