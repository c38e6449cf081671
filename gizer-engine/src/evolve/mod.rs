//! Schemas that grow: fields that came after the load get columns in place.
//!
//! ```text
//!   evidence   `_extra` of all rows ─▶ what has no place, by path and type
//!   decide     the rules of inference ─▶ the next schema and its layout      (gizer-schema)
//!   begin      columns and empty tables, under a short lock; from here on nobody follows the collection
//!   rewrite    rows that hold such a field: rebuilt as documents, flattened by the new layout, written and read back
//!   finish     the new layout is that of the collection; then its schema file
//! ```
//!
//! Columns whose values outgrow their type widen after that, as a version of their own: their
//! tables are filled from the live ones next to them, and swapped in (`widen`).
//!
//! MongoDB is not read: `_extra` loses nothing, so a document rebuilt from its rows gives the rows
//! that a load by the new schema would give. Only a column that has become `DECIMAL` is compared
//! with it afterwards, and repaired. A run that ends in between leaves a version unfinished
//! in `gizer_schema_history`; the next run resumes it. If PostgreSQL does not take the rows, they go
//! back and the columns are dropped again.

mod auto;
mod decide;
mod evidence;
mod files;
mod growing;
mod rewrite;
mod widen;

use std::time::Duration;

use gizer_pg::Session;
use gizer_pg::state::{self, Obstacle, ObstacleKind};
use gizer_schema::infer::{Adopted, LeftInExtra, Widened};
use serde_json::json;

pub use auto::{evolve_due, evolve_while_following};
pub(crate) use decide::with_any_key;
pub use files::restore_schema_files;
pub(crate) use files::schemas_to_restore;
pub(crate) use widen::widen_key;

use crate::env::Env;
use crate::failure::Failure;
use crate::failures::Failures;
use crate::wording::command;
use decide::VersionKind;
use growing::Growing;
use widen::verify_numbers;

/// When schemas grow by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EvolvePolicy {
    /// Never.
    Off,
    /// They do not, but what could get a column is shown.
    Ask,
    /// In `run`, between batches.
    #[default]
    Auto,
}

/// How schemas grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvolveSettings {
    /// When.
    pub policy: EvolvePolicy,
    /// In how many documents a field must be to get a column.
    pub documents: u64,
    /// Or in how many percent of the documents, if those are fewer.
    pub percent: u64,
    /// How often one schema grows by itself at most.
    pub every: Duration,
}

impl Default for EvolveSettings {
    fn default() -> EvolveSettings {
        EvolveSettings { policy: EvolvePolicy::default(), documents: 10, percent: 1, every: Duration::from_secs(3_600) }
    }
}

/// What to evolve.
#[derive(Debug, Clone, Default)]
pub struct EvolveOptions {
    /// Collections; empty for all that are followed.
    pub collections: Vec<String>,
    /// Whether it only tells what would be done.
    pub dry_run: bool,
    /// Why now.
    pub occasion: Occasion,
}

/// Why schemas are made to grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Occasion {
    /// A person asked for it.
    #[default]
    Asked,
    /// It is time to look: what has failed once is not tried again.
    Due,
    /// Only what an earlier run has begun is done.
    Begun,
}

/// What became of the schema of a collection.
#[derive(Debug, Clone, Default)]
pub struct EvolvedCollection {
    /// The collection.
    pub collection: String,
    /// Number of the version, if its schema has grown.
    pub version: Option<i64>,
    /// Fields that have a place now.
    pub adopted: Vec<Adopted>,
    /// Columns that have a wider type now.
    pub widened: Vec<Widened>,
    /// Fields that stay in `_extra`, and why.
    pub left: Vec<LeftInExtra>,
    /// Rows whose `_extra` is not what gizer writes, and was not looked at.
    pub unreadable: u64,
    /// The statements that add columns and tables.
    pub statements: Vec<String>,
    /// Tables whose rows are rewritten.
    pub tables: Vec<String>,
    /// The statements that make tables with wider columns, and put them in the place of the live
    /// ones.
    pub swap_statements: Vec<String>,
    /// Documents rewritten.
    pub documents: u64,
    /// Rows written.
    pub rows: u64,
    /// How long all of it took.
    pub took: Duration,
    /// Whether an earlier run had begun it.
    pub resumed: bool,
}

/// Lets the schemas of collections grow, one after the other.
///
/// # Errors
/// [`Failure`] if it cannot be done for any collection; those of single ones are in the second part.
pub async fn evolve(env: &Env, options: &EvolveOptions) -> Result<(Vec<EvolvedCollection>, Failures), Failure> {
    let session = env.stop.or_done(env.postgres()).await?;
    state::prepare(&session).await?;
    restore_schema_files(env, &session).await?;
    let mut failures = Failures::default();
    let followed = state::read_followed(&session).await?;
    let left_alone = paused(&session).await?;
    let mut done = Vec::new();
    for name in options.collections.iter().filter(|name| followed.iter().all(|each| each.collection != **name)) {
        let message = format!("{name} is not followed: only what is loaded and followed can grow in place");
        failures.add(name.clone(), Failure::usage(message).remedy(format!("`{}`", command("load", [name], &[]))));
    }
    for each in followed {
        let is_left = left_alone.contains(&each.collection) || env.settings.selection.excludes(&each.collection);
        let is_wanted =
            if options.collections.is_empty() { !is_left } else { options.collections.contains(&each.collection) };
        if !is_wanted || failures.of(&each.collection).is_some() {
            continue;
        }
        match Box::pin(evolve_one(env, &session, &each.collection, options)).await {
            Ok(evolved) => done.extend(evolved),
            Err(failure) if failure.ends_run => return Err(failure),
            Err(failure) => failures.add(each.collection, failure),
        }
        if env.stop.is_asked() {
            break;
        }
    }
    if !options.dry_run {
        verify_numbers(env, &session, &mut failures).await?;
    }
    Ok((done, failures))
}

