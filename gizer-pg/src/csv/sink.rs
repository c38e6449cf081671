//! The sink of an extract: rows into files.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::encoder::CsvEncoder;
use super::files::TextFiles;
use crate::copy::{Buffers, EncodedUnit};
use crate::error::PgError;
use crate::load::{RangeDone, RangeSink, Written, amount};

/// Writes ranges into the files of a collection, which several sinks share.
///
/// Files have no transactions: what an error or an interruption leaves is not whole, and the folder says so until
/// [`ExtractFolder::finish`](super::ExtractFolder::finish). What is written is durable only after [`TextFiles::finish`].
#[derive(Debug)]
pub struct FileSink {
    files: Arc<TextFiles>,
    tables: usize,
    pending: Written,
    written: Written,
}

impl FileSink {
    /// A sink for files of so many tables.
    pub fn new(files: &Arc<TextFiles>, tables: usize) -> FileSink {
        let nothing = || Written { rows: vec![0; tables], ..Written::default() };
        FileSink { files: Arc::clone(files), tables, pending: nothing(), written: nothing() }
    }
}

impl RangeSink for FileSink {
    type Encoder = CsvEncoder;

    async fn copy(&mut self, rows: EncodedUnit) -> Result<Buffers, PgError> {
        self.pending += &amount(&rows, self.tables);
        let files = Arc::clone(&self.files);
        let written = spawn_blocking(move || files.write(&rows).map(|()| Buffers::from(rows))).await;
        written.unwrap_or_else(|_| {
            Err(PgError::File {
                doing: "write".to_owned(),
                path: "the files of a table".to_owned(),
                reason: "the thread that writes ended without a result; this is a fault in gizer".to_owned(),
            })
        })
    }

    async fn commit(&mut self, _done: RangeDone<'_>) -> Result<u64, PgError> {
        let nothing = Written { rows: vec![0; self.tables], ..Written::default() };
        let mut range = std::mem::replace(&mut self.pending, nothing);
        range.ranges = 1;
        self.written += &range;
        Ok(range.rows.iter().sum())
    }

    async fn finish(self) -> Result<Written, PgError> {
        Ok(self.written)
    }
}
