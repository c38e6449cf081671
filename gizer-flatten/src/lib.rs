//! One MongoDB document in, relational rows out: pure, without I/O, usable by anyone.
//!
//! ```text
//!   DocumentBatch ──▶ Flattener ──Row──▶ RowSink (COPY, CSV, a test's Vec, …)
//!                        │
//!                        └──▶ Tally: read, rejected, what did not fit and where
//! ```
//!
//! * [`Flattener`] is made once for a [`Layout`](gizer_schema::Layout) and used by one thread at a time; each thread
//!   has its own.
//! * [`Row`] borrows from the document: the hot path allocates nothing per value.
//! * [`RowSink`] is the stage trait towards the emitters of gizer-pg.
//! * [`DocumentBatch`] is what the sources of gizer-oplog give, [`range`] says where in a collection it lies, and
//!   [`change`] holds what its tails give.
//!
//! # Which rows follow from a document
//! One row of the root table, one row of a child table for each element of its array. An array that is missing, null,
//! empty or no array gives no rows; an element of the wrong type keeps its row and position, with NULLs. A field that
//! is missing is NULL. What fits which column is in the table of [`Cell`]'s module. A document without a usable
//! key gives no rows and is a [`Rejection`].

mod batch;
pub mod change;
mod column_type;
mod decimal;
mod extjson;
mod extra;
mod flatten;
mod key;
mod list;
mod program;
pub mod range;
mod rebuild;
mod root_key;
mod row;
mod scope;
mod source_position;
mod tally;
mod text;

pub use batch::{DocumentBatch, Documents};
pub use decimal::{Decimal, Decimal128};
pub use extjson::RawJson;
pub use extra::Extra;
pub use flatten::{Flattener, RejectReason, Rejection, id_text};
pub use key::TaggedKey;
pub use list::RawList;
pub use rebuild::{RebuildError, StoredCell, StoredRow, rebuild, rebuild_id};
pub use row::{Cell, Row, RowSink};
pub use scope::{Scope, TableSet};
pub use tally::{Mismatch, Tally, Unfit, UnknownField};
pub use text::Text;
