//! `gizer schema diagram`: the document tree beside the tables that it becomes.

use serde_json::json;

use super::Context;
use super::schema_diagram_tree::Diagram;
use super::{schema_diagram_html, schema_diagram_mermaid, schema_diagram_text};
use crate::args::{DiagramArgs, DiagramForm, Format};
use crate::exit::{ExitCode, Failure};
use crate::report;

/// Draws the collections, on standard output or into a file.
///
/// # Errors
/// [`Failure`] if a schema file is missing or wrong, or the file cannot be written.
pub fn run(context: &Context, args: &DiagramArgs) -> Result<ExitCode, Failure> {
    let layouts = context.layouts(&args.collections)?;
    // A part would be taken for the whole.
    if let Some(failure) = layouts.failures.into_first() {
        return Err(failure);
    }
    let diagrams: Vec<Diagram<'_>> = layouts.usable.iter().map(Diagram::new).collect();
    let (form, drawn) = match args.form {
        DiagramForm::Text => ("text", schema_diagram_text::draw(&diagrams)),
        DiagramForm::Mermaid => ("mermaid", schema_diagram_mermaid::draw(&diagrams)),
        DiagramForm::Html => ("html", schema_diagram_html::draw(&diagrams)),
    };
    if let Some(path) = &args.output {
        std::fs::write(path, drawn)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
        if context.format == Format::Json {
            report::json(&json!({"as": form, "output": path.display().to_string()}));
        }
        return Ok(ExitCode::Done);
    }
    match context.format {
        Format::Text => report::text(&drawn),
        Format::Json => report::json(&json!({"as": form, "diagram": drawn})),
    }
    Ok(ExitCode::Done)
}

#[cfg(test)]
#[path = "schema_diagram_tests.rs"]
mod tests;
