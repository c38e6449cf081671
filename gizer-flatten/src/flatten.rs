//! The walk through a document that gives its rows.

use gizer_schema::field_index::Walk;
use gizer_schema::raw::{Element, Kind, Malformed, RawDoc, Value};
use gizer_schema::{ColumnId, ColumnType, KeySource, Layout, PathId, Plan, TableId};
use thiserror::Error;

use crate::extjson::RawJson;
use crate::program::{Action, Field, NodeId, Placement, Program};
use crate::row::{Cell, Row, RowSink};
use crate::tally::{MismatchCounts, Tally, Unfit};
use crate::value::fit;

/// Longest text key in bytes: an entry of a PostgreSQL btree ends at 2,704 bytes, positions included.
const MAX_KEY_BYTES: usize = 1_000;

/// Why a document gave no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RejectReason {
    /// There is no `_id`, or it is null.
    #[error("no _id: expected {expected}")]
    NoKey {
        /// Type of the key column in the schema.
        expected: &'static str,
    },
    /// The `_id` does not fit the key's column.
    #[error("_id is {}: expected {expected}", actual.report_name())]
    KeyUnfit {
        /// Type of the key column in the schema.
        expected: &'static str,
        /// What came.
        actual: Unfit,
    },
    /// The `_id` is text too long for an index.
    #[error("_id is text of {bytes} bytes: expected at most {MAX_KEY_BYTES}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The document's bytes are not BSON.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// A document that gave no rows.
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
    tables: Vec<TableShape>,
    key: KeyShape,
    counts: MismatchCounts,
    tally: Tally,
    /// Row buffers, empty between batches; kept for their memory.
    rows: Vec<Vec<Cell<'static>>>,
}

#[derive(Debug, Clone, Copy)]
struct TableShape {
    columns: usize,
    key: usize,
    positions: usize,
}

#[derive(Debug, Clone, Copy)]
struct KeyShape {
    source: KeySource,
    ty: ColumnType,
    /// Whether the key is an ObjectId in two columns.
    pair: bool,
}

impl Flattener {
    /// A flattener for the documents of this layout's collection.
    pub fn new(layout: &Layout) -> Flattener {
        let program = Program::compile(layout);
        let key_field = layout.document.fields.iter().find(|field| field.name == layout.key.source.field());
        let key = KeyShape {
            source: layout.key.source,
            ty: layout.key.ty,
            pair: key_field.is_some_and(|field| matches!(field.plan, Plan::ObjectIdPair { .. })),
        };
        let shape =
            |t: &gizer_schema::Table| TableShape { columns: t.columns.len(), key: t.key.0, positions: t.positions };
        Flattener {
            tables: layout.tables.iter().map(shape).collect(),
            key,
            counts: MismatchCounts::new(layout),
            tally: Tally::default(),
            rows: vec![Vec::new(); layout.tables.len()],
            program,
        }
    }

    /// Gives the rows of these documents to `sink`, in the order of the documents; those that give no rows go to
    /// `rejected` with the reason.
    pub fn flatten<'b, S: RowSink>(
        &mut self,
        documents: impl IntoIterator<Item = RawDoc<'b>>,
        sink: &mut S,
        mut rejected: impl FnMut(RawDoc<'b>, Rejection),
    ) {
        let mut run = Run {
            program: &mut self.program,
            tables: &self.tables,
            key_shape: self.key,
            counts: &mut self.counts,
            rows: std::mem::take(&mut self.rows).into_iter().zip(&self.tables).map(start_row).collect(),
            serials: vec![0; self.tables.len()],
            filled_for: vec![0; self.tables.len()],
            next_serial: 1,
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
        self.rows = run.rows.into_iter().map(recycle).collect();
        // Names that are data must not gather: they go into the tally, which has a limit.
        for node in &mut self.program.nodes {
            for (path, count) in node.drain_unknown() {
                self.tally.add_unknown(path, count);
            }
        }
    }

    /// Takes out the counts since the last call.
    pub fn take_tally(&mut self) -> Tally {
        self.counts.drain_into(&mut self.tally);
        std::mem::take(&mut self.tally)
    }
}

/// A row buffer of a table's length; taking the memory of the last batch along.
fn start_row<'b>((memory, shape): (Vec<Cell<'static>>, &TableShape)) -> Vec<Cell<'b>> {
    let mut row: Vec<Cell<'b>> = memory;
    row.resize(shape.columns, Cell::Null);
    row
}

