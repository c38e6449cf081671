//! The records of a spool, one after the other, up to the first that is not whole.

use std::fmt;
use std::io::{self, Read};

use gizer_schema::raw::RawDoc;

use super::SpoolEntry;
use super::format::{self, Chain, Record};
use crate::tail::RawEntry;

/// Walks the records after a header.
pub(super) struct Records<R> {
    file: R,
    /// Bytes that are left in the file.
    left: u64,
    chain: Chain,
    /// Bytes of the records that were read.
    good: u64,
    record: Vec<u8>,
}

/// What lies next in a file.
pub(super) enum Next<'b> {
    Record(Record<'b>),
    /// Nothing: the file ends with a whole record.
    End,
    /// Fewer bytes than the record should have, or nothing but a gap: the end of what a crash has left.
    Torn,
    /// Other bytes than were written.
    Damaged,
}

impl<R: Read> Records<R> {
    /// `file` stands after the header; `left` bytes follow.
    pub(super) fn new(file: R, left: u64, chain: Chain) -> Records<R> {
        Records { file, left, chain, good: 0, record: Vec::new() }
    }

    /// After anything but a record nothing more must be asked for.
    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        let mut frame = [0; 8];
        if self.left == 0 {
            return Ok(Next::End);
        }
        if self.left < frame.len() as u64 {
            return Ok(Next::Torn);
        }
        self.file.read_exact(&mut frame)?;
        let Some(length) = format::record_length(frame) else {
            return Ok(if frame == [0; 8] { Next::Torn } else { Next::Damaged });
        };
        if self.left < length as u64 {
            return Ok(Next::Torn);
        }
        self.record.clear();
        self.record.extend_from_slice(&frame);
        self.record.resize(length, 0);
        self.file.read_exact(&mut self.record[frame.len()..])?;
        match format::read_record(&self.record, &mut self.chain) {
            Some(record) => {
                self.left -= length as u64;
                self.good += length as u64;
                Ok(Next::Record(record))
            }
            None => Ok(Next::Damaged),
        }
    }

    /// The entry that was read last, if it was one.
    pub(super) fn latest(&self) -> Option<SpoolEntry<'_>> {
        let entry = RawEntry::read(RawDoc::new(format::entry_of(&self.record)?).ok()?).ok()?;
        Some(SpoolEntry { position: entry.position(), document: entry.document() })
    }

    /// Bytes of all records so far.
    pub(super) fn good(&self) -> u64 {
        self.good
    }

    /// What the next record's checksum goes on from.
    pub(super) fn chain(&self) -> Chain {
        self.chain
    }
}

impl<R> fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("good", &self.good).field("left", &self.left).finish_non_exhaustive()
    }
}
