//! Copies text files into tables.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use gizer_pg::csv::TextFile;
use gizer_pg::load::{TextSink, Written};
use gizer_schema::TableId;
use tokio::task::JoinSet;

use super::without_result;
use crate::counters::Counters;
use crate::failure::Failure;

/// Copies all files through the sinks; each sink takes the next free file.
///
/// # Errors
/// Those of the sinks; the first one ends the others.
pub async fn copy(
    files: Vec<(TableId, TextFile)>,
    sinks: Vec<TextSink>,
    counters: &Arc<Counters>,
) -> Result<Written, Failure> {
    let files = Arc::new(Mutex::new(VecDeque::from(files)));
    let mut copying = JoinSet::new();
    for sink in sinks {
        copying.spawn(drain(sink, Arc::clone(&files), Arc::clone(counters)));
    }
    let mut written = Written::default();
    // Dropping the set rolls back what is in progress.
    while let Some(ended) = copying.join_next().await {
        written += &ended.map_err(|error| without_result("writer", &error))??;
    }
    Ok(written)
}

async fn drain(
    mut sink: TextSink,
    files: Arc<Mutex<VecDeque<(TableId, TextFile)>>>,
    counters: Arc<Counters>,
) -> Result<Written, Failure> {
    loop {
        let next = files.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((table, file)) = next else { return Ok(sink.finish()) };
        let rows = sink.copy_file(table, &file).await?;
        counters.add_written(0, file.bytes, rows);
    }
}
