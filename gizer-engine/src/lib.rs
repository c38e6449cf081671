//! The engine of gizer as a library: it joins the stages of the other crates.
//!
//! It knows no command line, no reports, no metrics and no exit codes.
//!
//! ```text
//!   infer      documents ─▶ schema files
//!   load       capture ─▶ fill ─▶ align ─▶ verify ─▶ swap
//!   follow     changes, batch by batch: rows written, read back, compared, committed with the position
//!   resync     live tables made equal in place, chunk by chunk, and followed again
//!   audit      tables next to the documents that they should hold: what differs
//!   evolve     fields that came after the load ─▶ columns in place, from the rows that hold them
//!   due        how everything stands, and what is to be done: infer, load or follow
//!   pipeline   cursors ─▶ flatten and encode ─▶ sinks: one pass over a collection
//!   spool      what is touched while a load runs, so that a small oplog cannot roll over under it
//! ```
//!
//! All of it takes an [`Env`]: settings, a [`Stop`] and an [`Observer`] of typed events.
//! `examples/embed.rs` loads and follows a collection with nothing else.

pub mod audit;
pub mod counters;
pub mod due;
pub mod env;
pub mod evolve;
mod fail_point;
pub mod failure;
pub mod failures;
pub mod follow;
pub mod infer;
pub mod layouts;
pub mod load;
pub mod notice;
pub mod observer;
pub mod pipeline;
pub mod resync;
pub mod retry;
pub mod schema_files;
pub mod selection;
pub mod spool;
pub mod stop;
pub mod unfit;
pub mod wording;

pub use counters::{Counters, ExpectedWork, WorkDone};
pub use env::{Env, FixedServers, Servers, Settings};
pub use failure::{Failure, FailureKind};
pub use failures::Failures;
pub use notice::Notice;
pub use observer::{
    Activity, ActivityKind, AppliedCounts, CollectionEvent, CollectionEventKind, CommittedBatch, Event, InFlight,
    NoObserver, Observer,
};
pub use stop::{Stop, Stopper};

/// Log target of the line written for each batch.
pub const BATCH_TARGET: &str = "gizer::batch";
