//! The reject limit of a load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The reject limit of a load, shared by its sinks.
///
/// Beyond it the load cannot be swapped in, so reading on is useless.
#[derive(Debug)]
pub struct RejectLimit {
    most: u64,
    count: AtomicU64,
    first: OnceLock<String>,
}

impl RejectLimit {
    /// At most this many; `before` counts those of the interrupted run.
    pub fn new(most: u64, before: u64) -> RejectLimit {
        RejectLimit { most, count: AtomicU64::new(before), first: OnceLock::new() }
    }

    /// Whether the limit is exceeded.
    pub fn exceeded(&self) -> bool {
        !self.allows(0)
    }

    /// Whether `more` rejects are allowed.
    pub(super) fn allows(&self, more: u64) -> bool {
        self.count.load(Ordering::Relaxed).saturating_add(more) <= self.most
    }

    /// The first reason, without values.
    pub fn first_reason(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }

    /// Counts rejected documents, once committed.
    pub(super) fn count(&self, rejected: u64) {
        self.count.fetch_add(rejected, Ordering::Relaxed);
    }

    /// Notes the reason of the first reject.
    pub(super) fn note(&self, reason: &str) {
        if self.first.get().is_none() {
            self.first.get_or_init(|| reason.to_owned());
        }
    }
}
