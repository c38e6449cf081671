//! The reference path: stored rows are made equal to documents.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use gizer_flatten::{DocumentBatch, Flattener, TableSet, Tally};
use gizer_pg::copy::Reject;
use gizer_pg::rows::{Keys, RowChanges, RowCounts, TableCounts};
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, TableId};

use crate::compare::{Pass, all, to_look_at};
use crate::stored::StoredRows;
use crate::{Differing, NAMED_DIFFERENCES, RowTables, VerifyError};

/// What of the rows that were written is read back and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBack {
    /// All of them.
    All,
    /// Rows of one key in so many, chosen by a hash of the key. Of the others only the server's counts are checked.
    Sample(u32),
    /// None: the server's count of them is that of the changes.
    Off,
}

impl ReadBack {
    /// Whether what was written under this key, in the binary form of its column, is read back.
    fn reads(self, key: &[u8]) -> bool {
        match self {
            ReadBack::All => true,
            ReadBack::Off => false,
            ReadBack::Sample(one_in) => {
                let mut hasher = DefaultHasher::new();
                hasher.write(key);
                hasher.finish().is_multiple_of(u64::from(one_in.max(1)))
            }
        }
    }
}

/// How the rows are looked at after they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// What is read back.
    pub read_back: ReadBack,
    /// Whether an error names the values that differ.
    pub show_values: bool,
}

impl From<ReadBack> for Checks {
    /// Without showing values.
    fn from(read_back: ReadBack) -> Checks {
        Checks { read_back, show_values: false }
    }
}

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
    /// Rows that differed, and were written, each as often as it was.
    pub changes: RowCounts,
    /// Documents, and keys without one, whose rows were not as they had been written, and are after a second time.
    pub repaired: u64,
    /// What did not fit, and where.
    pub tally: Tally,
}

/// Makes the stored rows of `keys` equal to the documents, in the open transaction. It reads, compares, writes the
/// rows that differ, and reads back and compares as far as the checks say. What differs then is written once more, and
/// compared a last time.
///
/// * A key without a document has no rows afterwards: they are deleted by the key, unread, and it is read back
///   whether any is left. Nor has one whose document is rejected.
/// * A document whose key is not among `keys` counts as touched: its rows are made equal too. That happens where
///   MongoDB finds it under an `_id` that it takes for equal, by a collation for instance.
/// * Of a document whose key has a narrower scope than all tables only the rows in its tables are read, compared and written: the
///   caller knows that the others are equal ([`Scope`](gizer_flatten::Scope) says why). That holds for a document that has its rows only: for one that
///   is not there, is rejected, or has no root row yet, all tables are looked at, whatever the scope.
/// * Read again are the tables in which something was written, and in these the rows of the documents of which something was:
///   all else was compared just before, in the same transaction. Where nothing differs, nothing is written and
///   nothing is read again.
/// * How many statements it takes does not depend on how many documents there are ([`RowStore`](gizer_pg::rows::RowStore)).
/// * What the flattener counts meanwhile goes into [`Reconciled::tally`]; it is left without counts.
///
/// Flattening and comparing happen in the calling task.
///
/// # Errors
/// [`VerifyError::Differs`] if the rows differ after they were written twice; [`VerifyError::CountsDiffer`] if not all of them are
/// to be read back, and the server wrote another number of them; [`VerifyError::SameKey`] if two documents have one
/// key; [`VerifyError::Tables`]. After any of them the transaction must be rolled back.
pub async fn reconcile(
    store: &mut impl RowTables,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
    checks: Checks,
) -> Result<Reconciled, VerifyError> {
    reconcile_known(store, flattener, documents, keys, checks, None).await
}

/// As [`reconcile`], where the rows of these keys were read in this transaction: all of them, in
/// all tables.
///
/// # Errors
/// As [`reconcile`].
pub async fn reconcile_stored(
    store: &mut impl RowTables,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    (keys, stored): (&Keys, StoredRows),
    checks: Checks,
) -> Result<Reconciled, VerifyError> {
    reconcile_known(store, flattener, documents, keys, checks, Some(stored)).await
}

