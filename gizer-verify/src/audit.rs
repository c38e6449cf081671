//! Looking at what a snapshot of the tables holds, beside the documents that it should hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use gizer_flatten::change::id_document;
use gizer_flatten::{DocumentBatch, Flattener, Tally};
use gizer_pg::copy::Reject;
use gizer_pg::rows::{KeyStretch, Keys, RowStore};
use gizer_schema::raw::RawDoc;

use crate::compare::{Pass, all, to_look_at};
use crate::stored::StoredRows;
use crate::{Verdict, VerifyError};

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Document and rows are there, and differ.
    Different,
    /// The document has no row in the root table.
    OnlyDocument,
    /// There are rows, and no document has them.
    OnlyRows,
}

/// A key under which something differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferingKey {
    /// The key in the binary form of its column.
    pub key: Vec<u8>,
    /// The `_id` of its document, as a document of this field; `None` where there is no document.
    pub id: Option<Bytes>,
    /// How it stands.
    pub stand: Stand,
}

/// What looking at some documents and rows gave.
#[derive(Debug, Clone, Default)]
pub struct Audited {
    /// What differs; how many documents were compared, and how many rows they have.
    pub verdict: Verdict,
    /// Rows that are stored, by table.
    pub stored: Vec<u64>,
    /// The keys under which something differs.
    pub differing: Vec<DifferingKey>,
    /// Documents that have no rows, and why.
    pub rejected: Vec<Reject>,
}

/// Compares documents with all rows of a stretch of keys, in the snapshot that the store has begun: those of all tables. The documents
/// are those whose keys lie in the stretch; any other is compared with what is stored in the stretch, which is nothing.
/// `named` differences are named one by one.
///
/// # Errors
/// [`VerifyError::Tables`] if the rows cannot be read; [`VerifyError::SameKey`]. A difference is no error.
pub async fn audit_stretch(
    store: &mut RowStore<'_>,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    stretch: KeyStretch<'_>,
    named: usize,
) -> Result<Audited, VerifyError> {
    let none = Keys::new(store.layout());
    let mut keys = to_look_at(documents, flattener, &none).into_owned();
    let stored = StoredRows::read_stretch(store, stretch, &mut keys).await?;
    audited(store, flattener, documents, &keys, &stored, named)
}

/// Compares documents with the rows that are stored under their keys and under `keys`, in the snapshot that the store has begun:
/// those of all tables. `named` differences are named one by one.
///
/// # Errors
/// As [`audit_stretch`].
pub async fn audit_keys(
    store: &mut RowStore<'_>,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
    named: usize,
) -> Result<Audited, VerifyError> {
    let keys = to_look_at(documents, flattener, keys);
    let stored = StoredRows::read(store, &keys).await?;
    audited(store, flattener, documents, &keys, &stored, named)
}

/// The same for no other documents and rows than those of `keys`.
///
/// # Errors
/// As [`audit_stretch`].
pub async fn audit_only(
    store: &mut RowStore<'_>,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
    named: usize,
) -> Result<Audited, VerifyError> {
    let stored = StoredRows::read(store, keys).await?;
    audited(store, flattener, documents, keys, &stored, named)
}

fn audited(
    store: &RowStore<'_>,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
    stored: &StoredRows,
    named: usize,
) -> Result<Audited, VerifyError> {
    // One without a usable key is rejected when it is flattened.
    let is_other = |document| flattener.key_of(document).is_ok_and(|key| keys.number_of(&key).is_none());
    let wanted: Vec<RawDoc<'_>> = all(documents).filter(|document| !is_other(*document)).collect();
    let pass = Pass::naming(named, store.layout(), flattener, wanted.into_iter(), keys, stored, None)?;
    drop::<Tally>(flattener.take_tally());
    let ids = ids_of(flattener, documents, keys, &pass.differing);
    let key = |number: u32| {
        let at = number as usize;
        let stand = match (pass.has_document[at], pass.lacks_root[at]) {
            (false, _) => Stand::OnlyRows,
            (true, true) => Stand::OnlyDocument,
            (true, false) => Stand::Different,
        };
        DifferingKey { key: keys.field(number).to_vec(), id: ids.get(&number).cloned(), stand }
    };
    let differing = pass.differing.iter().copied().map(key).collect();
    Ok(Audited { verdict: pass.verdict, stored: stored.counts(), differing, rejected: pass.rejected })
}

/// The `_id`s of the documents that have these keys.
fn ids_of(flattener: &Flattener, documents: &[DocumentBatch], keys: &Keys, differing: &[u32]) -> BTreeMap<u32, Bytes> {
    let mut ids = BTreeMap::new();
    if differing.is_empty() {
        return ids;
    }
    for document in all(documents) {
        let number = flattener.key_of(document).ok().and_then(|key| keys.number_of(&key));
        let Some(number) = number.filter(|number| differing.binary_search(number).is_ok()) else { continue };
        if let Ok(Some(id)) = id_document(document) {
            ids.insert(number, id);
        }
    }
    ids
}
