//! What a load will take, before it has begun.

use std::time::Duration;

use gizer_flatten::{Flattener, Rejection};
use gizer_oplog::{Cluster, Collection, CollectionScan, DocumentSource, Portion, ScanOptions};
use gizer_pg::copy::CopyEncoder;
use gizer_pg::state::CollectionStatus;
use gizer_schema::Layout;

use crate::failure::Failure;

/// Documents that are looked at.
const SAMPLE: u64 = 1_000;

/// Bytes of them that are asked for at once.
const SAMPLE_BYTES: usize = 4 << 20;

/// Rows a second of a load whose servers are small, far away or busy; and of one on a quiet machine of two cores with both servers
/// on it, too (`docs/performance.md`).
const ROWS_A_SECOND: [f64; 2] = [100_000.0, 900_000.0];

/// What loading a collection will take.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of tables and keys.
    pub disk: u64,
    /// From the least to the most that is to be expected.
    pub time: (Duration, Duration),
    /// Whether the time is that of the last load, scaled: then the least and the most are the same.
    pub measured: bool,
    /// Documents of the sample that would be rejected.
    pub rejected: u64,
}

impl Estimate {
    /// Reads a sample of the collection, and flattens it; `disk` is what the live tables take, if they are of this layout.
    /// `None` if its size is not known.
    ///
    /// # Errors
    /// [`Failure`] if documents cannot be read.
    pub async fn of(
        cluster: &Cluster,
        collection: &Collection,
        layout: &Layout,
        known: Option<&CollectionStatus>,
        disk: Option<u64>,
    ) -> Result<Option<Estimate>, Failure> {
        let Some(size) = collection.size() else { return Ok(None) };
        let sample = Sample::read(cluster, collection, layout).await?;
        let rows = scaled(sample.rows, size.documents, sample.documents);
        let ledger = known.and_then(|known| known.ledger.as_ref()).filter(|ledger| ledger.read > 0);
        let disk = match (disk, ledger) {
            (Some(disk), Some(ledger)) => scaled(disk, size.documents, ledger.read),
            _ => scaled(sample.disk, size.documents, sample.documents),
        };
        let last = ledger.and_then(|ledger| {
            let seconds = ledger.millis? as f64 / 1e3;
            Some(Duration::from_secs_f64(seconds * size.documents as f64 / ledger.read as f64))
        });
        let guess = |rate: f64| Duration::from_secs_f64(rows as f64 / rate);
        let time = last.map_or((guess(ROWS_A_SECOND[1]), guess(ROWS_A_SECOND[0])), |last| (last, last));
        Ok(Some(Estimate { rows, disk, time, measured: last.is_some(), rejected: sample.rejected }))
    }
}

fn scaled(part: u64, whole: u64, of: u64) -> u64 {
    if of == 0 { 0 } else { (part as f64 * whole as f64 / of as f64) as u64 }
}

/// What some documents become.
#[derive(Debug, Default)]
struct Sample {
    documents: u64,
    rejected: u64,
    rows: u64,
    disk: u64,
}

/// Bytes that PostgreSQL keeps beside the values of a row: line pointer, header and padding (PostgreSQL documentation, "Database
/// Page Layout").
const BESIDE_A_ROW: u64 = 4 + 24 + 4;

/// Bytes of a row's entry in the index of its key, about: its header, an ObjectId or number and some positions, and room that is
/// left on pages.
const KEY_ENTRY: u64 = 48;

impl Sample {
    async fn read(cluster: &Cluster, collection: &Collection, layout: &Layout) -> Result<Sample, Failure> {
        let options =
            ScanOptions { portion: Portion::Sample(SAMPLE), batch_bytes: SAMPLE_BYTES, ..ScanOptions::default() };
        let mut scan = CollectionScan::new(cluster, collection, options)?;
        let mut flattener = Flattener::new(layout);
        let mut encoder = CopyEncoder::new(layout);
        let mut sample = Sample::default();
        while let Some(batch) = scan.next_batch().await? {
            flattener.flatten(batch.documents(), &mut encoder, |_, Rejection { .. }| sample.rejected += 1);
            sample.documents += batch.len() as u64;
            for table in encoder.take().tables {
                // Of each field the encoding has its length, which PostgreSQL does not keep of values of fixed size.
                let fields = layout.tables[table.table.0].columns.len() as u64;
                let lengths = table.rows * (2 + 4 * fields);
                sample.rows += table.rows;
                sample.disk +=
                    (table.bytes.len() as u64).saturating_sub(lengths) + table.rows * (BESIDE_A_ROW + KEY_ENTRY);
            }
        }
        Ok(sample)
    }
}
