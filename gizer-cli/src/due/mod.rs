//! What is due: looked up ([`Standing`]), decided ([`Step`]), and then done by `gizer run`, or told by `gizer plan`.
//!
//! ```text
//!   schema files ─┐
//!   MongoDB      ─┼─▶ Standing::look ──▶ Due::of ──▶ run: infer ▸ load ▸ sync, then look again where that failed
//!   state tables ─┘                               └▶ plan: the same steps, with what they will take ([`Estimate`])
//! ```
//!
//! Looking only reads. Deciding is a pure function of what was seen, so that `plan` cannot say anything else than what `run`
//! does. What can only be known by trying (a history that is another one) `run` finds out when it follows, and decides anew.

mod decide;
mod estimate;
mod look;
mod standing;

pub(crate) use decide::{Due, DueCollection, Facts, KeyFit, Policy, Step, Tries};
pub(crate) use estimate::Estimate;
pub(crate) use look::{LogStanding, Sizes, Standing};
pub(crate) use standing::{CopyStanding, CopyStandings, StandingKind};
