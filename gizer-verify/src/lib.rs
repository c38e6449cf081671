//! Whether documents and stored rows are equal, and what repairs them.
//!
//! ```text
//!   documents ──Flattener──▶ rows ──┐
//!                                   ├──▶ Verdict: what differs        (compare)
//!   keys ──RowStore::read──▶ tuples ┘    RowChanges: what repairs it  (reconcile)
//! ```
//!
//! * [`compare()`] only looks.
//! * An [`Auditor`] only looks, too, at rows that a snapshot holds, and tells how each key stands. It also rebuilds the documents from
//!   their rows ([`RebuildCheck`]).
//! * [`reconcile()`] is the reference path: it compares, writes the rows that differ, reads back what was written and compares
//!   again; of a document it looks only at the tables in which it can have changed. What differs then is written once more.
//!
//! # What is compared
//! Every cell of every row, in both directions: every row that follows from the documents is looked for, and every row
//! that is stored under one of the keys is accounted for. A key without a document must have no rows.
//!
//! A stored cell is the binary form that the server gives of it, and is read here by the rules of its type, in a way that
//! has nothing in common with the encoder of gizer-pg: a fault of the encoder is a difference. Doubles are compared by their
//! bits; numbers of type `numeric` by value and scale; `jsonb` by its values, whatever the order of their fields.

mod audit;
mod compare;
mod field;
mod json;
mod key_id;
mod key_text;
mod map_keys;
mod numeric;
mod rebuilt;
mod reconcile;
mod stored;
mod tables;
mod value_text;

pub use audit::{Audited, Auditor, DifferingKey, NotRebuilt, Stand};
pub use compare::compare;
pub use key_id::{KeyOrder, id_of_key, ids_in_rows, key_order};
pub use rebuilt::{RebuildCheck, RebuiltDiffers, rebuild_stored};
pub use reconcile::{Checks, ReadBack, Reconciled, reconcile, reconcile_stored};
pub use stored::StoredRows;
pub use tables::RowTables;

use std::collections::BTreeMap;
use std::fmt;

use gizer_flatten::RowPosition;
use gizer_pg::PgError;
use gizer_schema::names::shortened;
use gizer_schema::{ColumnId, Layout, TableId};
use thiserror::Error;

/// Differences that a verdict names one by one.
pub const NAMED_DIFFERENCES: usize = 100;

/// One row, or one cell of it, that is not as the document has it.
///
/// Its values are part of it only where they were asked for: what documents hold stays out of logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The table in the layout.
    pub table: TableId,
    /// The document's key, as text.
    pub key: String,
    /// Positions in the enclosing arrays and maps, outermost first; empty in the root table.
    pub positions: Vec<RowPosition>,
    /// What is wrong.
    pub fault: Fault,
    /// Both values of a cell that differs, if they were asked for.
    pub values: Option<Values>,
}

/// The two values of a cell, as text, each cut at 200 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// What the document has.
    pub document: String,
    /// What the table has.
    pub stored: String,
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The document has it, the table has not.
    Missing,
    /// The table has it, the document has not: an array that became shorter, a document that is gone.
    LeftOver,
    /// The table has it more than once.
    Repeated,
    /// Both have it, and this cell differs, the first of the row that does.
    Cell(ColumnId),
}

impl Difference {
    /// One line for a report: `post_comments, key 7, position 1.2: body differs`. The key of a map is quoted. With values, if they were asked for: `body
    /// differs: "second" in the document, "first" in the table`.
    pub fn describe(&self, layout: &Layout) -> String {
        let table = layout.table(self.table);
        let mut text = format!("{}, key {}", table.name, self.key);
        for (i, position) in self.positions.iter().enumerate() {
            text.push_str(if i == 0 { ", position " } else { "." });
            match position {
                RowPosition::Index(index) => text.push_str(&index.to_string()),
                RowPosition::Key(key) => text.push_str(&format!("{:?}", shortened(key))),
            }
        }
        text.push_str(": ");
        match self.fault {
            Fault::Missing => text.push_str("the row is missing"),
            Fault::LeftOver => text.push_str("the row is left over"),
            Fault::Repeated => text.push_str("the row is there more than once"),
            Fault::Cell(column) => {
                text.push_str(&table.columns[column.0].name);
                text.push_str(" differs");
            }
        }
        if let Some(Values { document, stored }) = &self.values {
            text.push_str(&format!(": {document:?} in the document, {stored:?} in the table"));
        }
        text
    }
}

/// What comparing some documents gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Documents compared.
    pub documents: u64,
    /// Rows that the documents have, over all tables.
    pub rows: u64,
    /// All that differs, or the first [`NAMED_DIFFERENCES`] of it.
    pub differences: Vec<Difference>,
    /// Differences beyond that limit.
    pub more: u64,
    /// How many rows have which fault in which table: all of them.
    pub faults: BTreeMap<(TableId, Fault), u64>,
}

impl Verdict {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.more == 0
    }

    fn add(&mut self, named: usize, difference: impl FnOnce() -> Difference) {
        if self.differences.len() < named {
            self.differences.push(difference());
        } else {
            self.more += 1;
        }
    }
}

/// What differs in spite of all: a verdict with the layout's words for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    /// The collection.
    pub collection: String,
    /// What differs.
    pub verdict: Verdict,
    /// The differences as [`Difference::describe`] puts them.
    pub described: Vec<String>,
}

impl Differing {
    fn new(layout: &Layout, verdict: Verdict) -> Differing {
        let described = verdict.differences.iter().map(|difference| difference.describe(layout)).collect();
        Differing { collection: layout.collection.clone(), verdict, described }
    }
}

/// Differences that a message shows.
const MAX_NAMED: usize = 3;

impl fmt::Display for Differing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.described.len() as u64 + self.verdict.more;
        let shown = self.described.len().min(MAX_NAMED);
        write!(f, "{} of {all}: {}", self.collection, self.described[..shown].join("; "))?;
        if all > shown as u64 { write!(f, "; and {} more", all - shown as u64) } else { Ok(()) }
    }
}

/// Why documents and rows could not be compared, or made equal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Reading or writing the tables failed.
    #[error(transparent)]
    Tables(#[from] PgError),

    /// The rows were written, twice, and are still not what the documents have. Roll back: exit code 4.
    #[error("rows still differ after they were written twice: {0}")]
    Differs(Box<Differing>),

    /// The server wrote another number of rows than it was given, and they were not to be read back. Roll back: exit code 4.
    #[error("{written} rows of {collection} were written: expected {expected}")]
    CountsDiffer {
        /// The collection.
        collection: String,
        /// Rows that were to be deleted, changed or added.
        expected: u64,
        /// Rows that were.
        written: u64,
    },

    /// Two of the documents have one root key, so that their rows cannot be distinguished.
    #[error("two documents of {collection} have the key {key}: expected one")]
    SameKey {
        /// The collection.
        collection: String,
        /// The key, as text.
        key: String,
    },
}
