//! Rows as PostgreSQL's binary COPY takes them (PostgreSQL documentation, COPY, Binary Format).
//!
//! ```text
//!   Flattener ──Row──▶ CopyEncoder ──take()──▶ EncodedUnit ──▶ UnitSink
//!                           ▲                                      │
//!                           └───────────── Buffers ◀───────────────┘
//! ```
//!
//! An encoder belongs to one worker thread. It writes each table's rows into one buffer, which becomes the bytes of
//! one COPY; the buffers come back for the next unit, so that a load allocates nothing once it is running.

mod array;
mod encoder;
mod numeric;
mod timestamp;
mod unit;
mod wire;

#[cfg(test)]
mod cell_tests;
#[cfg(test)]
mod decode;

pub use encoder::{BinaryRows, CopyEncoder, KEPT_BYTES, RowForm, TableEncoder};
pub(crate) use timestamp::to_postgres_micros;
pub use unit::{Buffers, EncodedUnit, Reject, RetryKey, TableData, UnitEncoder};
pub(crate) use wire::{HEADER, TRAILER, field_count, write_cell, write_tuple};
