//! Whether documents and stored rows are equal, and what repairs them.
//!
//! Here are the types and the stage trait that the batch's read-back and the audit share. A verifier gets documents
//! as they were at a time, reads what is stored for them, and says what differs; what differs is repaired by writing
//! the document again from its source, never by mending a cell.

use gizer_flatten::DocumentBatch;
use gizer_oplog::MongoError;
use gizer_pg::PgError;
use gizer_schema::{ColumnId, TableId};

/// One row, or one cell of it, that is not as the document has it.
///
/// Values are not part of it: what documents hold stays out of logs unless asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The table in the layout.
    pub table: TableId,
    /// The document's key, as text.
    pub key: String,
    /// Positions in the enclosing arrays, outermost first, from 1; empty in the root table.
    pub positions: Vec<i64>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The document has it, the table has not.
    Missing,
    /// The table has it, the document has not: an array that became shorter, a document that is gone.
    LeftOver,
    /// Both have it, and this cell differs. Doubles are compared by their bits.
    Cell(ColumnId),
}

/// What comparing some documents gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Documents compared.
    pub documents: u64,
    /// Rows compared, over all tables.
    pub rows: u64,
    /// All that differs, or the first of it if there is more than the verifier's limit.
    pub differences: Vec<Difference>,
    /// Differences beyond that limit.
    pub more: u64,
}

impl Verdict {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.more == 0
    }
}

/// Why documents and rows could not be compared; that they differ is no error.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Reading the source failed.
    #[error(transparent)]
    Source(#[from] MongoError),
    /// Reading the tables failed.
    #[error(transparent)]
    Tables(#[from] PgError),
}

/// The stage that compares documents with what is stored for them.
///
/// # Contract
/// * Both directions: every row that follows from the documents is looked for, and every row stored under one of the
///   `keys` is accounted for. A key without a document in `documents` must have no rows.
/// * The rows are read in the transaction that has written them, or in one snapshot: never a mixture of two states.
/// * A verdict is about exactly these documents. An error means that nothing is known, and counts as "not verified".
/// * Nothing is written.
pub trait Verifier: Send {
    /// Compares `documents` with the rows stored under `keys`, raw BSON documents `{"_id": …}` that hold the `_id` of
    /// every document among them.
    ///
    /// # Errors
    /// [`VerifyError`] if one of both sides cannot be read.
    fn verify(
        &mut self,
        documents: &DocumentBatch,
        keys: &DocumentBatch,
    ) -> impl Future<Output = Result<Verdict, VerifyError>> + Send;
}
