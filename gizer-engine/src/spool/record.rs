//! Encoding of spool records.
//!
//! A page is a sequence of records, readable without earlier pages. `n` is an unsigned LEB128
//! number, `text` its length as `n` and UTF-8, `position` seconds and increment as `n`, then the
//! length of its place as `n` and its bytes.
//!
//! ```text
//!   0 shard       text                                      it is number 0, 1, … of its page
//!   1 collection  text database, text collection, n: 0, or 1 and a UUID of 16 bytes        likewise
//!   2 mark        time: n n, count n, and so often: text shard, position
//!   3 insert      head, key                                 head: n shard, n collection, position
//!   4 replace     head, key                                 key: a BSON document, {_id: …}
//!   5 update      head, key, n: 0 if nobody knows where, else 1 + the number of paths; each: number of steps n, and so often
//!                 0 text (a field), 1 n (an index), 2 text n (one of both)
//!   6 delete      head, key
//!   7 create, 8 drop, 9 dropDatabase, 10 rewrite            head
//!   11 rename     head, text database, text collection, n: 0, or 1 and the UUID that was dropped
//! ```
//!
//! A change written by a chunk migration (`fromMigrate`) has 64 added to its kind.

use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::change::{
    Change, ChangeKind, ClusterTime, Edits, Namespace, Positions, SourcePosition, Step, id_document,
};
use gizer_schema::raw::RawDoc;

const SHARD: u8 = 0;
const COLLECTION: u8 = 1;
const MARK: u8 = 2;
const INSERT: u8 = 3;
const REPLACE: u8 = 4;
const UPDATE: u8 = 5;
const DELETE: u8 = 6;
const CREATE: u8 = 7;
const DROP: u8 = 8;
const DROP_DATABASE: u8 = 9;
const REWRITE: u8 = 10;
const RENAME: u8 = 11;

const FROM_MIGRATE: u8 = 64;

/// A malformed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a record of a spool at byte {at} of its page, found something else")]
pub struct MalformedRecord {
    /// Offset of the record.
    pub at: usize,
}

/// A record of a spool.
#[derive(Debug, Clone, PartialEq)]
pub enum SpoolRecord {
    /// A change without values: the `_id`, and for an update the paths.
    Change(Change),
    /// A mark: everything up to it is spooled.
    Mark(SpoolMark),
}

/// A watermark of the source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpoolMark {
    /// Its time.
    pub time: ClusterTime,
    /// Where reading resumes after it.
    pub positions: Positions,
}

/// Records written together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Their bytes.
    pub records: Vec<u8>,
    /// Positions of the mark at its end, if there is one.
    pub reached: Option<Positions>,
}

/// Builds pages.
#[derive(Debug, Default)]
pub struct PageWriter {
    records: Vec<u8>,
    shards: Vec<Arc<str>>,
    collections: Vec<(Arc<Namespace>, Option<[u8; 16]>)>,
    /// The latest mark and its end offset.
    mark: Option<(usize, Positions)>,
}

impl PageWriter {
    /// Bytes of the page so far.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether it ends with a mark.
    pub fn is_marked(&self) -> bool {
        self.mark.as_ref().is_some_and(|(end, _)| *end == self.records.len())
    }

    /// Takes the page and starts the next one.
    pub fn take(&mut self) -> Page {
        let PageWriter { records, mark, .. } = std::mem::take(self);
        let reached = mark.filter(|(end, _)| *end == records.len()).map(|(_, positions)| positions);
        Page { records, reached }
    }

    /// Drops everything after the latest mark.
    pub fn cut_to_mark(&mut self) {
        self.records.truncate(self.mark.as_ref().map_or(0, |(end, _)| *end));
    }

    /// Adds a mark.
    pub fn mark(&mut self, mark: &SpoolMark) {
        let SpoolMark { time, positions } = mark;
        self.records.push(MARK);
        write_time(*time, &mut self.records);
        write_positions(positions, &mut self.records);
        self.mark = Some((self.records.len(), positions.clone()));
    }

    /// Adds a change; `None` if its document has no `_id`.
    pub fn change(&mut self, change: &Change) -> Option<()> {
        let key = match &change.kind {
            ChangeKind::Insert { document } | ChangeKind::Replace { document } => {
                Some(id_document(RawDoc::new(document).ok()?).ok()??)
            }
            ChangeKind::Update { key, .. } | ChangeKind::Delete { key } => Some(key.clone()),
            _ => None,
        };
        let (shard, collection) = (self.shard(&change.shard), self.collection(&change.namespace, change.uuid));
        let to = &mut self.records;
        to.push(kind_of(&change.kind) + if change.from_migrate { FROM_MIGRATE } else { 0 });
        write_number(shard, to);
        write_number(collection, to);
        write_position(&change.position, to);
        to.extend_from_slice(key.as_deref().unwrap_or_default());
        match &change.kind {
            ChangeKind::Update { edits, .. } => write_paths(edits, to),
            ChangeKind::Rename { to: name, dropped } => {
                write_text(&name.database, to);
                write_text(&name.collection, to);
                write_uuid(*dropped, to);
            }
            _ => {}
        }
        Some(())
    }

