//! Inference: reads documents and writes schema files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gizer_oplog::{Cluster, Collection, CollectionScan, DocumentSource, Dump, DumpFile, Portion, ScanOptions};
use gizer_schema::infer::{Finding, Inference, InferenceRules, Limits, MapRules};
use gizer_schema::{Dialect, Layout, LayoutError, Schema, TableId, pin_names, rename_taken_tables};

use crate::counters::{Counters, ExpectedWork};
use crate::env::Env;
use crate::failure::{Failure, FailureKind};
use crate::failures::Failures;
use crate::layouts::{relation_names, unusable_schema, wanted_twice};
use crate::load::refuse_with_dump;
use crate::notice::Notice;
use crate::observer::{Activity, Event};
use crate::pipeline;
use crate::schema_files::SchemaFiles;

/// Options of an inference.
#[derive(Debug, Clone, Default)]
pub struct InferOptions {
    /// Collections; empty for all without a schema file.
    pub collections: Vec<String>,
    /// Whether existing schema files are overwritten.
    pub overwrites: bool,
    /// Only this many documents, greatest `_id` first.
    pub newest: Option<u64>,
    /// Only this many random documents.
    pub sample: Option<u64>,
    /// Only documents that match this query.
    pub filter: Option<bson::Document>,
    /// A dump to read instead of a server.
    pub dump: Option<PathBuf>,
    /// Whether to use the classic dialect.
    pub classic: bool,
    /// Whether no object becomes a map.
    pub no_maps: bool,
    /// Field names from which on an object may become a map, where names are words; 24 unless told.
    pub map_names: Option<u64>,
    /// Tables that a collection gets at most; 200 unless told.
    pub max_tables: Option<usize>,
    /// Columns that a table gets at most; 1,000 unless told.
    pub max_columns: Option<usize>,
}

impl InferOptions {
    fn rules(&self) -> InferenceRules {
        let (maps, limits) = (MapRules::default(), Limits::default());
        InferenceRules {
            maps: (!self.no_maps).then(|| MapRules { names: self.map_names.unwrap_or(maps.names), ..maps }),
            limits: Limits {
                tables: self.max_tables.unwrap_or(limits.tables),
                columns: self.max_columns.unwrap_or(limits.columns),
            },
        }
    }
}

/// Results of an inference.
#[derive(Debug)]
pub struct InferReport {
    /// Written schema files.
    pub written: Vec<InferredSchema>,
    /// Skipped collections, and those that cannot have a schema file, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Collections without documents, which have no schema file yet.
    pub empty: Vec<String>,
    /// Failures.
    pub failures: Failures,
}

/// A written schema file.
#[derive(Debug, Clone)]
pub struct InferredSchema {
    /// The collection.
    pub collection: String,
    /// Number of documents read.
    pub documents: u64,
    /// The file.
    pub file: PathBuf,
    /// What was chosen where types differ.
    pub findings: Vec<Finding>,
}

/// The reason for a collection without documents.
pub const NOTHING_SEEN: &str = "no document was seen: there is nothing to infer from";

/// Infers schemas and writes their files. Only loadable schemas are written; a collection that
/// cannot have one does not stop the others.
///
/// # Errors
/// [`Failure`] if a named collection has a file already, or the folder cannot be read.
pub async fn infer(env: &Env, options: &InferOptions) -> Result<InferReport, Failure> {
    let files = env.schema_files()?;
    if !options.overwrites {
        refuse_existing(&files, &options.collections)?;
    }
    let (written, skipped, empty, failures) = Default::default();
    let inferred = InferReport { written, skipped, empty, failures };
    let mut job = InferJob { names: TakenNames::of(&files), env, options, files: &files, inferred, refused: 0 };
    if let Err(failure) = env.stop.or_done(job.infer_all()).await {
        job.inferred.failures.end_run(Some(failure), None);
    }
    Ok(job.finish())
}

fn refuse_existing(files: &SchemaFiles, collections: &[String]) -> Result<(), Failure> {
    match collections.iter().find_map(|name| files.existing(name)) {
        Some(path) => {
            Err(Failure::usage(format!("{} already exists", path.display())).remedy("use --force to overwrite it"))
        }
        None => Ok(()),
    }
}

/// Why a collection that has a schema file is skipped.
fn already_exists(path: &Path) -> String {
    format!("{} already exists (--force overwrites it)", path.display())
}

/// A running inference.
struct InferJob<'j> {
    env: &'j Env,
    options: &'j InferOptions,
    files: &'j SchemaFiles,
    names: TakenNames,
    inferred: InferReport,
    /// How many of the skipped cannot have a schema file.
    refused: usize,
}

