//! What the changes between two watermarks have touched.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::change::{Change, ChangeKind, ClusterTime, Positions, id_document};
use gizer_oplog::WantedId;
use gizer_schema::raw::RawDoc;

use super::member::Ddl;
use crate::exit::Failure;

/// How many changes there were, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ChangeCounts {
    /// New documents.
    pub(crate) inserts: u64,
    /// Documents that took the place of others.
    pub(crate) replacements: u64,
    /// Documents of which fields changed.
    pub(crate) updates: u64,
    /// Documents that went.
    pub(crate) deletes: u64,
    /// Entries that a chunk migration wrote: no change of data.
    pub(crate) migrations: u64,
    /// Documents passed over because their collection is dropped or replaced further on.
    pub(crate) passed_over: u64,
}

impl ChangeCounts {
    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.inserts + self.replacements + self.updates + self.deletes + self.migrations
    }

    pub(super) fn add(&mut self, other: &ChangeCounts) {
        self.inserts += other.inserts;
        self.replacements += other.replacements;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.migrations += other.migrations;
        self.passed_over += other.passed_over;
    }
}

/// A place in the stream of changes: everything up to it has been given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) time: ClusterTime,
    pub(super) positions: Positions,
    pub(super) read_to: ClusterTime,
}

/// What is applied in one transaction, and whether there is anything.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// By the number of the collection.
    pub(super) touched: BTreeMap<usize, Touched>,
    pub(super) counts: ChangeCounts,
    /// What happened to followed collections as such. As a rule there is nothing else in the batch then.
    pub(super) effects: Vec<Effect>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.effects.is_empty()
    }

    /// Adds what came after it.
    pub(super) fn append(&mut self, later: Batch) {
        if self.is_empty() {
            *self = later;
            return;
        }
        for (member, touched) in later.touched {
            let ids = &mut self.touched.entry(member).or_default().ids;
            for (id, later) in touched.ids {
                let touch = ids.entry(id).or_default();
                touch.written_on = later.written_on.or(touch.written_on.take());
                touch.migrated_on = later.migrated_on.or(touch.migrated_on.take());
            }
        }
        self.counts.add(&later.counts);
        self.effects.extend(later.effects);
    }

    /// How many documents were touched.
    pub(super) fn documents(&self) -> usize {
        self.touched.values().map(|touched| touched.ids.len()).sum()
    }

    /// A change of a document of a collection.
    pub(super) fn touch(&mut self, member: usize, change: &Change) -> Result<(), Failure> {
        let ChangeCounts { inserts, replacements, updates, deletes, migrations, .. } = &mut self.counts;
        let (count, id) = match &change.kind {
            ChangeKind::Insert { document } => (inserts, id_of(document)),
            ChangeKind::Replace { document } => (replacements, id_of(document)),
            ChangeKind::Update { key, .. } => (updates, Some(key.clone())),
            ChangeKind::Delete { key } => (deletes, Some(key.clone())),
            _ => return Ok(()),
        };
        *(if change.from_migrate { migrations } else { count }) += 1;
        let id = id.ok_or_else(|| {
            let message = format!("an oplog entry of {} at {} has no _id", change.namespace, change.position.time);
            Failure::failed(message)
        })?;
        let touch = self.touched.entry(member).or_default().ids.entry(id).or_default();
        match change.from_migrate {
            true => touch.migrated_on = Some(Arc::clone(&change.shard)),
            false => touch.written_on = Some(Arc::clone(&change.shard)),
        }
        Ok(())
    }
}

/// What happened to a collection as such.
#[derive(Debug, Clone)]
pub(super) struct Effect {
    /// The number of the collection.
    pub(super) member: usize,
    pub(super) ddl: Ddl,
    /// Its UUIDs from here on.
    pub(super) uuids: BTreeMap<String, [u8; 16]>,
}

/// The documents of one collection that were touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    ids: HashMap<Bytes, Touch>,
}

/// Who touched a document.
#[derive(Debug, Default)]
struct Touch {
    written_on: Option<Arc<str>>,
    migrated_on: Option<Arc<str>>,
}

impl Touched {
    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The ids with the shards to look for their documents on.
    pub(super) fn wanted(&self) -> impl Iterator<Item = WantedId> {
        let wanted = |(id, touch): (&Bytes, &Touch)| WantedId {
            id: id.clone(),
            first: touch.written_on.clone(),
            last: touch.migrated_on.clone(),
        };
        self.ids.iter().map(wanted)
    }
}

/// The `_id` of a document, as a document of this one field.
fn id_of(document: &Bytes) -> Option<Bytes> {
    id_document(RawDoc::new(document).ok()?).ok()?
}
