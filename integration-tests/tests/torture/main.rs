//! Following under blows: what is written while gizer is killed and servers go away is in the tables in the end, all of it
//! and nothing else.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "a seed that fails has to be known")]

mod classic_faults;
mod ddl;
mod disk_full;
#[path = "../../../gizer-flatten/tests/generated/mod.rs"]
#[allow(dead_code, reason = "only what makes two documents the same is needed here")]
mod documents;
mod every_write;
mod fail_points;
mod gone;
mod judge;
mod loaded;
mod loads;
mod machine;
mod repairs;
mod resync;
mod rights;
mod rolled_back;
mod rounds;
mod scenario;
mod seeds;
mod stream;
mod swapped;
mod windows;
mod world;
