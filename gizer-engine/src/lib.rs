//! What gizer does, as a library: it joins the stages of the other crates, and knows no command line, no reports, no metrics and
//! no exit codes.
//!
//! ```text
//!   pipeline   cursors ─▶ flatten and encode ─▶ sinks: one pass over a collection
//!   follow     changes, batch by batch: rows written, read back, compared, committed with the position
//!   audit      tables beside the documents that they should hold: what differs
//!   spool      the oplog of every shard, recorded while a load runs
//!   failure    why something could not be done, what a person can do, and whether it may pass
//!   counters   what the stages have done so far
//!   observer   typed events: what happens, for whoever shows or counts it
//! ```
//!
//! The decision what is due, and the order of a load's steps, are still in gizer-cli, and move here next.

pub mod audit;
pub mod counters;
pub mod failure;
pub mod follow;
pub mod observer;
pub mod pipeline;
pub mod spool;
pub mod unfit;
pub mod wording;

pub use counters::{Counters, Done};
pub use failure::{Failure, FailureKind};
pub use observer::{
    AppliedCounts, CollectionEvent, CollectionEventKind, CommittedBatch, Event, InFlight, NoObserver, Observer,
};

/// The target of the one line that the log has for each batch.
pub const BATCH_TARGET: &str = "gizer::batch";
