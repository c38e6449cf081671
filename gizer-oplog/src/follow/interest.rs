//! Whose changes are wanted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use gizer_flatten::change::{Change, ChangeKind, Namespace};

use crate::decode::{DecodeError, Operation, OperationKind};

/// Collections whose changes are wanted, all of one database.
///
/// What happens to its collections as a whole (DDL) is always given, of whichever collection of the database: a name that nobody
/// asked for may be renamed to one that somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interest {
    /// The database.
    pub database: String,
    /// Names of collections whose documents' changes are given; `None`: of all.
    pub collections: Option<BTreeSet<String>>,
    /// UUIDs of collections whose documents' changes are given, whatever they are called: what is being dropped has another name
    /// (`system.drop.…`), and what is renamed as well.
    pub uuids: BTreeSet<[u8; 16]>,
}

impl Interest {
    /// Whether nothing that the other one lets pass is held up by this one.
    pub(super) fn covers(&self, other: &Interest) -> bool {
        let names = match (&self.collections, &other.collections) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => own.is_superset(others),
        };
        self.database == other.database && names && self.uuids.is_superset(&other.uuids)
    }

    /// Whether a change is of interest that was given to a wider one in the same database.
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

    /// What becomes of an operation. `may_come_in`: it may be a rename out of another database.
    pub(super) fn verdict(&self, operation: &Operation<'_>, may_come_in: bool) -> Result<Verdict, DecodeError> {
        let ours = operation.database == self.database;
        if !ours && !may_come_in {
            return Ok(if self.has(operation) { Verdict::Document } else { Verdict::Passed });
        }
        Ok(match operation.kind()? {
            OperationKind::Insert | OperationKind::Replace | OperationKind::Update | OperationKind::Delete => {
                if self.has(operation) { Verdict::Document } else { Verdict::Passed }
            }
            OperationKind::Rename { to_database, .. } if to_database == self.database => Verdict::Ddl,
            _ if ours || self.has(operation) => Verdict::Ddl,
            _ => Verdict::Passed,
        })
    }
}

/// What an operation is to whoever has an interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Passed,
    /// A change of a document.
    Document,
    /// A change of a collection as a whole.
    Ddl,
}

/// Names of collections that are remembered: aggregations make new ones without end.
const REMEMBERED: usize = 10_000;

/// One value for all changes of a collection.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<String, HashMap<String, Arc<Namespace>>>,
    count: usize,
}

impl Names {
    pub(super) fn shared(&mut self, database: &str, collection: &str) -> Arc<Namespace> {
        if let Some(known) = self.known.get(database).and_then(|collections| collections.get(collection)) {
            return Arc::clone(known);
        }
        if self.count >= REMEMBERED {
            *self = Names::default();
        }
        let namespace = Arc::new(Namespace { database: database.to_owned(), collection: collection.to_owned() });
        self.count += 1;
        let collections = self.known.entry(database.to_owned()).or_default();
        collections.insert(collection.to_owned(), Arc::clone(&namespace));
        namespace
    }
}
