//! Counters of a load or an audit, for progress displays.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one load or audit, shared by its threads.
#[derive(Debug, Default)]
pub struct Counters {
    documents: AtomicU64,
    bytes: AtomicU64,
    rows: AtomicU64,
    /// Done by an interrupted run: counts for the whole, not for this run's speed.
    before: WorkDone,
}

/// Documents, bytes and rows done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct WorkDone {
    /// Documents.
    pub documents: u64,
    /// Bytes of BSON.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
}

impl Counters {
    /// Counters that continue those of an interrupted run.
    pub fn resuming(before: WorkDone) -> Counters {
        let WorkDone { documents, bytes, rows } = before;
        Counters { documents: documents.into(), bytes: bytes.into(), rows: rows.into(), before }
    }

    /// Done by this run.
    pub fn in_this_run(&self) -> WorkDone {
        let less = |all: &AtomicU64, before: u64| all.load(Ordering::Relaxed).saturating_sub(before);
        WorkDone {
            documents: less(&self.documents, self.before.documents),
            bytes: less(&self.bytes, self.before.bytes),
            rows: less(&self.rows, self.before.rows),
        }
    }

    /// Adds documents and bytes of BSON that left a stage.
    pub fn add_documents(&self, documents: u64, bytes: u64) {
        self.documents.fetch_add(documents, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds written documents, with bytes of BSON and rows.
    pub fn add_written(&self, documents: u64, bytes: u64, rows: u64) {
        self.add_documents(documents, bytes);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.documents.load(Ordering::Relaxed)
    }

    /// Bytes of BSON so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Expected amount of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedWork {
    /// Number of documents.
    Documents(u64),
    /// Bytes of BSON or text.
    Bytes(u64),
}

impl ExpectedWork {
    /// How much is done.
    pub fn done(self, counters: &Counters) -> u64 {
        match self {
            ExpectedWork::Documents(_) => counters.documents(),
            ExpectedWork::Bytes(_) => counters.bytes(),
        }
    }

    /// How much this run has done.
    pub fn done_in_this_run(self, counters: &Counters) -> u64 {
        match self {
            ExpectedWork::Documents(_) => counters.in_this_run().documents,
            ExpectedWork::Bytes(_) => counters.in_this_run().bytes,
        }
    }

    /// The total.
    pub fn total(self) -> u64 {
        match self {
            ExpectedWork::Documents(total) | ExpectedWork::Bytes(total) => total,
        }
    }
}
