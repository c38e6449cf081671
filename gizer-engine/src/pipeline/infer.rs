//! Infers a schema from documents.

use std::sync::Arc;

use gizer_channel::{AsyncSender, Budget, ThreadReceiver, to_threads};
use gizer_flatten::{DocumentBatch, RejectReason};
use gizer_oplog::DocumentSource;
use gizer_schema::infer::Inference;

use super::{joined, on_thread};
use crate::counters::Counters;
use crate::failure::Failure;

/// Infers a schema from all documents of a source, on `workers` threads, with at most `memory` bytes in flight.
///
/// # Errors
/// Those of the source; a document that is no BSON.
pub async fn infer(
    source: impl DocumentSource,
    workers: usize,
    memory: usize,
    counters: Arc<Counters>,
) -> Result<Inference, Failure> {
    let (sender, receiver) = to_threads(&Budget::new(memory / 2));
    let threads: Vec<_> = (0..workers)
        .map(|_| {
            let batches = receiver.clone();
            on_thread(move || observe(&batches))
        })
        .collect();
    drop(receiver);
    pump(source, sender, &counters).await?;
    let mut whole = Inference::default();
    for part in threads {
        whole.merge(joined(part).await??);
    }
    Ok(whole)
}

fn observe(batches: &ThreadReceiver<DocumentBatch>) -> Result<Inference, Failure> {
    let mut inference = Inference::default();
    while let Some(batch) = batches.recv() {
        for document in batch.documents() {
            inference.observe(document).map_err(|error| Failure::failed(RejectReason::from(error).to_string()))?;
        }
    }
    Ok(inference)
}

/// Sends all batches of a source to threads, and counts them.
async fn pump(
    mut source: impl DocumentSource,
    sender: AsyncSender<DocumentBatch>,
    counters: &Counters,
) -> Result<(), Failure> {
    while let Some(batch) = source.next_batch().await? {
        let (documents, document_bytes) = (batch.len() as u64, batch.document_bytes() as u64);
        let memory = batch.memory_bytes();
        if sender.send(batch, memory).await.is_err() {
            // The next stage failed and reports why.
            return Ok(());
        }
        counters.add_documents(documents, document_bytes);
    }
    Ok(())
}
