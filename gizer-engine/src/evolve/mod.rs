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
//! MongoDB is not read: `_extra` loses nothing, so a document rebuilt from its rows gives the rows
//! that a load by the new schema would give. A run that ends in between leaves a version unfinished
//! in `gizer_schema_history`; the next run resumes it. If PostgreSQL does not take the rows, they go
//! back and the columns are dropped again.

mod auto;
mod decide;
mod evidence;
mod files;
mod rewrite;

use std::sync::Arc;
use std::time::{Duration, Instant};

use gizer_pg::Session;
use gizer_pg::ddl::layout_hash;
use gizer_pg::growth;
use gizer_pg::load::SwapSettings;
use gizer_pg::state::{self, NewVersion, Obstacle, ObstacleKind, UnfinishedVersion};
use gizer_schema::infer::{Adopted, LeftInExtra};
use gizer_schema::{Dialect, Growth, Layout, Schema, file};
use serde_json::json;

pub use auto::{evolve_due, evolve_while_following};
pub use files::restore_schema_files;

use crate::env::Env;
use crate::fail_point::fail_point;
use crate::failure::{Failure, FailureKind};
use crate::failures::Failures;
use crate::layouts::unusable_schema;
use crate::notice::Notice;
use crate::observer::Event;
use crate::schema_files::SchemaFiles;
use crate::wording::command;
use decide::Decision;
use rewrite::{Rewritten, rewrite, take_back};

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
    /// Fields that stay in `_extra`, and why.
    pub left: Vec<LeftInExtra>,
    /// Rows whose `_extra` is not what gizer writes, and was not looked at.
    pub unreadable: u64,
    /// The statements that add columns and tables.
    pub statements: Vec<String>,
    /// Tables whose rows are rewritten.
    pub tables: Vec<String>,
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
        match evolve_one(env, &session, &each.collection, options).await {
            Ok(evolved) => done.extend(evolved),
            Err(failure) if failure.ends_run => return Err(failure),
            Err(failure) => failures.add(each.collection, failure),
        }
        if env.stop.is_asked() {
            break;
        }
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
        match evolve_one(env, session, &followed.collection, &options).await {
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
) -> Result<Option<EvolvedCollection>, Failure> {
    let began = Instant::now();
    if options.dry_run {
        let Some(growing) = Growing::of(env, session, name, options).await? else { return Ok(None) };
        return Ok(Some(growing.report(&growing.decide().await?)));
    }
    state::hold_tables(session, name).await?;
    let outcome = go_on_or_grow(env, session, name, options).await;
    state::release_tables(session, name).await;
    Ok(outcome?.map(|evolved| EvolvedCollection { took: began.elapsed(), ..evolved }))
}

/// With the locks that keep others from it: what another run has done meanwhile is seen.
async fn go_on_or_grow(
    env: &Env,
    session: &Session,
    name: &str,
    options: &EvolveOptions,
) -> Result<Option<EvolvedCollection>, Failure> {
    let unfinished = state::unfinished_version(session, name).await?;
    if unfinished.is_none() && options.occasion == Occasion::Begun {
        return Ok(None);
    }
    restore_schema_files(env, session).await?;
    let Some(growing) = Growing::of(env, session, name, options).await? else { return Ok(None) };
    match unfinished {
        Some(version) => growing.resume(version).await.map(Some),
        None => growing.grow(options.occasion).await,
    }
}

/// A collection whose schema may grow.
struct Growing<'g> {
    env: &'g Env,
    session: &'g Session,
    files: SchemaFiles,
    schema: Schema,
    before: Arc<Layout>,
}

