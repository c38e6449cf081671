//! The tables of a collection that is followed.

use gizer_flatten::Flattener;
use gizer_pg::rows::{RowStore, WhichTables};
use gizer_pg::{PgError, Session};

use crate::follow::layout::LayoutVersion;

/// The tables of a collection, to which its changes are applied.
pub(in crate::follow) struct FollowedTables<'f> {
    pub(super) name: String,
    pub(super) layout: LayoutVersion,
    which: WhichTables,
    /// Whether they stand where the stream stands.
    pub(super) joined: bool,
    /// Whether they are left where they stand, because something is wrong with them.
    pub(super) apart: bool,
    /// The load that they are of.
    pub(super) live_epoch: i64,
    pub(super) store: RowStore<'f>,
    pub(super) flattener: Flattener,
    /// Whether it is known that nobody looks for deletions.
    pub(in crate::follow) has_unknown_deletions: bool,
    /// Statements of stores that were replaced with their layout.
    earlier_statements: u64,
}

impl<'f> FollowedTables<'f> {
    pub(in crate::follow) async fn open(
        session: &'f Session,
        layout: LayoutVersion,
        which: WhichTables,
        live_epoch: i64,
        joined: bool,
    ) -> Result<FollowedTables<'f>, PgError> {
        Ok(FollowedTables {
            name: layout.collection.clone(),
            which,
            joined,
            apart: false,
            live_epoch,
            store: RowStore::open(session, layout.layout(), which).await?,
            flattener: Flattener::new(&layout),
            layout,
            has_unknown_deletions: false,
            earlier_statements: 0,
        })
    }

    /// Goes over to a newer layout, with the first batch that was read by it.
    pub(super) async fn take_layout(&mut self, session: &'f Session, layout: LayoutVersion) -> Result<(), PgError> {
        if layout.is_newer_than(&self.layout) {
            self.earlier_statements = self.statements();
            self.store = RowStore::open(session, layout.layout(), self.which).await?;
            self.flattener = Flattener::new(&layout);
            self.layout = layout;
        }
        Ok(())
    }

    /// Statements that they took so far.
    pub(super) fn statements(&self) -> u64 {
        self.earlier_statements + self.store.statements()
    }
}
