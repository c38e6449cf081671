//! The torture machine: what a seed draws, done to real servers, and judged.
//!
//! ```text
//! seed ──▶ Plan ──▶ rounds of events: writes, faults ──▶ gizer brought to rest ──▶ judged
//!            ▲                                                                      │ fails
//!            └────────────────────── fewer events, as long as it fails ◀────────────┘
//! ```
//!
//! Everything is drawn before anything is done, so that a plan can be run again with some of its events left out. Only
//! the moments at which things meet are left to chance. After each round gizer is brought to rest, and then:
//!
//! * the tables equal the documents by the schema file that there is then, those apart that a
//!   constraint of the user's refuses ([`judged`]);
//! * nothing is left over in PostgreSQL or on disk ([`leftovers`]);
//! * no command has called anything ok that is not, and what is missing has a reason that is not gizer's ([`words`], [`hindrances`]).

mod clock;
mod draw;
mod faults;
mod figures;
mod growth;
mod hindrances;
mod judged;
mod leftovers;
mod perform;
mod plan;
mod shrink;
mod target;
mod words;

pub(super) use draw::{KINDS, Length};
pub(super) use figures::Figures;
pub(super) use leftovers::expect_none as expect_nothing_left;
pub(super) use perform::perform;
pub(super) use plan::Plan;
pub(super) use shrink::shrink;
