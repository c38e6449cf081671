//! How many documents may be rejected.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many documents of a load may be rejected; its sinks count together.
///
/// Once there are more the load cannot be swapped in any more: whatever is still read is read in vain.
#[derive(Debug)]
pub struct RejectLimit {
    most: u64,
    count: AtomicU64,
    first: OnceLock<String>,
}

impl RejectLimit {
    /// At most this many; `before` were rejected already, before the load was taken up again.
    pub fn new(most: u64, before: u64) -> RejectLimit {
        RejectLimit { most, count: AtomicU64::new(before), first: OnceLock::new() }
    }

    /// Whether there were more.
    pub fn exceeded(&self) -> bool {
        !self.allows(0)
    }

    /// Whether there may be so many more.
    pub(super) fn allows(&self, more: u64) -> bool {
        self.count.load(Ordering::Relaxed).saturating_add(more) <= self.most
    }

    /// Why the first one was rejected. No values.
    pub fn first_reason(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }

    /// Counts documents that were kept aside and committed.
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
