//! Dumps of mongodump as a source of documents, without a server.
//!
//! ```text
//!   Dump::open ──▶ DumpFile, … ──DumpFile::scan──▶ DumpScan ══▶ DocumentBatch, …
//!    (folder)                                      (a thread that reads and inflates)
//! ```

mod folder;
mod reader;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;

use flate2::read::MultiGzDecoder;
use gizer_flatten::DocumentBatch;
use tokio::sync::mpsc;

use self::reader::{DumpFault, DumpReader};
use crate::error::MongoError;
use crate::scan::DocumentSource;

pub use folder::{Dump, DumpFile};

const FILE_BUFFER: usize = 256 << 10;

/// Documents of one dump file, in file order.
///
/// A thread reads ahead by two batches. A file that ends within a document, within its compressed
/// data or before its checksum is an error, never the end.
#[derive(Debug)]
pub struct DumpScan {
    file: PathBuf,
    state: ScanState,
}

#[derive(Debug)]
enum ScanState {
    /// The file is opened by the first call.
    New {
        batch_bytes: usize,
    },
    Reading(mpsc::Receiver<Result<Option<DocumentBatch>, MongoError>>),
    Ended,
    Failed,
}

impl DumpScan {
    fn new(file: &Path, batch_bytes: usize) -> DumpScan {
        DumpScan { file: file.to_owned(), state: ScanState::New { batch_bytes } }
    }
}

impl DocumentSource for DumpScan {
    async fn next_batch(&mut self) -> Result<Option<DocumentBatch>, MongoError> {
        if let ScanState::New { batch_bytes } = self.state {
            let (sender, receiver) = mpsc::channel(1);
            let file = self.file.clone();
            thread::spawn(move || read_file(&file, batch_bytes, &sender));
            self.state = ScanState::Reading(receiver);
        }
        let step = match &mut self.state {
            ScanState::Reading(receiver) => receiver.recv().await,
            ScanState::Ended => return Ok(None),
            ScanState::New { .. } | ScanState::Failed => {
                return Err(MongoError::FailedBefore { namespace: self.file.display().to_string() });
            }
        };
        // A thread that ends without a result has panicked.
        let step = step.unwrap_or_else(|| {
            Err(MongoError::DumpUnreadable {
                path: self.file.display().to_string(),
                at: 0,
                message: "the thread that reads it ended without a result".to_owned(),
            })
        });
        match &step {
            Ok(Some(_)) => {}
            Ok(None) => self.state = ScanState::Ended,
            Err(_) => self.state = ScanState::Failed,
        }
        step
    }
}

/// Sends all batches, then the end or an error. Stops when the receiver is dropped.
fn read_file(path: &Path, batch_bytes: usize, batches: &mpsc::Sender<Result<Option<DocumentBatch>, MongoError>>) {
    let compressed = is_compressed(path);
    let mut reader = match open(path, compressed) {
        Ok(input) => DumpReader::new(input, batch_bytes),
        Err(error) => {
            let error = MongoError::NoDump { path: path.display().to_string(), found: error.to_string() };
            let _ = batches.blocking_send(Err(error));
            return;
        }
    };
    loop {
        let step = reader.next_batch().map_err(|fault| fault_of(fault, path, compressed));
        let last = !matches!(step, Ok(Some(_)));
        if batches.blocking_send(step).is_err() || last {
            return;
        }
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

fn open(path: &Path, compressed: bool) -> io::Result<Box<dyn Read>> {
    let file = io::BufReader::with_capacity(FILE_BUFFER, File::open(path)?);
    // `gzip` files may be concatenated (RFC 1952, 2.2), as by parallel compressors.
    Ok(if compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn fault_of(fault: DumpFault, path: &Path, compressed: bool) -> MongoError {
    let path = path.display().to_string();
    match fault {
        DumpFault::Broken { at, expected, found } => MongoError::DumpBroken { path, at, compressed, expected, found },
        // flate2 reports bytes that it cannot inflate with these kinds ("GzDecoder").
        DumpFault::Io { at, error }
            if compressed
                && matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
                ) =>
        {
            let found = match error.kind() {
                io::ErrorKind::UnexpectedEof => "the file ends before".to_owned(),
                _ => format!("found something else ({error})"),
            };
            MongoError::DumpBroken { path, at, compressed, expected: "gzip data and their checksum", found }
        }
        DumpFault::Io { at, error } => MongoError::DumpUnreadable { path, at, message: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
