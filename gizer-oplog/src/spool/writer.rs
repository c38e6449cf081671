//! Writing a spool.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Seek};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::format::{self, Chain, MARK_BYTES};
use super::reader::{Begun, read_header};
use super::records::{Next, Records};
use super::{SpoolError, SpoolIdentity, keeps};
use crate::position::OplogPosition;
use crate::tail::RawEntry;

/// Bytes after which what has gathered is written, in the middle of a batch.
const WRITE_BYTES: usize = 4 << 20;

/// The part of the log that a spool covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Everything that matters after this position …
    pub start: OplogPosition,
    /// … up to and at this one is in the spool.
    pub reached: OplogPosition,
}

/// What was cut off the end of a spool when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// So many bytes.
    pub bytes: u64,
    /// Whether they held something else than was written, and not only the beginning of it, which is what a crash leaves.
    pub damaged: bool,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended {
    /// Entries that were kept.
    pub entries: u64,
    /// Bytes that they take in the file.
    pub bytes: u64,
    /// Whether the limit was reached: the rest was not kept, and nothing will be from now on.
    pub full: bool,
}

/// A spool that this process writes; no other one can, as long as this lives.
///
/// All calls wait for the disk: they do not belong on a thread that drives futures.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: File,
    identity: SpoolIdentity,
    limit: u64,
    cut: Option<Cut>,
    begun: Option<State>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct State {
    start: OplogPosition,
    /// How far the records in the file reach.
    recorded: OplogPosition,
    /// How far they do with a mark that is yet to be written.
    reached: OplogPosition,
    /// Bytes of the file.
    end: u64,
    chain: Chain,
    full: bool,
    unsynced: bool,
    /// How far the records reach that survive a crash of the machine.
    synced: OplogPosition,
    /// Whether the system could not write to the disk what it had taken.
    failed: bool,
}

impl State {
    /// All of it is on the disk.
    fn synced(start: OplogPosition, reached: OplogPosition, end: u64, chain: Chain) -> State {
        let (recorded, synced) = (reached, reached);
        State { start, recorded, reached, end, chain, full: false, unsynced: false, synced, failed: false }
    }
}

impl Spool {
    /// Opens the file or makes it, keeps others from writing it, and cuts off what does not belong there.
    ///
    /// # Errors
    /// [`SpoolError::Unusable`] if it cannot be made or written; [`SpoolError::InUse`] if another process
    /// writes it; [`SpoolError::Foreign`] if it is no spool or another's, which is left as it is; [`SpoolError::Io`].
    pub fn open(path: &Path, identity: &SpoolIdentity, limit: u64) -> Result<Spool, SpoolError> {
        let file = open_and_lock(path)?;
        let mut spool = Spool {
            path: path.to_owned(),
            file,
            identity: identity.clone(),
            limit,
            cut: None,
            begun: None,
            buffer: Vec::new(),
        };
        if let Some(begun) = read_header(&mut &spool.file, path, identity)? {
            spool.verify(&begun)?;
        }
        Ok(spool)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it covers; `None` before it was begun.
    pub fn span(&self) -> Option<Span> {
        self.begun.as_ref().map(|state| Span { start: state.start, reached: state.reached })
    }

    /// What was cut off when it was opened.
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.begun.as_ref().map_or(0, |state| state.end)
    }

    /// Begins anew at a position: whatever the spool holds is gone. That it is empty, and where it begins, survives a crash.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn begin(&mut self, start: OplogPosition) -> Result<(), SpoolError> {
        let (header, chain) = format::write_header(&self.identity, start);
        self.begun = None;
        let write = || {
            self.file.set_len(0)?;
            self.file.write_all_at(&header, 0)?;
            self.file.sync_all()?;
            // Without this the name itself may be gone after a crash.
            self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().map_err(|reason| self.failed("begin", reason))?;
        self.begun = Some(State::synced(start, start, header.len() as u64, chain));
        Ok(())
    }

