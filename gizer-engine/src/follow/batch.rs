//! Batches: what the changes between watermarks touched, applied in one transaction.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::Scope;
use gizer_flatten::change::{Change, ChangeKind, ClusterTime, Positions, id_document};
use gizer_oplog::WantedId;
use gizer_pg::state::RepairKey;
use gizer_schema::Layout;
use gizer_schema::raw::RawDoc;

use super::progress::ChangeCounts;
use super::reader::Ddl;
use crate::failure::Failure;

/// A place in the stream of changes: a watermark with its positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) time: ClusterTime,
    pub(super) positions: Positions,
    pub(super) read_to: ClusterTime,
}

/// Documents to repair, by collection number.
pub(super) type Repairs = BTreeMap<usize, Vec<RepairKey>>;

/// One transaction's work.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// By collection number.
    pub(super) touched: BTreeMap<usize, TouchedDocuments>,
    /// Drops, renames and the like of followed collections. Usually alone in its batch.
    pub(super) effects: Vec<Effect>,
    /// Repairs taken off the queue. Alone in its batch.
    pub(super) repairs: Repairs,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.effects.is_empty() && self.repairs.is_empty()
    }

    pub(super) fn append(&mut self, later: Batch) {
        if self.is_empty() {
            *self = later;
            return;
        }
        for (member, touched) in later.touched {
            let TouchedDocuments { ids, counts } = self.touched.entry(member).or_default();
            counts.add(&touched.counts);
            for (id, later) in touched.ids {
                match ids.entry(id) {
                    Entry::Occupied(mut touch) => touch.get_mut().append(later),
                    Entry::Vacant(place) => drop(place.insert(later)),
                }
            }
        }
        self.effects.extend(later.effects);
        for (member, repairs) in later.repairs {
            self.repairs.entry(member).or_default().extend(repairs);
        }
    }

    /// Number of changes, over all collections.
    pub(super) fn counts(&self) -> ChangeCounts {
        let mut counts = ChangeCounts::default();
        self.touched.values().for_each(|touched| counts.add(&touched.counts));
        counts
    }

    /// Number of touched documents.
    pub(super) fn documents(&self) -> usize {
        self.touched.values().map(|touched| touched.ids.len()).sum()
    }

    /// Adds a change of a document.
    pub(super) fn touch(&mut self, member: usize, layout: &Layout, change: &Change) -> Result<(), Failure> {
        let id = match &change.kind {
            ChangeKind::Insert { document } | ChangeKind::Replace { document } => id_of(document),
            ChangeKind::Update { key, .. } | ChangeKind::Delete { key } => Some(key.clone()),
            _ => return Ok(()),
        };
        let id = id.ok_or_else(|| {
            let message = format!("an oplog entry of {} at {} has no _id", change.namespace, change.position.time());
            Failure::failed(message)
        })?;
        let scope = match &change.kind {
            ChangeKind::Update { edits, .. } if !change.from_migrate => Scope::of(layout, edits),
            _ => Scope::All,
        };
        let TouchedDocuments { ids, counts } = self.touched.entry(member).or_default();
        counts.count(change);
        match ids.entry(id) {
            Entry::Occupied(mut touch) => touch.get_mut().add(change, &scope),
            Entry::Vacant(place) => place.insert(Touch::new(scope.clone())).add(change, &scope),
        }
        Ok(())
    }
}

/// Something that happened to a whole collection.
#[derive(Debug, Clone)]
pub(super) struct Effect {
    /// The number of the collection.
    pub(super) member: usize,
    pub(super) ddl: Ddl,
    pub(super) uuids: BTreeMap<String, [u8; 16]>,
}

#[derive(Debug, Default)]
pub(super) struct TouchedDocuments {
    ids: HashMap<Bytes, Touch>,
    /// Counts of the changes.
    pub(super) counts: ChangeCounts,
}

/// Shards that touched a document, and which tables that may affect.
#[derive(Debug)]
struct Touch {
    written_on: Option<Arc<str>>,
    migrated_on: Option<Arc<str>>,
    scope: Scope,
}

impl Touch {
    fn new(scope: Scope) -> Touch {
        Touch { written_on: None, migrated_on: None, scope }
    }

    fn add(&mut self, change: &Change, scope: &Scope) {
        let shard = Some(Arc::clone(&change.shard));
        let (written_on, migrated_on) = if change.from_migrate { (None, shard) } else { (shard, None) };
        self.append(Touch { written_on, migrated_on, scope: scope.clone() });
    }

