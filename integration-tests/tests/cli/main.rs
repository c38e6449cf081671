//! The `gizer` command against real servers: what it does when all is well, and what it says when it is not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod every_value;
mod failures;
mod interruptions;
mod loading;
mod partial;
mod place;
mod rebuilt;
mod rejects;
mod settings;
