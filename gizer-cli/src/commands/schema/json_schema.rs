//! `gizer schema json-schema`: what editors complete and check schema files by.

use crate::exit::ExitCode;
use crate::ui::report;

/// Prints the JSON Schema, whatever the format: it is one JSON object.
pub fn run() -> ExitCode {
    report::json(&gizer_schema::json_schema());
    ExitCode::Done
}
