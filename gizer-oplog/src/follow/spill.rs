//! The spill file for operations of open transactions.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::error::MongoError;

/// A place in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SpillExtent {
    at: u64,
    length: usize,
}

/// An unnamed file in a folder: the system frees it when this is dropped or the process dies. It is
/// created when first needed and closed when empty.
///
/// It is never synced: after a crash it is not needed.
#[derive(Debug)]
pub(super) struct SpillFile {
    folder: PathBuf,
    file: Option<File>,
    end: u64,
    /// Extents not yet read or released.
    live: usize,
}

impl SpillFile {
    pub(super) fn new(folder: PathBuf) -> SpillFile {
        SpillFile { folder, file: None, end: 0, live: 0 }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<SpillExtent, MongoError> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let made = std::fs::create_dir_all(&self.folder).and_then(|()| tempfile::tempfile_in(&self.folder));
                none.insert(made.map_err(|reason| failed(&self.folder, "make", reason))?)
            }
        };
        file.write_all_at(bytes, self.end).map_err(|reason| failed(&self.folder, "write", reason))?;
        let extent = SpillExtent { at: self.end, length: bytes.len() };
        self.end += bytes.len() as u64;
        self.live += 1;
        Ok(extent)
    }

    /// Reads an extent and releases it.
    #[allow(clippy::needless_pass_by_value)] // It can be taken only once.
    pub(super) fn take(&mut self, extent: SpillExtent) -> Result<Vec<u8>, MongoError> {
        let mut bytes = vec![0; extent.length];
        let read = match &self.file {
            Some(file) => file.read_exact_at(&mut bytes, extent.at),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        read.map_err(|reason| failed(&self.folder, "read", reason))?;
        self.release(1);
        Ok(bytes)
    }

    pub(super) fn release(&mut self, extents: usize) {
        self.live -= extents;
        if self.live == 0 {
            (self.file, self.end) = (None, 0);
        }
    }

    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }
}

fn failed(folder: &std::path::Path, doing: &'static str, reason: io::Error) -> MongoError {
    MongoError::SpillFailed { folder: folder.to_owned(), doing, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_the_file_has_no_name_and_goes_with_the_last_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("not/there/yet");
        let mut spill = SpillFile::new(below.clone());
        assert!(!below.exists());
        let (first, second) = (spill.write(b"first").unwrap(), spill.write(b"the second").unwrap());
        assert_eq!(std::fs::read_dir(&below).unwrap().count(), 0);
        assert_eq!(spill.take(second).unwrap(), b"the second");
        assert!(spill.is_open());
        assert_eq!(spill.take(first).unwrap(), b"first");
        assert!(!spill.is_open());
        let again = spill.write(b"again").unwrap();
        assert_eq!(again, SpillExtent { at: 0, length: 5 });
        spill.release(1);
        assert!(!spill.is_open());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut spill = SpillFile::new(file.path().join("below"));
        let error = spill.write(b"x").unwrap_err();
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
        assert!(error.remedy().is_some());
    }
}