    fn shard(&mut self, name: &Arc<str>) -> usize {
        if let Some(number) = self.shards.iter().position(|known| known == name) {
            return number;
        }
        self.records.push(SHARD);
        write_text(name, &mut self.records);
        self.shards.push(Arc::clone(name));
        self.shards.len() - 1
    }

    fn collection(&mut self, namespace: &Arc<Namespace>, uuid: Option<[u8; 16]>) -> usize {
        // Usually it is one of the last, and the source shares its names.
        let is_same =
            |(known, of): &(Arc<Namespace>, _)| *of == uuid && (Arc::ptr_eq(known, namespace) || known == namespace);
        if let Some(number) = self.collections.iter().rposition(is_same) {
            return number;
        }
        self.records.push(COLLECTION);
        write_text(&namespace.database, &mut self.records);
        write_text(&namespace.collection, &mut self.records);
        write_uuid(uuid, &mut self.records);
        self.collections.push((Arc::clone(namespace), uuid));
        self.collections.len() - 1
    }
}

fn kind_of(kind: &ChangeKind) -> u8 {
    match kind {
        ChangeKind::Insert { .. } => INSERT,
        ChangeKind::Replace { .. } => REPLACE,
        ChangeKind::Update { .. } => UPDATE,
        ChangeKind::Delete { .. } => DELETE,
        ChangeKind::Create => CREATE,
        ChangeKind::Drop => DROP,
        ChangeKind::DropDatabase => DROP_DATABASE,
        ChangeKind::Rewrite => REWRITE,
        ChangeKind::Rename { .. } => RENAME,
    }
}

