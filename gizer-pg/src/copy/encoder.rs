//! Rows in, bytes out: the emitter of a load.

use gizer_flatten::{Row, RowSink};
use gizer_schema::{Layout, Table, TableId};

use super::unit::{Buffers, EncodedUnit, Reject, TableData, UnitEncoder};
use super::wire::{HEADER, TRAILER, field_count, write_tuple};

/// Most bytes of buffers that an encoder has for itself, in addition to the rows that it holds.
pub const KEPT_BYTES: usize = 16 * 1024 * 1024;

/// How rows are written: the binary tuples of COPY, or lines of text.
///
/// # Contract
/// * A table's bytes are `HEADER`, then what [`write_row`](RowForm::write_row) appends for each row, then `TRAILER`.
/// * A row appends the same bytes whatever came before it, and nothing else: bytes are cut off where a document is discarded.
pub trait RowForm: Default + Send {
    /// Before a table's first row.
    const HEADER: &'static [u8];
    /// After its last.
    const TRAILER: &'static [u8];

    /// Appends a row; `columns` is their number, `_extra` included, if the table has it.
    fn write_row(&mut self, out: &mut Vec<u8>, row: Row<'_>, columns: usize, has_extra: bool);
}

/// Encodes rows for binary COPY, each table into a buffer of its own.
///
/// ```
/// use gizer_flatten::{Cell, Extra, Row, RowSink};
/// use gizer_pg::copy::CopyEncoder;
/// use gizer_schema::{Layout, TableId, file};
///
/// let schema = file::parse("numbers", r#"{"_id": "INT"}"#)?;
/// let mut encoder = CopyEncoder::new(&Layout::new(&schema)?);
/// encoder.begin_document();
/// encoder.row(Row { table: TableId(0), cells: &[Cell::Integer(7)], extra: Extra::default() });
/// let unit = encoder.take();
/// assert_eq!((unit.documents, unit.rows()), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type CopyEncoder = TableEncoder<BinaryRows>;

/// Rows as tuples of binary COPY.
#[derive(Debug, Default)]
pub struct BinaryRows;

impl RowForm for BinaryRows {
    const HEADER: &'static [u8] = HEADER;
    const TRAILER: &'static [u8] = &TRAILER;

    #[inline]
    fn write_row(&mut self, out: &mut Vec<u8>, row: Row<'_>, columns: usize, has_extra: bool) {
        write_tuple(out, field_count(columns), row.cells, has_extra.then_some(row.extra));
    }
}

/// Encodes rows of whole documents, each table into a buffer of its own.
#[derive(Debug)]
pub struct TableEncoder<F> {
    tables: Vec<TableBuffer>,
    /// Bytes in all buffers, and of rejected documents.
    bytes: usize,
    documents: u64,
    /// Number of the document that began last, from 1; never reset.
    current: u64,
    /// Whether it is neither discarded nor taken.
    in_document: bool,
    rejects: Vec<Reject>,
    spare: Buffers,
    form: F,
}

#[derive(Debug)]
struct TableBuffer {
    columns: usize,
    has_extra: bool,
    /// Empty, or the header and some rows.
    bytes: Vec<u8>,
    rows: u64,
    /// The document of the last row, and length and rows before it. Its first row notes them, so that it costs nothing
    /// in tables without its rows.
    document: u64,
    bytes_before: usize,
    rows_before: u64,
}

impl TableBuffer {
    fn new(table: &Table) -> TableBuffer {
        TableBuffer {
            columns: table.columns.len(),
            has_extra: table.has_extra,
            bytes: Vec::new(),
            rows: 0,
            document: 0,
            bytes_before: 0,
            rows_before: 0,
        }
    }
}

impl<F: RowForm> TableEncoder<F> {
    /// An encoder for the tables of a layout.
    pub fn new(layout: &Layout) -> TableEncoder<F> {
        TableEncoder {
            tables: layout.tables.iter().map(TableBuffer::new).collect(),
            bytes: 0,
            documents: 0,
            current: 0,
            in_document: false,
            rejects: Vec::new(),
            spare: Buffers::default(),
            form: F::default(),
        }
    }

