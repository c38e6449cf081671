//! Which changes are wanted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use gizer_flatten::change::{Change, ChangeKind, Namespace};

use crate::decode::{DecodeError, Operation, OperationKind};

/// Collections whose changes are wanted, all of one database.
///
/// DDL of the whole database is always given: any collection may be renamed to a wanted name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interest {
    /// The database.
    pub database: String,
    /// Wanted collections by name; `None` for all.
    pub collections: Option<BTreeSet<String>>,
    /// Wanted collections by UUID, under any name: a collection that is being dropped has another
    /// one (`system.drop.…`), as has a renamed one.
    pub uuids: BTreeSet<[u8; 16]>,
}

impl Interest {
    /// Whether everything that `other` wants is wanted here too.
    pub(super) fn covers(&self, other: &Interest) -> bool {
        let names = match (&self.collections, &other.collections) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => own.is_superset(others),
        };
        self.database == other.database && names && self.uuids.is_superset(&other.uuids)
    }

    /// Whether a change given to a wider interest in the same database is wanted.
    pub fn has_change(&self, change: &Change) -> bool {
        let is_of_document = matches!(
            change.kind,
            ChangeKind::Insert { .. }
                | ChangeKind::Replace { .. }
                | ChangeKind::Update { .. }
                | ChangeKind::Delete { .. }
        );
        !is_of_document || self.has_collection(&change.namespace.database, &change.namespace.collection, change.uuid)
    }

    fn has(&self, operation: &Operation<'_>) -> bool {
        self.has_collection(operation.database, operation.collection, operation.uuid)
    }

    fn has_collection(&self, database: &str, collection: &str, uuid: Option<[u8; 16]>) -> bool {
        let named =
            database == self.database && self.collections.as_ref().is_none_or(|names| names.contains(collection));
        named || uuid.is_some_and(|uuid| self.uuids.contains(&uuid))
    }

    /// Relevance of an operation. `may_come_in`: it may be a rename from another database.
    pub(super) fn relevance(&self, operation: &Operation<'_>, may_come_in: bool) -> Result<Relevance, DecodeError> {
        let ours = operation.database == self.database;
        if !ours && !may_come_in {
            return Ok(if self.has(operation) { Relevance::Document } else { Relevance::Unwanted });
        }
        Ok(match operation.kind()? {
            OperationKind::Insert | OperationKind::Replace | OperationKind::Update | OperationKind::Delete => {
                if self.has(operation) { Relevance::Document } else { Relevance::Unwanted }
            }
            OperationKind::Rename { to_database, .. } if to_database == self.database => Relevance::Ddl,
            _ if ours || self.has(operation) => Relevance::Ddl,
            _ => Relevance::Unwanted,
        })
    }
}

/// Relevance of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relevance {
    /// Not wanted.
    Unwanted,
    /// A change to a wanted document.
    Document,
    /// DDL.
    Ddl,
}

/// Limit of the cache: aggregations create names without end.
const MAX_CACHED_NAMES: usize = 10_000;

/// Shared namespaces, so that all changes of a collection use one.
#[derive(Debug, Default)]
pub(super) struct NamespaceCache {
    known: HashMap<String, HashMap<String, Arc<Namespace>>>,
    count: usize,
}

impl NamespaceCache {
    pub(super) fn shared(&mut self, database: &str, collection: &str) -> Arc<Namespace> {
        if let Some(known) = self.known.get(database).and_then(|collections| collections.get(collection)) {
            return Arc::clone(known);
        }
        if self.count >= MAX_CACHED_NAMES {
            *self = NamespaceCache::default();
        }
        let namespace = Arc::new(Namespace { database: database.to_owned(), collection: collection.to_owned() });
        self.count += 1;
        let collections = self.known.entry(database.to_owned()).or_default();
        collections.insert(collection.to_owned(), Arc::clone(&namespace));
        namespace
    }
}
