//! Putting a shop into MongoDB.

use std::time::{Duration, Instant};

use bson::RawDocumentBuf;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use mongodb::Collection;
use mongodb::error::Result;
use mongodb::options::WriteConcern;

use super::Documents;

/// Bytes of an insert: few round trips, and well below the server's limit of 48 MB a message.
const BATCH_BYTES: usize = 2 << 20;

/// Inserts under way at a time: one is made and sent while the server works on another.
const INSERTS: usize = 2;

/// What [`fill`] has inserted so far, or in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filled {
    /// Documents.
    pub documents: u64,
    /// Their bytes of BSON.
    pub bytes: u64,
    /// Since the beginning.
    pub elapsed: Duration,
}

/// Inserts documents into a collection, acknowledged by one member (`w: 1`), and tells `progress` after every couple of
/// megabytes.
///
/// # Errors
/// The server's or driver's, for instance when the collection holds documents of the same shop already.
pub async fn fill(
    collection: &Collection<RawDocumentBuf>,
    documents: Documents,
    mut progress: impl FnMut(Filled),
) -> Result<Filled> {
    let started = Instant::now();
    let mut filled = Filled { documents: 0, bytes: 0, elapsed: Duration::ZERO };
    let mut inserted = inserts(collection, documents);
    while let Some((documents, bytes)) = inserted.try_next().await? {
        filled.documents += documents;
        filled.bytes += bytes;
        filled.elapsed = started.elapsed();
        progress(filled);
    }
    filled.elapsed = started.elapsed();
    Ok(filled)
}

/// Documents and bytes of one insert after the other, as they are acknowledged.
fn inserts(collection: &Collection<RawDocumentBuf>, documents: Documents) -> impl Stream<Item = Result<(u64, u64)>> {
    let insert = async |batch: Vec<RawDocumentBuf>| {
        collection.insert_many(&batch).write_concern(WriteConcern::nodes(1)).await?;
        Ok((batch.len() as u64, byte_count(&batch) as u64))
    };
    stream::iter(batches(documents)).map(insert).buffer_unordered(INSERTS)
}

fn batches(mut documents: Documents) -> impl Iterator<Item = Vec<RawDocumentBuf>> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while bytes < BATCH_BYTES
            && let Some(document) = documents.next()
        {
            bytes += document.as_bytes().len();
            batch.push(document);
        }
        (!batch.is_empty()).then_some(batch)
    })
}

fn byte_count(batch: &[RawDocumentBuf]) -> usize {
    batch.iter().map(|document| document.as_bytes().len()).sum()
}
