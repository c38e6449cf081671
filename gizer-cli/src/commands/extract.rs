//! `gizer extract`: collections into text files, as the classic tool wrote them.

use gizer_engine::Failures;
use gizer_engine::load::{ExtractOptions, extract};

use super::Context;
use super::load_report::print;
use crate::args::ExtractArgs;
use crate::exit::{ExitCode, Failure};

/// Extracts the collections. The first failure ends it: an extract is complete, or marked as incomplete.
///
/// # Errors
/// [`Failure`] of whatever kept it from being complete.
pub async fn run(context: &Context, args: &ExtractArgs) -> Result<ExitCode, Failure> {
    let args = args.clone();
    let options = ExtractOptions {
        collections: args.collections,
        folder: args.csv_path,
        replaces: args.force,
        schema: context.config.postgres_schema.clone(),
        ddl_file: args.ddl_file,
        stats_file: args.stats_file,
        prefix: args.prefix,
        max_rejects: args.max_rejects,
        filter: args.filter,
        dump: args.dump,
    };
    print(context.format, &extract(&context.env, &options).await?, &Failures::default());
    Ok(ExitCode::Done)
}
