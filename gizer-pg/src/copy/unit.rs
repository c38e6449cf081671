//! What the encoders give and the sinks take.

use gizer_flatten::RowSink;
use gizer_schema::{Layout, TableId};

/// The rows of some whole documents, encoded: what is written in one transaction.
#[derive(Debug, Default)]
pub struct EncodedUnit {
    /// One entry for each table that has rows, in the order of the layout's tables.
    pub tables: Vec<TableData>,
    /// Documents whose rows these are; rejected ones not counted.
    pub documents: u64,
    /// Rejected documents, written in the same transaction.
    pub rejects: Vec<Reject>,
}

impl EncodedUnit {
    /// Bytes of memory that the unit keeps.
    pub fn memory_bytes(&self) -> usize {
        let tables: usize = self.tables.iter().map(|table| table.bytes.capacity()).sum();
        let rejects: usize = self.rejects.iter().map(Reject::memory_bytes).sum();
        tables + rejects
    }

    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.rejects.is_empty()
    }
}

/// What encodes rows for a sink: rows in, units out. It belongs to one worker thread.
pub trait UnitEncoder: RowSink + Send {
    /// An encoder for the tables of a layout.
    fn new(layout: &Layout) -> Self;

    /// Bytes encoded since the last [`take`](UnitEncoder::take): what to decide by whether a unit is full.
    fn bytes(&self) -> usize;

    /// Takes a rejected document, to be written with this unit. Its rows, if there are any, are another matter: see
    /// [`RowSink::discard_document`].
    fn reject(&mut self, reject: Reject);

    /// Everything encoded so far; the encoder starts over.
    fn take(&mut self) -> EncodedUnit;

    /// Takes back the buffers of a unit that was written.
    fn reuse(&mut self, buffers: Buffers);
}

/// One table's rows: the bytes of one binary COPY, header and trailer included, or lines of a text file.
#[derive(Debug)]
pub struct TableData {
    /// The table in the layout.
    pub table: TableId,
    /// Everything that goes between `COPY … FROM STDIN` and the end of the data.
    pub bytes: Vec<u8>,
    /// How many rows the bytes hold.
    pub rows: u64,
}

/// A document that cannot be loaded, put into `gizer_reject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Its `_id` as canonical Extended JSON, as far as it can be read.
    pub id: String,
    /// Why: which path, what was expected. No values.
    pub reason: String,
    /// The document as BSON.
    pub document: Vec<u8>,
    /// How a document that PostgreSQL refused is found for a retry; `None` if no retry can help.
    pub retry: Option<RetryKey>,
    /// Whether it is its `_id` that the schema has no place for: a key of type `KEY` would take it.
    pub is_unfit_key: bool,
}

/// How a document that PostgreSQL has refused is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryKey {
    /// Its root key in the binary form of the column.
    pub key: Vec<u8>,
    /// A BSON document of the one field `_id`, under which it is looked up.
    pub lookup: Vec<u8>,
    /// The code of the error.
    pub sqlstate: String,
}

impl Reject {
    fn memory_bytes(&self) -> usize {
        size_of::<Reject>() + self.id.len() + self.reason.len() + self.document.len()
    }
}

/// Emptied buffers on their way back to an encoder.
#[derive(Debug, Default)]
pub struct Buffers(pub(crate) Vec<Vec<u8>>);

impl Buffers {
    /// Takes a buffer whose bytes are no longer needed.
    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

impl From<EncodedUnit> for Buffers {
    /// Forgets what the unit holds and keeps its buffers.
    fn from(unit: EncodedUnit) -> Buffers {
        let mut buffers = Buffers::default();
        for table in unit.tables {
            buffers.put(table.bytes);
        }
        buffers
    }
}
