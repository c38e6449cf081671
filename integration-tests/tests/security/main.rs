//! Who may do what, who may read along, and what names and values can do.
//!
//! What docs/security.md says is run as it stands there: statements, roles, settings.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../gizer-flatten/tests/generated/mod.rs"]
#[allow(dead_code, reason = "only what makes two documents the same is needed here")]
mod documents;
mod hostile;
mod judge;
mod page;
mod rights;
mod secrets;
mod tls;
