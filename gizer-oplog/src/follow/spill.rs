//! The file that takes what of held-back operations does not fit in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::error::MongoError;

/// A place in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extent {
    at: u64,
    length: usize,
}

/// One file without a name in a folder: the system frees its room when this is dropped, and no less when the process dies, so that
/// nothing is left to clear away. It is made when it is first needed and let go of when nothing in it is.
///
/// What is written goes to the system's page cache and is never synced: after a crash of the machine nobody needs it.
#[derive(Debug)]
pub(super) struct SpillFile {
    folder: PathBuf,
    file: Option<File>,
    end: u64,
    /// Extents that are still to be read or released.
    live: usize,
}

impl SpillFile {
    pub(super) fn new(folder: PathBuf) -> SpillFile {
        SpillFile { folder, file: None, end: 0, live: 0 }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<Extent, MongoError> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let made = std::fs::create_dir_all(&self.folder).and_then(|()| tempfile::tempfile_in(&self.folder));
                none.insert(made.map_err(|reason| failed(&self.folder, "make", reason))?)
            }
        };
        file.write_all_at(bytes, self.end).map_err(|reason| failed(&self.folder, "write", reason))?;
        let extent = Extent { at: self.end, length: bytes.len() };
        self.end += bytes.len() as u64;
        self.live += 1;
        Ok(extent)
    }

    /// What was written, which is needed no more.
    #[allow(clippy::needless_pass_by_value)] // It can be taken only once.
    pub(super) fn take(&mut self, extent: Extent) -> Result<Vec<u8>, MongoError> {
        let mut bytes = vec![0; extent.length];
        let read = match &self.file {
            Some(file) => file.read_exact_at(&mut bytes, extent.at),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        read.map_err(|reason| failed(&self.folder, "read", reason))?;
        self.release(1);
        Ok(bytes)
    }

    /// So many extents are needed no more.
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
    MongoError::HeldBack { folder: folder.to_owned(), doing, reason }
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
        assert_eq!(again, Extent { at: 0, length: 5 });
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
