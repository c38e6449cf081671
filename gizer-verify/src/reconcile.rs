//! The reference path: stored rows are made equal to documents.

use gizer_flatten::{DocumentBatch, Flattener, Tally};
use gizer_pg::copy::Reject;
use gizer_pg::rows::{Keys, RowChanges, RowCounts, RowStore};

use crate::compare::{Pass, with_keys_of};
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
    /// Rows that were stored before, over all tables.
    pub stored: u64,
    /// Rows that differed, and were written.
    pub changes: RowCounts,
    /// What did not fit, and where.
    pub tally: Tally,
}

/// Makes the stored rows of `keys` equal to the documents, in the open transaction: reads what is stored, compares, writes
/// the rows that differ and, with `read_back`, reads again and compares again. Where nothing differs, nothing is written
/// and nothing is read again.
///
/// * A key without a document has no rows afterwards. Nor has one whose document is rejected.
/// * A document whose key is not among `keys` counts as touched: its rows are made equal too. That happens where
///   MongoDB finds it under an `_id` that it takes for equal, by a collation for instance.
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
    let keys = with_keys_of(documents, flattener, keys);
    let stored = StoredRows::read(store, &keys).await?;
    flattener.take_tally();
    let changes = Some(RowChanges::new(layout));
    let first = Pass::over(layout, flattener, documents, &keys, &stored, changes)?;
    let mut reconciled = Reconciled {
        documents: first.verdict.documents,
        rejected: first.rejected,
        rows: first.verdict.rows,
        stored: stored.len(),
        changes: RowCounts::default(),
        tally: flattener.take_tally(),
    };
    drop(stored);
    let changes = first.changes.unwrap_or_else(|| RowChanges::new(layout));
    reconciled.changes = store.write(&changes).await?;
    if changes.is_empty() {
        return Ok(reconciled);
    }
    let expected = changes.counts();
    drop(changes);
    if read_back {
        let stored = StoredRows::read(store, &keys).await?;
        let second = Pass::over(layout, flattener, documents, &keys, &stored, None)?;
        flattener.take_tally();
        if !second.verdict.is_equal() {
            return Err(VerifyError::Differs(Box::new(Differing::new(layout, second.verdict))));
        }
    } else if reconciled.changes != expected {
        return Err(VerifyError::CountsDiffer {
            collection: layout.collection.clone(),
            expected: expected.total(),
            written: reconciled.changes.total(),
        });
    }
    Ok(reconciled)
}
