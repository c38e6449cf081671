//! A spool in a file.
//!
//! Numbers are little-endian.
//!
//! ```text
//!   header   "GIZSPOOL"  version u32  length u32  owner, source, database, start (see record.rs)   CRC-32 of all of it u32
//!   page     length u32  CRC-32 u32  kind u8, content                                             (length: of kind and content)
//!     kind 1 records, which a later mark covers
//!     kind 2 positions of the mark at its end, records
//! ```
//!
//! A page's checksum continues the header's and includes its offset: a page counts only where it
//! was written, so remains of an older file, or zeros left by a crash, never pass. Opening
//! truncates the file after its last page of kind 2.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use gizer_flatten::change::Positions;

use super::record::{Page, RecordFields, write_positions, write_text};
use super::{AppendOutcome, Cursor, Spool, SpoolIdentity, SpoolSpan};
use crate::failure::{Failure, FailureKind};

const MAGIC: &[u8; 8] = b"GIZSPOOL";

/// Version 1 held oplog entries.
const VERSION: u32 = 2;

/// Magic, version and length.
const PREFIX_BYTES: usize = 16;

/// Length and checksum of a page.
const FRAME_BYTES: usize = 8;

/// Longest header or page; only an update of extremely many paths comes near.
const MAX_PART_BYTES: usize = 64 << 20;

const OPEN: u8 = 1;
const MARKED: u8 = 2;

/// Why a file cannot be a spool. Messages never show its contents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The file or its folder cannot be created, opened or locked.
    #[error("expected a file that can be written at {}, for the spool: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },

    /// Another process uses it.
    #[error("spool {} is in use by another run", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },

    /// The file is no spool, or belongs to another spool; it stays untouched.
    #[error("expected {expected} at {}, found {found}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },

    /// Reading or syncing failed while the spool was in use.
    #[error("cannot {doing} spool {}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's reason.
        reason: io::Error,
    },
}

impl From<SpoolError> for Failure {
    fn from(error: SpoolError) -> Failure {
        let (kind, remedy) = match &error {
            SpoolError::Unusable { .. } => {
                (FailureKind::Usage, "let gizer's user write there, or name another folder as spool_dir under [load]")
            }
            SpoolError::Foreign { .. } => {
                (FailureKind::Usage, "move the file away, or name another folder as spool_dir under [load]")
            }
            SpoolError::InUse { .. } => (FailureKind::Locked, "wait for the other run to end, or end it"),
            SpoolError::Io { .. } => {
                (FailureKind::Failed, "make room on the disk, or name another folder as spool_dir under [load]")
            }
        };
        Failure::new(kind, error.to_string()).remedy(remedy).ending_the_run()
    }
}

/// Bytes truncated from a spool's end when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TruncatedTail {
    /// Number of bytes.
    pub bytes: u64,
    /// Whether they were corrupt, not just a torn write as a crash leaves it.
    pub damaged: bool,
}

