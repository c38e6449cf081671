//! The rows of touched documents: read by their root keys, and written where they differ.
//!
//! ```text
//!   Keys ──RowStore::read──▶ stored tuples ──(compared by gizer-verify)──▶ RowChanges ──RowStore::write──▶ RowCounts
//! ```
//!
//! Everything happens in the transaction that the caller has begun on the session, and in whole sets: how many statements
//! it takes depends on how many tables there are and in how many of them something differs, never on how many documents.
//!
//! | what | statement |
//! |---|---|
//! | reading a table | `SELECT … WHERE key = ANY (…)`: the keys with this table in their scope are one parameter |
//! | reading a stretch of keys | `COPY (SELECT … WHERE key > … AND key <= …) TO STDOUT` |
//! | rows to delete | `DELETE` joined with arrays of keys and positions |
//! | rows to change | `COPY` into a temporary table, then `UPDATE … FROM` it |
//! | rows to add | `COPY` into the table itself |
//!
//! A row is changed and not replaced, so that columns that people have added to a table keep their values. Where that meets a unique
//! index of theirs half-way, rows are replaced, and those values carried over ([`Writing`]).

mod changes;
mod keys;
mod parameter;
mod replace;
mod statements;
mod store;
mod stretch;

pub use changes::{RowChanges, RowCounts, TableCounts};
pub use keys::Keys;
pub use replace::{References, Writing};
pub use store::{RowStore, StoredTuple, WhichTables};
pub use stretch::KeyStretch;
