//! `gizer schema infer`: reads documents and writes schema files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use gizer_engine::Counters;
use gizer_engine::pipeline;
use gizer_oplog::{Cluster, Collection, CollectionScan, DocumentSource, Dump, DumpFile, Portion, ScanOptions};
use gizer_schema::infer::{Finding, Inference};
use gizer_schema::names::shortened;
use gizer_schema::{Dialect, Layout, LayoutError, Schema, TableId, pin_names, rename_taken_tables};
use serde_json::{Value, json};

use super::super::load_dump::refuse_with_dump;
use super::super::{Context, Failures, relation_names, unusable_schema, wanted_twice};
use crate::args::{Format, InferArgs};
use crate::exit::{ExitCode, Failure, FailureKind};
use crate::progress::{Expected, Progress};
use crate::report::{self, counted};
use crate::schema_files::SchemaFiles;

/// Infers and writes the schemas. Only such as `load` takes are written; a collection that cannot have one does not keep
/// the others from theirs.
///
/// # Errors
/// [`Failure`] if a collection that was named has a file already, or nothing can be read at all. What becomes of single
/// collections is printed.
pub async fn run(context: &Context, args: &InferArgs) -> Result<ExitCode, Failure> {
    let mut inferred = perform(context, args).await?;
    match args.collections.is_empty() {
        true => inferred.note_empty(),
        false => inferred.fail_empty(),
    }
    if context.format == Format::Json {
        report::json(&inferred.json());
    }
    inferred.failures.print();
    Ok(inferred.failures.exit())
}

const NOTHING_SEEN: &str = "no document was seen: there is nothing to infer from";

/// What became of the collections.
pub(crate) struct Inferred {
    reports: Vec<Value>,
    skipped: Vec<(String, String)>,
    /// Collections in which no document was seen: they have no schema file yet.
    pub(crate) empty: Vec<String>,
    /// Collections whose schema files were written.
    pub(crate) written: Vec<String>,
    pub(crate) failures: Failures,
}

impl Inferred {
    /// Says which collections are empty.
    pub(crate) fn note_empty(&self) {
        for name in &self.empty {
            report::note(format!("skipped {name}: {NOTHING_SEEN}"));
        }
    }

    /// Makes failures of the empty collections, where somebody has named them.
    fn fail_empty(&mut self) {
        for name in &self.empty {
            let remedy = "infer it when it has documents, or write its schema file by hand";
            self.failures.add(name, Failure::failed(NOTHING_SEEN).remedy(remedy));
        }
    }

    pub(crate) fn json(&self) -> Value {
        let skipped: Vec<Value> =
            self.skipped.iter().map(|(name, reason)| json!({"name": name, "reason": reason})).collect();
        let mut object = json!({"collections": self.reports, "skipped": skipped});
        self.failures.add_to(&mut object);
        object
    }
}

/// As [`run`], but for what machines are told and for the failures.
pub(crate) async fn perform(context: &Context, args: &InferArgs) -> Result<Inferred, Failure> {
    let files = context.schema_files()?;
    if !args.force {
        refuse_existing(&files, &args.collections)?;
    }
    let mut job = Job {
        names: Names::of(&files),
        context,
        args,
        files: &files,
        reports: Vec::new(),
        skipped: Vec::new(),
        empty: Vec::new(),
        written: Vec::new(),
        failures: Failures::default(),
        refused: 0,
    };
    if let Err(failure) = context.signals.unless_interrupted(job.infer_all()).await {
        job.failures.end_run(Some(failure), None);
    }
    Ok(job.finish())
}

fn refuse_existing(files: &SchemaFiles, collections: &[String]) -> Result<(), Failure> {
    match collections.iter().find_map(|name| files.existing(name)) {
        Some(path) => {
            Err(Failure::usage(format!("{} is there already", path.display())).remedy("give --force to write over it"))
        }
        None => Ok(()),
    }
}

/// One run of the command.
struct Job<'j> {
    context: &'j Context,
    args: &'j InferArgs,
    files: &'j SchemaFiles,
    names: Names,
    reports: Vec<Value>,
    skipped: Vec<(String, String)>,
    empty: Vec<String>,
    written: Vec<String>,
    failures: Failures,
    /// How many of the skipped were looked at and cannot have a schema file.
    refused: usize,
}

