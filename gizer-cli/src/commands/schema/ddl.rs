//! `gizer schema ddl`: the SQL of the tables that follow from schema files.

use gizer_pg::printable;
use serde_json::json;

use super::layouts;
use crate::args::{DdlArgs, Format};
use crate::commands::Context;
use crate::exit::{ExitCode, Failure};
use crate::ui::report;

/// Prints the statements.
///
/// # Errors
/// [`Failure`] if a schema file is missing or wrong.
pub(super) fn run(context: &Context, args: &DdlArgs) -> Result<ExitCode, Failure> {
    let mut collections = Vec::new();
    let mut text = String::new();
    for layout in layouts(context, &args.collections)? {
        let sql = printable::sql(&gizer_pg::ddl::render(&layout, &context.config.postgres_schema)?);
        if context.format == Format::Text {
            text.push_str(&sql);
        }
        let tables: Vec<&str> = layout.tables.iter().map(|table| table.name.as_str()).collect();
        collections.push(json!({"name": layout.collection, "tables": tables, "sql": sql}));
    }
    match context.format {
        Format::Text => report::text(&text),
        Format::Json => report::json(&json!({"collections": collections})),
    }
    Ok(ExitCode::Done)
}
