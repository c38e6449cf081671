//! Inputs that once failed, each as a test with the right value, named after its id (`o1_…`, `s1_…`, `w1_…`, `m1_…`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod expected;
mod isolation;
mod memory;
mod names;
#[path = "../cli/place.rs"]
#[allow(dead_code, reason = "not every part needs all of it")]
mod place;
mod values;
mod waits;
mod words;
