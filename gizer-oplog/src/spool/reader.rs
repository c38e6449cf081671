//! Reading a spool.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use gizer_schema::raw::RawDoc;

use super::format::{self, Chain, Header, Record};
use super::records::{Next, Records};
use super::{SpoolError, SpoolIdentity};
use crate::position::OplogPosition;

/// An entry of the oplog, out of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolEntry<'r> {
    /// Where it stands in the log.
    pub position: OplogPosition,
    /// The entry as the server had it.
    pub document: RawDoc<'r>,
}

/// The entries of a spool after a position, in the oplog's order. It holds one of them in memory.
///
/// A spool that is being written can be read at the same time, as far as it went when it was opened. If it begins anew
/// meanwhile, the reader finds its end early: [`SpoolReader::reached`] always says how far what was given goes.
#[derive(Debug)]
pub struct SpoolReader {
    path: PathBuf,
    records: Records<BufReader<File>>,
    start: OplogPosition,
    after: OplogPosition,
    reached: OplogPosition,
}

impl SpoolReader {
    /// Opens a spool to read what comes after a position; `None` where there is none.
    ///
    /// # Errors
    /// [`SpoolError::NotCovered`] if the spool begins after that position; [`SpoolError::Foreign`] if it is another's;
    /// [`SpoolError::Io`].
    pub fn open(
        path: &Path,
        identity: &SpoolIdentity,
        after: OplogPosition,
    ) -> Result<Option<SpoolReader>, SpoolError> {
        let failed = |reason| SpoolError::Io { path: path.to_owned(), doing: "open", reason };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let length = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let Some(begun) = read_header(&mut file, path, identity)? else { return Ok(None) };
        if after < begun.start {
            return Err(SpoolError::NotCovered { path: path.to_owned(), start: begun.start, wanted: after });
        }
        let records = Records::new(file, length.saturating_sub(begun.bytes), begun.chain);
        Ok(Some(SpoolReader { path: path.to_owned(), records, start: begun.start, after, reached: begun.start }))
    }

    /// The same, but it gives what lies before that position as well. Nothing may have been read yet.
    pub(crate) fn rewound(self) -> SpoolReader {
        SpoolReader { after: self.start, ..self }
    }

    /// Where the spool begins.
    pub fn start(&self) -> OplogPosition {
        self.start
    }

    /// How far the spool has been read: everything that matters up to here has been given. After the last entry it is where
    /// to go on in the log itself; if that lies before the position that the reader was opened with, the spool ends earlier, and
    /// the log is to be read from that position.
    pub fn reached(&self) -> OplogPosition {
        self.reached
    }

    /// The next entry after the position; `None` at the end of what can be relied on.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the file cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<SpoolEntry<'_>>, SpoolError> {
        loop {
            let next = self.records.next();
            let next = next.map_err(|reason| SpoolError::Io { path: self.path.clone(), doing: "read", reason })?;
            let Next::Record(record) = next else { return Ok(None) };
            self.reached = record.position();
            if self.reached > self.after && matches!(record, Record::Entry { .. }) {
                break;
            }
        }
        // Asked for again, because what a loop borrows it cannot give away.
        Ok(self.records.latest())
    }
}

/// A header that was read.
pub(super) struct Begun {
    pub(super) start: OplogPosition,
    pub(super) bytes: u64,
    pub(super) chain: Chain,
}

/// The header of a spool, which must be this one's; `None` if none has been written yet, or not all of it.
pub(super) fn read_header(
    file: &mut impl Read,
    path: &Path,
    wanted: &SpoolIdentity,
) -> Result<Option<Begun>, SpoolError> {
    let mut bytes = Vec::new();
    let mut read = |length: usize, bytes: &mut Vec<u8>| {
        let more = (length - bytes.len()) as u64;
        file.by_ref().take(more).read_to_end(bytes).map_err(|reason| SpoolError::Io {
            path: path.to_owned(),
            doing: "read",
            reason,
        })
    };
    read(16, &mut bytes)?;
    let length = format::header_length(&bytes);
    read(length, &mut bytes)?;
    let foreign = |expected: String, found: String| SpoolError::Foreign { path: path.to_owned(), expected, found };
    match format::read_header(&bytes) {
        Header::Torn => Ok(None),
        Header::Foreign => Err(foreign("a spool of gizer".into(), "a file of another kind".into())),
        Header::OtherVersion(version) => {
            Err(foreign("a spool of version 1".into(), format!("one of version {version}")))
        }
        Header::Whole { identity, .. } if identity != *wanted => {
            let of = |it: &SpoolIdentity| format!("{} of {} for {}", it.database, it.shard, it.owner);
            Err(foreign(format!("the spool of {}", of(wanted)), format!("that of {}", of(&identity))))
        }
        Header::Whole { start, bytes, chain, .. } => Ok(Some(Begun { start, bytes: bytes as u64, chain })),
    }
}
