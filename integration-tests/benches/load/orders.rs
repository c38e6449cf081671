//! The orders in memory: as documents, and as encoded rows.

use bytes::Bytes;
use gizer_flatten::{DocumentBatch, Flattener};
use gizer_pg::copy::{Buffers, CopyEncoder, EncodedUnit};
use gizer_schema::{Layout, TableId};
use integration_tests::bench::{Result, SEED};
use integration_tests::shop::Shop;
use serde_json::{Value, json};

/// Bytes of BSON in a batch, as in a reply of the server to gizer's scan.
const BATCH_BYTES: usize = 4 << 20;

/// Batches whose rows make up a unit: 8 MiB of BSON.
const UNIT_BATCHES: usize = 2;

/// All orders of the comparison.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) layout: Layout,
    pub(crate) batches: Vec<DocumentBatch>,
    pub(crate) documents: u64,
    /// Bytes of BSON.
    pub(crate) bytes: u64,
}

impl Orders {
    /// The first orders of the shop; their tables are those of `layout`.
    ///
    /// # Errors
    /// None in practice: the shop makes whole documents.
    pub(crate) fn new(count: u64, layout: Layout) -> Result<Orders> {
        let mut documents = Shop::new(SEED).orders(0..count);
        let mut batches = Vec::new();
        let mut buffer = Vec::new();
        let mut more = true;
        while more {
            more = documents.append_next(&mut buffer);
            if buffer.len() >= BATCH_BYTES || !more {
                batches.push(DocumentBatch::from_sequence(Bytes::copy_from_slice(&buffer))?);
                buffer.clear();
            }
        }
        batches.retain(|batch| !batch.is_empty());
        let bytes = batches.iter().map(|batch| batch.document_bytes() as u64).sum();
        Ok(Orders { layout, batches, documents: count, bytes })
    }
}

/// Rows ready for binary COPY, in units.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) units: Vec<Unit>,
    /// Sums by table.
    pub(crate) tables: Vec<TableSize>,
}

/// The rows of some documents.
#[derive(Debug)]
pub(crate) struct Unit(pub(crate) Vec<TableRows>);

/// A table's rows in a unit.
#[derive(Debug)]
pub(crate) struct TableRows {
    pub(crate) table: TableId,
    /// One COPY's bytes, header and trailer included.
    pub(crate) bytes: Bytes,
    pub(crate) rows: u64,
}

/// A table's rows in all units.
#[derive(Debug, Clone)]
pub(crate) struct TableSize {
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Encoded {
    /// Flattens and encodes all orders, on this thread.
    ///
    /// # Errors
    /// If a document is rejected: then both sides would not load the same.
    pub(crate) fn new(orders: &Orders) -> Result<Encoded> {
        let layout = &orders.layout;
        let mut flattener = Flattener::new(layout);
        let mut encoder = CopyEncoder::new(layout);
        let mut rejected = None;
        let mut units = Vec::new();
        let sizes = layout.tables.iter().map(|table| TableSize { name: table.name.clone(), rows: 0, bytes: 0 });
        let mut tables: Vec<TableSize> = sizes.collect();
        for batches in orders.batches.chunks(UNIT_BATCHES) {
            for batch in batches {
                flattener.flatten(batch.documents(), &mut encoder, |_, rejection| rejected = Some(rejection.reason));
            }
            let unit = encoder.take();
            units.push(Unit::copied(&unit));
            for data in &unit.tables {
                tables[data.table.0].rows += data.rows;
                tables[data.table.0].bytes += data.bytes.len() as u64;
            }
            encoder.reuse(Buffers::from(unit));
        }
        match rejected {
            Some(reason) => Err(format!("expected no rejected order, got one: {reason}").into()),
            None => Ok(Encoded { units, tables }),
        }
    }

    /// Rows of all tables.
    pub(crate) fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Bytes of all tables.
    pub(crate) fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }

    /// For the file of figures.
    pub(crate) fn json(&self) -> Value {
        let table = |table: &TableSize| json!({"name": table.name, "rows": table.rows, "copy_bytes": table.bytes});
        json!({
            "rows": self.rows(), "copy_bytes": self.bytes(), "units": self.units.len(),
            "tables": self.tables.iter().map(table).collect::<Vec<Value>>(),
        })
    }
}

impl Unit {
    /// Without the unused room at the end of the encoder's buffers.
    fn copied(unit: &EncodedUnit) -> Unit {
        let rows = unit.tables.iter().map(|data| TableRows {
            table: data.table,
            bytes: Bytes::copy_from_slice(&data.bytes),
            rows: data.rows,
        });
        Unit(rows.collect())
    }
}
