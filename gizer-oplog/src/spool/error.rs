//! What can go wrong with a spool.

use std::io;
use std::path::PathBuf;

use crate::error::ErrorClass;
use crate::position::OplogPosition;

/// Why a spool could not be used. Messages name the file, and never what is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The file, or its folder, cannot be made, opened or locked.
    #[error("expected a file that can be written at {}, where the oplog is kept aside: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },

    /// Another process writes it.
    #[error("spool {} is in use by another run", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },

    /// Something else, or another's spool, has the file's name: it is left as it is.
    #[error("expected {expected} at {}, found {found}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What should have been there.
        expected: String,
        /// What was there.
        found: String,
    },

    /// Reading, or making sure that it is on disk, failed while the spool was in use.
    #[error("cannot {doing} spool {}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        reason: io::Error,
    },

    /// An entry that lies before what the spool already holds: this would put the log out of order.
    #[error("spool {} has reached {}: expected an entry after it, got {}", path.display(), reached.time, came.time)]
    OutOfOrder {
        /// The file.
        path: PathBuf,
        /// How far it goes.
        reached: OplogPosition,
        /// What was to be added.
        came: OplogPosition,
    },

    /// The spool was to be read from a position before its start.
    #[error("spool {} begins at {}: expected it to go back to {}", path.display(), start.time, wanted.time)]
    NotCovered {
        /// The file.
        path: PathBuf,
        /// Where it begins.
        start: OplogPosition,
        /// From where it was to be read.
        wanted: OplogPosition,
    },
}

impl SpoolError {
    /// How the failure is to be treated.
    pub fn class(&self) -> ErrorClass {
        match self {
            SpoolError::Unusable { .. } | SpoolError::Foreign { .. } => ErrorClass::Configuration,
            _ => ErrorClass::Failed,
        }
    }

    /// What the operator can do, as a sentence; `None` where the message says it all.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            SpoolError::Unusable { .. } => {
                "let gizer's user write there, or name another folder as spool_dir under [load]".into()
            }
            SpoolError::Foreign { .. } => "move the file away, or name another folder as spool_dir under [load]".into(),
            SpoolError::InUse { .. } => "wait for the other run to end, or end it".into(),
            SpoolError::Io { .. } => "make room on the disk, or name another folder as spool_dir under [load]".into(),
            SpoolError::NotCovered { .. } | SpoolError::OutOfOrder { .. } => return None,
        })
    }
}
