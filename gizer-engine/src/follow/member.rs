//! Followed collections, as changes name them and as tables hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{Interest, Oplog, WatchedCollection};
use gizer_pg::load::LoadFence;
use gizer_pg::rows::WhichTables;
use gizer_pg::state::{Followed, StreamFence};
use gizer_pg::{PgError, Session};
use gizer_schema::Layout;

use super::layout::LayoutSlot;
use super::reader::FollowedCollection;
use super::writer::{DELETIONS_UNKNOWN, FollowedTables};

/// A collection and its tables, before following starts.
pub struct Member<'f> {
    collection: FollowedCollection,
    tables: FollowedTables<'f>,
}

impl<'f> Member<'f> {
    /// The tables of a load or a resync, applied up to these positions.
    ///
    /// # Errors
    /// As [`RowStore::open`](gizer_pg::rows::RowStore::open).
    pub async fn of_load(
        session: &'f Session,
        fence: &LoadFence,
        layout: Arc<Layout>,
        which: WhichTables,
        watched: WatchedCollection,
        applied_to: Positions,
    ) -> Result<Member<'f>, PgError> {
        let slot = LayoutSlot::new(layout);
        let tables = FollowedTables::open(session, slot.current(), which, fence.load_epoch, None).await?;
        Ok(Member { collection: FollowedCollection::new(slot, watched, applied_to, None), tables })
    }

    /// The live tables of a collection, applied up to these positions.
    async fn live(
        session: &'f Session,
        followed: &Followed,
        layout: Arc<Layout>,
        uuids: BTreeMap<String, [u8; 16]>,
        applied_to: Positions,
    ) -> Result<Member<'f>, PgError> {
        let Followed { live_epoch, passed_over, .. } = *followed;
        let slot = LayoutSlot::new(layout);
        let mut tables =
            FollowedTables::open(session, slot.current(), WhichTables::Live, live_epoch, Some(followed)).await?;
        tables.has_unknown_deletions = followed.remark.as_deref() == Some(DELETIONS_UNKNOWN);
        let watched = WatchedCollection { namespace: followed.namespace.clone(), uuids };
        Ok(Member { collection: FollowedCollection::new(slot, watched, applied_to, passed_over), tables })
    }

    /// Splits it for reader and writer.
    pub(super) fn split(self) -> (FollowedCollection, FollowedTables<'f>) {
        (self.collection, self.tables)
    }
}

/// Followed collections by the state tables, with their live tables.
///
/// # Errors
/// As [`RowStore::open`](gizer_pg::rows::RowStore::open).
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
            // An earlier version did not record the shards.
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
    for (shard, at) in members.iter().flat_map(|member| member.collection.applied_to()) {
        let least = earliest.entry(shard.clone()).or_insert_with(|| at.clone());
        *least = (&*least).min(at).clone();
    }
    earliest
}

/// The changes that the source must give.
pub(crate) fn interest(database: &str, members: &[Member<'_>]) -> Interest {
    let watched = || members.iter().map(|member| member.collection.watched());
    let names: BTreeSet<String> = watched().map(|watched| watched.namespace.collection.clone()).collect();
    let uuids = watched().flat_map(|watched| watched.uuids.values().copied()).collect();
    Interest { database: database.to_owned(), collections: Some(names), uuids }
}

/// Latest read time recorded by loads; `newest` if a load recorded none.
pub(crate) fn read_ahead(fence: &StreamFence, followed: &[Followed], newest: ClusterTime) -> Option<ClusterTime> {
    let loads = followed.iter().filter(|followed| !followed.joined);
    let loads = loads.map(|followed| followed.read_until.unwrap_or(newest)).max();
    fence.ahead().max(loads)
}
