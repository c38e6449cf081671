//! What is followed, as the state tables have it.

use std::collections::BTreeSet;
use std::path::Path;

use gizer_flatten::Flattener;
use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{FollowOptions, Interest, Oplog, WatchedCollection};
use gizer_pg::Session;
use gizer_pg::rows::{RowStore, WhichTables};
use gizer_pg::state::{Followed, StreamFence};
use gizer_schema::Layout;

use super::member::{FollowedCollection, FollowedTables, Member};
use crate::failure::Failure;

/// The collections with their tables, on this session.
pub async fn members_of<'f>(
    session: &'f Session,
    oplogs: &[Oplog],
    fence: &StreamFence,
    followed: &[Followed],
    layouts: &'f [Layout],
) -> Result<Vec<Member<'f>>, Failure> {
    let mut members = Vec::new();
    for (followed, layout) in followed.iter().zip(layouts) {
        let mut uuids = followed.uuids.clone();
        if let Some(uuid) = uuids.remove("") {
            // An earlier version did not write down on which shards.
            uuids.extend(oplogs.iter().map(|oplog| (oplog.name().to_owned(), uuid)));
        }
        let applied_to = if followed.joined { fence.position() } else { &followed.applied_to };
        members.push(Member {
            followed: FollowedCollection {
                name: followed.collection.clone(),
                layout,
                watched: WatchedCollection { namespace: followed.namespace.clone(), uuids },
                applied_to: applied_to.clone(),
                passed_over: followed.passed_over,
            },
            tables: FollowedTables {
                name: followed.collection.clone(),
                layout,
                joined: followed.joined,
                apart: false,
                live_epoch: followed.live_epoch,
                store: RowStore::open(session, layout, WhichTables::Live).await?,
                flattener: Flattener::new(layout),
            },
        });
    }
    Ok(members)
}

/// For each shard the earliest position that any of them needs.
pub fn earliest(members: &[Member<'_>]) -> Positions {
    let mut earliest = Positions::new();
    for (shard, at) in members.iter().flat_map(|member| &member.followed.applied_to) {
        earliest.entry(shard.clone()).and_modify(|least| *least = *at.min(least)).or_insert(*at);
    }
    earliest
}

/// What the source is to give.
pub fn interest(database: &str, members: &[Member<'_>]) -> Interest {
    let names: BTreeSet<String> =
        members.iter().map(|member| member.followed.watched.namespace.collection.clone()).collect();
    let uuids = members.iter().flat_map(|member| member.followed.watched.uuids.values().copied()).collect();
    Interest { database: database.to_owned(), collections: Some(names), uuids }
}

/// Up to when documents may have been read, as loads have left it; `newest` where a load does not say.
pub fn read_ahead(fence: &StreamFence, followed: &[Followed], newest: ClusterTime) -> Option<ClusterTime> {
    let loads = followed.iter().filter(|followed| !followed.joined);
    let loads = loads.map(|followed| followed.read_until.unwrap_or(newest)).max();
    fence.ahead().max(loads)
}

/// Documents after which a batch ends.
pub const BATCH_DOCUMENTS: usize = 20_000;

/// Changes between two watermarks: a batch can end there.
const WATERMARK_CHANGES: usize = 5_000;

/// How changes are read, within a budget of so many bytes; what has to wait is in this folder.
pub fn source_options(memory: usize, folder: &Path) -> FollowOptions {
    FollowOptions {
        watermark_changes: WATERMARK_CHANGES,
        watermark_bytes: memory / 16,
        held_back_bytes: memory / 8,
        ..FollowOptions::new(folder.join("held-back"))
    }
}
