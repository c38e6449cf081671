//! The layout by which a collection is followed, and the one place where it is replaced.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gizer_schema::Layout;

/// A layout, and how often it has been replaced since following started.
#[derive(Debug, Clone)]
pub struct LayoutVersion {
    layout: Arc<Layout>,
    version: u64,
}

impl LayoutVersion {
    /// The layout, to share.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Whether it has replaced another one.
    pub(super) fn is_newer_than(&self, other: &LayoutVersion) -> bool {
        self.version > other.version
    }
}

impl Deref for LayoutVersion {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.layout
    }
}

/// The place of a collection's layout; clones share it.
///
/// The reader looks here where a batch begins, and the version goes with the batch to the writer: scopes and rows of one batch are of
/// one layout.
#[derive(Debug, Clone)]
pub struct LayoutSlot(Arc<Mutex<LayoutVersion>>);

impl LayoutSlot {
    /// The place of this layout.
    pub fn new(layout: Arc<Layout>) -> LayoutSlot {
        LayoutSlot(Arc::new(Mutex::new(LayoutVersion { layout, version: 0 })))
    }

    /// The layout that counts now.
    pub fn current(&self) -> LayoutVersion {
        self.lock().clone()
    }

    /// Puts another layout in its place: the next batch is read and written by it.
    pub fn replace(&self, layout: Arc<Layout>) {
        let mut current = self.lock();
        *current = LayoutVersion { layout, version: current.version + 1 };
    }

    fn lock(&self) -> MutexGuard<'_, LayoutVersion> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
