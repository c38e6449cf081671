//! (c) and (d): the stages before PostgreSQL, each alone.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use gizer_flatten::Flattener;
use gizer_oplog::{Cluster, CollectionScan, DocumentSource, MongoSettings, ScanOptions};
use gizer_pg::copy::{Buffers, CopyEncoder};
use integration_tests::bench::{Bed, Result, Sample, Scene, Stopwatch};

use crate::orders::Orders;

/// Encoded bytes that make up a unit, as in gizer's load.
const UNIT_BYTES: usize = 8 << 20;

/// (c): the scan of all orders to its end; nothing is done with them.
///
/// # Errors
/// The scan's; a number or size of documents that is not that of the orders in memory.
pub(crate) async fn scan(bed: &Bed, scene: &Scene, orders: &Orders) -> Result<Sample> {
    let settings = MongoSettings {
        uris: vec![bed.mongod.uri().parse()?],
        database: scene.source.name().to_owned(),
        oplogs: Vec::new(),
    };
    let cluster = Cluster::connect(settings).await?;
    let collection = cluster.collection("orders").await?;

    let watch = Stopwatch::start(bed.servers()?)?;
    let mut scan = CollectionScan::new(&cluster, &collection, ScanOptions::default())?;
    let (mut documents, mut bytes) = (0, 0);
    while let Some(batch) = scan.next_batch().await? {
        documents += batch.len() as u64;
        bytes += batch.document_bytes() as u64;
    }
    let usage = watch.stop()?;
    if (documents, bytes) != (orders.documents, orders.bytes) {
        let Orders { documents: expected, bytes: expected_bytes, .. } = orders;
        let message = format!("expected {expected} documents of {expected_bytes} bytes, read {documents} of {bytes}");
        return Err(message.into());
    }
    Ok(Sample::new(usage))
}

/// (d): flattening and encoding on `workers` threads, from memory into nothing.
///
/// # Errors
/// Those of the stopwatch; a number of rows that is not `rows`.
pub(crate) fn flatten(bed: &Bed, orders: &Orders, workers: u16, rows: u64) -> Result<Sample> {
    let watch = Stopwatch::start(bed.servers()?)?;
    let next = AtomicUsize::new(0);
    let encoded: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| flatten_some(orders, &next))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
    });
    let usage = watch.stop()?;
    if encoded != rows {
        return Err(format!("expected {rows} rows, encoded {encoded}").into());
    }
    Ok(Sample::new(usage))
}

/// Batch after batch, as long as there are any; gives the number of rows.
fn flatten_some(orders: &Orders, next: &AtomicUsize) -> u64 {
    let mut flattener = Flattener::new(&orders.layout);
    let mut encoder = CopyEncoder::new(&orders.layout);
    let mut rows = 0;
    let mut throw_away = |encoder: &mut CopyEncoder| {
        let unit = black_box(encoder.take());
        rows += unit.rows();
        encoder.reuse(Buffers::from(unit));
    };
    while let Some(batch) = orders.batches.get(next.fetch_add(1, Ordering::Relaxed)) {
        // An order that is rejected is missed in the number of rows.
        flattener.flatten(batch.documents(), &mut encoder, |_, _| ());
        if encoder.bytes() >= UNIT_BYTES {
            throw_away(&mut encoder);
        }
    }
    throw_away(&mut encoder);
    rows
}
