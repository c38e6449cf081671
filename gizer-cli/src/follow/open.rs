//! What is followed, as the state tables have it.

use std::collections::BTreeSet;

use gizer_engine::audit::AuditSettings;
use gizer_flatten::Flattener;
use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{FollowOptions, Interest, Oplog, WatchedCollection};
use gizer_pg::Session;
use gizer_pg::ddl::layout_hash;
use gizer_pg::rows::{RowStore, WhichTables};
use gizer_pg::state::{Followed, StreamFence};
use gizer_schema::Layout;
use gizer_verify::{Checks, ReadBack};

use super::FollowSettings;
use super::member::{FollowedCollection, FollowedTables, Member};
use crate::commands::{Context, Layouts};
use crate::config::Config;
use crate::config::file::VerifyMode;
use crate::exit::{Failure, FailureKind};
use crate::report;

/// The layout of a collection that is followed, or why there is none: its schema file is missing, cannot be used, or is not the
/// one that its tables were loaded by.
pub(crate) type FollowedLayout = Result<Layout, Failure>;

/// The layouts of the collections that are followed, in their order.
///
/// # Errors
/// [`Failure`] if one of them has none.
pub(crate) fn layouts_of(context: &Context, followed: &[Followed]) -> Result<Vec<Layout>, Failure> {
    layouts_or_failures(context, followed)?.into_iter().collect()
}

/// The same, with what is wrong with each.
///
/// # Errors
/// [`Failure`] if schema files cannot be read at all.
pub(crate) fn layouts_or_failures(context: &Context, followed: &[Followed]) -> Result<Vec<FollowedLayout>, Failure> {
    let names: Vec<String> = followed.iter().map(|followed| followed.collection.clone()).collect();
    let layouts = context.layouts(&names)?;
    followed.iter().map(|followed| layout_of(&layouts, followed)).collect()
}

fn layout_of(layouts: &Layouts, followed: &Followed) -> Result<FollowedLayout, Failure> {
    let name = &followed.collection;
    if let Some(failure) = layouts.failures.of(name) {
        return Ok(Err(failure.clone()));
    }
    let Some(layout) = layouts.usable.iter().find(|layout| layout.collection == *name) else {
        return Ok(Err(Failure::usage(format!("{name} is followed, and has no schema file"))));
    };
    if layout_hash(layout)? == followed.layout_hash {
        return Ok(Ok(layout.clone()));
    }
    let message = format!(
        "the schema file of {name} is not the one that its tables were loaded by: a load of {name} is due, and until \
         then nothing is applied, so that nothing is lost"
    );
    Ok(Err(Failure::new(FailureKind::LoadDue, message)
        .remedy(format!("`{}`, or put the schema file back as it was", report::command("load", [name], &[])))))
}

/// The collections with their tables, on this session.
pub(crate) async fn members_of<'f>(
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
pub(crate) fn earliest(members: &[Member<'_>]) -> Positions {
    let mut earliest = Positions::new();
    for (shard, at) in members.iter().flat_map(|member| &member.followed.applied_to) {
        earliest.entry(shard.clone()).and_modify(|least| *least = *at.min(least)).or_insert(*at);
    }
    earliest
}

/// What the source is to give.
pub(crate) fn interest(database: &str, members: &[Member<'_>]) -> Interest {
    let names: BTreeSet<String> =
        members.iter().map(|member| member.followed.watched.namespace.collection.clone()).collect();
    let uuids = members.iter().flat_map(|member| member.followed.watched.uuids.values().copied()).collect();
    Interest { database: database.to_owned(), collections: Some(names), uuids }
}

/// Up to when documents may have been read, as loads have left it; `newest` where a load does not say.
pub(crate) fn read_ahead(fence: &StreamFence, followed: &[Followed], newest: ClusterTime) -> Option<ClusterTime> {
    let loads = followed.iter().filter(|followed| !followed.joined);
    let loads = loads.map(|followed| followed.read_until.unwrap_or(newest)).max();
    fence.ahead().max(loads)
}

/// Documents after which a batch ends.
const BATCH_DOCUMENTS: usize = 20_000;

/// Changes between two watermarks: a batch can end there.
const WATERMARK_CHANGES: usize = 5_000;

/// Of so many documents one is read back with `[verify] mode = "sample"`.
const SAMPLED: u32 = 16;

/// How changes are read.
pub(crate) fn source_options(config: &Config) -> FollowOptions {
    FollowOptions {
        watermark_changes: WATERMARK_CHANGES,
        watermark_bytes: config.memory / 16,
        held_back_bytes: config.memory / 8,
        ..FollowOptions::new(config.spool_dir.join("held-back"))
    }
}

/// How an audit reads MongoDB.
pub(crate) fn audit_settings(config: &Config) -> AuditSettings {
    AuditSettings { changes: source_options(config), shards_apart: config.mongo_uris.len() > 1 }
}

/// How changes are applied.
pub(crate) fn settings(config: &Config) -> FollowSettings {
    FollowSettings {
        batch_documents: BATCH_DOCUMENTS,
        part_bytes: config.memory / 16,
        checks: Checks::from(match config.verify_mode {
            VerifyMode::All => ReadBack::All,
            VerifyMode::Sample => ReadBack::Sample(SAMPLED),
            VerifyMode::Off => ReadBack::Off,
        }),
        max_repairs: config.max_repairs,
        logs_unfit: false,
        max_rejects: config.max_rejects,
    }
}
