//! A single transaction that is larger than what gizer may hold in memory.

use bson::{RawDocumentBuf, rawdoc};
use integration_tests::bench::report::{self, MIB};
use integration_tests::bench::{Ran, Result, note};
use serde_json::{Value, json};

use crate::bed::{Bed, Verify};
use crate::gizer;
use crate::options::Options;

/// Characters of the text in each document, which has about 1 kB with it.
const TEXT_BYTES: usize = 960;

/// Documents of one insert: below 16 MB, which a command may have.
const INSERT: usize = 10_000;

/// The most memory that gizer may have, in MiB.
const TARGET: f64 = 256.0;

/// What the transaction took.
#[derive(Debug)]
pub(crate) struct Big {
    megabytes: u32,
    documents: u64,
    synced: Ran,
}

/// Inserts so many MB in one transaction, and applies it.
///
/// # Errors
/// The servers', gizer's; rows that are missing afterwards.
pub(crate) async fn measure(bed: &Bed, _options: &Options, megabytes: u32) -> Result<Big> {
    let scene = bed.scene("big").await?;
    let collection = scene.collection("events");
    let text = "x".repeat(TEXT_BYTES);
    let document = |id: i64| -> RawDocumentBuf {
        rawdoc! { "_id": id, "kind": (id % 7) as i32, "text": text.as_str() }
    };
    collection.insert_many((0..100).map(|id| document(-1 - id))).await?;
    scene.load(bed).await?;
    let copy = bed.copy(&scene, "big_copy", Verify::All).await?;
    gizer::sync(bed, &copy).await?;

    let documents = u64::from(megabytes) * 1_000;
    note(format!("big transaction: inserting {documents} documents"));
    let mut session = collection.client().start_session().await?;
    session.start_transaction().await?;
    for first in (0..documents).step_by(INSERT) {
        let ids = first..documents.min(first + INSERT as u64);
        let inserted = ids.map(|id| document(id as i64));
        collection.insert_many(inserted).session(&mut session).await?;
    }
    session.commit_transaction().await?;
    note("big transaction: gizer sync");
    let synced = gizer::sync(bed, &copy).await?;
    let rows: i64 = copy.target.query_one("SELECT count(*) FROM events", &[]).await?.get(0);
    if rows != documents as i64 + 100 {
        return Err(format!("expected {} rows after the transaction, got {rows}", documents + 100).into());
    }
    Ok(Big { megabytes, documents, synced })
}

/// As text.
pub(crate) fn text(found: &Big) -> String {
    let Big { megabytes, documents, synced } = found;
    let usage = &synced.sample.usage;
    let peak = peak(found);
    let line = format!(
        "a transaction of {megabytes} MB, {} inserts: {:.1} s, {} documents/s, {} batches, peak {peak:.0} MiB",
        report::thousands(*documents as f64),
        usage.wall,
        report::thousands(*documents as f64 / usage.wall),
        synced.report["batches"],
    );
    format!("\n{}", report::target(&line, "at most 256 MiB", peak <= TARGET))
}

fn peak(found: &Big) -> f64 {
    found.synced.sample.peak.unwrap_or_default() as f64 / MIB
}

/// For the file of figures.
pub(crate) fn json(found: &Big) -> Value {
    json!({
        "megabytes": found.megabytes, "documents": found.documents, "usage": found.synced.sample.usage.json(),
        "gizer_peak_mib": peak(found), "report": found.synced.report,
    })
}
