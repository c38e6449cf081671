//! `gizer verify` under faults: single ones, thousands of them, put into the tables by one that knows nothing of gizer. Each is
//! found where it is, and repaired; what is equal is not reported.
//!
//! `GIZER_AUDIT_SEEDS=100` runs so many seeds on each version of MongoDB, `GIZER_AUDIT_SEED=17` runs one alone.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "a seed that fails has to be known")]

mod audit;
mod before_swap;
mod beside_writes;
mod by_batch;
mod cells;
mod collections;
mod ddl;
#[path = "../../../gizer-flatten/tests/generated/mod.rs"]
#[allow(dead_code, reason = "only what makes two documents the same is needed here")]
mod documents;
mod faults;
mod found;
mod injector;
mod interrupted;
#[path = "../torture/judge.rs"]
#[allow(dead_code, reason = "the judge of the torture tests; not all collections are judged in all ways")]
mod judge;
mod output;
mod rights;
mod rows;
mod seeds;
mod shards;
mod unusual;
#[path = "../torture/world.rs"]
#[allow(dead_code, reason = "the world of the torture tests; not all of it is needed here")]
mod world;
