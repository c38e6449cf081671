//! The form of a spool's bytes. Numbers are little-endian.
//!
//! ```text
//!   header   "GIZSPOOL"  version u32  length u32  owner, shard, database: length u32 and UTF-8 each
//!            start: seconds u32, increment u32, term i64                             CRC-32 of all of it, u32
//!   record   length u32  CRC-32 u32   kind u8, content                                (length: of kind and content)
//!     kind 1 an oplog entry, as BSON
//!     kind 2 a mark: seconds u32, increment u32, term i64
//! ```
//!
//! The checksum of a record goes on from that of the record before it, and the first one's from the header's: a record
//! counts only in its place, after all that were written before it. What is left of an older file, or zeros that a
//! crash has left, never passes.

use gizer_flatten::change::ClusterTime;
use gizer_schema::raw::RawDoc;

use super::SpoolIdentity;
use crate::position::OplogPosition;
use crate::tail::RawEntry;

const MAGIC: &[u8; 8] = b"GIZSPOOL";
const VERSION: u32 = 1;

/// Magic, version and length.
const PREFIX: usize = 16;

/// Bytes before a record's kind: length and checksum.
const FRAME: usize = 8;

const ENTRY: u8 = 1;
const MARK: u8 = 2;

/// Bytes of a position.
const POSITION: usize = 16;

/// What a mark takes.
pub(super) const MARK_BYTES: u64 = (FRAME + 1 + POSITION) as u64;

/// The longest record: no message of the server is longer (`maxMessageSizeBytes`), and so no entry in one.
const LONGEST: usize = 48_000_000;

/// The longest header: names and hosts.
const LONGEST_HEADER: usize = 1 << 20;

/// The checksum that the next record goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain(u32);

impl Chain {
    fn over(self, length: [u8; 4], kind: u8, content: &[u8]) -> Chain {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(&length);
        hasher.update(&[kind]);
        hasher.update(content);
        Chain(hasher.finalize())
    }
}

/// A record as it lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'b> {
    Entry { position: OplogPosition, bytes: &'b [u8] },
    Mark(OplogPosition),
}

impl Record<'_> {
    pub(super) fn position(&self) -> OplogPosition {
        match self {
            Record::Entry { position, .. } | Record::Mark(position) => *position,
        }
    }
}

/// Bytes of a record that holds an entry.
pub(super) fn entry_bytes(entry: &[u8]) -> u64 {
    (FRAME + 1 + entry.len()) as u64
}

pub(super) fn write_entry(entry: &[u8], chain: &mut Chain, to: &mut Vec<u8>) {
    write(ENTRY, entry, chain, to);
}

pub(super) fn write_mark(position: OplogPosition, chain: &mut Chain, to: &mut Vec<u8>) {
    write(MARK, &position_bytes(position), chain, to);
}

fn write(kind: u8, content: &[u8], chain: &mut Chain, to: &mut Vec<u8>) {
    // No entry of the server's comes near 4 GiB.
    let length = (content.len() as u32 + 1).to_le_bytes();
    *chain = chain.over(length, kind, content);
    to.extend_from_slice(&length);
    to.extend_from_slice(&chain.0.to_le_bytes());
    to.push(kind);
    to.extend_from_slice(content);
}

/// The length of the record whose first bytes these are, its frame included; `None` if no record can begin so.
pub(super) fn record_length(frame: [u8; FRAME]) -> Option<usize> {
    let length = u32_at(&frame, 0)? as usize;
    (1..=LONGEST).contains(&length).then_some(FRAME + length)
}

/// Reads a whole record; `None` if it is not the one that was written in this place.
pub(super) fn read_record<'b>(bytes: &'b [u8], chain: &mut Chain) -> Option<Record<'b>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let (kind, content) = rest.split_first()?;
    let next = chain.over(*length, *kind, content);
    if next.0 != u32::from_le_bytes(*checksum) || u32::from_le_bytes(*length) as usize != rest.len() {
        return None;
    }
    let record = match *kind {
        ENTRY => {
            let entry = RawEntry::read(RawDoc::new(content).ok()?).ok()?;
            Record::Entry { position: entry.position(), bytes: content }
        }
        MARK if content.len() == POSITION => Record::Mark(position_at(content, 0)?),
        _ => return None,
    };
    *chain = next;
    Some(record)
}

/// The entry in the bytes of a record that has been read.
pub(super) fn entry_of(record: &[u8]) -> Option<&[u8]> {
    match record.get(FRAME..)?.split_first()? {
        (&ENTRY, entry) => Some(entry),
        _ => None,
    }
}

pub(super) fn write_header(identity: &SpoolIdentity, start: OplogPosition) -> (Vec<u8>, Chain) {
    let mut body = Vec::new();
    for text in [&identity.owner, &identity.shard, &identity.database] {
        body.extend_from_slice(&(text.len() as u32).to_le_bytes());
        body.extend_from_slice(text.as_bytes());
    }
    body.extend_from_slice(&position_bytes(start));
    let mut header = Vec::from(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(body.len() as u32).to_le_bytes());
    header.extend_from_slice(&body);
    let checksum = crc32fast::hash(&header);
    header.extend_from_slice(&checksum.to_le_bytes());
    (header, Chain(checksum))
}

/// What the first bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Header {
    Whole {
        identity: SpoolIdentity,
        start: OplogPosition,
        bytes: usize,
        chain: Chain,
    },
    /// The file was being made when everything ended: it holds nothing.
    Torn,
    /// A spool of a version that is not known here.
    OtherVersion(u32),
    /// No spool.
    Foreign,
}

/// How many bytes must be read to know the header: the length of all of it, once its first bytes are there.
pub(super) fn header_length(first: &[u8]) -> usize {
    let body = u32_at(first, 12).map_or(0, |body| (body as usize).min(LONGEST_HEADER));
    PREFIX + body + 4
}

pub(super) fn read_header(bytes: &[u8]) -> Header {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Header::Foreign;
    }
    match u32_at(bytes, 8) {
        Some(VERSION) => whole_header(bytes).unwrap_or(Header::Torn),
        Some(other) => Header::OtherVersion(other),
        None => Header::Torn,
    }
}

fn whole_header(bytes: &[u8]) -> Option<Header> {
    let length = header_length(bytes);
    let checked = bytes.get(..length - 4)?;
    let checksum = u32_at(bytes, length - 4)?;
    if crc32fast::hash(checked) != checksum {
        return None;
    }
    let mut at = PREFIX;
    let mut text = || {
        let length = u32_at(checked, at)? as usize;
        let text = checked.get(at + 4..at + 4 + length)?;
        at += 4 + length;
        String::from_utf8(text.to_vec()).ok()
    };
    let identity = SpoolIdentity { owner: text()?, shard: text()?, database: text()? };
    Some(Header::Whole { identity, start: position_at(checked, at)?, bytes: length, chain: Chain(checksum) })
}

fn position_bytes(position: OplogPosition) -> [u8; POSITION] {
    let mut bytes = [0; POSITION];
    bytes[..4].copy_from_slice(&position.time.seconds.to_le_bytes());
    bytes[4..8].copy_from_slice(&position.time.increment.to_le_bytes());
    bytes[8..].copy_from_slice(&position.term.to_le_bytes());
    bytes
}

fn position_at(bytes: &[u8], at: usize) -> Option<OplogPosition> {
    let time = ClusterTime { seconds: u32_at(bytes, at)?, increment: u32_at(bytes, at + 4)? };
    let term = i64::from_le_bytes(*bytes.get(at + 8..)?.first_chunk()?);
    Some(OplogPosition { time, term })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
