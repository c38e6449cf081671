//! `gizer schema diagram`: draws the document tree next to the tables that it becomes.

mod html;
mod mermaid;
mod text;
mod tree;

use serde_json::json;

use super::layouts;
use crate::args::{DiagramArgs, DiagramForm, Format};
use crate::commands::Context;
use crate::exit::{ExitCode, Failure};
use crate::ui::report;
use tree::Diagram;

/// Draws the collections, on standard output or into a file.
///
/// # Errors
/// [`Failure`] if a schema file is missing or wrong, or the file cannot be written.
pub(super) fn run(context: &Context, args: &DiagramArgs) -> Result<ExitCode, Failure> {
    let layouts = layouts(context, &args.collections)?;
    let diagrams: Vec<Diagram<'_>> = layouts.iter().map(Diagram::new).collect();
    let (form, drawn) = match args.form {
        DiagramForm::Text => ("text", text::draw(&diagrams)),
        DiagramForm::Mermaid => ("mermaid", mermaid::draw(&diagrams)),
        DiagramForm::Html => ("html", html::draw(&diagrams)),
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
mod tests;