impl InferJob<'_> {
    async fn infer_all(&mut self) -> Result<(), Failure> {
        if let Some(path) = &self.options.dump {
            return self.infer_dump(path).await;
        }
        let cluster = self.env.mongo().await?;
        let chosen = self.choose(&cluster).await?;
        if !chosen.is_empty() {
            let listed = cluster.listed().await?.into_iter().filter(|collection| collection.skip.is_none());
            self.names.collections.extend(listed.map(|collection| collection.name));
        }
        for collection in chosen {
            let outcome = self.infer_one(&cluster, &collection).await;
            self.note(collection.name, outcome)?;
        }
        Ok(())
    }

    async fn infer_dump(&mut self, path: &Path) -> Result<(), Failure> {
        let options = self.options;
        let only_servers = [
            ("--newest", options.newest.is_some()),
            ("--sample", options.sample.is_some()),
            ("--filter", options.filter.is_some()),
        ];
        for (option, given) in only_servers {
            refuse_with_dump(option, given)?;
        }
        let dump = Dump::open(path)?;
        self.names.collections.extend(dump.files().iter().map(|file| file.collection.clone()));
        for file in self.choose_of_dump(&dump) {
            let scan = file.scan(pipeline::batch_bytes(self.env.settings.memory));
            let outcome = self.infer_from(&file.collection, scan, file.bytes.map(ExpectedWork::Bytes)).await;
            self.note(file.collection, outcome)?;
        }
        Ok(())
    }

    /// As [`choose`](InferJob::choose), for a dump.
    fn choose_of_dump(&mut self, dump: &Dump) -> Vec<DumpFile> {
        let mut chosen = Vec::new();
        for name in &self.options.collections {
            match dump.file(name) {
                Ok(file) => chosen.push(file.clone()),
                Err(error) => self.inferred.failures.add(name, error.into()),
            }
        }
        if !self.options.collections.is_empty() {
            return chosen;
        }
        for (name, reason) in dump.skipped() {
            self.skip(name.clone(), reason.to_string());
        }
        for file in dump.files() {
            match self.files.existing(&file.collection) {
                Some(path) if !self.options.overwrites => self.skip(file.collection.clone(), already_exists(path)),
                _ => chosen.push(file.clone()),
            }
        }
        chosen
    }

    /// Chooses collections; others are noted with the reason.
    async fn choose(&mut self, cluster: &Cluster) -> Result<Vec<Collection>, Failure> {
        let mut chosen = Vec::new();
        for name in &self.options.collections {
            match cluster.collection(name).await.map_err(Failure::from) {
                Ok(collection) => chosen.push(collection),
                Err(failure) if failure.ends_run => return Err(failure),
                Err(failure) => self.inferred.failures.add(name, failure),
            }
        }
        if !self.options.collections.is_empty() {
            return Ok(chosen);
        }
        for collection in cluster.collections().await? {
            match (&collection.skip, self.files.existing(&collection.name)) {
                (Some(reason), _) => self.skip(collection.name, reason.to_string()),
                (None, Some(path)) if !self.options.overwrites => self.skip(collection.name, already_exists(path)),
                _ => chosen.push(collection),
            }
        }
        Ok(chosen)
    }

    fn skip(&mut self, name: String, reason: String) {
        self.env.notice(&Notice::Skipped { name: name.clone(), reason: reason.clone() });
        self.inferred.skipped.push((name, reason));
    }

    /// Notes why a collection has no schema file, or returns the failure if it ends the run. An
    /// unnamed collection that cannot have a schema file is skipped.
    fn note(&mut self, name: String, outcome: Result<(), Failure>) -> Result<(), Failure> {
        match outcome {
            Err(failure) if failure.ends_run => return Err(failure),
            Err(failure) if self.options.collections.is_empty() && failure.kind == FailureKind::Usage => {
                self.refused += 1;
                self.skip(name, failure.in_a_line());
            }
            Err(failure) => self.inferred.failures.add(name, failure),
            Ok(()) => {}
        }
        Ok(())
    }

    async fn infer_one(&mut self, cluster: &Cluster, collection: &Collection) -> Result<(), Failure> {
        let settings = &self.env.settings;
        let portion = match (self.options.newest, self.options.sample) {
            (Some(count), _) => Portion::Newest(count),
            (None, Some(count)) => Portion::Sample(count),
            (None, None) => Portion::All,
        };
        let batch_bytes = pipeline::batch_bytes(settings.memory);
        let filter = self.options.filter.clone();
        let scan = CollectionScan::new(cluster, collection, ScanOptions { portion, batch_bytes, filter })?;
        let most = self.options.newest.or(self.options.sample).unwrap_or(u64::MAX);
        let expected = collection.size().map(|size| ExpectedWork::Documents(size.documents.min(most)));
        self.infer_from(&collection.name, scan, expected).await
    }

    async fn infer_from(
        &mut self,
        name: &str,
        source: impl DocumentSource,
        expected: Option<ExpectedWork>,
    ) -> Result<(), Failure> {
        let settings = &self.env.settings;
        let counters = Arc::new(Counters::default());
        let progress = self.env.observer.begin(Activity::counted(name, &counters, expected));
        let inference = pipeline::infer(source, settings.load_workers, settings.memory, counters).await?;
        drop(progress);
        self.write(name, &inference)
    }

    fn write(&mut self, name: &str, inference: &Inference) -> Result<(), Failure> {
        if inference.documents() == 0 {
            self.inferred.skipped.push((name.to_owned(), NOTHING_SEEN.to_owned()));
            self.inferred.empty.push(name.to_owned());
            return Ok(());
        }
        let (schema, findings) = self.schema(name, inference).map_err(|error| unusable_schema(&error))?;
        let layout = Layout::new(&schema).map_err(|error| unusable_schema(&error))?;
        self.names.check(&layout)?;
        let file = self.files.write(&schema)?;
        self.names.add(&layout);
        let written = InferredSchema { collection: name.to_owned(), documents: inference.documents(), file, findings };
        self.env.observer.observe(Event::Inferred(&written));
        self.inferred.written.push(written);
        Ok(())
    }

    fn schema(&self, name: &str, inference: &Inference) -> Result<(Schema, Vec<Finding>), LayoutError> {
        if self.options.classic {
            return Ok(inference.classic_schema(name));
        }
        let (mut schema, findings) = inference.schema_by(name, &self.options.rules());
        // An overwritten file keeps its names: a new field never renames an old column.
        let previous = self.files.existing(name).and_then(|_| self.files.read(name).ok());
        let previous = previous.and_then(|schema| Layout::new(&schema).ok());
        let previous = previous.as_ref().filter(|previous| previous.dialect != Dialect::Classic);
        pin_names(&mut schema, previous)?;
        rename_taken_tables(&mut schema, |layout, id| self.names.are_taken(layout, id, previous))?;
        Ok((schema, findings))
    }

    fn finish(mut self) -> InferReport {
        let nothing_written = self.inferred.written.is_empty() && self.files.collections().next().is_none();
        if self.refused > 0 && nothing_written {
            let failure = Failure::usage("none of the collections can have a schema file");
            self.inferred.failures.end_run(Some(failure), None);
        }
        self.inferred
    }
}

