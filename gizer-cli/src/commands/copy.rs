//! `gizer copy`: text files into tables.

use gizer_engine::load::{TextLoad, load_text};

use super::Context;
use super::load_report::print;
use crate::args::CopyArgs;
use crate::exit::{ExitCode, Failure};
use crate::ui::report;

/// Copies the collections, one after the other.
///
/// # Errors
/// [`Failure`] if the folder cannot be used, or there is no schema file at all. What becomes of single collections is printed.
pub async fn run(context: &Context, args: &CopyArgs) -> Result<ExitCode, Failure> {
    let CopyArgs { collections, csv_path, prefix } = args.clone();
    let (loaded, failures) = load_text(&context.env, &TextLoad { folder: csv_path, collections, prefix }).await?;
    print(context.format, &loaded, &failures);
    Ok(report::exit(&failures))
}