async fn reconcile_known(
    store: &mut impl RowTables,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
    checks: Checks,
    known: Option<StoredRows>,
) -> Result<Reconciled, VerifyError> {
    let layout = &Arc::clone(store.layout());
    let count = keys.len();
    let keys = to_look_at(documents, flattener, keys);
    let (mut keys, gone) = split(layout, documents, flattener, keys);
    let deleted = store.delete_documents(&gone).await?;
    let known = known.filter(|_| gone.is_empty() && keys.len() == count);
    let (mut first, mut stored) = match known {
        Some(stored) => compared_with(layout, flattener, documents, &keys, &stored)?,
        None => compared(store, flattener, documents, &keys).await?,
    };
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
        repaired: 0,
        tally: flattener.take_tally(),
    };
    let changes = first.changes.unwrap_or_else(|| RowChanges::new(layout));
    reconciled.changes = store.write(&changes).await?;
    let expected = changes.counts();
    drop(changes);
    if checks.read_back != ReadBack::All && reconciled.changes != expected {
        return Err(VerifyError::CountsDiffer {
            collection: layout.collection.clone(),
            expected: expected.total(),
            written: reconciled.changes.total(),
        });
    }
    reconciled.changes += &deleted;
    let read = |number: &u32| checks.read_back.reads(keys.field(*number));
    let written = keys.part(first.differing.into_iter().filter(read), &written(&expected));
    // What was stored of these nobody has read: whether all of it is gone shows only here.
    let (gone, _) = gone.split(|number| checks.read_back.reads(gone.field(number)));
    for (documents, keys) in [(documents, written), (&[], gone)] {
        let (repaired, changes) = settle(store, flattener, documents, &keys, checks).await?;
        reconciled.repaired += repaired;
        reconciled.changes += &changes;
    }
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
    store: &mut impl RowTables,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
) -> Result<(Pass, u64), VerifyError> {
    let layout = &Arc::clone(store.layout());
    let stored = StoredRows::read(store, keys).await?;
    compared_with(layout, flattener, documents, keys, &stored)
}

fn compared_with(
    layout: &Layout,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
    stored: &StoredRows,
) -> Result<(Pass, u64), VerifyError> {
    flattener.take_tally();
    let changes = Some(RowChanges::new(layout));
    let pass = Pass::over(layout, flattener, all(documents), keys, stored, changes, NAMED_DIFFERENCES)?;
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

/// Reads what was written and holds it against the documents of these keys once more. What differs is written again, and
/// compared again; gives how many documents that were, and the rows.
async fn settle(
    store: &mut impl RowTables,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
    checks: Checks,
) -> Result<(u64, RowCounts), VerifyError> {
    if keys.is_empty() {
        return Ok((0, RowCounts::default()));
    }
    let layout = &Arc::clone(store.layout());
    let stored = StoredRows::read(store, keys).await?;
    let first = pass_again(layout, flattener, documents, keys, &stored, Some(RowChanges::new(layout)))?;
    drop(stored);
    if first.verdict.is_equal() {
        return Ok((0, RowCounts::default()));
    }
    let changes = first.changes.unwrap_or_else(|| RowChanges::new(layout));
    let counts = store.write(&changes).await?;
    let repaired = first.differing.len() as u64;
    let keys = keys.part(first.differing, &written(&changes.counts()));
    drop(changes);
    let stored = StoredRows::read(store, &keys).await?.showing_values(checks.show_values);
    let last = pass_again(layout, flattener, documents, &keys, &stored, None)?;
    if last.verdict.is_equal() {
        return Ok((repaired, counts));
    }
    Err(VerifyError::Differs(Box::new(Differing::new(layout, last.verdict))))
}

/// Compares the documents of these keys once more. What does not fit in them has been counted.
fn pass_again(
    layout: &Layout,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
    stored: &StoredRows,
    changes: Option<RowChanges>,
) -> Result<Pass, VerifyError> {
    let of_keys = |document: &RawDoc<'_>| flattener.key_of(*document).is_ok_and(|key| keys.number_of(&key).is_some());
    let documents: Vec<RawDoc<'_>> = all(documents).filter(of_keys).collect();
    let pass = Pass::over(layout, flattener, documents.into_iter(), keys, stored, changes, NAMED_DIFFERENCES);
    flattener.take_tally();
    pass
}
