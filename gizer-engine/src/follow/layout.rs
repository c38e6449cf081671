//! The layout of a followed collection, and where it is replaced.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gizer_schema::Layout;

/// A layout and its version, counted since following started.
#[derive(Debug, Clone)]
pub struct LayoutVersion {
    layout: Arc<Layout>,
    version: u64,
}

impl LayoutVersion {
    /// The shared layout.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Whether it is newer than `other`.
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

/// The slot of a collection's layout; clones share it.
///
/// The reader takes the layout at a batch's start, and its version travels with the batch to the
/// writer: scopes and rows of one batch use one layout.
#[derive(Debug, Clone)]
pub struct LayoutSlot(Arc<Mutex<LayoutVersion>>);

impl LayoutSlot {
    /// A slot with this layout.
    pub fn new(layout: Arc<Layout>) -> LayoutSlot {
        LayoutSlot(Arc::new(Mutex::new(LayoutVersion { layout, version: 0 })))
    }

    /// The current layout.
    pub fn current(&self) -> LayoutVersion {
        self.lock().clone()
    }

    /// Replaces the layout from the next batch on.
    pub fn replace(&self, layout: Arc<Layout>) {
        let mut current = self.lock();
        *current = LayoutVersion { layout, version: current.version + 1 };
    }

    fn lock(&self) -> MutexGuard<'_, LayoutVersion> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