/// Keeps the memory of a row buffer beyond the lifetime of what it borrowed.
fn recycle(mut row: Vec<Cell<'_>>) -> Vec<Cell<'static>> {
    row.clear();
    row.into_iter().map(|_| Cell::Null).collect()
}

fn id_text(document: RawDoc<'_>) -> String {
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
struct Run<'f, 'b, S> {
    program: &'f mut Program,
    tables: &'f [TableShape],
    key_shape: KeyShape,
    counts: &'f mut MismatchCounts,
    /// The row under way of each table: of one table there is only ever one, because arrays directly in arrays are
    /// no tables.
    rows: Vec<Vec<Cell<'b>>>,
    /// Number of the row under way of each table, counted over all tables.
    serials: Vec<u64>,
    /// For which row of its parent a table was filled last: a second time means a duplicate field.
    filled_for: Vec<u64>,
    next_serial: u64,
    key: Cell<'b>,
    sink: &'f mut S,
}

impl<'b, S: RowSink> Run<'_, 'b, S> {
    fn whole(&mut self, document: RawDoc<'b>) -> Result<(), RejectReason> {
        self.counts.begin_document();
        self.key = self.root_key(document)?;
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

    fn root_key(&mut self, document: RawDoc<'b>) -> Result<Cell<'b>, RejectReason> {
        let shape = self.key_shape;
        let expected = if shape.pair { "OBJECTID" } else { shape.ty.schema_name() };
        let element = document.get(shape.source.field().as_bytes())?;
        let cell = match element {
            None => Ok(Cell::Null),
            Some(element) if shape.pair => pair_key(&element)?,
            Some(element) => fit(shape.ty, &element)?,
        };
        match (cell, shape.source) {
            (Ok(Cell::Null), KeySource::UnderscoreId) => Err(RejectReason::NoKey { expected }),
            (Ok(Cell::Text(text)), KeySource::UnderscoreId) if text.len() > MAX_KEY_BYTES => {
                Err(RejectReason::KeyTooLong { bytes: text.len() })
            }
            (Ok(cell), _) => Ok(cell),
            (Err(actual), KeySource::UnderscoreId) => Err(RejectReason::KeyUnfit { expected, actual }),
            // `id` promises nothing: the row stands without a key, as in the classic tool, and its column counts why.
            (Err(_), KeySource::Id) => Ok(Cell::Null),
        }
    }

    fn begin_row(&mut self, table: usize) {
        let shape = self.tables[table];
        let row = &mut self.rows[table];
        row[..shape.columns - shape.positions].fill(Cell::Null);
        if table != 0 {
            row[shape.key] = self.key;
        }
        self.serials[table] = self.next_serial;
        self.next_serial += 1;
    }

    fn emit(&mut self, table: usize) {
        self.sink.row(Row { table: TableId(table), cells: &self.rows[table] });
    }

    fn document(&mut self, node: NodeId, table: usize, document: RawDoc<'b>) -> Result<(), Malformed> {
        let mut walk = Walk::default();
        for element in document.elements() {
            let element = element?;
            let Some(Field { path, action }) = self.program.nodes[node].find(&mut walk, element.name) else { continue };
            match action {
                Action::Place(placement) => self.place(table, placement, path, &element)?,
                Action::Table { table: child, element: placement } => {
                    self.array(table, child, placement, path, &element)?;
                }
            }
        }
        Ok(())
    }

    /// Puts a value, a field's or an array element's, into the row under way of `table`.
    fn place(
        &mut self,
        table: usize,
        placement: Placement,
        path: PathId,
        element: &Element<'b>,
    ) -> Result<(), Malformed> {
        match placement {
            Placement::Column { column, ty } => self.column(table, column, ty, path, element),
            Placement::Document { node } => self.nested(table, node, path, element),
            Placement::ObjectIdPair { oid, bsontype, node } => match element.value()? {
                Value::ObjectId(id) => {
                    self.object_id(table, oid, bsontype, path, id);
                    Ok(())
                }
                _ => self.nested(table, node, path, element),
            },
        }
    }

    fn column(
        &mut self,
        table: usize,
        column: ColumnId,
        ty: ColumnType,
        path: PathId,
        element: &Element<'b>,
    ) -> Result<(), Malformed> {
        let place = &mut self.rows[table][column.0];
        match fit(ty, element)? {
            Ok(Cell::Null) => {}
            Ok(cell) if matches!(place, Cell::Null) => *place = cell,
            Ok(_) => self.counts.count(path, Unfit::Duplicate),
            Err(unfit) => self.counts.count(path, unfit),
        }
        Ok(())
    }

    fn nested(&mut self, table: usize, node: NodeId, path: PathId, element: &Element<'b>) -> Result<(), Malformed> {
        match element.value()? {
            Value::Document(document) => self.document(node, table, document)?,
            Value::Null => {}
            _ => self.counts.count(path, Unfit::Kind(element.kind)),
        }
        Ok(())
    }

    fn object_id(&mut self, table: usize, oid: ColumnId, bsontype: ColumnId, path: PathId, id: [u8; 12]) {
        let row = &mut self.rows[table];
        if matches!(row[oid.0], Cell::Null) {
            row[oid.0] = Cell::ObjectId(id);
            row[bsontype.0] = Cell::Integer(Kind::ObjectId as i32);
        } else {
            self.counts.count(path, Unfit::Duplicate);
        }
    }

    /// The rows of a child table.
    fn array(
        &mut self,
        parent: usize,
        table: usize,
        placement: Placement,
        path: PathId,
        element: &Element<'b>,
    ) -> Result<(), Malformed> {
        let array = match element.value()? {
            Value::Array(array) => array,
            Value::Null => return Ok(()),
            _ => {
                self.counts.count(path, Unfit::Kind(element.kind));
                return Ok(());
            }
        };
        if self.filled_for[table] == self.serials[parent] {
            self.counts.count(path, Unfit::Duplicate);
            return Ok(());
        }
        self.filled_for[table] = self.serials[parent];
        self.enter(parent, table);
        for (i, element) in array.elements().enumerate() {
            self.begin_row(table);
            if let Some(own) = self.rows[table].last_mut() {
                // Positions start at 1; an array of 16 MiB has fewer than 2^24 elements.
                *own = Cell::BigInt(i as i64 + 1);
            }
            self.place(table, placement, path, &element?)?;
            self.emit(table);
        }
        Ok(())
    }

    /// Copies the positions of the parent's row, which all rows of the child share.
    fn enter(&mut self, parent: usize, table: usize) {
        let outer = self.tables[parent];
        let inner = self.tables[table];
        for i in 0..outer.positions {
            let position = self.rows[parent][outer.columns - outer.positions + i];
            self.rows[table][inner.columns - inner.positions + i] = position;
        }
    }
}

/// The key of an ObjectId in two columns, also where it comes as a sub-document `{oid, bsontype}`.
fn pair_key<'b>(element: &Element<'b>) -> Result<Result<Cell<'b>, Unfit>, Malformed> {
    Ok(match element.value()? {
        Value::ObjectId(id) => Ok(Cell::ObjectId(id)),
        Value::Null => Ok(Cell::Null),
        Value::Document(document) => match document.get(b"oid")? {
            Some(oid) => fit(ColumnType::Text, &oid)?,
            None => Err(Unfit::Kind(Kind::Document)),
        },
        _ => Err(Unfit::Kind(element.kind)),
    })
}
