//! `gizer schema …`: schema files, the tables that follow from them, and how both are shown.

mod ddl;
mod diagram;
mod diff;
mod edit;
pub(crate) mod evolve;
pub(crate) mod infer;
mod names;

use gizer_engine::layouts::Layouts;
use gizer_schema::Layout;

use super::Context;
use crate::args::SchemaAction;
use crate::exit::{ExitCode, Failure};
use crate::ui::report;

/// Does what was asked for.
///
/// # Errors
/// [`Failure`] if it could not be done.
pub async fn run(context: &Context, action: &SchemaAction) -> Result<ExitCode, Failure> {
    match action {
        SchemaAction::Infer(args) => infer::run(context, args).await,
        SchemaAction::Ddl(args) => ddl::run(context, args),
        SchemaAction::Tables(args) => edit::tables(context, args),
        SchemaAction::Evolve(args) => evolve::run(context, args).await,
        SchemaAction::Merge(args) => edit::merge(context, args),
        SchemaAction::Patch(args) => edit::patch(context, args),
        SchemaAction::Diff(args) => diff::run(context, args).await,
        SchemaAction::Diagram(args) => diagram::run(context, args),
        SchemaAction::JsonSchema => {
            // Whatever the format: it is one JSON object.
            report::json(&gizer_schema::json_schema());
            Ok(ExitCode::Done)
        }
    }
}

/// The layouts of these collections, or of all that have a schema file. All or none: a part would be taken for the whole.
fn layouts(context: &Context, collections: &[String]) -> Result<Vec<Layout>, Failure> {
    let layouts = Layouts::read(&context.env, collections)?;
    match layouts.failures.into_first() {
        Some(failure) => Err(failure),
        None => Ok(layouts.usable),
    }
}
