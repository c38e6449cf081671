//! Collects the state of both servers and of the schema files.

use std::collections::{BTreeMap, BTreeSet};

use gizer_flatten::change::{ClusterTime, SourcePosition};
use gizer_oplog::{Cluster, Collection, LogWindow, MongoError, Oplog};
use gizer_pg::Session;
use gizer_pg::ddl::layout_hash;
use gizer_pg::load::changed_tables;
use gizer_pg::state::{self, Choice, CollectionState, CollectionStatus, Expected, Followed, Status};
use gizer_schema::{ColumnType, KeySource, Layout, Schema};

use super::decide::{Facts, KeyFit, Presence, SchemaFile};
use crate::env::Env;
use crate::evolve::schemas_to_restore;
use crate::failure::Failure;
use crate::layouts::{Layouts, unusable_schema};
use crate::selection::Selection;

const ID: &str = "_id";

/// State of both servers and of the schema files.
pub struct Overview {
    /// Layouts of the schema files.
    pub layouts: Layouts,
    /// Collections in MongoDB, by name.
    pub source: BTreeMap<String, Collection>,
    /// The state tables; `None` before the first load.
    pub status: Option<Status>,
    /// The oplogs, by shard.
    pub logs: BTreeMap<String, LogStanding>,
    /// Followed collections.
    followed: Vec<Followed>,
    /// Changes of tables by others, by collection.
    changed: BTreeMap<String, String>,
    /// Collections with `_id`s that do not fit the key's column.
    unfit_keys: BTreeSet<String>,
}

/// State of one oplog.
#[derive(Debug)]
pub struct LogStanding {
    /// Its range.
    pub window: LogWindow,
    /// Time from which it is needed; `None` if nothing is followed.
    pub needed: Option<ClusterTime>,
}

/// Whether collections' sizes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// Wanted.
    Wanted,
    /// Not wanted.
    NotWanted,
}

/// Whether any collection has followed tables.
fn has_tables(status: Option<&Status>) -> bool {
    let has_tables = |known: &CollectionStatus| known.live && known.state != CollectionState::Copy;
    status.is_some_and(|status| status.collections.iter().any(has_tables))
}

impl Overview {
    /// Reads the state and changes nothing. Sizes are queried, one by one, only if wanted.
    ///
    /// # Errors
    /// [`Failure`] if one of the servers or the folder of schema files cannot be read.
    pub async fn look(
        env: &Env,
        session: &Session,
        cluster: &Cluster,
        oplogs: &[Oplog],
        sizes: Sizes,
    ) -> Result<Overview, Failure> {
        let mut layouts = match env.schema_files()?.collections().next() {
            Some(_) => Layouts::read(env, &[])?,
            None => Layouts { usable: Vec::new(), failures: Default::default() },
        };
        // The next run writes these files: nothing is due because of them.
        for schema in schemas_to_restore(env, session).await? {
            let layout = Layout::new(&schema).map_err(|error| unusable_schema(&error))?;
            let old = layouts.usable.iter_mut().find(|old| old.collection == layout.collection);
            old.into_iter().for_each(|old| *old = layout.clone());
        }
        let status = state::read_status(session, 0).await?;
        let followed = state::read_followed(session).await?;
        let source = match sizes {
            Sizes::Wanted => cluster.collections().await,
            Sizes::NotWanted => cluster.listed().await,
        };
        let source = match source {
            Ok(collections) => collections,
            // It was dropped, which empties its tables.
            Err(MongoError::NoSuchDatabase { .. }) if has_tables(status.as_ref()) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let source = source.into_iter().map(|collection| (collection.name.clone(), collection)).collect();
        let known = |layout: &&Layout| {
            let mut known = status.iter().flat_map(|status| &status.collections);
            known.any(|known| known.live && known.collection == layout.collection)
        };
        let with_tables: Vec<&Layout> = layouts.usable.iter().filter(known).collect();
        let changed = changed_tables(session, &with_tables).await?;
        let mut unfit_keys = state::collections_with_unfit_keys(session).await?;
        // Whose key is pinned keeps it, and its documents stay rejected.
        let files = env.schema_files()?;
        let is_pinned = |schema: Schema| schema.fields.get(ID).is_some_and(|id| id.pinned);
        unfit_keys.retain(|name| !files.read(name).is_ok_and(is_pinned));
        let mut standing = Overview { layouts, source, status, logs: BTreeMap::new(), followed, changed, unfit_keys };
        for oplog in oplogs {
            let window = oplog.window().await?;
            let needed = standing.positions_on(oplog.name()).map(|at| at.time()).min();
            standing.logs.insert(oplog.name().to_owned(), LogStanding { window, needed });
        }
        Ok(standing)
    }

    /// Positions of followed collections on a shard.
    fn positions_on(&self, shard: &str) -> impl Iterator<Item = SourcePosition> {
        self.followed.iter().filter_map(move |followed| self.position_of(followed, shard))
    }

    fn position_of(&self, followed: &Followed, shard: &str) -> Option<SourcePosition> {
        followed.position_on(&self.status.as_ref()?.stream, shard)
    }

    /// The recorded expected collections.
    fn expected(&self) -> &[Expected] {
        self.status.as_ref().map_or(&[], |status| &status.expected)
    }

    /// The recorded choice of expected collections, if any.
    pub fn choice(&self) -> Option<Choice> {
        state::choice(self.expected())
    }

    /// The state of a collection.
    pub fn known(&self, name: &str) -> Option<&CollectionStatus> {
        self.status.as_ref()?.collections.iter().find(|known| known.collection == name)
    }

    /// The layout for loading a collection.
    pub fn layout(&self, name: &str) -> Option<&Layout> {
        self.layouts.usable.iter().find(|layout| layout.collection == name)
    }

    /// Facts about every known collection, by name.
    ///
    /// # Errors
    /// [`Failure`] if a layout leads to tables that PostgreSQL cannot have.
    pub fn facts(&self, selection: &Selection) -> Result<Vec<Facts>, Failure> {
        let mut names: Vec<&str> = self.source.keys().map(String::as_str).collect();
        names.extend(self.layouts.usable.iter().map(|layout| layout.collection.as_str()));
        names.extend(self.layouts.failures.names());
        let known = self.status.iter().flat_map(|status| &status.collections);
        names.extend(known.map(|known| known.collection.as_str()));
        names.extend(self.expected().iter().map(|expected| expected.collection.as_str()));
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| self.facts_of(name, selection)).collect()
    }

