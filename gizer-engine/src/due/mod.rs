//! What is due: looked up ([`Overview`]), decided ([`DueStep`]), then done by the caller.
//!
//! ```text
//!   schema files ─┐
//!   MongoDB      ─┼─▶ Standing::look ──▶ Due::of ──▶ `gizer run`: infer ▸ load ▸ sync, then look again where that failed
//!   state tables ─┘                               └▶ `gizer plan`: the same steps, with what they will take ([`Estimate`])
//! ```
//!
//! Looking only reads. Deciding is a pure function of what was seen, so a plan says exactly what a
//! run does. What only following can find out, as a diverged oplog, is decided again then.

mod decide;
mod estimate;
mod look;
mod record;
mod schemas;
mod standing;
mod watch;
mod weigh;

pub use decide::{Cause, Due, DueCollection, DueStep, Facts, InferPolicy, KeyFit, Policy, Presence, SchemaFile, Tries};
pub use estimate::Estimate;
pub use look::{LogStanding, Overview, Sizes};
pub use record::{WAS_EXCLUDED, record, record_empty, record_failures};
pub use schemas::{record_inferred, widen_keys};
pub use standing::{CopyStanding, CopyStandings, StandingKind};
pub use watch::Watch;
pub use weigh::{LostPosition, ResyncEstimate};
