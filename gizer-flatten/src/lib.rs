//! One MongoDB document in, relational rows out: pure, without I/O, usable by anyone.
//!
//! ```text
//!   DocumentBatch ──▶ Flattener ──Row──▶ RowSink (COPY, CSV, a test's Vec, …)
//!                        │
//!                        └──▶ Tally: read, rejected, what did not fit and where
//! ```
//!
//! * [`Flattener`] is made for a [`Layout`](gizer_schema::Layout); each thread has its own.
//! * [`Row`] borrows from the document: the hot path allocates nothing per value.
//! * [`RowSink`] takes the rows: the emitters of gizer-pg implement it.
//! * [`DocumentBatch`] comes from the sources of gizer-oplog, [`range`] says where in a collection
//!   it lies, and [`change`] has the decoded changes.
//!
//! # Which rows follow from a document
//! One row of the root table, and one row of a child table per array element. An array that is
//! missing, null, empty or no array gives no rows; an element of the wrong type keeps its row and
//! array index, with NULLs. A missing field is NULL. [`Cell`]'s module has the table of what fits
//! which column. A document without a usable key gives no rows but a [`Rejection`].

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
pub use extra::{Extra, pointer};
pub use flatten::{Flattener, RejectReason, Rejection, id_text};
pub use key::TaggedKey;
pub use list::RawList;
pub use rebuild::{ExtraPart, RebuildError, StoredCell, StoredRow, extra_part, rebuild, rebuild_id};
pub use row::{Cell, Row, RowPosition, RowSink};
pub use scope::{Scope, TableSet};
pub use tally::{Mismatch, Tally, Unfit, UnknownField};
pub use text::Text;