/// The file name of a spool, determined by its identity: a readable part of database and source,
/// and a number that tells all apart.
pub fn file_name(identity: &SpoolIdentity) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for text in [&identity.owner, &identity.source, &identity.database] {
        hasher.update(&text.len().to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' };
    let shown = |text: &str| text.chars().map(plain).take(40).collect::<String>();
    format!("{}.{}.{:08x}.spool", shown(&identity.database), shown(&identity.source), hasher.finalize())
}

/// A spool in a file, locked against other processes.
#[derive(Debug, Clone)]
pub struct FileSpool(Arc<Mutex<SpoolFile>>);

#[derive(Debug)]
struct SpoolFile {
    path: PathBuf,
    file: File,
    identity: SpoolIdentity,
    limit: u64,
    cut: Option<TruncatedTail>,
    begun: Option<StartedSpool>,
}

#[derive(Debug)]
struct StartedSpool {
    span: SpoolSpan,
    /// Checksum of the header.
    seed: u32,
    /// Offset of the first page.
    first: u64,
    /// End of the last page with a mark.
    marked: u64,
    /// Offset of the next page.
    end: u64,
    full: bool,
    /// Whether a sync failed: the system reports that once, and the next sync would look good.
    failed: bool,
}

impl FileSpool {
    /// Opens or creates the file, locks it, and truncates what no mark covers. Blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError::Unusable`] if it cannot be created or written; [`SpoolError::InUse`] if
    /// another process uses it; [`SpoolError::Foreign`] if it is another file, which stays
    /// untouched; [`SpoolError::Io`].
    pub fn open(path: &Path, identity: &SpoolIdentity, limit: u64) -> Result<FileSpool, SpoolError> {
        let file = open_and_lock(path)?;
        let (path, identity) = (path.to_owned(), identity.clone());
        let mut inner = SpoolFile { path, file, identity, limit, cut: None, begun: None };
        inner.begun = inner.read_existing()?;
        Ok(FileSpool(Arc::new(Mutex::new(inner))))
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.lock().path.clone()
    }

    /// What a crash left at its end, if anything.
    pub fn cut(&self) -> Option<TruncatedTail> {
        self.lock().cut
    }

    fn lock(&self) -> MutexGuard<'_, SpoolFile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs blocking work on a thread of its own. It completes even if the caller is dropped.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SpoolFile) -> Result<T, SpoolError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, Failure>> {
        let spool = self.clone();
        let work = tokio::task::spawn_blocking(move || work(&mut spool.lock()));
        let ended = |outcome: Result<Result<T, SpoolError>, _>| match outcome {
            Ok(outcome) => outcome.map_err(Failure::from),
            Err(_) => Err(Failure::failed("the thread that uses the spool has panicked")),
        };
        work.map(ended).boxed()
    }
}

impl Spool for FileSpool {
    fn span(&self) -> Option<SpoolSpan> {
        self.lock().begun.as_ref().map(|begun| begun.span.clone())
    }

    fn append(&self, page: Page) -> BoxFuture<'_, Result<AppendOutcome, Failure>> {
        self.blocking(move |inner| inner.append(page))
    }

    fn read(&self, after: Cursor) -> BoxFuture<'_, Result<Option<(Bytes, Cursor)>, Failure>> {
        self.blocking(move |inner| inner.read(after))
    }

    fn trim(&self, start: Option<Positions>) -> BoxFuture<'_, Result<(), Failure>> {
        self.blocking(move |inner| inner.trim(start))
    }
}

