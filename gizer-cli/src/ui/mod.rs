//! What a person sees: results, progress and the log.
//!
//! ```text
//!   commands ──▶ report ──▶ standard output and error
//!   engine ──events──▶ observer ─┬▶ report, progress
//!                                └▶ metrics
//!   tracing ──▶ log ──▶ standard error
//! ```

pub(crate) mod log;
pub(crate) mod observer;
mod progress;
pub mod report;
mod terminal;

use clap::ValueEnum;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}