    /// Adds the entries that [`keeps`] says may matter, in the log's order; afterwards the spool covers the log up to
    /// `reached`, the position of the last entry, kept or not. With one write, or several for a large batch.
    ///
    /// # Errors
    /// [`SpoolError::OutOfOrder`] if an entry does not lie after all before it; [`SpoolError::Io`]. What was written
    /// before the error stays, and [`Spool::span`] says how far it goes.
    ///
    /// # Panics
    /// If it was not begun.
    pub fn append<'e>(
        &mut self,
        entries: impl IntoIterator<Item = RawEntry<'e>>,
        reached: OplogPosition,
    ) -> Result<Appended, SpoolError> {
        let state = self.begun.as_ref().expect("a spool is begun before anything is added");
        self.check_sound(state)?;
        let mut appended = Appended { full: state.full, ..Appended::default() };
        if state.full {
            return Ok(appended);
        }
        let mut pending = Pending { recorded: state.recorded, reached: state.reached, chain: state.chain };
        self.buffer.clear();
        for entry in entries {
            let came = entry.position();
            if came <= pending.reached {
                return Err(SpoolError::OutOfOrder { path: self.path.clone(), reached: pending.reached, came });
            }
            let kept = keeps(&entry, &self.identity.database);
            let bytes = entry.document().as_bytes();
            let size = if kept { format::entry_bytes(bytes) } else { 0 };
            // There is always room for the mark that says how far it goes.
            if self.bytes() + self.buffer.len() as u64 + size + MARK_BYTES > self.limit {
                appended.full = true;
                break;
            }
            if kept {
                format::write_entry(bytes, &mut pending.chain, &mut self.buffer);
                pending.recorded = came;
                appended.entries += 1;
                appended.bytes += size;
            }
            pending.reached = came;
            if self.buffer.len() >= WRITE_BYTES {
                self.write_out(pending)?;
            }
        }
        if !appended.full {
            pending.reached = pending.reached.max(reached);
        }
        self.write_out(pending)?;
        self.state().full = appended.full;
        Ok(appended)
    }

    /// Makes sure that what was added survives a crash of the machine, and so does how far it goes. Does nothing if
    /// nothing has been added.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        let Some(state) = &self.begun else { return Ok(()) };
        self.check_sound(state)?;
        let (reached, mut chain) = (state.reached, state.chain);
        if reached > state.recorded {
            self.buffer.clear();
            format::write_mark(reached, &mut chain, &mut self.buffer);
            self.write_out(Pending { recorded: reached, reached, chain })?;
        }
        if !self.state().unsynced {
            return Ok(());
        }
        if let Err(reason) = self.file.sync_data() {
            // The system tells this once, and a second attempt would look good: what was not synced must count as lost.
            let state = self.state();
            (state.failed, state.reached, state.recorded) = (true, state.synced, state.synced);
            return Err(self.failed("sync", reason));
        }
        let state = self.state();
        (state.unsynced, state.synced) = (false, state.recorded);
        Ok(())
    }

    /// Removes the file: nobody needs what is in it any more.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn remove(self) -> Result<(), SpoolError> {
        fs::remove_file(&self.path).map_err(|reason| self.failed("remove", reason))
    }

    /// Whether [`Spool::sync`] has anything to do.
    pub fn is_dirty(&self) -> bool {
        self.begun.as_ref().is_some_and(|state| state.unsynced || state.reached > state.recorded)
    }

    /// Writes the buffer behind the records; what it leads to holds only once it is written.
    fn write_out(&mut self, pending: Pending) -> Result<(), SpoolError> {
        let end = self.bytes();
        if !self.buffer.is_empty()
            && let Err(reason) = self.file.write_all_at(&self.buffer, end)
        {
            // Half a record would be found and cut when the file is opened again; this one goes on being used.
            let _ = self.file.set_len(end);
            return Err(self.failed("write to", reason));
        }
        let written = self.buffer.len() as u64;
        self.buffer.clear();
        let state = self.state();
        state.end += written;
        state.unsynced |= written > 0;
        (state.recorded, state.reached, state.chain) = (pending.recorded, pending.reached, pending.chain);
        Ok(())
    }

    /// Walks all records, and cuts the file after the last good one.
    fn verify(&mut self, begun: &Begun) -> Result<(), SpoolError> {
        let read = |reason| SpoolError::Io { path: self.path.clone(), doing: "read", reason };
        let length = self.file.metadata().map_err(read)?.len();
        (&self.file).seek(io::SeekFrom::Start(begun.bytes)).map_err(read)?;
        let file = BufReader::with_capacity(1 << 20, &self.file);
        let mut records = Records::new(file, length.saturating_sub(begun.bytes), begun.chain);
        let mut reached = begun.start;
        let damaged = loop {
            match records.next().map_err(read)? {
                Next::Record(record) => reached = record.position(),
                Next::End | Next::Torn => break false,
                Next::Damaged => break true,
            }
        };
        let (end, chain) = (begun.bytes + records.good(), records.chain());
        if end < length {
            let cut = || {
                self.file.set_len(end)?;
                self.file.sync_data()
            };
            cut().map_err(|reason| self.failed("cut", reason))?;
            self.cut = Some(Cut { bytes: length - end, damaged });
        }
        self.begun = Some(State::synced(begun.start, reached, end, chain));
        Ok(())
    }

    fn check_sound(&self, state: &State) -> Result<(), SpoolError> {
        match state.failed {
            false => Ok(()),
            true => Err(self.failed("go on with", io::Error::other("an earlier write did not reach the disk"))),
        }
    }

    fn state(&mut self) -> &mut State {
        self.begun.as_mut().expect("it was begun")
    }

    fn failed(&self, doing: &'static str, reason: io::Error) -> SpoolError {
        SpoolError::Io { path: self.path.clone(), doing, reason }
    }
}

/// What holds once the buffer is written.
#[derive(Clone, Copy)]
struct Pending {
    recorded: OplogPosition,
    reached: OplogPosition,
    chain: Chain,
}

fn open_and_lock(path: &Path) -> Result<File, SpoolError> {
    let unusable = |reason| SpoolError::Unusable { path: path.to_owned(), reason };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(unusable)?;
    }
    loop {
        // It holds documents: they are nobody else's to read.
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = open.map_err(unusable)?;
        match file.try_lock() {
            // Whoever had it may have removed it just before.
            Ok(()) if file.metadata().map_err(unusable)?.nlink() == 0 => {}
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => return Err(SpoolError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(reason)) => return Err(unusable(reason)),
        }
    }
}
