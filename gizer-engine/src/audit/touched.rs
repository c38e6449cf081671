//! Finds different documents that the log has touched since.

use std::collections::{BTreeSet, HashSet};

use gizer_flatten::Flattener;
use gizer_flatten::change::{Change, ChangeKind, ClusterTime, Positions, id_document};
use gizer_oplog::{ChangeEvent, ChangeSource, Interest, MongoError, OplogChanges};
use gizer_pg::rows::Keys;
use gizer_schema::raw::RawDoc;

use super::Audit;

/// Indices of keys whose documents were touched after these positions, up to `until`.
///
/// # Errors
/// [`MongoError::RolledOver`] and [`MongoError::Diverged`] if the log no longer holds those
/// entries; others of the source.
pub(super) async fn touched_between(
    audit: &Audit,
    flattener: &Flattener,
    keys: &Keys,
    from: &Positions,
    until: ClusterTime,
) -> Result<HashSet<u32>, MongoError> {
    let namespace = &audit.watched.namespace;
    let interest = Interest {
        database: namespace.database.clone(),
        collections: Some(BTreeSet::from([namespace.collection.clone()])),
        uuids: audit.watched.uuids.values().copied().collect(),
    };
    let options = audit.settings.changes.clone();
    let mut source = OplogChanges::open(&audit.oplogs, from, interest, options).await?;
    let mut touched = HashSet::new();
    loop {
        match source.next().await? {
            ChangeEvent::Watermark { read_to, .. } if read_to >= until => return Ok(touched),
            ChangeEvent::Change(change) if concerns(audit, &change) => match id_of(&change) {
                Some(id) => {
                    let key = RawDoc::new(&id)
                        .ok()
                        .and_then(|id| flattener.key_of(id).ok().and_then(|key| keys.number_of(&key)));
                    touched.extend(key);
                }
                // DDL concerns all of its documents.
                None => touched.extend(0..u32::try_from(keys.len()).unwrap_or(u32::MAX)),
            },
            _ => {}
        }
    }
}

/// Whether a change concerns the collection, or another one that has or gets its name.
fn concerns(audit: &Audit, change: &Change) -> bool {
    let is_ours = |uuid: [u8; 16]| audit.watched.uuids.values().any(|of| *of == uuid);
    if change.uuid.is_some_and(is_ours) || *change.namespace == audit.watched.namespace {
        return true;
    }
    match &change.kind {
        ChangeKind::Rename { to, dropped } => *to == audit.watched.namespace || dropped.is_some_and(is_ours),
        _ => false,
    }
}

/// The `_id` of the touched document; `None` for DDL.
fn id_of(change: &Change) -> Option<bytes::Bytes> {
    match &change.kind {
        ChangeKind::Insert { document } | ChangeKind::Replace { document } => {
            id_document(RawDoc::new(document).ok()?).ok()?
        }
        ChangeKind::Update { key, .. } | ChangeKind::Delete { key } => Some(key.clone()),
        _ => None,
    }
}
