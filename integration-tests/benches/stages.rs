//! How fast the stages of a load and of an audit are, each alone, on one core: orders of the demo's shop, in memory.
//!
//! `scripts/bench stages` runs this; throughput is of BSON.

#![allow(missing_docs, reason = "a benchmark has no readers of its items")]

use bson::{Bson, Document, doc};
use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use gizer_flatten::{DocumentBatch, Flattener, Row, RowSink};
use gizer_pg::copy::{Buffers, CopyEncoder};
use gizer_pg::csv::CsvEncoder;
use gizer_schema::infer::Inference;
use gizer_schema::{Dialect, Layout, Schema, TableId};
use gizer_verify::{RebuildCheck, StoredRows};
use integration_tests::shop::Shop;

const ORDERS: u64 = 20_000;

fn main() {
    divan::main();
}

fn orders() -> DocumentBatch {
    let mut bytes = Vec::new();
    let mut documents = Shop::new(7).orders(0..ORDERS);
    while documents.append_next(&mut bytes) {}
    DocumentBatch::from_sequence(Bytes::from(bytes)).expect("the shop makes whole documents")
}

fn inferred(batch: &DocumentBatch, dialect: Option<Dialect>) -> Schema {
    let mut inference = Inference::default();
    for document in batch.documents() {
        inference.observe(document).expect("the shop makes well-formed documents");
    }
    match dialect {
        Some(Dialect::Classic) => inference.classic_schema("orders").0,
        _ => inference.schema("orders").0,
    }
}

fn layout(batch: &DocumentBatch, dialect: Dialect) -> Layout {
    Layout::new(&inferred(batch, Some(dialect))).expect("orders have an _id")
}

/// Takes rows and looks at them no further.
#[derive(Default)]
struct Counted(u64);

impl RowSink for Counted {
    fn begin_document(&mut self) {}

    fn row(&mut self, row: Row<'_>) {
        self.0 += black_box(row.cells).len() as u64;
    }

    fn discard_document(&mut self) {}
}

fn counted<'a, 'b>(bencher: Bencher<'a, 'b>, batch: &DocumentBatch) -> Bencher<'a, 'b> {
    bencher.counter(BytesCount::new(batch.document_bytes())).counter(ItemsCount::new(batch.len()))
}

#[divan::bench(sample_count = 20)]
fn infer(bencher: Bencher<'_, '_>) {
    let batch = orders();
    counted(bencher, &batch).bench_local(|| inferred(&batch, None));
}

#[divan::bench(sample_count = 20, args = ["classic", "gizer"])]
fn flatten_to_nothing(bencher: Bencher<'_, '_>, dialect: &str) {
    let batch = orders();
    let mut flattener = Flattener::new(&layout(&batch, named(dialect)));
    counted(bencher, &batch).bench_local(|| {
        let mut sink = Counted::default();
        flattener.flatten(batch.documents(), &mut sink, |_, rejection| panic!("{rejection:?}"));
        sink.0
    });
}

#[divan::bench(sample_count = 20, args = ["classic", "gizer"])]
fn flatten_to_copy(bencher: Bencher<'_, '_>, dialect: &str) {
    let batch = orders();
    let layout = layout(&batch, named(dialect));
    to_copy(bencher, &batch, &layout);
}

fn to_copy(bencher: Bencher<'_, '_>, batch: &DocumentBatch, layout: &Layout) {
    let mut flattener = Flattener::new(layout);
    let mut encoder = CopyEncoder::new(layout);
    counted(bencher, batch).bench_local(|| {
        flattener.flatten(batch.documents(), &mut encoder, |_, rejection| panic!("{rejection:?}"));
        let unit = encoder.take();
        let rows = unit.rows();
        encoder.reuse(Buffers::from(unit));
        rows
    });
}

#[divan::bench(sample_count = 20, args = ["classic", "gizer"])]
fn flatten_to_csv(bencher: Bencher<'_, '_>, dialect: &str) {
    let batch = orders();
    let layout = layout(&batch, named(dialect));
    let mut flattener = Flattener::new(&layout);
    let mut encoder = CsvEncoder::new(&layout);
    counted(bencher, &batch).bench_local(|| {
        encoder.clear();
        flattener.flatten(batch.documents(), &mut encoder, |_, rejection| panic!("{rejection:?}"));
        encoder.rows_of(TableId(0)).1
    });
}

