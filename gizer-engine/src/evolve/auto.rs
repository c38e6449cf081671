//! Growing by itself: what `[schemas] evolve = "auto"` does, between batches.

use std::collections::BTreeSet;
use std::time::Duration;

use gizer_pg::state;

use super::widen::verify_numbers;
use super::{EvolveOptions, EvolvePolicy, EvolvedCollection, Occasion, evolve, finish_begun};
use crate::env::Env;
use crate::failure::Failure;
use crate::failures::Failures;

/// How often to look while following, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Resumes what an earlier run has begun, and lets schemas grow of which following has counted
/// enough; each at most as often as the settings say. Excluded and paused collections stay.
///
/// # Errors
/// [`Failure`] if PostgreSQL cannot be reached; those of single collections are in the second part.
pub async fn evolve_due(env: &Env) -> Result<(Vec<EvolvedCollection>, Failures), Failure> {
    let session = env.postgres().await?;
    let mut failures = finish_begun(env, &session).await?;
    if env.settings.evolve.policy != EvolvePolicy::Auto {
        return Ok((Vec::new(), failures));
    }
    // More has been counted of these than when they were last looked at, and that is not too short a while ago.
    let mut collections = state::collections_to_look_at(&session, env.settings.evolve.every).await?;
    collections.retain(|name| !env.settings.selection.excludes(name));
    if collections.is_empty() {
        verify_numbers(env, &session, &mut failures).await?;
        return Ok((Vec::new(), failures));
    }
    drop(session);
    let (done, failed) = evolve(env, &EvolveOptions { collections, dry_run: false, occasion: Occasion::Due }).await?;
    for (name, failure) in failed.by_collection() {
        failures.add(name, failure.clone());
    }
    Ok((done, failures))
}

/// Repeats that until the future is dropped. What fails is reported once, and retried.
pub async fn evolve_while_following(env: &Env) {
    let mut reported = BTreeSet::new();
    loop {
        tokio::time::sleep(env.settings.evolve.every.min(LOOK_INTERVAL).max(Duration::from_millis(200))).await;
        match evolve_due(env).await {
            Ok((_, failures)) => {
                for (name, failure) in failures.by_collection() {
                    if reported.insert(format!("{name}: {}", failure.message)) {
                        tracing::warn!(collection = name, "its schema does not grow: {}", failure.in_a_line());
                    }
                }
            }
            Err(failure) => tracing::debug!(%failure, "could not look for fields to adopt"),
        }
    }
}
