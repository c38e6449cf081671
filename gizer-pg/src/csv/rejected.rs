//! Documents that have no rows: `<collection>.bson`, one after the other, and `<collection>.jsonl`, a line each with its
//! `_id` and the reason, in the same order.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::copy::Reject;
use crate::error::PgError;

/// The most bytes of rejected documents that are read at once, but for a single one that is larger.
const BATCH_BYTES: usize = 4 << 20;

/// The two files of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedFiles {
    /// The documents.
    pub documents: PathBuf,
    /// Their ids and reasons.
    pub reasons: PathBuf,
}

impl RejectedFiles {
    /// Those in `folder` with the name `stem`, which is fit for a file.
    pub(super) fn new(folder: &Path, stem: &str) -> RejectedFiles {
        RejectedFiles { documents: folder.join(format!("{stem}.bson")), reasons: folder.join(format!("{stem}.jsonl")) }
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`PgError::File`] if one cannot be opened.
    pub fn read(&self) -> Result<RejectReader, PgError> {
        let open = |path: &Path| File::open(path).map_err(PgError::file("read", path));
        Ok(RejectReader {
            documents: BufReader::new(open(&self.documents)?),
            reasons: BufReader::new(open(&self.reasons)?),
            files: self.clone(),
        })
    }
}

/// Reads rejected documents back.
#[derive(Debug)]
pub struct RejectReader {
    documents: BufReader<File>,
    reasons: BufReader<File>,
    files: RejectedFiles,
}

impl RejectReader {
    /// Some more of them; none at the end. Blocks.
    ///
    /// # Errors
    /// [`PgError::File`] if the files are not what [`TextFiles`](super::TextFiles) writes.
    pub fn next_batch(&mut self) -> Result<Vec<Reject>, PgError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let Some(reject) = self.next()? else { break };
            bytes += reject.document.len() + reject.id.len() + reject.reason.len();
            batch.push(reject);
        }
        Ok(batch)
    }

    fn next(&mut self) -> Result<Option<Reject>, PgError> {
        let mut line = String::new();
        self.reasons.read_line(&mut line).map_err(PgError::file("read", &self.files.reasons))?;
        let broken = |path: &Path, what| PgError::file("read", path)(io::Error::new(io::ErrorKind::InvalidData, what));
        if line.is_empty() {
            let more = self.documents.fill_buf().map_err(PgError::file("read", &self.files.documents))?;
            let whole = more.is_empty();
            return if whole {
                Ok(None)
            } else {
                Err(broken(&self.files.reasons, "expected a line for each document"))
            };
        }
        let value: Value =
            serde_json::from_str(&line).map_err(|_| broken(&self.files.reasons, "expected JSON in each line"))?;
        let text = |key| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let document = self.document().map_err(PgError::file("read", &self.files.documents))?;
        Ok(Some(Reject { id: text("id"), reason: text("reason"), document, retry: None, is_unfit_key: false }))
    }

    fn document(&mut self) -> io::Result<Vec<u8>> {
        let mut prefix = [0; 4];
        self.documents.read_exact(&mut prefix)?;
        let length = u32::from_le_bytes(prefix);
        let mut document = prefix.to_vec();
        // Memory is taken as the bytes come.
        let rest = u64::from(length).saturating_sub(4);
        let read = (&mut self.documents).take(rest).read_to_end(&mut document)?;
        if read as u64 == rest { Ok(document) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Writes the two files, which are made at the first rejected document.
#[derive(Debug)]
pub(super) struct RejectWriter {
    files: RejectedFiles,
    open: Option<(BufWriter<File>, BufWriter<File>)>,
}

impl RejectWriter {
    pub(super) fn new(files: RejectedFiles) -> RejectWriter {
        RejectWriter { files, open: None }
    }

    pub(super) fn write(&mut self, rejects: &[Reject]) -> Result<(), PgError> {
        let RejectedFiles { documents, reasons } = &self.files;
        let (documents_out, reasons_out) = match &mut self.open {
            Some(open) => open,
            None => {
                if let Some(folder) = documents.parent() {
                    std::fs::create_dir_all(folder).map_err(PgError::file("create", folder))?;
                }
                let create =
                    |path: &Path| File::create_new(path).map(BufWriter::new).map_err(PgError::file("create", path));
                self.open.insert((create(documents)?, create(reasons)?))
            }
        };
        for reject in rejects {
            documents_out.write_all(&reject.document).map_err(PgError::file("write", documents))?;
            let line = json!({"id": reject.id, "reason": reject.reason});
            writeln!(reasons_out, "{line}").map_err(PgError::file("write", reasons))?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), PgError> {
        let Some((documents, reasons)) = &mut self.open else { return Ok(()) };
        for (out, path) in [(documents, &self.files.documents), (reasons, &self.files.reasons)] {
            let synced = out.flush().and_then(|()| out.get_ref().sync_all());
            synced.map_err(PgError::file("write", path))?;
        }
        Ok(())
    }
}
