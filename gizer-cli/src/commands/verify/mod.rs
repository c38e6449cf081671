//! `gizer verify`: the live tables next to the documents, while writes and following go on.

mod output;

use gizer_engine::audit::{VerifyOptions, verify};

use super::Context;
use super::sync::recorded_standings;
use crate::args::VerifyArgs;
use crate::exit::{ExitCode, Failure};
use output::print;

/// Audits the collections, one after the other.
///
/// # Errors
/// [`Failure`] if nothing can be audited at all. What becomes of single collections is printed.
pub async fn run(context: &Context, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let options = VerifyOptions {
        collections: args.collections.clone(),
        repairs: args.repair,
        sample: args.sample,
        restart: args.restart,
        shows_values: args.show_values,
        named: args.differences,
    };
    let outcome = verify(&context.env, &options).await;
    // Repairs may have taken a round of following.
    context.settle_metrics().await;
    let (verified, failures) = outcome?;
    // Of what was asked for by name all was compared.
    let standings = match args.collections.is_empty() && context.signal().is_none() {
        true => context.env.stop.or_done(recorded_standings(context)).await.ok(),
        false => None,
    };
    Ok(print(context.format, &verified, &failures, standings.as_ref(), args))
}
