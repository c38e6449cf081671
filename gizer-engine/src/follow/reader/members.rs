//! Maps changes to followed collections, and DDL to its effects.

use std::collections::{BTreeMap, HashMap};

use gizer_flatten::change::{Change, ChangeKind, ClusterTime, Namespace, Positions};
use gizer_oplog::WatchedCollection;

use crate::follow::batch::Effect;
use crate::follow::layout::{LayoutSlot, LayoutVersion};

/// A collection as changes name it.
pub(in crate::follow) struct FollowedCollection {
    slot: LayoutSlot,
    /// The layout of the current batch.
    layout: LayoutVersion,
    /// The collection in MongoDB, by UUID.
    watched: WatchedCollection,
    /// Changes at or before these positions are applied.
    applied_to: Positions,
    /// Until when an entry may explain what was skipped.
    skipped_until: Option<ClusterTime>,
}

impl FollowedCollection {
    pub(in crate::follow) fn new(
        slot: LayoutSlot,
        watched: WatchedCollection,
        applied_to: Positions,
        skipped_until: Option<ClusterTime>,
    ) -> FollowedCollection {
        let layout = slot.current();
        FollowedCollection { slot, layout, watched, applied_to, skipped_until }
    }

    pub(super) fn layout(&self) -> &LayoutVersion {
        &self.layout
    }

    pub(in crate::follow) fn watched(&self) -> &WatchedCollection {
        &self.watched
    }

    pub(in crate::follow) fn applied_to(&self) -> &Positions {
        &self.applied_to
    }

    pub(super) fn skipped_until(&self) -> Option<ClusterTime> {
        self.skipped_until
    }

    /// Whether it exists in MongoDB.
    pub(super) fn exists(&self) -> bool {
        !self.watched.uuids.is_empty()
    }

    /// Whether its tables are at or before this time.
    pub(super) fn stands_by(&self, time: ClusterTime) -> bool {
        self.applied_to.values().all(|applied| applied.time() <= time)
    }

    /// Whether a change is already applied: at or before the collection's own position.
    fn has_applied(&self, change: &Change) -> bool {
        self.applied_to.get(&*change.shard).is_some_and(|applied| change.position.time() <= applied.time())
    }

    fn is_called(&self, namespace: &Namespace) -> bool {
        self.watched.namespace == *namespace
    }

    /// The effect of a creation; `None` if a later load has already seen the collection.
    fn created(&self, change: &Change) -> Option<Ddl> {
        match self.watched.uuids.contains_key(&*change.shard) {
            true => None,
            false => change.uuid.map(Ddl::Created),
        }
    }

    /// The effect of a drop. If other shards have the collection under another UUID, their
    /// documents stay, and which those are is unknown.
    fn gone(&self, change: &Change, why: &'static str) -> Ddl {
        match change.uuid {
            Some(uuid) if self.watched.uuids.values().all(|other| *other == uuid) => Ddl::Gone(uuid),
            _ => Ddl::Reload(why),
        }
    }
}

/// What a change concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concern {
    /// Nothing.
    None,
    /// A document of this collection was touched.
    Document(usize),
    /// DDL of followed collections.
    Ddl,
}

/// The collections by UUID.
pub(super) struct Members {
    all: Vec<FollowedCollection>,
    by_uuid: HashMap<[u8; 16], usize>,
}

impl Members {
    pub(super) fn new(all: Vec<FollowedCollection>) -> Members {
        let mut members = Members { all, by_uuid: HashMap::new() };
        members.index();
        members
    }

    /// Takes the current layouts for the next batch.
    pub(super) fn take_layouts(&mut self) {
        self.all.iter_mut().for_each(|member| member.layout = member.slot.current());
    }

    fn index(&mut self) {
        let uuids = self.all.iter().enumerate();
        self.by_uuid =
            uuids.flat_map(|(at, member)| member.watched.uuids.values().map(move |uuid| (*uuid, at))).collect();
    }

    pub(super) fn get(&self, member: usize) -> &FollowedCollection {
        &self.all[member]
    }

    /// The collection of a change: by UUID, or by name for entries without one.
    fn of(&self, change: &Change) -> Option<usize> {
        match change.uuid {
            Some(uuid) => self.by_uuid.get(&uuid).copied(),
            None => self.all.iter().position(|member| member.is_called(&change.namespace)),
        }
    }

    pub(super) fn concern(&self, change: &Change) -> Concern {
        let member = self.of(change).filter(|&at| !self.all[at].has_applied(change));
        let called = |namespace: &Namespace| {
            self.all.iter().any(|member| member.is_called(namespace) && !member.has_applied(change))
        };
        match (&change.kind, member) {
            (ChangeKind::DropDatabase, _) => Concern::None,
            (ChangeKind::Create, _) if called(&change.namespace) => Concern::Ddl,
            (ChangeKind::Rename { to, .. }, _) if called(to) => Concern::Ddl,
            (ChangeKind::Create, _) => Concern::None,
            (ChangeKind::Drop | ChangeKind::Rename { .. } | ChangeKind::Rewrite, Some(_)) => Concern::Ddl,
            (ChangeKind::Drop | ChangeKind::Rename { .. } | ChangeKind::Rewrite, None) => Concern::None,
            (_, Some(at)) => Concern::Document(at),
            (_, None) => Concern::None,
        }
    }

    /// Applies DDL to the followed collections, and gives its effects.
    pub(super) fn apply_ddl(&mut self, change: &Change) -> Vec<Effect> {
        let mut effects = self.effects(change);
        for Effect { member, ddl, uuids: after } in &mut effects {
            let uuids = &mut self.all[*member].watched.uuids;
            match ddl {
                Ddl::Created(uuid) => drop(uuids.insert(change.shard.to_string(), *uuid)),
                Ddl::Gone(uuid) => uuids.retain(|_, other| other != uuid),
                Ddl::Reload(_) => {}
            }
            after.clone_from(uuids);
        }
        self.index();
        effects
    }

    fn effects(&self, change: &Change) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (at, member) in self.all.iter().enumerate().filter(|(_, member)| !member.has_applied(change)) {
            let ours = self.of(change) == Some(at);
            let effect = match &change.kind {
                ChangeKind::Create if member.is_called(&change.namespace) => member.created(change),
                ChangeKind::Drop if ours => Some(member.gone(change, "it was dropped")),
                ChangeKind::Rewrite if ours => Some(Ddl::Reload("its documents were changed as a whole")),
                // Another collection has this name now, unless a load has already seen it.
                ChangeKind::Rename { to, .. } if member.is_called(to) && !ours => {
                    Some(Ddl::Reload("another collection was renamed to its name"))
                }
                ChangeKind::Rename { to, .. } if ours && !member.is_called(to) => {
                    Some(member.gone(change, "it was renamed"))
                }
                _ => None,
            };
            effects.extend(effect.map(|ddl| Effect { member: at, ddl, uuids: BTreeMap::new() }));
        }
        effects
    }
}

/// Effect of DDL on a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::follow) enum Ddl {
    /// It was created on the change's shard, with this UUID.
    Created([u8; 16]),
    /// The collection with this UUID is gone on all shards: the tables are emptied.
    Gone([u8; 16]),
    /// It must be reloaded, with the reason.
    Reload(&'static str),
}

impl Ddl {
    pub(in crate::follow) fn is_gone(self) -> bool {
        matches!(self, Ddl::Gone(_))
    }
}
