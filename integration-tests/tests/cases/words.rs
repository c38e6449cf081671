//! What is said was checked.

mod capped;
mod sayings;
mod unknown;
