//! gizer-pg against a real PostgreSQL: whatever is promised of the server's behaviour is tried on the server.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod additions;
mod connecting;
mod copying;
mod dialect;
#[path = "../../../gizer-flatten/tests/generated/mod.rs"]
mod documents;
mod fences;
mod generated;
mod interruptions;
mod outages;
mod prefixes;
mod readers;
mod rebuilding;
mod reconciling;
mod rejects;
mod repairs;
mod runs;
mod scene;
mod spool;
mod stream;
mod surveys;
mod swapping;
mod together;
#[path = "../../../gizer-flatten/tests/varied/mod.rs"]
mod varied;
mod views;
