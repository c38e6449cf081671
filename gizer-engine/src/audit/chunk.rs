//! One chunk of documents, and the rows under the same keys.

use bytes::Bytes;
use gizer_flatten::range::IdBound;
use gizer_flatten::{DocumentBatch, Flattener};
use gizer_oplog::Stretch;
use gizer_pg::rows::{KeyStretch, RowStore};
use gizer_pg::state::AuditSegment;
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, TableId};
use gizer_verify::{Audited, Auditor, id_of_key, ids_in_rows};

use super::worker::cannot_compare;
use super::{Audit, plan};
use crate::failure::Failure;

/// Keys of the tables per read.
const KEYS_AT_ONCE: usize = 5_000;

/// A chunk of a segment's documents.
pub(crate) struct ComparedChunk<'c> {
    pub(crate) segment: &'c AuditSegment,
    pub(crate) documents: &'c [DocumentBatch],
    /// Whether it does not end its segment.
    pub(crate) goes_on: bool,
    /// Its last key, where keys are in order.
    pub(crate) upto: Option<&'c [u8]>,
}

impl ComparedChunk<'_> {
    /// Compares the documents with the rows of the same stretch of keys where these are in order,
    /// else with those of the documents' keys; in the snapshot that the store has begun.
    pub(crate) async fn compare(
        &self,
        auditor: &mut Auditor<'_>,
        store: &mut RowStore<'_>,
        in_order: bool,
    ) -> Result<Audited, Failure> {
        let after = self.segment.after_key.as_deref();
        // No document so far has a key.
        let audited = if !in_order || (self.goes_on && self.upto == after) {
            auditor.documents(store, self.documents).await
        } else {
            auditor.stretch(store, self.documents, KeyStretch { after, upto: self.upto }).await
        };
        audited.map_err(cannot_compare)
    }
}

/// What is left of a segment.
pub(crate) fn stretch_of(segment: &AuditSegment) -> Result<Stretch, Failure> {
    let bound = |bytes: &Option<Vec<u8>>| bytes.clone().map(IdBound::from_bytes).transpose();
    let malformed = |_| Failure::failed("a recorded audit or resync cannot be read").remedy("use --restart");
    let after = bound(&segment.after).map_err(malformed)?;
    Ok(Stretch { after, upto: bound(&segment.upto).map_err(malformed)? })
}

/// The greatest key of these documents; `None` if none has one, or keys are in no order.
pub(crate) fn last_key(audit: &Audit, flattener: &Flattener, documents: &[DocumentBatch]) -> Option<Vec<u8>> {
    let order = audit.order?;
    // Each batch is sorted.
    let last = |batch: &DocumentBatch| {
        let ids: Vec<RawDoc<'_>> = batch.documents().collect();
        ids.into_iter().rev().find_map(|document| {
            let id = IdBound::of(document).ok()??;
            plan::key_of(&audit.layout, flattener, &id)
        })
    };
    documents.iter().filter_map(last).max_by(|a, b| order(a, b))
}

/// The tables' next keys, in lists of which each key is in one, and the last of them if more follow;
/// in the snapshot that the store has begun.
pub(crate) async fn next_keys(
    store: &mut RowStore<'_>,
    layout: &Layout,
    after: Option<Vec<u8>>,
) -> Result<(Vec<Vec<Vec<u8>>>, Option<Vec<u8>>), Failure> {
    let stretch = KeyStretch { after: after.as_deref(), upto: None };
    let roots = store.keys_of(TableId(0), stretch, KEYS_AT_ONCE).await?;
    let end = (roots.len() == KEYS_AT_ONCE).then(|| roots.last().cloned()).flatten();
    let mut lists = vec![roots];
    for table in (1..layout.tables.len()).map(TableId) {
        let mut behind = after.clone();
        loop {
            let stretch = KeyStretch { after: behind.as_deref(), upto: end.as_deref() };
            let keys = store.keys_of(table, stretch, KEYS_AT_ONCE).await?;
            behind = (keys.len() == KEYS_AT_ONCE).then(|| keys.last().cloned()).flatten();
            lists.push(keys);
            if behind.is_none() {
                break;
            }
        }
    }
    Ok((lists, end))
}

/// The `_id`s of keys that do not show them, from their rows in the root table.
pub(crate) async fn ids_of_keys(
    store: &mut RowStore<'_>,
    flattener: &Flattener,
    keys: &[Vec<u8>],
) -> Result<Vec<Option<Bytes>>, Failure> {
    let layout = std::sync::Arc::clone(store.layout());
    let tells = |key: &Vec<u8>| id_of_key(&layout, flattener, key).is_some();
    let silent: Vec<Vec<u8>> = keys.iter().filter(|key| !tells(key)).cloned().collect();
    let mut ids = vec![None; keys.len()];
    if silent.is_empty() {
        return Ok(ids);
    }
    let found = ids_in_rows(store, flattener, &silent).await.map_err(cannot_compare)?;
    let mut found = silent.iter().zip(found).peekable();
    for (key, id) in keys.iter().zip(&mut ids) {
        if let Some((_, known)) = found.next_if(|(silent, _)| *silent == key) {
            *id = known;
        }
    }
    Ok(ids)
}