impl SpoolFile {
    fn trim(&mut self, start: Option<Positions>) -> Result<(), SpoolError> {
        self.begun = None;
        let Some(start) = start else {
            return fs::remove_file(&self.path).map_err(|reason| self.failed("remove", reason));
        };
        let header = header(&self.identity, &start);
        let write = || {
            self.file.set_len(0)?;
            self.file.write_all_at(&header, 0)?;
            self.file.sync_all()?;
            // Otherwise a crash may lose the file's name.
            self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().map_err(|reason| self.failed("start", reason))?;
        let span = SpoolSpan { reached: start.clone(), start };
        self.begun = Some(StartedSpool::new(span, checksum_of(&header), header.len() as u64));
        Ok(())
    }

    fn append(&mut self, page: Page) -> Result<AppendOutcome, SpoolError> {
        let SpoolFile { path, file, limit, begun, .. } = self;
        let failed = |doing, reason| SpoolError::Io { path: path.clone(), doing, reason };
        let broken = |reason: &str| failed("continue", io::Error::other(reason));
        let begun = begun.as_mut().ok_or_else(|| broken("it has no start"))?;
        if begun.failed {
            return Err(broken("an earlier write did not reach the disk"));
        }
        let framed = frame(&page, begun.seed, begun.end);
        if begun.full || begun.end + framed.len() as u64 > *limit {
            begun.full = true;
            return Ok(AppendOutcome::Full);
        }
        if let Err(reason) = file.write_all_at(&framed, begun.end) {
            // A torn page is truncated on opening, but this file stays in use.
            let _ = file.set_len(begun.end);
            return Err(failed("write to", reason));
        }
        begun.end += framed.len() as u64;
        if let Some(reached) = page.reached {
            if let Err(reason) = file.sync_data() {
                begun.failed = true;
                return Err(failed("sync", reason));
            }
            (begun.span.reached, begun.marked) = (reached, begun.end);
        }
        Ok(AppendOutcome::Taken(framed.len() as u64))
    }

    fn read(&self, Cursor(after): Cursor) -> Result<Option<(Bytes, Cursor)>, SpoolError> {
        let Some(begun) = &self.begun else { return Ok(None) };
        let at = after.max(begun.first);
        if at >= begun.marked {
            return Ok(None);
        }
        let mut frame = [0; FRAME_BYTES];
        let failed = |reason| self.failed("read", reason);
        self.file.read_exact_at(&mut frame, at).map_err(failed)?;
        let mut content = vec![0; part_length(frame).unwrap_or_default()];
        self.file.read_exact_at(&mut content, at + FRAME_BYTES as u64).map_err(failed)?;
        let damaged = || failed(io::Error::new(io::ErrorKind::InvalidData, "other bytes than were written"));
        let read = read_page(frame, &content, begun.seed, at).ok_or_else(damaged)?;
        let next = at + (FRAME_BYTES + content.len()) as u64;
        let records = content.len() - read.records.len();
        Ok(Some((Bytes::from(content).slice(records..), Cursor(next))))
    }

    /// Reads an existing file; `None` if it is new, torn in its header, or of another version.
    fn read_existing(&mut self) -> Result<Option<StartedSpool>, SpoolError> {
        let failed = |reason| SpoolError::Io { path: self.path.clone(), doing: "read", reason };
        let length = self.file.metadata().map_err(failed)?.len();
        let mut file = BufReader::with_capacity(1 << 20, &self.file);
        let Some((start, header)) = self.read_header(&mut file)? else { return Ok(None) };
        let first = header.len() as u64;
        file.seek(io::SeekFrom::Start(first)).map_err(failed)?;
        let span = SpoolSpan { reached: start.clone(), start };
        let mut begun = StartedSpool::new(span, checksum_of(&header), first);
        let mut content = Vec::new();
        let damaged = loop {
            let (at, left) = (begun.end, length.saturating_sub(begun.end));
            let mut frame = [0; FRAME_BYTES];
            if left < FRAME_BYTES as u64 {
                break false;
            }
            file.read_exact(&mut frame).map_err(failed)?;
            let Some(part) = part_length(frame) else { break frame != [0; FRAME_BYTES] };
            if left - (FRAME_BYTES as u64) < part as u64 {
                break false;
            }
            content.resize(part, 0);
            file.read_exact(&mut content).map_err(failed)?;
            let Some(page) = read_page(frame, &content, begun.seed, at) else { break true };
            begun.end = at + (FRAME_BYTES + part) as u64;
            if let Some(reached) = page.reached {
                (begun.marked, begun.span.reached) = (begun.end, reached);
            }
        };
        if begun.end < length {
            self.cut = Some(TruncatedTail { bytes: length - begun.end, damaged });
        }
        if begun.marked < length {
            let cut = self.file.set_len(begun.marked).and_then(|()| self.file.sync_data());
            cut.map_err(|reason| self.failed("cut", reason))?;
        }
        begun.end = begun.marked;
        Ok(Some(begun))
    }

    /// Reads the header: the start, and all of its bytes.
    fn read_header(&self, file: &mut impl Read) -> Result<Option<(Positions, Vec<u8>)>, SpoolError> {
        let foreign =
            |expected: String, found: String| SpoolError::Foreign { path: self.path.clone(), expected, found };
        let mut header = Vec::new();
        let mut read = |length: usize, header: &mut Vec<u8>| {
            let more = (length - header.len()) as u64;
            let read = file.by_ref().take(more).read_to_end(header);
            read.map_err(|reason| SpoolError::Io { path: self.path.clone(), doing: "read", reason })
        };
        read(PREFIX_BYTES, &mut header)?;
        let known = header.len().min(MAGIC.len());
        if header[..known] != MAGIC[..known] {
            return Err(foreign("a spool of gizer".into(), "a file of another kind".into()));
        }
        let [Some(version), Some(length)] = [u32_at(&header, 8), u32_at(&header, 12)] else { return Ok(None) };
        if version != VERSION {
            let path = self.path.display();
            tracing::info!(
                "spool {path} was written by another version of gizer, as version {version}: it starts over"
            );
            return Ok(None);
        }
        read(PREFIX_BYTES + (length as usize).min(MAX_PART_BYTES) + 4, &mut header)?;
        let Some((checked, _)) = header.split_last_chunk::<4>() else { return Ok(None) };
        if crc32fast::hash(checked) != checksum_of(&header) {
            return Ok(None);
        }
        let mut fields = RecordFields(&checked[PREFIX_BYTES..]);
        let mut read = || {
            let mut text = || fields.text().map(str::to_owned);
            let identity = SpoolIdentity { owner: text()?, source: text()?, database: text()? };
            Some((identity, fields.positions()?))
        };
        match read() {
            None => Ok(None),
            Some((identity, _)) if identity != self.identity => {
                let of = |it: &SpoolIdentity| format!("{} of {} for {}", it.database, it.source, it.owner);
                Err(foreign(format!("the spool of {}", of(&self.identity)), format!("that of {}", of(&identity))))
            }
            Some((_, start)) => Ok(Some((start, header))),
        }
    }

    fn failed(&self, doing: &'static str, reason: io::Error) -> SpoolError {
        SpoolError::Io { path: self.path.clone(), doing, reason }
    }
}

impl StartedSpool {
    fn new(span: SpoolSpan, seed: u32, first: u64) -> StartedSpool {
        StartedSpool { span, seed, first, marked: first, end: first, full: false, failed: false }
    }
}

fn header(identity: &SpoolIdentity, start: &Positions) -> Vec<u8> {
    let mut body = Vec::new();
    for text in [&identity.owner, &identity.source, &identity.database] {
        write_text(text, &mut body);
    }
    write_positions(start, &mut body);
    let mut header = Vec::from(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(body.len() as u32).to_le_bytes());
    header.extend_from_slice(&body);
    let checksum = crc32fast::hash(&header);
    header.extend_from_slice(&checksum.to_le_bytes());
    header
}

/// Encodes a page for the file.
fn frame(page: &Page, seed: u32, at: u64) -> Vec<u8> {
    let mut content = vec![if page.reached.is_some() { MARKED } else { OPEN }];
    page.reached.iter().for_each(|reached| write_positions(reached, &mut content));
    content.extend_from_slice(&page.records);
    let length = (content.len() as u32).to_le_bytes();
    let mut framed = Vec::with_capacity(FRAME_BYTES + content.len());
    framed.extend_from_slice(&length);
    framed.extend_from_slice(&checksum(seed, at, length, &content).to_le_bytes());
    framed.append(&mut content);
    framed
}

/// Length of a frame's content; `None` if it is no frame.
fn part_length(frame: [u8; FRAME_BYTES]) -> Option<usize> {
    let length = u32_at(&frame, 0)? as usize;
    (1..=MAX_PART_BYTES).contains(&length).then_some(length)
}

struct ReadPage<'b> {
    reached: Option<Positions>,
    records: &'b [u8],
}

