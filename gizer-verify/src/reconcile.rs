//! The reference path: stored rows are made equal to documents.

use std::borrow::Cow;

use gizer_flatten::{DocumentBatch, Flattener, TableSet, Tally};
use gizer_pg::copy::Reject;
use gizer_pg::rows::{Keys, RowChanges, RowCounts, RowStore, TableCounts};
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, TableId};

use crate::compare::{Pass, all, to_look_at};
use crate::stored::StoredRows;
use crate::{Differing, VerifyError};

/// What was done to make rows equal to documents.
#[derive(Debug, Clone, Default)]
pub struct Reconciled {
    /// Documents whose rows are stored now.
    pub documents: u64,
    /// Documents that have no rows, and why: for `gizer_reject`.
    pub rejected: Vec<Reject>,
    /// Rows that the documents have, over all tables.
    pub rows: u64,
    /// Rows that were stored before, over all tables in which their keys were looked at.
    pub stored: u64,
    /// Rows that differed, and were written.
    pub changes: RowCounts,
    /// What did not fit, and where.
    pub tally: Tally,
}

/// Makes the stored rows of `keys` equal to the documents, in the open transaction: reads what is stored, compares, writes
/// the rows that differ and, with `read_back`, reads again what was written and compares again.
///
/// * A key without a document has no rows afterwards: they are deleted by the key, unread, and with `read_back` it is read
///   whether any is left. Nor has one whose document is rejected.
/// * A document whose key is not among `keys` counts as touched: its rows are made equal too. That happens where
///   MongoDB finds it under an `_id` that it takes for equal, by a collation for instance.
/// * Of a document whose key has a narrower scope than all tables only the rows in its tables are read, compared and written: the
///   caller knows that the others are equal ([`Scope`](gizer_flatten::Scope) says why). That holds for a document that has its rows only: for one that
///   is not there, is rejected, or has no root row yet, all tables are looked at, whatever the scope.
/// * Read again are the tables in which something was written, and in these the rows of the documents of which something was:
///   all else was compared just before, in the same transaction. Where nothing differs, nothing is written and
///   nothing is read again.
/// * How many statements it takes does not depend on how many documents there are ([`RowStore`]).
/// * What the flattener counts meanwhile goes into [`Reconciled::tally`]; it is left without counts.
///
/// Flattening and comparing happen in the calling task.
///
/// # Errors
/// [`VerifyError::Differs`] if the rows differ after they were written; [`VerifyError::CountsDiffer`] if they are not
/// to be read back, and the server wrote another number of them; [`VerifyError::SameKey`] if two documents have one
/// key; [`VerifyError::Tables`]. After any of them the transaction must be rolled back.
pub async fn reconcile(
    store: &mut RowStore<'_>,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
    read_back: bool,
) -> Result<Reconciled, VerifyError> {
    let layout = store.layout();
    let keys = to_look_at(documents, flattener, keys);
    let (mut keys, gone) = split(layout, documents, flattener, keys);
    let deleted = store.delete_documents(&gone).await?;
    let (mut first, mut stored) = compared(store, flattener, documents, &keys).await?;
    if !first.too_narrow.is_empty() {
        first.too_narrow.iter().for_each(|key| keys.to_mut().widen(*key));
        (first, stored) = compared(store, flattener, documents, &keys).await?;
    }
    let mut reconciled = Reconciled {
        documents: first.verdict.documents,
        rejected: first.rejected,
        rows: first.verdict.rows,
        stored,
        changes: RowCounts::default(),
        tally: flattener.take_tally(),
    };
    let changes = first.changes.unwrap_or_else(|| RowChanges::new(layout));
    reconciled.changes = store.write(&changes).await?;
    let expected = changes.counts();
    drop(changes);
    if read_back {
        let written = keys.part(first.differing, &written(&expected));
        compare_again(store, flattener, documents, &written).await?;
        // What was stored of these nobody has read: whether all of it is gone shows only here.
        compare_again(store, flattener, &[], &gone).await?;
    } else if reconciled.changes != expected {
        return Err(VerifyError::CountsDiffer {
            collection: layout.collection.clone(),
            expected: expected.total(),
            written: reconciled.changes.total(),
        });
    }
    reconciled.changes += &deleted;
    Ok(reconciled)
}

/// The keys that have a document, and those that have none: the rows of these go unread.
fn split<'k>(
    layout: &Layout,
    documents: &[DocumentBatch],
    flattener: &Flattener,
    keys: Cow<'k, Keys>,
) -> (Cow<'k, Keys>, Keys) {
    let mut found = vec![false; keys.len()];
    let keys_of_documents = all(documents).filter_map(|document| flattener.key_of(document).ok());
    for number in keys_of_documents.filter_map(|key| keys.number_of(&key)) {
        found[number as usize] = true;
    }
    if found.iter().all(|found| *found) {
        return (keys, Keys::new(layout));
    }
    let (with, without) = keys.split(|number| found[number as usize]);
    (Cow::Owned(with), without)
}

/// What the documents differ in from what is stored, and how many rows were read for it.
async fn compared(
    store: &mut RowStore<'_>,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
) -> Result<(Pass, u64), VerifyError> {
    let layout = store.layout();
    let stored = StoredRows::read(store, keys).await?;
    flattener.take_tally();
    let pass = Pass::over(layout, flattener, all(documents), keys, &stored, Some(RowChanges::new(layout)))?;
    Ok((pass, stored.len()))
}

/// The tables in which something was written.
fn written(counts: &RowCounts) -> TableSet {
    let mut tables = TableSet::default();
    for (at, table) in counts.tables.iter().enumerate() {
        if *table != TableCounts::default() {
            tables.insert(TableId(at));
        }
    }
    tables
}

/// Reads what was written and holds it against the documents of these keys once more.
async fn compare_again(
    store: &mut RowStore<'_>,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
) -> Result<(), VerifyError> {
    if keys.is_empty() {
        return Ok(());
    }
    let layout = store.layout();
    let stored = StoredRows::read(store, keys).await?;
    let of_keys = |document: &RawDoc<'_>| flattener.key_of(*document).is_ok_and(|key| keys.number_of(&key).is_some());
    let documents: Vec<RawDoc<'_>> = all(documents).filter(of_keys).collect();
    let pass = Pass::over(layout, flattener, documents.into_iter(), keys, &stored, None)?;
    flattener.take_tally();
    if pass.verdict.is_equal() {
        return Ok(());
    }
    Err(VerifyError::Differs(Box::new(Differing::new(layout, pass.verdict))))
}
