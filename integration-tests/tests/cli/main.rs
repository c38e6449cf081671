//! The `gizer` command against real servers: what it does when all is well, and what it says when it is not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod captured;
mod checks;
mod compared;
mod configuring;
#[path = "../../../gizer-flatten/tests/generated/mod.rs"]
#[allow(dead_code, reason = "only what makes two documents the same is needed here")]
mod documents;
mod due;
mod dumps;
mod embedded;
mod etlstatus;
mod every_value;
mod evolving;
mod extracting;
mod failures;
mod first_version;
mod interruptions;
mod loading;
mod logged;
mod map_cases;
mod map_keys;
mod maps;
mod metrics;
mod partial;
mod place;
mod prefixed;
mod printed;
mod rebuilt;
mod rejects;
mod resuming;
mod resyncing;
mod schema_diagrams;
mod schema_diffs;
mod settings;
mod shell;
mod together;
#[path = "../touched/mod.rs"]
mod touched;
mod wide;
