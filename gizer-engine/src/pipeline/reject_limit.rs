//! The limit of documents that a load may reject.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The limit of documents that a load may reject; its sinks count together.
///
/// Beyond it the load cannot be swapped in: whatever is still read is read in vain.
#[derive(Debug)]
pub struct RejectLimit {
    most: u64,
    count: AtomicU64,
    first: OnceLock<String>,
}

impl RejectLimit {
    /// At most this many; `before` were rejected by the run that was interrupted.
    pub fn new(most: u64, before: u64) -> RejectLimit {
        RejectLimit { most, count: AtomicU64::new(before), first: OnceLock::new() }
    }

    /// Whether more were rejected.
    pub fn exceeded(&self) -> bool {
        !self.allows(0)
    }

    /// Whether so many more may be.
    pub(super) fn allows(&self, more: u64) -> bool {
        self.count.load(Ordering::Relaxed).saturating_add(more) <= self.most
    }

    /// Why the first one was rejected. No values.
    pub fn first_reason(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }

    /// Counts documents that were rejected, once that is committed.
    pub(super) fn count(&self, rejected: u64) {
        self.count.fetch_add(rejected, Ordering::Relaxed);
    }

    /// Notes why a document was rejected, if it is the first.
    pub(super) fn note(&self, reason: &str) {
        if self.first.get().is_none() {
            self.first.get_or_init(|| reason.to_owned());
        }
    }
}
