//! `gizer config …`: what is in force, and classic files as TOML.

pub mod convert;
pub mod show;
