//! `gizer load`: collections into tables.

use gizer_engine::load;

use super::Context;
use super::load_report::print;
use crate::args::LoadArgs;
use crate::exit::{ExitCode, Failure};
use crate::ui::report;

/// Loads the collections, one after the other.
///
/// # Errors
/// [`Failure`] if there is no schema file at all. What becomes of single collections is printed.
pub async fn run(context: &Context, args: &LoadArgs) -> Result<ExitCode, Failure> {
    let (loaded, failures) = load::load(&context.env, &args.options()).await?;
    print(context.format, &loaded, &failures);
    Ok(report::exit(&failures))
}
