//! Loads documents through sinks into tables or files.

use std::sync::{Arc, mpsc};

use gizer_channel::{AsyncSender, Budget, to_threads, to_tokio};
use gizer_flatten::Tally;
use gizer_flatten::range::DocumentRange;
use gizer_oplog::RangeSource;
use gizer_pg::load::{RangeSink, Written};
use gizer_schema::Layout;
use tokio::task::JoinSet;

use super::encode::{PartBuilder, encode_ranges};
use super::write::{RangeWriter, WriterContext};
use super::{RejectLimit, joined, on_thread, part_bytes, share, without_result};
use crate::counters::Counters;
use crate::failure::Failure;

/// Counts of a load's pipeline.
#[derive(Debug, Default)]
pub struct Flow {
    /// Documents that the source gave.
    pub read: u64,
    /// Counts of the flatteners, for committed ranges.
    pub tally: Tally,
    /// What the sinks wrote.
    pub written: Written,
}

impl Flow {
    /// Adds the counts of another pass.
    #[must_use]
    pub fn and(mut self, other: Flow) -> Flow {
        self.read += other.read;
        self.tally.add(other.tally);
        self.written += &other.written;
        self
    }

    /// Checks that every document that was read was either written or rejected.
    ///
    /// # Errors
    /// The counts that do not agree.
    pub fn check(&self) -> Result<(), String> {
        let Flow { read, tally, written } = self;
        let counts = [
            ("documents read", *read, "documents flattened", tally.read),
            ("documents flattened", tally.read, "loaded and rejected", tally.loaded + tally.rejected),
            ("documents loaded", tally.loaded, "documents written", written.documents),
            ("documents rejected", tally.rejected, "rejects written", written.rejected),
        ];
        match counts.into_iter().find(|(_, one, _, other)| one != other) {
            Some((what, one, than, other)) => Err(format!("{one} {what}, but {other} {than}")),
            None => Ok(()),
        }
    }
}

/// Loads all ranges of the sources into the sinks, with about `memory` bytes in flight. Each sink
/// has its own flattening thread.
///
/// Stops early, without an error, once there are more rejects than `rejects` allows.
///
/// # Errors
/// Those of the sources and the sinks. The sinks know which ranges are committed.
pub async fn load<K: RangeSink + 'static>(
    layout: &Layout,
    sources: Vec<impl RangeSource + 'static>,
    sinks: Vec<K>,
    memory: usize,
    rejects: &Arc<RejectLimit>,
    counters: &Arc<Counters>,
) -> Result<Flow, Failure> {
    let (range_sender, range_receiver) = to_threads(&Budget::new(share(memory)));
    let shared = Arc::new(WriterContext {
        layout: layout.clone(),
        part_bytes: part_bytes(memory),
        rejects: Arc::clone(rejects),
        counters: Arc::clone(counters),
    });
    let mut threads = Vec::new();
    let mut writers = JoinSet::new();
    // Each has a share of the budget, so that no thread hoards ranges.
    let parts_a_sink = share(memory) / sinks.len().max(1);
    for sink in sinks {
        let (part_sender, part_receiver) = to_tokio(&Budget::new(parts_a_sink));
        let (spare, returned) = mpsc::channel();
        let stage = PartBuilder::<K::Encoder>::new(layout, shared.part_bytes, part_sender, returned);
        let (ranges, of_thread) = (range_receiver.clone(), Arc::clone(&shared));
        threads.push(on_thread(move || encode_ranges(&of_thread.layout, &ranges, stage, &of_thread.rejects)));
        writers.spawn(RangeWriter::new(sink, Arc::clone(&shared)).drain(part_receiver, spare));
    }
    drop(range_receiver);
    let mut cursors = JoinSet::new();
    for source in sources {
        cursors.spawn(pump(source, range_sender.clone()));
    }
    drop(range_sender);
    let (read, (written, tally)) = tokio::try_join!(all_read(cursors), all_written(writers))?;
    for thread in threads {
        joined(thread).await?;
    }
    Ok(Flow { read, tally, written })
}

/// Sends all ranges of a source to the threads; returns the number of documents.
async fn pump(mut source: impl RangeSource, sender: AsyncSender<DocumentRange>) -> Result<u64, Failure> {
    let mut read = 0;
    while let Some(range) = source.next_range().await? {
        let (documents, memory) = (range.documents.len() as u64, range.documents.memory_bytes());
        if sender.send(range, memory).await.is_err() {
            // The next stage failed and reports why.
            break;
        }
        read += documents;
    }
    Ok(read)
}

async fn all_read(mut cursors: JoinSet<Result<u64, Failure>>) -> Result<u64, Failure> {
    let mut sum = 0;
    while let Some(ended) = cursors.join_next().await {
        sum += ended.map_err(|error| without_result("cursor", &error))??;
    }
    Ok(sum)
}

async fn all_written(mut writers: JoinSet<Result<(Written, Tally), Failure>>) -> Result<(Written, Tally), Failure> {
    let mut sum = (Written::default(), Tally::default());
    while let Some(ended) = writers.join_next().await {
        let (written, tally) = ended.map_err(|error| without_result("writer", &error))??;
        sum.0 += &written;
        sum.1.add(tally);
    }
    Ok(sum)
}
