//! What is due: looked up ([`Standing`]), decided ([`Step`]), and then done by whoever has asked.
//!
//! ```text
//!   schema files ─┐
//!   MongoDB      ─┼─▶ Standing::look ──▶ Due::of ──▶ `gizer run`: infer ▸ load ▸ sync, then look again where that failed
//!   state tables ─┘                               └▶ `gizer plan`: the same steps, with what they will take ([`Estimate`])
//! ```
//!
//! Looking only reads. Deciding is a pure function of what was seen, so that a plan cannot say anything else than what a run
//! does. What can only be known by trying (a history that is another one) is found out when it is followed, and decided again.

mod decide;
mod estimate;
mod look;
mod record;
mod schemas;
mod standing;
mod watch;

pub use decide::{Cause, Due, DueCollection, Facts, InferPolicy, KeyFit, Policy, Presence, SchemaFile, Step, Tries};
pub use estimate::Estimate;
pub use look::{LogStanding, Sizes, Standing};
pub use record::{WAS_EXCLUDED, record, record_empty, record_failures};
pub use schemas::{record_inferred, widen_keys};
pub use standing::{CopyStanding, CopyStandings, StandingKind};
pub use watch::Watch;