/// Collections that stay as they are until a person says otherwise.
async fn paused(session: &Session) -> Result<Vec<String>, Failure> {
    let expected = state::read_expected(session).await?.into_iter();
    let is_paused = |obstacle: &Obstacle| obstacle.kind == ObstacleKind::Paused;
    Ok(expected.filter(|each| each.obstacle.as_ref().is_some_and(is_paused)).map(|each| each.collection).collect())
}

/// Resumes what an earlier run has left unfinished, whatever the settings say: until then nobody
/// follows it. Returns what is still unfinished, and why: another run holds it, for instance.
///
/// # Errors
/// [`Failure`] if PostgreSQL cannot be read any more.
pub async fn finish_begun(env: &Env, session: &Session) -> Result<Failures, Failure> {
    let mut failures = Failures::default();
    let versions = state::schema_versions(session).await?;
    let is_begun = |name: &String| versions[name].iter().any(|version| version.finished_at.is_none());
    let begun: Vec<&String> = versions.keys().filter(|name| is_begun(name)).collect();
    if begun.is_empty() {
        return Ok(failures);
    }
    for followed in state::read_followed(session).await?.iter().filter(|each| begun.contains(&&each.collection)) {
        let options = EvolveOptions { occasion: Occasion::Begun, ..EvolveOptions::default() };
        match Box::pin(evolve_one(env, session, &followed.collection, &options)).await {
            Ok(_) => {}
            Err(failure) if failure.ends_run => return Err(failure),
            Err(failure) => failures.add(followed.collection.clone(), failure),
        }
    }
    Ok(failures)
}

/// One collection; nothing if it cannot grow and nobody has asked for it by name.
async fn evolve_one(
    env: &Env,
    session: &Session,
    name: &str,
    options: &EvolveOptions,
) -> Result<Vec<EvolvedCollection>, Failure> {
    if options.dry_run {
        let Some(growing) = Growing::of(env, session, name, options).await? else { return Ok(Vec::new()) };
        return Ok(vec![growing.foresee().await?]);
    }
    state::hold_tables(session, name).await?;
    let outcome = resume_or_grow(env, session, name, options).await;
    state::release_tables(session, name).await;
    outcome
}

/// With the locks that keep others from it: what another run has done meanwhile is seen. A version
/// that adds, and one that widens.
async fn resume_or_grow(
    env: &Env,
    session: &Session,
    name: &str,
    options: &EvolveOptions,
) -> Result<Vec<EvolvedCollection>, Failure> {
    let unfinished = state::unfinished_version(session, name).await?;
    if unfinished.is_none() && options.occasion == Occasion::Begun {
        return Ok(Vec::new());
    }
    restore_schema_files(env, session).await?;
    let Some(growing) = Growing::of(env, session, name, options).await? else {
        state::note_looked(session, name).await?;
        return Ok(Vec::new());
    };
    if let Some(version) = unfinished {
        return Ok(vec![growing.resume(version).await?]);
    }
    let seen = growing.gather().await?;
    state::note_looked(session, name).await?;
    let adopted = growing.adopt(&seen, options.occasion).await?;
    let widening = growing.decide(&seen, VersionKind::Widens)?;
    let widened = if widening.widened.is_empty() {
        None
    } else if adopted.version.is_none() {
        growing.widen(widening, options.occasion).await?
    } else if let Some(growing) = Growing::of(env, session, name, options).await? {
        // Its tables have other numbers now.
        let widening = growing.decide(&growing.gather().await?, VersionKind::Widens)?;
        growing.widen(widening, options.occasion).await?
    } else {
        None
    };
    // What has not grown is reported once, with what stays as it is.
    let adopted = (adopted.version.is_some() || widened.is_none()).then_some(adopted);
    Ok(adopted.into_iter().chain(widened).collect())
}

/// What is new, for `gizer_schema_history`:
/// `[{"path": "a.b", "chosen": "STRING", "documents": 12}]`; of a column with a wider type `from`
/// is what it was.
fn changes(adopted: &[Adopted], widened: &[Widened]) -> String {
    let adopted = adopted
        .iter()
        .map(|adopted| json!({"path": adopted.path, "chosen": adopted.chosen, "documents": adopted.documents}));
    let widened = widened.iter().map(|Widened { path, from, to, documents }| {
        json!({"path": path, "chosen": to.to_string(), "from": from.to_string(), "documents": documents})
    });
    serde_json::Value::from(adopted.chain(widened).collect::<Vec<_>>()).to_string()
}

/// What a version changed at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// Field names from the root, joined by dots.
    pub path: String,
    /// What it became.
    pub chosen: String,
    /// What it was, of a column that has widened.
    pub from: Option<String>,
}

/// What a version changed, as far as `gizer_schema_history` can be read.
pub fn changes_in(changes: &str) -> Vec<SchemaChange> {
    let Ok(serde_json::Value::Array(all)) = serde_json::from_str(changes) else { return Vec::new() };
    let text = |of: &serde_json::Value, name: &str| of.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let one = |one: &serde_json::Value| {
        Some(SchemaChange { path: text(one, "path")?, chosen: text(one, "chosen")?, from: text(one, "from") })
    };
    all.iter().filter_map(one).collect()
}
