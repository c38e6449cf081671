//! Requested keys of a part, and collections with rejected documents.

use std::collections::BTreeSet;

use bytes::Bytes;
use gizer_flatten::{DocumentBatch, Flattener, Scope, id_text};
use gizer_pg::rows::Keys;
use gizer_pg::state::{self, RepairKey};
use gizer_pg::{PgError, Session};
use gizer_schema::Layout;
use gizer_schema::raw::RawDoc;

/// Keys of ids that were looked up together.
pub(super) struct RequestedKeys {
    /// The keys, each with the tables whose rows may have changed.
    keys: Keys,
    /// Which of them have a document.
    found: Vec<bool>,
    /// `_id`s without key or document: one may be rejected.
    pub(super) gone: BTreeSet<String>,
    /// Keys of repairs and of rejected documents among them.
    pub(super) known: Vec<Vec<u8>>,
}

impl RequestedKeys {
    pub(super) fn new(
        layout: &Layout,
        flattener: &Flattener,
        ids: &[(Bytes, Scope)],
        repairs: &[RepairKey],
    ) -> RequestedKeys {
        let (mut keys, mut gone) = (Keys::new(layout), BTreeSet::new());
        // A key not derived from its `_id`, or without one, has no document.
        for repair in repairs {
            keys.insert_stored(&repair.key);
        }
        for (id, scope) in ids {
            let Ok(id) = RawDoc::new(id) else { continue };
            match flattener.key_of(id) {
                Ok(key) => drop(keys.insert_within(&key, scope)),
                Err(_) => drop(gone.insert(id_text(id))),
            }
        }
        let known = repairs.iter().map(|repair| repair.key.clone()).collect();
        RequestedKeys { found: vec![false; keys.len()], keys, gone, known }
    }

    /// The keys of these documents and, with the last ones, those without a document.
    pub(super) fn keys_of(
        &mut self,
        layout: &Layout,
        flattener: &Flattener,
        documents: &[DocumentBatch],
        all: bool,
    ) -> Keys {
        let mut keys = Keys::new(layout);
        for document in documents.iter().flat_map(DocumentBatch::documents) {
            let Ok(key) = flattener.key_of(document) else {
                self.gone.remove(&id_text(document));
                continue;
            };
            let number = self.keys.number_of(&key);
            keys.insert_within(&key, number.map_or(&Scope::All, |number| self.keys.scope(number)));
            number.into_iter().for_each(|number| self.found[number as usize] = true);
        }
        if all {
            keys.add(&self.keys, (0..).zip(&self.found).filter(|(_, found)| !**found).map(|(number, _)| number));
        }
        keys
    }
}

#[derive(Debug, Default)]
pub(super) struct RejectedCollections {
    collections: BTreeSet<String>,
    /// When this was read, by the server's clock.
    since: Option<String>,
}

impl RejectedCollections {
    /// Reads them once, in the open transaction.
    pub(super) async fn look(&mut self, session: &Session) -> Result<(), PgError> {
        if self.since.is_none() {
            self.collections = state::collections_with_rejects(session).await?;
            self.since = Some(state::server_time(session).await?);
        }
        Ok(())
    }

    pub(super) fn since(&self) -> &str {
        self.since.as_deref().unwrap_or("-infinity")
    }

    pub(super) fn contains(&self, collection: &str) -> bool {
        self.collections.contains(collection)
    }

    pub(super) fn insert(&mut self, collection: String) {
        self.collections.insert(collection);
    }
}
