//! What mongodump has written, as a source of documents: no server is needed.
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

use self::reader::{DumpReader, Fault};
use crate::error::MongoError;
use crate::scan::DocumentSource;

pub use folder::{Dump, DumpFile};

/// Buffer between the file and what inflates it.
const FILE_BUFFER: usize = 256 << 10;

/// The documents of one file of a dump, in their order.
///
/// A thread of its own reads ahead of the receiver by two batches. A file that ends within a document, within its compressed
/// data, or before their checksum is an error; it never looks like the end.
#[derive(Debug)]
pub struct DumpScan {
    file: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing is opened before the first call.
    New {
        batch_bytes: usize,
    },
    Reading(mpsc::Receiver<Result<Option<DocumentBatch>, MongoError>>),
    Ended,
    Failed,
}

impl DumpScan {
    fn new(file: &Path, batch_bytes: usize) -> DumpScan {
        DumpScan { file: file.to_owned(), state: State::New { batch_bytes } }
    }
}

impl DocumentSource for DumpScan {
    async fn next_batch(&mut self) -> Result<Option<DocumentBatch>, MongoError> {
        if let State::New { batch_bytes } = self.state {
            let (sender, receiver) = mpsc::channel(1);
            let file = self.file.clone();
            thread::spawn(move || read_file(&file, batch_bytes, &sender));
            self.state = State::Reading(receiver);
        }
        let step = match &mut self.state {
            State::Reading(receiver) => receiver.recv().await,
            State::Ended => return Ok(None),
            State::New { .. } | State::Failed => {
                return Err(MongoError::FailedBefore { namespace: self.file.display().to_string() });
            }
        };
        // A thread that says nothing at its end has panicked.
        let step = step.unwrap_or_else(|| {
            Err(MongoError::DumpUnreadable {
                path: self.file.display().to_string(),
                at: 0,
                message: "the thread that reads it ended without a result".to_owned(),
            })
        });
        match &step {
            Ok(Some(_)) => {}
            Ok(None) => self.state = State::Ended,
            Err(_) => self.state = State::Failed,
        }
        step
    }
}

/// Sends all batches, then the end, or why there is none. Stops when nobody wants more.
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
    // `gzip` files may be joined end to end (RFC 1952, 2.2), as by a parallel compressor.
    Ok(if compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn fault_of(fault: Fault, path: &Path, compressed: bool) -> MongoError {
    let path = path.display().to_string();
    match fault {
        Fault::Broken { at, expected, found } => MongoError::DumpBroken { path, at, compressed, expected, found },
        // What inflates says of bytes that it cannot inflate (flate2, "GzDecoder").
        Fault::Io { at, error }
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
        Fault::Io { at, error } => MongoError::DumpUnreadable { path, at, message: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