/// The orders' rows as the server gives them, each order under the key of its number.
fn stored(layout: &Layout, batch: &DocumentBatch) -> StoredRows {
    let (mut flattener, mut encoder) = (Flattener::new(layout), CopyEncoder::new(layout));
    let mut units = Vec::new();
    for document in batch.documents() {
        flattener.flatten([document], &mut encoder, |_, rejection| panic!("{rejection:?}"));
        units.push(encoder.take());
    }
    let tables = (0..).zip(&units).flat_map(|(key, unit)| unit.tables.iter().map(move |table| (key, table)));
    let rows =
        tables.flat_map(|(key, table)| tuples(&table.bytes).into_iter().map(move |fields| (table.table, key, fields)));
    StoredRows::gathered(layout, units.len(), rows)
}

/// The tuples of a binary COPY: a header of 19 bytes, tuples of so many fields with their lengths, and −1.
fn tuples(copy: &[u8]) -> Vec<Vec<Option<&[u8]>>> {
    let (mut rest, mut tuples) = (&copy[19..], Vec::new());
    let mut take = |length: usize| rest.split_off(..length).expect("a whole COPY");
    loop {
        let fields = i16::from_be_bytes(take(2).try_into().expect("two bytes"));
        if fields == -1 {
            return tuples;
        }
        let mut field = || match i32::from_be_bytes(take(4).try_into().expect("four bytes")) {
            -1 => None,
            length => Some(take(length as usize)),
        };
        tuples.push((0..fields).map(|_| field()).collect());
    }
}

#[divan::bench(sample_count = 20)]
fn check_rebuilt(bencher: Bencher<'_, '_>) {
    let batch = orders();
    let layout = layout(&batch, Dialect::NEW);
    let stored = stored(&layout, &batch);
    let mut check = RebuildCheck::new(&layout).expect("gizer's dialect");
    counted(bencher, &batch).bench_local(|| {
        for (key, document) in (0..).zip(batch.documents()) {
            check.check(document, key, &stored).expect("they come back");
        }
    });
}

/// 500 documents with four entries each, under names of 32 hexadecimal digits or in an array.
fn accounts(container: &str) -> DocumentBatch {
    let mut bytes = Vec::new();
    for number in 0..500_u64 {
        let entries = (0..4).map(|entry| {
            let id = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ entry;
            let tier = doc! { "active": entry % 2 == 0, "benefits": ["concierge", "24 hour line"], "tier": "Gold" };
            (format!("{id:016x}{:016x}", !id), tier)
        });
        let tiers: Bson = match container {
            "map" => Bson::from(entries.map(|(id, tier)| (id, tier.into())).collect::<Document>()),
            _ => entries
                .map(|(id, tier)| Bson::from(doc! { "id": id }.into_iter().chain(tier).collect::<Document>()))
                .collect(),
        };
        let account = doc! { "_id": number as i64, "tiers": tiers };
        account.to_writer(&mut bytes).expect("a document into memory");
    }
    DocumentBatch::from_sequence(Bytes::from(bytes)).expect("whole documents")
}

/// A map next to an array of the same entries: three tables, from documents to what is sent to PostgreSQL.
#[divan::bench(sample_count = 200, args = ["array", "map"])]
fn entries_to_copy(bencher: Bencher<'_, '_>, container: &str) {
    let batch = accounts(container);
    let layout = layout(&batch, Dialect::NEW);
    assert_eq!(layout.tables.len(), 3);
    to_copy(bencher, &batch, &layout);
}

#[divan::bench(sample_count = 200, args = ["array", "map"])]
fn check_rebuilt_entries(bencher: Bencher<'_, '_>, container: &str) {
    let batch = accounts(container);
    let layout = layout(&batch, Dialect::NEW);
    let stored = stored(&layout, &batch);
    let mut check = RebuildCheck::new(&layout).expect("gizer's dialect");
    counted(bencher, &batch).bench_local(|| {
        for (key, document) in (0..).zip(batch.documents()) {
            check.check(document, key, &stored).expect("they come back");
        }
    });
}

fn named(dialect: &str) -> Dialect {
    if dialect == "classic" { Dialect::Classic } else { Dialect::NEW }
}
