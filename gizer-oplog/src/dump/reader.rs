//! A stream of bytes as batches of documents.

use std::io::{self, ErrorKind, Read};

use bytes::Bytes;
use gizer_flatten::DocumentBatch;

/// Largest document: 16 MiB plus the server's allowance for its own fields (MongoDB source,
/// `BSONObjMaxInternalSize`).
pub(super) const MAX_DOCUMENT: usize = (16 << 20) + (16 << 10);

/// Magic number of `mongodump --archive` (mongo-tools, "archive/archive.go"), read as a length.
const ARCHIVE_MAGIC: u32 = 0x8199_e26d;

/// Why there is no next batch.
#[derive(Debug)]
pub(super) enum DumpFault {
    /// The bytes are not what mongodump writes.
    Broken { at: u64, expected: &'static str, found: String },
    /// They could not be read.
    Io { at: u64, error: io::Error },
}

/// Cuts a stream of concatenated documents into batches.
#[derive(Debug)]
pub(super) struct DumpReader<R> {
    input: R,
    batch_bytes: usize,
    /// Offset in the stream.
    at: u64,
    /// Length of the next document, if it was read already and did not fit the last batch.
    next: Option<usize>,
}

impl<R: Read> DumpReader<R> {
    pub(super) fn new(input: R, batch_bytes: usize) -> DumpReader<R> {
        DumpReader { input, batch_bytes, at: 0, next: None }
    }

    /// Documents of at most `batch_bytes` together, or one that is larger; `None` at the end of the stream.
    pub(super) fn next_batch(&mut self) -> Result<Option<DocumentBatch>, DumpFault> {
        let begin = self.at;
        let mut buffer = Vec::new();
        while let Some(length) = self.next_length()? {
            if buffer.is_empty() {
                buffer.reserve_exact(length.max(self.batch_bytes));
            } else if buffer.len() + length > self.batch_bytes {
                self.next = Some(length);
                break;
            }
            self.read_document(&mut buffer, length)?;
        }
        if buffer.is_empty() {
            return Ok(None);
        }
        buffer.shrink_to_fit();
        let batch = DocumentBatch::from_sequence(Bytes::from(buffer)).map_err(|malformed| DumpFault::Broken {
            at: begin + malformed.at as u64,
            expected: malformed.what,
            found: "found something else".to_owned(),
        })?;
        Ok(Some(batch))
    }

    /// The length of the next document; `None` at the end of the stream.
    fn next_length(&mut self) -> Result<Option<usize>, DumpFault> {
        if let Some(length) = self.next.take() {
            return Ok(Some(length));
        }
        let mut prefix = Vec::with_capacity(4);
        let read = self.read(&mut prefix, 4)?;
        match <[u8; 4]>::try_from(prefix.as_slice()) {
            Ok(prefix) => length(prefix, self.at).map(Some),
            Err(_) if read == 0 => Ok(None),
            Err(_) => {
                let (expected, found) = ("a document", format!("the file ends after {read} bytes of its length"));
                Err(DumpFault::Broken { at: self.at, expected, found })
            }
        }
    }

    fn read_document(&mut self, buffer: &mut Vec<u8>, length: usize) -> Result<(), DumpFault> {
        let at = self.at;
        // Valid lengths fit 32 bits.
        buffer.extend_from_slice(&(length as u32).to_le_bytes());
        let read = 4 + self.read(buffer, length - 4)?;
        if read < length {
            let found = format!("the file ends after {read} of its {length} bytes");
            return Err(DumpFault::Broken { at, expected: "a whole document", found });
        }
        if buffer.last() != Some(&0) {
            let found = format!("found something else {length} bytes further on");
            return Err(DumpFault::Broken { at, expected: "a document with a 0 at its end", found });
        }
        self.at += length as u64;
        Ok(())
    }

    /// Appends up to `count` bytes; less only at the end of the stream.
    fn read(&mut self, buffer: &mut Vec<u8>, count: usize) -> Result<usize, DumpFault> {
        loop {
            match (&mut self.input).take(count as u64).read_to_end(buffer) {
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(DumpFault::Io { at: self.at, error }),
            }
        }
    }
}

/// Checks the length of a document.
fn length(prefix: [u8; 4], at: u64) -> Result<usize, DumpFault> {
    let broken =
        |found: String| DumpFault::Broken { at, expected: "a document of 5 bytes to 16 MiB and 16 KiB", found };
    if at == 0 && u32::from_le_bytes(prefix) == ARCHIVE_MAGIC {
        return Err(broken(
            "found the beginning of an archive of `mongodump --archive`, which cannot be read".to_owned(),
        ));
    }
    let length = i32::from_le_bytes(prefix);
    match usize::try_from(length) {
        Ok(length @ 5..=MAX_DOCUMENT) => Ok(length),
        _ => Err(broken(format!("found the length {length}"))),
    }
}