/// Decodes a page; `None` if it was not written in this place.
fn read_page(frame: [u8; FRAME_BYTES], content: &[u8], seed: u32, at: u64) -> Option<ReadPage<'_>> {
    let length = *frame.first_chunk()?;
    if u32_at(&frame, 4)? != checksum(seed, at, length, content) {
        return None;
    }
    let (kind, rest) = content.split_first()?;
    let mut fields = RecordFields(rest);
    let reached = match *kind {
        OPEN => None,
        MARKED => Some(fields.positions()?),
        _ => return None,
    };
    Some(ReadPage { reached, records: fields.0 })
}

fn checksum(seed: u32, at: u64, length: [u8; 4], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&at.to_le_bytes());
    hasher.update(&length);
    hasher.update(content);
    hasher.finalize()
}

fn checksum_of(header: &[u8]) -> u32 {
    header.len().checked_sub(4).and_then(|at| u32_at(header, at)).unwrap_or_default()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn open_and_lock(path: &Path) -> Result<File, SpoolError> {
    let unusable = |reason| SpoolError::Unusable { path: path.to_owned(), reason };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(unusable)?;
    }
    loop {
        // It holds documents' keys: only the owner may read it.
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = open.map_err(unusable)?;
        match file.try_lock() {
            // Its owner may have removed it just now.
            Ok(()) if file.metadata().map_err(unusable)?.nlink() == 0 => {}
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => return Err(SpoolError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(reason)) => return Err(unusable(reason)),
        }
    }
}

#[cfg(test)]
mod tests;
