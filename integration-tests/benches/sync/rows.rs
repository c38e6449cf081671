//! The rows that a backlog changes, encoded beforehand, in batches.

use bson::RawDocumentBuf;
use bytes::Bytes;
use gizer_flatten::Flattener;
use gizer_pg::copy::{Buffers, CopyEncoder};
use gizer_schema::Layout;
use gizer_schema::raw::RawDoc;
use integration_tests::bench::Result;

use crate::backlog::{Backlog, Orders, Touched};

/// Documents after which gizer ends a batch.
const BATCH_DOCUMENTS: usize = 20_000;

/// Changes after which gizer looks whether it does.
const LOOK_AFTER: usize = 5_000;

/// What a binary COPY begins with: signature, flags, and the length of an extension that there is none of (PostgreSQL
/// documentation, COPY, Binary Format).
const HEADER: &[u8] = b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0";

/// What it ends with: a number of fields of -1.
const TRAILER: &[u8] = &[0xFF, 0xFF];

/// What one transaction writes.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Keys of documents that are gone.
    pub(crate) gone: CopyData,
    /// In the order of the layout.
    pub(crate) tables: Vec<TableBatch>,
    /// Rows that are to be deleted, over all tables.
    pub(crate) deleted: u64,
    pub(crate) documents: u64,
}

/// What is written to one table.
#[derive(Debug, Default)]
pub(crate) struct TableBatch {
    pub(crate) updated: CopyData,
    pub(crate) inserted: CopyData,
}

/// Tuples for one COPY, in the order of their keys.
#[derive(Debug, Default)]
pub(crate) struct CopyData {
    pub(crate) bytes: Bytes,
    pub(crate) rows: u64,
}

/// Tuples as they are gathered.
#[derive(Debug, Default, Clone)]
struct Gathered {
    bytes: Vec<u8>,
    rows: u64,
}

impl Gathered {
    fn push(&mut self, tuple: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(HEADER);
        }
        self.bytes.extend_from_slice(tuple);
        self.rows += 1;
    }

    fn finish(mut self) -> CopyData {
        if !self.bytes.is_empty() {
            self.bytes.extend_from_slice(TRAILER);
        }
        CopyData { bytes: Bytes::from(self.bytes), rows: self.rows }
    }
}

/// All batches of a backlog. `orders` become what they are after it.
///
/// # Errors
/// If a document is rejected; if an order that stays gains or loses rows, which no operation of a backlog does.
pub(crate) fn batches(layout: &Layout, backlog: &Backlog, orders: &mut Orders) -> Result<Vec<Batch>> {
    let mut encoder = Encoder::new(layout);
    let (mut batches, mut touched) = (Vec::new(), Touched::new());
    for (i, operation) in backlog.operations().enumerate() {
        let number = operation.document();
        touched.entry(number).or_insert_with(|| orders.get(number).cloned());
        orders.apply(operation)?;
        if (i + 1) % LOOK_AFTER == 0 && touched.len() >= BATCH_DOCUMENTS {
            batches.push(encoder.batch(&std::mem::take(&mut touched), orders)?);
        }
    }
    if !touched.is_empty() {
        batches.push(encoder.batch(&touched, orders)?);
    }
    Ok(batches)
}

/// The tuples of one document, by table.
type Rows = Vec<Vec<Vec<u8>>>;

struct Encoder<'l> {
    layout: &'l Layout,
    flattener: Flattener,
    encoder: CopyEncoder,
}

impl<'l> Encoder<'l> {
    fn new(layout: &'l Layout) -> Encoder<'l> {
        Encoder { layout, flattener: Flattener::new(layout), encoder: CopyEncoder::new(layout) }
    }

    /// What was touched comes in the order of its numbers, which is that of the orders' keys.
    fn batch(&mut self, touched: &Touched, orders: &Orders) -> Result<Batch> {
        let mut gone = Gathered::default();
        let mut tables = vec![(Gathered::default(), Gathered::default()); self.layout.tables.len()];
        let mut deleted = 0;
        for (&number, before) in touched {
            match (before, orders.get(number)) {
                (None, None) => {}
                (Some(before), None) => {
                    let rows = self.rows(before)?;
                    deleted += rows.iter().map(|rows| rows.len() as u64).sum::<u64>();
                    let root =
                        rows.first().and_then(|rows| rows.first()).ok_or("expected a row of the order itself")?;
                    gone.push(&[&[0, 1], field(root, self.layout.tables[0].key.0)].concat());
                }
                (None, Some(after)) => {
                    for ((_, inserted), rows) in tables.iter_mut().zip(self.rows(after)?) {
                        rows.iter().for_each(|row| inserted.push(row));
                    }
                }
                (Some(before), Some(after)) => {
                    let (before, after) = (self.rows(before)?, self.rows(after)?);
                    for (((updated, _), before), after) in tables.iter_mut().zip(before).zip(after) {
                        if before.len() != after.len() {
                            return Err("expected an update to leave the number of rows as it is".into());
                        }
                        let changed = before.iter().zip(&after).filter(|(before, after)| before != after);
                        changed.for_each(|(_, after)| updated.push(after));
                    }
                }
            }
        }
        let tables = tables.into_iter();
        let tables =
            tables.map(|(updated, inserted)| TableBatch { updated: updated.finish(), inserted: inserted.finish() });
        Ok(Batch { gone: gone.finish(), tables: tables.collect(), deleted, documents: touched.len() as u64 })
    }

    fn rows(&mut self, document: &RawDocumentBuf) -> Result<Rows> {
        let mut rejected = None;
        let document = RawDoc::new(document.as_bytes())?;
        self.flattener.flatten([document], &mut self.encoder, |_, rejection| rejected = Some(rejection.reason));
        if let Some(reason) = rejected {
            return Err(format!("expected no rejected order, got one: {reason}").into());
        }
        let unit = self.encoder.take();
        let mut rows = vec![Vec::new(); self.layout.tables.len()];
        for data in &unit.tables {
            rows[data.table.0] = tuples(&data.bytes);
        }
        self.encoder.reuse(Buffers::from(unit));
        Ok(rows)
    }
}

/// The tuples of one COPY.
fn tuples(data: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &data[HEADER.len()..data.len() - TRAILER.len()];
    let mut all = Vec::new();
    while let Some((count, _)) = rest.split_first_chunk::<2>() {
        let length = 2 + (0..u16::from_be_bytes(*count)).fold(0, |at, _| at + field_length(&rest[2 + at..]));
        let (tuple, after) = rest.split_at(length);
        all.push(tuple.to_vec());
        rest = after;
    }
    all
}

/// A field of a tuple, with its length before it.
fn field(tuple: &[u8], number: usize) -> &[u8] {
    let at = (0..number).fold(2, |at, _| at + field_length(&tuple[at..]));
    &tuple[at..at + field_length(&tuple[at..])]
}

/// Bytes of the field that these begin with, and of its length; NULL has a length of -1.
fn field_length(bytes: &[u8]) -> usize {
    let length = bytes.first_chunk::<4>().map_or(0, |length| i32::from_be_bytes(*length));
    4 + usize::try_from(length).unwrap_or_default()
}