impl Job<'_> {
    async fn infer_all(&mut self) -> Result<(), Failure> {
        if let Some(path) = &self.args.dump {
            return self.infer_dump(path).await;
        }
        let cluster = self.context.mongo().await?;
        let chosen = self.choose(&cluster).await?;
        if !chosen.is_empty() {
            let listed = cluster.listed().await?.into_iter().filter(|collection| collection.skip.is_none());
            self.names.collections.extend(listed.map(|collection| collection.name));
        }
        for collection in chosen {
            match self.infer_one(&cluster, &collection).await {
                Ok(()) => {}
                Err(failure) if failure.ends_run => return Err(failure),
                Err(failure) => self.failed(collection.name, failure),
            }
        }
        Ok(())
    }

    async fn infer_dump(&mut self, path: &Path) -> Result<(), Failure> {
        let args = self.args;
        let only_servers = [
            ("--newest", args.newest.is_some()),
            ("--sample", args.sample.is_some()),
            ("--filter", args.filter.is_some()),
        ];
        for (option, given) in only_servers {
            refuse_with_dump(option, given)?;
        }
        let dump = Dump::open(path)?;
        self.names.collections.extend(dump.files().iter().map(|file| file.collection.clone()));
        for file in self.choose_of_dump(&dump) {
            let scan = file.scan(pipeline::batch_bytes(self.context.config.memory));
            match self.infer_from(&file.collection, scan, file.bytes.map(Expected::Bytes)).await {
                Ok(()) => {}
                Err(failure) if failure.ends_run => return Err(failure),
                Err(failure) => self.failed(file.collection, failure),
            }
        }
        Ok(())
    }

    /// As [`choose`](Job::choose), of a dump.
    fn choose_of_dump(&mut self, dump: &Dump) -> Vec<DumpFile> {
        let mut chosen = Vec::new();
        for name in &self.args.collections {
            match dump.file(name) {
                Ok(file) => chosen.push(file.clone()),
                Err(error) => self.failures.add(name, error.into()),
            }
        }
        if !self.args.collections.is_empty() {
            return chosen;
        }
        for (name, reason) in dump.skipped() {
            self.skip(name.clone(), reason.to_string());
        }
        for file in dump.files() {
            match self.files.existing(&file.collection) {
                Some(path) if !self.args.force => {
                    let reason = format!("{} is there already (--force writes over it)", path.display());
                    self.skip(file.collection.clone(), reason);
                }
                _ => chosen.push(file.clone()),
            }
        }
        chosen
    }

    /// What is inferred; what is not is noted with the reason.
    async fn choose(&mut self, cluster: &Cluster) -> Result<Vec<Collection>, Failure> {
        let mut chosen = Vec::new();
        for name in &self.args.collections {
            match cluster.collection(name).await.map_err(Failure::from) {
                Ok(collection) => chosen.push(collection),
                Err(failure) if failure.ends_run => return Err(failure),
                Err(failure) => self.failures.add(name, failure),
            }
        }
        if !self.args.collections.is_empty() {
            return Ok(chosen);
        }
        for collection in cluster.collections().await? {
            match (&collection.skip, self.files.existing(&collection.name)) {
                (Some(reason), _) => self.skip(collection.name, reason.to_string()),
                (None, Some(path)) if !self.args.force => {
                    let reason = format!("{} is there already (--force writes over it)", path.display());
                    self.skip(collection.name, reason);
                }
                _ => chosen.push(collection),
            }
        }
        Ok(chosen)
    }

    fn skip(&mut self, name: String, reason: String) {
        report::note(format!("skipped {name}: {reason}"));
        self.skipped.push((name, reason));
    }

    /// A collection that nobody named and that can have no schema file is none of those that are copied.
    fn failed(&mut self, name: String, failure: Failure) {
        if !self.args.collections.is_empty() || failure.kind != FailureKind::Usage {
            return self.failures.add(name, failure);
        }
        self.refused += 1;
        self.skip(name, failure.in_a_line());
    }

    async fn infer_one(&mut self, cluster: &Cluster, collection: &Collection) -> Result<(), Failure> {
        let config = &self.context.config;
        let portion = match (self.args.newest, self.args.sample) {
            (Some(count), _) => Portion::Newest(count),
            (None, Some(count)) => Portion::Sample(count),
            (None, None) => Portion::All,
        };
        let batch_bytes = pipeline::batch_bytes(config.memory);
        let filter = self.args.filter.clone();
        let scan = CollectionScan::new(cluster, collection, ScanOptions { portion, batch_bytes, filter })?;
        let most = self.args.newest.or(self.args.sample).unwrap_or(u64::MAX);
        let expected = collection.size().map(|size| Expected::Documents(size.documents.min(most)));
        self.infer_from(&collection.name, scan, expected).await
    }

    async fn infer_from(
        &mut self,
        name: &str,
        source: impl DocumentSource,
        expected: Option<Expected>,
    ) -> Result<(), Failure> {
        let config = &self.context.config;
        let counters = Arc::new(Counters::default());
        let progress = Progress::start(name, Arc::clone(&counters), expected);
        let inference = pipeline::infer(source, config.load_workers, config.memory, counters).await?;
        drop(progress);
        self.write(name, &inference)
    }

    fn write(&mut self, name: &str, inference: &Inference) -> Result<(), Failure> {
        if inference.documents() == 0 {
            self.skipped.push((name.to_owned(), NOTHING_SEEN.to_owned()));
            self.empty.push(name.to_owned());
            return Ok(());
        }
        let (schema, findings) = self.schema(name, inference).map_err(|error| unusable_schema(&error))?;
        let layout = Layout::new(&schema).map_err(|error| unusable_schema(&error))?;
        self.names.check(&layout)?;
        let path = self.files.write(&schema)?;
        self.names.add(&layout);
        self.written.push(name.to_owned());
        if self.context.format == Format::Text {
            tell(name, inference, &path, &findings);
        }
        let findings: Vec<Value> = findings.iter().map(finding_json).collect();
        self.reports.push(json!({
            "name": name, "documents": inference.documents(), "file": path, "findings": findings,
        }));
        Ok(())
    }

    fn schema(&self, name: &str, inference: &Inference) -> Result<(Schema, Vec<Finding>), LayoutError> {
        if self.args.classic {
            return Ok(inference.classic_schema(name));
        }
        let (mut schema, findings) = inference.schema(name);
        // What is written over keeps its names: a later field never renames an old column.
        let previous = self.files.existing(name).and_then(|_| self.files.read(name).ok());
        let previous = previous.and_then(|schema| Layout::new(&schema).ok());
        let previous = previous.as_ref().filter(|previous| previous.dialect != Dialect::Classic);
        pin_names(&mut schema, previous)?;
        rename_taken_tables(&mut schema, |layout, id| self.names.are_taken(layout, id, previous))?;
        Ok((schema, findings))
    }

    fn finish(mut self) -> Inferred {
        if self.refused > 0 && self.reports.is_empty() && self.files.collections().next().is_none() {
            self.failures.end_run(Some(Failure::usage("none of the collections can have a schema file")), None);
        }
        let Job { reports, skipped, empty, written, failures, .. } = self;
        Inferred { reports, skipped, empty, written, failures }
    }
}

