//! Counters of a load or an audit, for whoever shows progress.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one load or audit, shared by its threads.
#[derive(Debug, Default)]
pub struct Counters {
    documents: AtomicU64,
    bytes: AtomicU64,
    rows: AtomicU64,
    /// What an interrupted run has done: part of the whole, not of this run's speed.
    before: Done,
}

/// Documents, bytes and rows that are done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Documents.
    pub documents: u64,
    /// Bytes of BSON.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
}

impl Counters {
    /// Counters that go on where an interrupted run ended.
    pub fn going_on(before: Done) -> Counters {
        let Done { documents, bytes, rows } = before;
        Counters { documents: documents.into(), bytes: bytes.into(), rows: rows.into(), before }
    }

    /// The part that this run has done.
    pub fn in_this_run(&self) -> Done {
        let less = |all: &AtomicU64, before: u64| all.load(Ordering::Relaxed).saturating_sub(before);
        Done {
            documents: less(&self.documents, self.before.documents),
            bytes: less(&self.bytes, self.before.bytes),
            rows: less(&self.rows, self.before.rows),
        }
    }

    /// Documents and bytes of BSON that left a stage.
    pub fn add_documents(&self, documents: u64, bytes: u64) {
        self.documents.fetch_add(documents, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Documents that PostgreSQL has taken, their bytes of BSON and their rows.
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

/// How much there is to do, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// So many documents.
    Documents(u64),
    /// So many bytes of BSON, or of text.
    Bytes(u64),
}

impl Expected {
    /// How much of it is done.
    pub fn done(self, counters: &Counters) -> u64 {
        match self {
            Expected::Documents(_) => counters.documents(),
            Expected::Bytes(_) => counters.bytes(),
        }
    }

    /// How much of it this run has done.
    pub fn done_in_this_run(self, counters: &Counters) -> u64 {
        match self {
            Expected::Documents(_) => counters.in_this_run().documents,
            Expected::Bytes(_) => counters.in_this_run().bytes,
        }
    }

    /// All of it.
    pub fn total(self) -> u64 {
        match self {
            Expected::Documents(total) | Expected::Bytes(total) => total,
        }
    }
}