impl<'g> Growing<'g> {
    /// `None` if it is not followed any more, or cannot grow and was not named.
    async fn of(
        env: &'g Env,
        session: &'g Session,
        name: &str,
        options: &EvolveOptions,
    ) -> Result<Option<Growing<'g>>, Failure> {
        let followed = state::read_followed(session).await?.into_iter().find(|each| each.collection == name);
        let Some(followed) = followed else { return Ok(None) };
        let named = options.occasion == Occasion::Asked && !options.collections.is_empty();
        let files = env.schema_files()?;
        let schema = files.read(name)?;
        if schema.dialect == Dialect::Classic {
            let message =
                format!("the schema file of {name} is in the classic dialect, which keeps nothing to grow from");
            let remedy = format!("`{}`, then load it", command("schema infer", [name], &["--force"]));
            return if named { Err(Failure::usage(message).remedy(remedy)) } else { Ok(None) };
        }
        let before = Arc::new(Layout::new(&schema).map_err(|error| unusable_schema(&error))?);
        if layout_hash(&before)? != followed.layout_hash {
            let message = format!("the schema file of {name} has changed since {name} was loaded: a load is due");
            let remedy = format!("run `{}`, or restore the old schema file", command("load", [name], &[]));
            return Err(Failure::new(FailureKind::LoadDue, message).remedy(remedy));
        }
        Ok(Some(Growing { env, session, files, schema, before }))
    }

    /// What of the stored rows has no place, and what should get one.
    async fn decide(&self) -> Result<Decision, Failure> {
        let seen = evidence::gather(self.session, &self.before, &self.env.settings.evolve).await?;
        decide::decide(self.env, &self.schema, &self.before, &seen)
    }

    fn report(&self, decision: &Decision) -> EvolvedCollection {
        EvolvedCollection {
            collection: self.before.collection.clone(),
            adopted: decision.adopted.clone(),
            left: decision.left.clone(),
            unreadable: decision.unreadable,
            statements: decision.statements(self.session.schema()).unwrap_or_default(),
            tables: decision.tables(),
            ..EvolvedCollection::default()
        }
    }

    async fn grow(&self, occasion: Occasion) -> Result<Option<EvolvedCollection>, Failure> {
        let decision = self.decide().await?;
        let mut evolved = self.report(&decision);
        let collection = &self.before.collection;
        state::note_looked(self.session, collection).await?;
        let layout_after = layout_hash(&decision.after)?;
        let is_due = occasion == Occasion::Due;
        if decision.adopted.is_empty() || is_due && state::has_failed(self.session, collection, &layout_after).await? {
            return Ok(Some(evolved));
        }
        // Before anything is done that its schema file could not tell.
        self.files.check_writable()?;
        let new = NewVersion {
            collection: self.before.collection.clone(),
            layout_before: layout_hash(&self.before)?,
            layout_after,
            schema_before: file::write(&self.schema),
            schema: file::write(&decision.schema),
            changes: changes(&decision.adopted),
        };
        let settings = self.swap_settings();
        let version = growth::begin(self.session, &decision.after, &decision.growth, &new, &settings).await?;
        fail_point("evolve.after_begin");
        evolved.version = Some(version.version);
        let paths: Vec<String> = decision.adopted.iter().map(|adopted| adopted.path.clone()).collect();
        let rewritten = self.rewrite(version, &decision.after, &decision.growth, &paths).await?;
        (evolved.documents, evolved.rows) = (rewritten.documents, rewritten.rows);
        self.done(&decision.schema, &evolved)?;
        Ok(Some(evolved))
    }

    /// Goes on with what an earlier run has begun.
    async fn resume(&self, version: UnfinishedVersion) -> Result<EvolvedCollection, Failure> {
        let collection = &self.before.collection;
        let unreadable = || {
            let message = format!("gizer_schema_history does not say how the schema of {collection} was to grow");
            Failure::failed(message)
                .remedy(format!("`{}`, which recreates its tables", command("load", [collection], &[])))
        };
        let schema = file::parse(collection, &version.new.schema).map_err(|_| unreadable())?;
        let after = Layout::new(&schema).map_err(|_| unreadable())?;
        let growth = Growth::between(&self.before, &after).map_err(|_| unreadable())?;
        if layout_hash(&after)? != version.new.layout_after {
            return Err(unreadable());
        }
        let after = Arc::new(after);
        let adopted = adopted_in(&version.new.changes);
        let paths: Vec<String> = adopted.iter().map(|(path, _)| path.clone()).collect();
        let number = version.version;
        self.env.notice(&Notice::EvolveResumes { collection: collection.clone(), documents: version.rewritten.0 });
        let rewritten = self.rewrite(version, &after, &growth, &paths).await?;
        let evolved = EvolvedCollection {
            collection: collection.clone(),
            version: Some(number),
            statements: growth::statements(self.session.schema(), &after, &growth)?,
            documents: rewritten.documents,
            rows: rewritten.rows,
            resumed: true,
            ..EvolvedCollection::default()
        };
        self.done(&schema, &evolved)?;
        Ok(evolved)
    }

    /// Rewrites rows to the end; if PostgreSQL does not take them, everything is as it was before.
    async fn rewrite(
        &self,
        version: UnfinishedVersion,
        after: &Arc<Layout>,
        growth: &Growth,
        paths: &[String],
    ) -> Result<Rewritten, Failure> {
        let (env, session, number) = (self.env, self.session, version.version);
        let why = match version.failed.clone() {
            Some(why) => why,
            None => match rewrite(env, session, version, after, growth, paths).await {
                Ok(rewritten) => return Ok(rewritten),
                Err(failure) if !failure.is_of_the_rows => return Err(failure.failure),
                Err(failure) => failure.failure.message,
            },
        };
        let collection = &self.before.collection;
        fail_point("evolve.before_taking_back");
        take_back(env, session, (&self.before, after), growth, number, &why).await?;
        fail_point("evolve.after_taking_back");
        growth::give_up(session, after, growth, (collection, number), &why, &self.swap_settings()).await?;
        let message = format!("the schema of {collection} could not grow, and is as it was: {why}");
        Err(Failure::failed(message).remedy("forbid the field in the schema file: {\"$as\": \"ignore\"} or \"json\""))
    }

    /// The state has the new version: now its schema file.
    fn done(&self, schema: &Schema, evolved: &EvolvedCollection) -> Result<(), Failure> {
        fail_point("evolve.after_finish");
        let written = self.files.write(schema);
        self.env.observer.observe(Event::Evolved(evolved));
        written.map(drop).map_err(|failure| {
            let message = format!(
                "{}: its schema has grown, and its file could not be written: {failure}",
                self.before.collection
            );
            Failure { message, ..failure }.remedy("make the folder of schema files writable; the next run writes it")
        })
    }

    fn swap_settings(&self) -> SwapSettings {
        SwapSettings { limit: self.env.settings.swap_timeout, ..SwapSettings::default() }
    }
}

/// What is new, for `gizer_schema_history`: `[{"path": "a.b", "chosen": "STRING", "documents": 12}]`.
fn changes(adopted: &[Adopted]) -> String {
    let one =
        |adopted: &Adopted| json!({"path": adopted.path, "chosen": adopted.chosen, "documents": adopted.documents});
    serde_json::Value::from(adopted.iter().map(one).collect::<Vec<_>>()).to_string()
}

/// The inverse, as far as it can be read: paths and what they became.
pub fn adopted_in(changes: &str) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Array(all)) = serde_json::from_str(changes) else { return Vec::new() };
    let text = |of: &serde_json::Value, name: &str| of.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    all.iter().filter_map(|one| Some((text(one, "path")?, text(one, "chosen")?))).collect()
}
