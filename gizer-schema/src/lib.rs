//! What a MongoDB collection looks like, and the PostgreSQL tables that follow from it.
//!
//! ```text
//!   documents ──infer──▶ Schema ──▶ schema file (<collection>.json)
//!                          │
//!                          └──Layout::new──▶ tables, columns, keys ──▶ gizer-flatten, gizer-pg
//! ```
//!
//! * [`Schema`] is a tree of fields with types: read from a schema file ([`mod@file`]) or inferred from documents
//!   ([`infer`]).
//! * [`Layout`] is what follows from it by the classic mapping: one table for the collection, one for each array
//!   and each map, with their columns in order, and the tree that tells a flattener which field goes where.
//! * [`raw`] reads BSON in place; nothing in gizer builds a `bson::Document` on a hot path.
//!
//! This crate does no I/O and knows no other crate of gizer.

mod column_type;
pub mod diff;
pub mod edit;
pub mod field_index;
pub mod file;
pub mod infer;
mod json_schema;
mod layout;
mod model;
pub mod names;
mod pin;
pub mod raw;

pub use column_type::{ColumnType, ScalarType, TIMESTAMP_MILLIS};
pub use json_schema::json_schema;
pub use layout::{
    Column, ColumnId, ColumnSource, DocumentPlan, FieldPlan, Growth, Key, KeySource, Layout, LayoutError, LikelyMap,
    NoGrowth, PathId, PathInfo, Plan, Table, TableId,
};
pub use model::{Dialect, Field, Fields, Node, Schema};
pub use pin::{pin_names, rename_taken_tables};
