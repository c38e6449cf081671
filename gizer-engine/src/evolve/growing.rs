//! One collection whose schema grows.

use std::sync::Arc;
use std::time::Instant;

use gizer_pg::Session;
use gizer_pg::ddl::layout_hash;
use gizer_pg::growth;
use gizer_pg::load::SwapSettings;
use gizer_pg::state::{self, NewVersion, UnfinishedVersion};
use gizer_schema::infer::{LeftBecause, LeftInExtra};
use gizer_schema::{Dialect, Growth, Layout, Schema, file};

use super::decide::{self, Decision, VersionKind};
use super::evidence::{self, Evidence};
use super::rewrite::{Rewritten, rewrite, take_back};
use super::{EvolveOptions, EvolvedCollection, Occasion, changes, changes_in};
use crate::env::Env;
use crate::fail_point::fail_point;
use crate::failure::{Failure, FailureKind};
use crate::layouts::unusable_schema;
use crate::notice::Notice;
use crate::observer::Event;
use crate::schema_files::SchemaFiles;
use crate::wording::command;

/// A collection whose schema may grow.
pub(super) struct Growing<'g> {
    pub(super) env: &'g Env,
    pub(super) session: &'g Session,
    pub(super) files: SchemaFiles,
    pub(super) schema: Schema,
    pub(super) before: Arc<Layout>,
}

impl<'g> Growing<'g> {
    /// `None` if it is not followed any more, or cannot grow and was not named.
    pub(super) async fn of(
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

    /// What of the stored rows has no place.
    pub(super) async fn gather(&self) -> Result<Evidence, Failure> {
        evidence::gather(self.session, &self.before, &self.env.settings.evolve).await
    }

    /// What should come of it.
    pub(super) fn decide(&self, seen: &Evidence, kind: VersionKind) -> Result<Decision, Failure> {
        decide::decide(self.env, &self.schema, &self.before, seen, kind)
    }

    /// What would be done.
    pub(super) async fn foresee(&self) -> Result<EvolvedCollection, Failure> {
        let seen = self.gather().await?;
        let widening = self.report(&self.decide(&seen, VersionKind::Widens)?);
        let EvolvedCollection { widened, swap_statements, .. } = widening;
        Ok(EvolvedCollection { widened, swap_statements, ..self.report(&self.decide(&seen, VersionKind::Adopts)?) })
    }

    pub(super) fn report(&self, decision: &Decision) -> EvolvedCollection {
        let is_left = |left: &&LeftInExtra| !matches!(left.why, LeftBecause::WideningOff { .. });
        EvolvedCollection {
            collection: self.before.collection.clone(),
            adopted: decision.adopted.clone(),
            widened: decision.widened.clone(),
            left: decision.left.iter().filter(is_left).cloned().collect(),
            unreadable: decision.unreadable,
            statements: decision.statements(self.session.schema()).unwrap_or_default(),
            swap_statements: decision.swap_statements(self.session.schema()).unwrap_or_default(),
            tables: decision.tables(),
            ..EvolvedCollection::default()
        }
    }

    /// Whether this is not to be done unasked, since it could not be done before.
    pub(super) async fn is_given_up(&self, decision: &Decision, occasion: Occasion) -> Result<bool, Failure> {
        let collection = &self.before.collection;
        Ok(occasion == Occasion::Due
            && state::has_failed(self.session, collection, &layout_hash(&decision.after)?).await?)
    }

    /// What is recorded of a version before anything is done that its schema file could not tell.
    pub(super) fn new_version(&self, decision: &Decision) -> Result<NewVersion, Failure> {
        self.files.check_writable()?;
        Ok(NewVersion {
            collection: self.before.collection.clone(),
            layout_before: layout_hash(&self.before)?,
            layout_after: layout_hash(&decision.after)?,
            schema_before: file::write(&self.schema),
            schema: file::write(&decision.schema),
            changes: changes(&decision.adopted, &decision.widened),
        })
    }

    /// Gives places to what has none.
    pub(super) async fn adopt(&self, seen: &Evidence, occasion: Occasion) -> Result<EvolvedCollection, Failure> {
        let began = Instant::now();
        let decision = self.decide(seen, VersionKind::Adopts)?;
        let mut evolved = self.report(&decision);
        if decision.adopted.is_empty() || self.is_given_up(&decision, occasion).await? {
            return Ok(evolved);
        }
        let (new, settings) = (self.new_version(&decision)?, self.swap_settings());
        let version = growth::begin(self.session, &decision.after, &decision.growth, &new, &settings).await?;
        fail_point("evolve.after_begin");
        evolved.version = Some(version.version);
        let paths: Vec<String> = decision.adopted.iter().map(|adopted| adopted.path.clone()).collect();
        let rewritten = self.rewrite(version, &decision.after, &decision.growth, &paths).await?;
        (evolved.documents, evolved.rows) = (rewritten.documents, rewritten.rows);
        evolved.took = began.elapsed();
        self.done(&decision.schema, &evolved)?;
        Ok(evolved)
    }

    /// Resumes what an earlier run has begun.
    pub(super) async fn resume(&self, version: UnfinishedVersion) -> Result<EvolvedCollection, Failure> {
        let (began, collection) = (Instant::now(), &self.before.collection);
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
        let paths: Vec<String> = changes_in(&version.new.changes).into_iter().map(|change| change.path).collect();
        let number = version.version;
        self.env.notice(&Notice::EvolveResumes { collection: collection.clone(), documents: version.rewritten.0 });
        let rewritten = match growth.retyped.is_empty() {
            true => self.rewrite(version, &after, &growth, &paths).await?,
            false => self.resume_widening(version, &after, &growth, &paths).await?,
        };
        let evolved = EvolvedCollection {
            collection: collection.clone(),
            version: Some(number),
            statements: growth::statements(self.session.schema(), &after, &growth)?,
            documents: rewritten.documents,
            rows: rewritten.rows,
            resumed: true,
            took: began.elapsed(),
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
    pub(super) fn done(&self, schema: &Schema, evolved: &EvolvedCollection) -> Result<(), Failure> {
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

    pub(super) fn swap_settings(&self) -> SwapSettings {
        SwapSettings { limit: self.env.settings.swap_timeout, ..SwapSettings::default() }
    }
}