    fn facts_of(&self, name: &str, selection: &Selection) -> Result<Facts, Failure> {
        let schema = match (self.layout(name), self.layouts.failures.of(name)) {
            (Some(layout), _) => SchemaFile::Usable {
                hash: layout_hash(layout)?,
                has_underscore_id: layout.key.source == KeySource::UnderscoreId,
            },
            (None, Some(failure)) => SchemaFile::Unusable { why: failure.to_string(), remedy: failure.remedy.clone() },
            (None, None) => SchemaFile::Missing,
        };
        let source = match self.source.get(name) {
            None => Presence::Absent,
            Some(collection) => collection.skip.map_or(Presence::There, Presence::Skipped),
        };
        let followed = self.followed.iter().find(|followed| followed.collection == name);
        let rolled_over = followed.and_then(|followed| {
            let gone = |(shard, log): &(&String, &LogStanding)| {
                self.position_of(followed, shard).is_some_and(|at| !log.window.holds(at.time()))
            };
            self.logs.iter().find(gone).map(|(shard, _)| shard.clone())
        });
        let expected = self.expected().iter().find(|expected| expected.collection == name);
        let stream_is_empty = self.status.as_ref().is_none_or(|status| status.stream.is_empty());
        Ok(Facts {
            name: name.to_owned(),
            schema,
            source,
            known: self.known(name).cloned(),
            rolled_over,
            position_lost: stream_is_empty && followed.is_some_and(|followed| followed.joined),
            lost: None,
            estimate: None,
            tables_changed: self.changed.get(name).cloned(),
            is_recorded: expected.is_some(),
            obstacle: expected.and_then(|expected| expected.obstacle.clone()),
            is_excluded: selection.excludes(name),
            key: self.key_fit(name, expected)?,
        })
    }

    fn key_fit(&self, name: &str, expected: Option<&Expected>) -> Result<KeyFit, Failure> {
        let inferred = expected.and_then(|expected| expected.inferred_hash.as_ref());
        let (Some(layout), Some(inferred)) = (self.layout(name), inferred) else { return Ok(KeyFit::Settled) };
        Ok(match layout.key.ty {
            ColumnType::Key => KeyFit::Settled,
            _ if layout_hash(layout)? != *inferred => KeyFit::Settled,
            _ if self.unfit_keys.contains(name) => KeyFit::Unfit,
            _ => KeyFit::Open,
        })
    }
}