fn write_number(number: usize, to: &mut Vec<u8>) {
    let mut rest = number;
    while rest > 0x7F {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

pub(super) fn write_text(text: &str, to: &mut Vec<u8>) {
    write_number(text.len(), to);
    to.extend_from_slice(text.as_bytes());
}

fn write_uuid(uuid: Option<[u8; 16]>, to: &mut Vec<u8>) {
    to.push(u8::from(uuid.is_some()));
    to.extend(uuid.iter().flatten());
}

fn write_time(time: ClusterTime, to: &mut Vec<u8>) {
    write_number(time.seconds as usize, to);
    write_number(time.increment as usize, to);
}

fn write_position(position: &SourcePosition, to: &mut Vec<u8>) {
    write_time(position.time(), to);
    write_number(position.place().len(), to);
    to.extend_from_slice(position.place());
}

pub(super) fn write_positions(positions: &Positions, to: &mut Vec<u8>) {
    write_number(positions.len(), to);
    for (shard, position) in positions {
        write_text(shard, to);
        write_position(position, to);
    }
}

fn write_paths(edits: &Edits, to: &mut Vec<u8>) {
    let Some(paths) = edits.paths() else { return to.push(0) };
    write_number(1 + edits.paths().map_or(0, Iterator::count), to);
    for path in paths {
        write_number(path.len(), to);
        for step in path {
            match step {
                Step::Field(name) => {
                    to.push(0);
                    write_text(name, to);
                }
                Step::Index(index) => {
                    to.push(1);
                    write_number(*index as usize, to);
                }
                Step::FieldOrIndex { name, index } => {
                    to.push(2);
                    write_text(name, to);
                    write_number(*index as usize, to);
                }
            }
        }
    }
}

/// Reads the records of a page.
#[derive(Debug)]
pub struct RecordReader {
    page: Bytes,
    at: usize,
    shards: Vec<Arc<str>>,
    collections: Vec<(Arc<Namespace>, Option<[u8; 16]>)>,
}

impl RecordReader {
    /// Reads a page from its beginning.
    pub fn new(page: Bytes) -> RecordReader {
        RecordReader { page, at: 0, shards: Vec::new(), collections: Vec::new() }
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// [`MalformedRecord`]; nothing may be read after it.
    pub fn next_record(&mut self) -> Result<Option<SpoolRecord>, MalformedRecord> {
        loop {
            let page = self.page.clone();
            let mut fields = RecordFields(&page[self.at..]);
            if fields.0.is_empty() {
                return Ok(None);
            }
            let record = self.read(&mut fields).ok_or(MalformedRecord { at: self.at })?;
            self.at = page.len() - fields.0.len();
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// A record, or `Some(None)` for a name, which is remembered.
    fn read(&mut self, fields: &mut RecordFields<'_>) -> Option<Option<SpoolRecord>> {
        let kind = fields.byte()?;
        match kind {
            SHARD => self.shards.push(fields.text()?.into()),
            COLLECTION => self.collections.push((Arc::new(fields.namespace()?), fields.uuid()?)),
            MARK => {
                let mark = SpoolMark { time: fields.time()?, positions: fields.positions()? };
                return Some(Some(SpoolRecord::Mark(mark)));
            }
            _ => {
                let shard = Arc::clone(self.shards.get(fields.number()?)?);
                let (namespace, uuid) = self.collections.get(fields.number()?)?.clone();
                let position = fields.position()?;
                let (from_migrate, kind) = (kind & FROM_MIGRATE != 0, fields.change(kind & !FROM_MIGRATE)?);
                return Some(Some(SpoolRecord::Change(Change {
                    shard,
                    position,
                    namespace,
                    uuid,
                    from_migrate,
                    kind,
                })));
            }
        }
        Some(None)
    }
}

/// Decodes fields from the front; `None` if malformed.
pub(super) struct RecordFields<'b>(pub(super) &'b [u8]);

impl<'b> RecordFields<'b> {
    fn bytes(&mut self, length: usize) -> Option<&'b [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|byte| byte[0])
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = self.byte()?;
            let part = usize::from(byte & 0x7F);
            // The writer writes no larger number.
            if part.leading_zeros() < shift {
                return None;
            }
            number |= part << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    pub(super) fn text(&mut self) -> Option<&'b str> {
        let length = self.number()?;
        str::from_utf8(self.bytes(length)?).ok()
    }

    fn namespace(&mut self) -> Option<Namespace> {
        Some(Namespace { database: self.text()?.to_owned(), collection: self.text()?.to_owned() })
    }

    fn uuid(&mut self) -> Option<Option<[u8; 16]>> {
        match self.byte()? {
            0 => Some(None),
            1 => Some(Some(self.bytes(16)?.try_into().ok()?)),
            _ => None,
        }
    }

    fn time(&mut self) -> Option<ClusterTime> {
        Some(ClusterTime { seconds: self.small()?, increment: self.small()? })
    }

    fn position(&mut self) -> Option<SourcePosition> {
        let (time, length) = (self.time()?, self.number()?);
        Some(SourcePosition::new(time, self.bytes(length)?))
    }

    pub(super) fn positions(&mut self) -> Option<Positions> {
        let count = self.number()?;
        (0..count).map(|_| Some((self.text()?.to_owned(), self.position()?))).collect()
    }

    /// Copied, so that a long-lived key does not keep its page.
    fn key(&mut self) -> Option<Bytes> {
        let length = RawDoc::first_in(self.0).ok()?.as_bytes().len();
        self.bytes(length).map(Bytes::copy_from_slice)
    }

    fn change(&mut self, kind: u8) -> Option<ChangeKind> {
        Some(match kind {
            INSERT => ChangeKind::Insert { document: self.key()? },
            REPLACE => ChangeKind::Replace { document: self.key()? },
            UPDATE => ChangeKind::Update { key: self.key()?, edits: self.edits()? },
            DELETE => ChangeKind::Delete { key: self.key()? },
            CREATE => ChangeKind::Create,
            DROP => ChangeKind::Drop,
            DROP_DATABASE => ChangeKind::DropDatabase,
            REWRITE => ChangeKind::Rewrite,
            RENAME => ChangeKind::Rename { to: self.namespace()?, dropped: self.uuid()? },
            _ => return None,
        })
    }

    fn edits(&mut self) -> Option<Edits> {
        let Some(paths) = self.number()?.checked_sub(1) else { return Some(Edits::Unknown) };
        (0..paths).map(|_| self.path()).collect::<Option<_>>().map(Edits::Paths)
    }

    fn path(&mut self) -> Option<Vec<Step>> {
        let steps = self.number()?;
        (0..steps).map(|_| self.step()).collect()
    }

    fn step(&mut self) -> Option<Step> {
        Some(match self.byte()? {
            0 => Step::Field(self.text()?.to_owned()),
            1 => Step::Index(self.small()?),
            2 => Step::FieldOrIndex { name: self.text()?.to_owned(), index: self.small()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
