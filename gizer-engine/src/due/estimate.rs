//! Estimates what a load will take.

use std::time::Duration;

use gizer_flatten::{Flattener, Rejection};
use gizer_oplog::{Cluster, Collection, CollectionScan, DocumentSource, Portion, ScanOptions};
use gizer_pg::copy::CopyEncoder;
use gizer_pg::state::CollectionStatus;
use gizer_schema::Layout;

use crate::failure::Failure;

const SAMPLE_DOCUMENTS: u64 = 1_000;

const SAMPLE_BYTES: usize = 4 << 20;

/// Rows per second, with small, distant or busy servers, and on a quiet machine of two cores with
/// both servers on it (`docs/performance.md`).
const ROWS_A_SECOND: [f64; 2] = [100_000.0, 900_000.0];

/// Estimate of a load.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of tables and keys.
    pub disk: u64,
    /// Shortest and longest expected time.
    pub time: (Duration, Duration),
    /// Whether the time is scaled from the last load; then both are the same.
    pub measured: bool,
    /// Rejected documents of the sample.
    pub rejected: u64,
}

impl Estimate {
    /// Reads and flattens a sample of the collection; `disk` is the size of the live tables, if
    /// they have this layout. `None` if the collection's size is unknown.
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
        let sample = SampleCounts::read(cluster, collection, layout).await?;
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

/// What the sampled documents became.
#[derive(Debug, Default)]
struct SampleCounts {
    documents: u64,
    rejected: u64,
    rows: u64,
    disk: u64,
}

/// Bytes per row besides its values: line pointer, header and padding (PostgreSQL documentation,
/// "Database Page Layout").
const BESIDE_A_ROW: u64 = 4 + 24 + 4;

/// Bytes of a key's index entry, about, with free room on pages.
const KEY_ENTRY: u64 = 48;

impl SampleCounts {
    async fn read(cluster: &Cluster, collection: &Collection, layout: &Layout) -> Result<SampleCounts, Failure> {
        let options = ScanOptions {
            portion: Portion::Sample(SAMPLE_DOCUMENTS),
            batch_bytes: SAMPLE_BYTES,
            ..ScanOptions::default()
        };
        let mut scan = CollectionScan::new(cluster, collection, options)?;
        let mut flattener = Flattener::new(layout);
        let mut encoder = CopyEncoder::new(layout);
        let mut sample = SampleCounts::default();
        while let Some(batch) = scan.next_batch().await? {
            flattener.flatten(batch.documents(), &mut encoder, |_, Rejection { .. }| sample.rejected += 1);
            sample.documents += batch.len() as u64;
            for table in encoder.take().tables {
                // The encoding has a length per field, PostgreSQL none for fixed-size values.
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