    /// Bytes encoded since the last [`take`](TableEncoder::take): what to decide by whether a unit is full.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a rejected document, to be written to `gizer_reject` with this unit. Its rows, if there are any, are
    /// another matter: see [`RowSink::discard_document`].
    pub fn reject(&mut self, reject: Reject) {
        self.bytes += reject.document.len();
        self.rejects.push(reject);
    }

    /// Everything encoded so far; the encoder starts over.
    pub fn take(&mut self) -> EncodedUnit {
        let mut tables = Vec::new();
        for (i, table) in self.tables.iter_mut().enumerate().filter(|(_, table)| table.rows > 0) {
            table.bytes.extend_from_slice(F::TRAILER);
            let bytes = std::mem::take(&mut table.bytes);
            tables.push(TableData { table: TableId(i), bytes, rows: std::mem::take(&mut table.rows) });
        }
        for table in &mut self.tables {
            // A table whose only rows were discarded keeps its buffer.
            table.bytes.clear();
            if table.bytes.capacity() == 0 {
                table.bytes = self.spare.0.pop().unwrap_or_default();
            }
        }
        self.bytes = 0;
        // What comes now without a new document can be taken back no further than to here.
        self.in_document = false;
        EncodedUnit {
            tables,
            documents: std::mem::take(&mut self.documents),
            rejects: std::mem::take(&mut self.rejects),
        }
    }

    /// Takes back the buffers of a unit that was written. At most [`KEPT_BYTES`] are kept: buffers that a huge document
    /// has blown up, and those of a time when there were more units, go back to the system.
    pub fn reuse(&mut self, buffers: Buffers) {
        let own = self.tables.iter().map(|table| &table.bytes).chain(&self.spare.0);
        let mut kept: usize = own.map(Vec::capacity).sum();
        for buffer in buffers.0 {
            if kept + buffer.capacity() > KEPT_BYTES {
                continue;
            }
            kept += buffer.capacity();
            match self.tables.iter_mut().find(|table| table.bytes.capacity() == 0) {
                Some(table) => table.bytes = buffer,
                None => self.spare.put(buffer),
            }
        }
    }

    /// The bytes of a table so far, without a trailer, and how many rows they are.
    pub fn rows_of(&self, table: TableId) -> (&[u8], u64) {
        let table = &self.tables[table.0];
        (&table.bytes, table.rows)
    }

    /// Forgets all rows and keeps the buffers.
    pub fn clear(&mut self) {
        let unit = self.take();
        self.reuse(unit.into());
    }
}

impl<F: RowForm> UnitEncoder for TableEncoder<F> {
    fn new(layout: &Layout) -> TableEncoder<F> {
        TableEncoder::new(layout)
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn reject(&mut self, reject: Reject) {
        self.reject(reject);
    }

    fn take(&mut self) -> EncodedUnit {
        self.take()
    }

    fn reuse(&mut self, buffers: Buffers) {
        self.reuse(buffers);
    }
}

impl<F: RowForm> RowSink for TableEncoder<F> {
    fn begin_document(&mut self) {
        self.current += 1;
        self.documents += 1;
        self.in_document = true;
    }

    fn row(&mut self, row: Row<'_>) {
        let table = &mut self.tables[row.table.0];
        debug_assert_eq!(row.cells.len() + usize::from(table.has_extra), table.columns, "one cell a column");
        debug_assert!(table.has_extra || row.extra.is_empty(), "no column for what does not fit");
        let before = table.bytes.len();
        if table.document != self.current {
            (table.document, table.bytes_before, table.rows_before) = (self.current, before, table.rows);
        }
        if before == 0 {
            table.bytes.extend_from_slice(F::HEADER);
        }
        self.form.write_row(&mut table.bytes, row, table.columns, table.has_extra);
        table.rows += 1;
        self.bytes += table.bytes.len() - before;
    }

    fn discard_document(&mut self) {
        if !std::mem::take(&mut self.in_document) {
            return;
        }
        self.documents -= 1;
        for table in self.tables.iter_mut().filter(|table| table.document == self.current) {
            self.bytes -= table.bytes.len() - table.bytes_before;
            table.bytes.truncate(table.bytes_before);
            table.rows = table.rows_before;
            table.document = 0;
        }
    }
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
