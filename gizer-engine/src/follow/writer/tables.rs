//! Tables of a followed collection.

use gizer_flatten::Flattener;
use gizer_pg::rows::{RowStore, WhichTables};
use gizer_pg::state::{Followed, FollowedNow};
use gizer_pg::{PgError, Session};

use crate::follow::layout::LayoutVersion;

/// The tables that a collection's changes are applied to.
pub(in crate::follow) struct FollowedTables<'f> {
    pub(super) name: String,
    pub(super) layout: LayoutVersion,
    which: WhichTables,
    /// Whether they are at the stream's position.
    pub(super) joined: bool,
    /// Whether they were set apart.
    pub(super) apart: bool,
    /// As the state has them if they are live.
    pub(super) now: Option<FollowedNow>,
    /// Epoch of their load.
    pub(super) live_epoch: i64,
    pub(super) store: RowStore<'f>,
    pub(super) flattener: Flattener,
    /// Whether deletions are recorded as unknown.
    pub(in crate::follow) has_unknown_deletions: bool,
    /// Statements of stores replaced with their layout.
    earlier_statements: u64,
}

impl<'f> FollowedTables<'f> {
    pub(in crate::follow) async fn open(
        session: &'f Session,
        layout: LayoutVersion,
        which: WhichTables,
        live_epoch: i64,
        followed: Option<&Followed>,
    ) -> Result<FollowedTables<'f>, PgError> {
        Ok(FollowedTables {
            name: layout.collection.clone(),
            which,
            joined: followed.is_some_and(|followed| followed.joined),
            now: followed.map(Followed::now),
            apart: false,
            live_epoch,
            store: RowStore::open(session, layout.layout(), which).await?,
            flattener: Flattener::new(&layout),
            layout,
            has_unknown_deletions: false,
            earlier_statements: 0,
        })
    }

    /// Switches to a newer layout, with the first batch read by it.
    pub(super) async fn take_layout(&mut self, session: &'f Session, layout: LayoutVersion) -> Result<(), PgError> {
        if layout.is_newer_than(&self.layout) {
            self.earlier_statements = self.statements();
            self.store = RowStore::open(session, layout.layout(), self.which).await?;
            self.flattener = Flattener::new(&layout);
            self.layout = layout;
        }
        Ok(())
    }

    /// Statements executed so far.
    pub(super) fn statements(&self) -> u64 {
        self.earlier_statements + self.store.statements()
    }
}
