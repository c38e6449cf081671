//! What is said was checked.

mod sayings;
mod unknown;
