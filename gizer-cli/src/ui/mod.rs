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

use std::io::IsTerminal;

use clap::ValueEnum;

/// Whether whoever reads this stream sees colours, and wants them (no-color.org).
pub(crate) fn sees_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}