/// The names that are no more to be had.
#[derive(Default)]
struct Names {
    /// The tables and keys that each collection's schema file leads to.
    relations: BTreeMap<String, Vec<String>>,
    /// Collections in MongoDB, whose root tables are to have their names.
    collections: BTreeSet<String>,
}

impl Names {
    /// Of the files that are there. One that is unusable is `load`'s to tell, and takes no name.
    fn of(files: &SchemaFiles) -> Names {
        let mut names = Names::default();
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

    /// Whether another collection has the name of this table or of its key. A child table gives way to a collection that may
    /// come to be copied later, unless it had the name before.
    fn are_taken(&self, layout: &Layout, id: TableId, previous: Option<&Layout>) -> bool {
        let name = &layout.table(id).name;
        let key = gizer_pg::ddl::key_names(layout).swap_remove(id.0);
        let others = self.relations.iter().filter(|(other, _)| **other != layout.collection);
        let had_before = previous.is_some_and(|previous| previous.tables.iter().any(|table| table.name == *name));
        let is_collection = id != TableId(0) && !had_before && self.collections.contains(name);
        is_collection || others.flat_map(|(_, names)| names).any(|taken| taken == name || *taken == key)
    }

    /// Whether PostgreSQL can have such tables, and no other collection needs one of their names.
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

fn tell(name: &str, inference: &Inference, path: &Path, findings: &[Finding]) {
    let documents = counted(inference.documents(), "document", "documents");
    let (shown, path) = (report::printable(name), path.display().to_string());
    report::text(&format!("{shown}: {documents} → {}\n", report::printable(&path)));
    findings.iter().for_each(|finding| report::note(format!("  {}", describe(name, finding))));
}

fn describe(collection: &str, finding: &Finding) -> String {
    let name = shortened(&finding.path);
    if finding.names_beyond_limit > 0 {
        let path = if name.is_empty() { collection.to_owned() } else { format!("{collection}.{name}") };
        if finding.chosen == "JSON" {
            let names = counted(finding.names_beyond_limit, "field name", "different field names");
            return format!("{path}: {names}, so that it is kept as JSON");
        }
        let fields = counted(finding.names_beyond_limit, "field", "fields");
        return format!("{path}: {fields} of too many different names have no column");
    }
    let seen: Vec<String> = finding
        .seen
        .iter()
        .map(|(kind, count)| format!("{} {}", report::thousands(*count), kind.report_name()))
        .collect();
    format!("{collection}.{name}: {} chosen, seen: {}", finding.chosen, seen.join(", "))
}

fn finding_json(finding: &Finding) -> Value {
    let seen: serde_json::Map<String, Value> =
        finding.seen.iter().map(|(kind, count)| (kind.report_name().to_owned(), json!(count))).collect();
    json!({
        "path": finding.path, "chosen": finding.chosen, "seen": seen, "names_beyond_limit": finding.names_beyond_limit,
    })
}