    fn append(&mut self, later: Touch) {
        // Two shards have a document with this `_id`: the stored rows may be of the other one.
        let other = |before: &Option<Arc<str>>, after: &Option<Arc<str>>| {
            before.as_ref().zip(after.as_ref()).is_some_and(|(before, after)| before != after)
        };
        if other(&self.written_on, &later.written_on) || other(&self.migrated_on, &later.migrated_on) {
            self.scope = Scope::All;
        }
        self.scope.add(&later.scope);
        self.written_on = later.written_on.or(self.written_on.take());
        self.migrated_on = later.migrated_on.or(self.migrated_on.take());
    }
}

impl TouchedDocuments {
    /// Number of documents.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The ids with the shards to read them from, and the tables whose rows may have changed.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (WantedId, Scope)> {
        let wanted = |(id, touch): (&Bytes, &Touch)| {
            let (first, last) = (touch.written_on.clone(), touch.migrated_on.clone());
            (WantedId { id: id.clone(), first, last }, touch.scope.clone())
        };
        self.ids.iter().map(wanted)
    }
}

/// The `_id` of a document, as a document of this one field.
fn id_of(document: &Bytes) -> Option<Bytes> {
    id_document(RawDoc::new(document).ok()?).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;
    use gizer_flatten::TableSet;
    use gizer_flatten::change::{Edit, EditAction, Edits, Namespace, SourcePosition, Step};
    use gizer_schema::{TableId, file};

    fn update(shard: &str, path: &[&str], from_migrate: bool) -> Change {
        let path = path.iter().map(|name| name.parse().map_or(Step::Field((*name).to_owned()), Step::Index)).collect();
        let edits = Edits::Diff(vec![Edit { path, action: EditAction::Unset }]);
        change(shard, from_migrate, ChangeKind::Update { key: bytes(), edits })
    }

    fn bytes() -> Bytes {
        doc! {"_id": 1}.to_vec().unwrap().into()
    }

    fn change(shard: &str, from_migrate: bool, kind: ChangeKind) -> Change {
        let namespace = Namespace { database: "shop".to_owned(), collection: "orders".to_owned() };
        let (shard, position) = (Arc::from(shard), SourcePosition::default());
        Change { shard, position, namespace: Arc::new(namespace), uuid: None, from_migrate, kind }
    }

    /// The scope of the one document after these changes.
    fn scope(changes: &[Change]) -> Scope {
        let schema = r#"{"_id": "INT", "n": "INT", "a": [{"b": ["INT"]}], "c": ["INT"]}"#;
        let layout = Layout::new(&file::parse("orders", schema).unwrap()).unwrap();
        let mut batch = Batch::default();
        changes.iter().for_each(|change| batch.touch(0, &layout, change).unwrap());
        let scopes: Vec<Scope> = batch.touched[&0].wanted().map(|(_, scope)| scope).collect();
        assert_eq!(scopes.len(), 1);
        scopes.into_iter().next().unwrap()
    }

    fn tables(ids: &[usize]) -> Scope {
        let mut tables = TableSet::default();
        ids.iter().for_each(|id| tables.insert(TableId(*id)));
        Scope::Tables(tables)
    }

    #[test]
    fn updates_of_one_document_add_up() {
        assert_eq!(scope(&[update("a", &["n"], false)]), tables(&[0]));
        assert_eq!(scope(&[update("a", &["n"], false), update("a", &["c", "0"], false)]), tables(&[0, 3]));
        let both = [update("a", &["c"], false), update("a", &["a", "1"], false), update("a", &["n"], false)];
        assert_eq!(scope(&both), tables(&[0, 1, 2, 3]));
    }

    #[test]
    fn whatever_is_no_update_touches_everything() {
        let one = update("a", &["n"], false);
        let document = bytes();
        for kind in [
            ChangeKind::Insert { document: document.clone() },
            ChangeKind::Replace { document: document.clone() },
            ChangeKind::Delete { key: document.clone() },
            ChangeKind::Update { key: document, edits: Edits::Unknown },
        ] {
            let other = change("a", false, kind);
            assert_eq!(scope(std::slice::from_ref(&other)), Scope::All, "{other:?}");
            assert_eq!(scope(&[one.clone(), other.clone()]), Scope::All, "{other:?}");
            assert_eq!(scope(&[other.clone(), one.clone()]), Scope::All, "{other:?}");
        }
        assert_eq!(scope(&[one.clone(), update("a", &["n"], true)]), Scope::All, "a migration");
        assert_eq!(scope(&[one, update("b", &["n"], false)]), Scope::All, "two shards");
    }
}
