//! The oplog, kept aside in a file while a load runs, so that a small oplog cannot roll over under a long load.
//!
//! ```text
//!   OplogTail ──OplogBatch──▶ Spool::append … sync   (one process at a time)
//!                                  │ file
//!                                  └──▶ SpoolReader::next: entries after a position, as they were in the log
//! ```
//!
//! There is one file for each target and shard. It holds, in the oplog's order, every entry that [`keeps`] says may
//! matter to somebody who follows the database, and marks for how far the log was read beyond the last of them. A spool
//! **covers** the log from its start (not included) to the position that it has reached (included): whatever matters in between is in it.
//!
//! # What survives
//! What [`Spool::sync`] has returned for survives a crash of the machine; what [`Spool::append`] has written survives that
//! of the process. Whatever else a crash leaves of the file's end is found by its checksum when it is opened again,
//! and cut off: what is read is always the beginning of what was written. Since it is cut, the spool says that it has not reached
//! as far, and the log is read again from there.
//!
//! # Transactions
//! All entries of operation `c` are kept, of whatever namespace: transactions stand in `admin.$cmd`, and what they change is
//! inside. One that was prepared, or the first part of a large one, can stand in the log *before* the spool's start, and
//! its commit after it, which leads back by `prevOpTime` to entries that the spool has not got. So a spool must
//! begin before the oldest transaction that was undecided at the time of the load: see
//! [`Oplog::before_undecided`](crate::Oplog::before_undecided).

mod error;
mod format;
mod reader;
mod records;
mod writer;

pub use error::SpoolError;
pub use reader::{SpoolEntry, SpoolReader};
pub use writer::{Appended, Cut, Span, Spool};

use crate::tail::RawEntry;

/// Whose changes a spool keeps, and for whom: written at its beginning, so that no other is taken for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolIdentity {
    /// The target that the changes are for: server, database and schema, without a password.
    pub owner: String,
    /// The oplog's name.
    pub shard: String,
    /// The MongoDB database.
    pub database: String,
}

impl SpoolIdentity {
    /// The name of the file, the same for the same three: as much of database and shard as a person needs, and a
    /// number that tells all apart.
    pub fn file_name(&self) -> String {
        let mut hasher = crc32fast::Hasher::new();
        for text in [&self.owner, &self.shard, &self.database] {
            hasher.update(&text.len().to_le_bytes());
            hasher.update(text.as_bytes());
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' };
        let shown = |text: &str| text.chars().map(plain).take(40).collect::<String>();
        format!("{}.{}.{:08x}.spool", shown(&self.database), shown(&self.shard), hasher.finalize())
    }
}

/// Whether an entry may matter to somebody who follows a database: all but changes of other databases' documents
/// and entries in which nothing happens (`n`). What is not known is kept.
pub fn keeps(entry: &RawEntry<'_>, database: &str) -> bool {
    match entry.operation() {
        b"n" => false,
        b"i" | b"u" | b"d" => match entry.namespace() {
            Some(namespace) => {
                namespace.strip_prefix(database.as_bytes()).is_some_and(|collection| collection.starts_with(b"."))
            }
            None => true,
        },
        _ => true,
    }
}

#[cfg(test)]
mod tests;
