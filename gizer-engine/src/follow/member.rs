//! The collections that are followed: as changes name them, and as tables hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gizer_flatten::Flattener;
use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{Interest, Oplog, WatchedCollection};
use gizer_pg::load::LoadFence;
use gizer_pg::rows::{RowStore, WhichTables};
use gizer_pg::state::{Followed, StreamFence};
use gizer_pg::{PgError, Session};
use gizer_schema::Layout;

use super::DELETIONS_UNKNOWN;
use super::layout::{LayoutSlot, LayoutVersion};

/// A collection and its tables, before they are followed.
pub struct Member<'f> {
    collection: FollowedCollection,
    tables: FollowedTables<'f>,
    /// Whether it is known that nobody looks for its deletions.
    has_unknown_deletions: bool,
}

/// A collection as changes name it.
pub(super) struct FollowedCollection {
    pub(super) name: String,
    pub(super) slot: LayoutSlot,
    /// The layout that the present batch is read by.
    pub(super) layout: LayoutVersion,
    /// Where it is in MongoDB, by UUID.
    pub(super) watched: WatchedCollection,
    /// What lies at or before these positions has been applied.
    pub(super) applied_to: Positions,
    /// What was skipped of it is yet to be explained, by an entry up to this time.
    pub(super) skipped_until: Option<ClusterTime>,
}

/// The tables of a collection, to which its changes are applied.
pub(super) struct FollowedTables<'f> {
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
    /// Statements of stores that were replaced with their layout.
    earlier_statements: u64,
}

impl<'f> FollowedTables<'f> {
    async fn open(
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

impl<'f> Member<'f> {
    /// The staging tables of a load, which stand at these positions.
    ///
    /// # Errors
    /// As [`RowStore::open`].
    pub async fn staging(
        session: &'f Session,
        fence: &LoadFence,
        layout: Arc<Layout>,
        watched: WatchedCollection,
        applied_to: Positions,
    ) -> Result<Member<'f>, PgError> {
        let (name, slot) = (layout.collection.clone(), LayoutSlot::new(layout));
        let layout = slot.current();
        let tables =
            FollowedTables::open(session, layout.clone(), WhichTables::Staging, fence.load_epoch, false).await?;
        let collection = FollowedCollection { name, slot, layout, watched, applied_to, skipped_until: None };
        Ok(Member { collection, tables, has_unknown_deletions: false })
    }

    /// The live tables of a collection, whose changes are applied up to these positions.
    async fn live(
        session: &'f Session,
        followed: &Followed,
        layout: Arc<Layout>,
        uuids: BTreeMap<String, [u8; 16]>,
        applied_to: Positions,
    ) -> Result<Member<'f>, PgError> {
        let Followed { live_epoch, joined, .. } = *followed;
        let slot = LayoutSlot::new(layout);
        let layout = slot.current();
        let tables = FollowedTables::open(session, layout.clone(), WhichTables::Live, live_epoch, joined).await?;
        let collection = FollowedCollection {
            name: followed.collection.clone(),
            slot,
            layout,
            watched: WatchedCollection { namespace: followed.namespace.clone(), uuids },
            applied_to,
            skipped_until: followed.passed_over,
        };
        let has_unknown_deletions = followed.remark.as_deref() == Some(DELETIONS_UNKNOWN);
        Ok(Member { collection, tables, has_unknown_deletions })
    }

    /// Its name, if it is known that nobody looks for its deletions.
    pub(super) fn unknown_deletions(&self) -> Option<String> {
        self.has_unknown_deletions.then(|| self.collection.name.clone())
    }

    /// What the reader and what the writer works with.
    pub(super) fn split(self) -> (FollowedCollection, FollowedTables<'f>) {
        (self.collection, self.tables)
    }
}

/// The collections that the state tables say are followed, with their live tables, on this session.
///
/// # Errors
/// As [`RowStore::open`].
pub(crate) async fn members_of<'f>(
    session: &'f Session,
    oplogs: &[Oplog],
    fence: &StreamFence,
    followed: &[Followed],
    layouts: &[Arc<Layout>],
) -> Result<Vec<Member<'f>>, PgError> {
    let mut members = Vec::new();
    for (followed, layout) in followed.iter().zip(layouts) {
        let mut uuids = followed.uuids.clone();
        if let Some(uuid) = uuids.remove("") {
            // An earlier version did not write down on which shards.
            uuids.extend(oplogs.iter().map(|oplog| (oplog.name().to_owned(), uuid)));
        }
        let applied_to = if followed.joined { fence.position() } else { &followed.applied_to };
        members.push(Member::live(session, followed, Arc::clone(layout), uuids, applied_to.clone()).await?);
    }
    Ok(members)
}

/// The earliest position that any of them needs, by shard.
pub(crate) fn earliest(members: &[Member<'_>]) -> Positions {
    let mut earliest = Positions::new();
    for (shard, at) in members.iter().flat_map(|member| &member.collection.applied_to) {
        earliest.entry(shard.clone()).and_modify(|least| *least = *at.min(least)).or_insert(*at);
    }
    earliest
}

/// What the source is to give.
pub(crate) fn interest(database: &str, members: &[Member<'_>]) -> Interest {
    let watched = || members.iter().map(|member| &member.collection.watched);
    let names: BTreeSet<String> = watched().map(|watched| watched.namespace.collection.clone()).collect();
    let uuids = watched().flat_map(|watched| watched.uuids.values().copied()).collect();
    Interest { database: database.to_owned(), collections: Some(names), uuids }
}

/// Up to when documents may have been read, as loads have left it; `newest` where a load does not say.
pub(crate) fn read_ahead(fence: &StreamFence, followed: &[Followed], newest: ClusterTime) -> Option<ClusterTime> {
    let loads = followed.iter().filter(|followed| !followed.joined);
    let loads = loads.map(|followed| followed.read_until.unwrap_or(newest)).max();
    fence.ahead().max(loads)
}