#[derive(Default)]
struct TakenNames {
    /// Tables and keys of each collection's schema file.
    relations: BTreeMap<String, Vec<String>>,
    /// Collections in MongoDB; their names are reserved for their root tables.
    collections: BTreeSet<String>,
}

impl TakenNames {
    /// The names of existing files. An unusable file is reported by `load`, and takes none.
    fn of(files: &SchemaFiles) -> TakenNames {
        let mut names = TakenNames::default();
        for collection in files.collections() {
            if let Some(layout) = files.read(collection).ok().and_then(|schema| Layout::new(&schema).ok()) {
                names.add(&layout);
            }
        }
        names
    }

    fn add(&mut self, layout: &Layout) {
        self.relations.insert(layout.collection.clone(), relation_names(layout));
    }

    /// Whether another collection has the name of this table or of its key. A child table yields to
    /// a collection that may be copied later, unless it already had the name.
    fn are_taken(&self, layout: &Layout, id: TableId, previous: Option<&Layout>) -> bool {
        let name = &layout.table(id).name;
        let key = gizer_pg::ddl::key_names(layout).swap_remove(id.0);
        let others = self.relations.iter().filter(|(other, _)| **other != layout.collection);
        let had_before = previous.is_some_and(|previous| previous.tables.iter().any(|table| table.name == *name));
        let is_collection = id != TableId(0) && !had_before && self.collections.contains(name);
        is_collection || others.flat_map(|(_, names)| names).any(|taken| taken == name || *taken == key)
    }

    /// Checks that PostgreSQL can have such tables, and that no other collection needs their names.
    fn check(&self, layout: &Layout) -> Result<(), Failure> {
        if let Err(error) = gizer_pg::ddl::render(layout, "any") {
            return Err(Failure::usage(error.to_string()));
        }
        let own = relation_names(layout);
        for (other, names) in self.relations.iter().filter(|(other, _)| **other != layout.collection) {
            if let Some(name) = own.iter().find(|name| names.contains(name)) {
                return Err(wanted_twice(&[other, &layout.collection], layout, name));
            }
        }
        Ok(())
    }
}
