//! What gizer does, as a library: it joins the stages of the other crates, and knows no command line, no reports, no metrics and
//! no exit codes.
//!
//! ```text
//!   pipeline   cursors ─▶ flatten and encode ─▶ sinks: one pass over a collection
//!   audit      tables beside the documents that they should hold: what differs
//!   spool      the oplog of every shard, recorded while a load runs
//!   failure    why something could not be done, what a person can do, and whether it may pass
//!   counters   what the stages have done so far
//! ```
//!
//! Following and the decision what is due are still in gizer-cli, and move here module by module.

pub mod audit;
pub mod counters;
pub mod failure;
pub mod pipeline;
pub mod spool;

pub use counters::{Counters, Done};
pub use failure::{Failure, FailureKind};
