//! An extract: collections into text files, as the classic tool wrote them. No PostgreSQL is needed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use gizer_flatten::change::{Namespace, Positions};
use gizer_oplog::{Cluster, Collection, RangeScan, RangeSource, ScanOptions, newest_positions, plan_segments};
use gizer_pg::csv::{ExtractFolder, ExtractedCollection, FILE_BYTES, FileSink, Manifest};
use gizer_pg::load::LoadSource;
use gizer_pg::{ddl, printable};
use gizer_schema::{KeySource, Layout};

use super::LoadedCollection;
use super::begin::SEGMENTS_A_CURSOR;
use super::dump::{self, COPY_OF_A_DUMP};
use super::fill::{DocumentInput, ledger};
use crate::counters::{Counters, ExpectedWork};
use crate::env::Env;
use crate::failure::Failure;
use crate::layouts::{Layouts, prefixed};
use crate::notice::Notice;
use crate::observer::Activity;
use crate::pipeline::{self, RejectLimit};
use crate::unfit::UnfitReport;
use crate::wording::counted;

/// Options of an extract.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// Collections; empty for all that have a schema file.
    pub collections: Vec<String>,
    /// The folder, which must be empty or new.
    pub folder: PathBuf,
    /// Whether an earlier extract in the folder is replaced.
    pub replaces: bool,
    /// The PostgreSQL schema named in the SQL.
    pub schema: String,
    /// Output file for the tables' SQL.
    pub ddl_file: Option<PathBuf>,
    /// Output file for row counts: a line `table count` for each table.
    pub stats_file: Option<PathBuf>,
    /// Prefix of all tables and folders: makes a copy, which cannot be followed.
    pub prefix: Option<String>,
    /// Limit of rejected documents per collection.
    pub max_rejects: u64,
    /// A query: makes a copy, which cannot be followed.
    pub filter: Option<bson::Document>,
    /// A dump to read instead of a server.
    pub dump: Option<PathBuf>,
}

/// Extracts all collections, or fails and marks the extract as incomplete.
///
/// # Errors
/// [`Failure`] of the first problem.
pub async fn extract(env: &Env, options: &ExtractOptions) -> Result<Vec<LoadedCollection>, Failure> {
    let filtered = options.filter.is_some();
    let (dump, Layouts { usable, failures }) =
        dump::open(env, options.dump.as_deref(), filtered, &options.collections)?;
    // A partial extract would be mistaken for a complete one.
    if let Some(failure) = failures.into_first() {
        return Err(failure);
    }
    let parts =
        usable.iter().map(|layout| ExtractPart::new(layout, options)).collect::<Result<Vec<ExtractPart>, Failure>>()?;
    let work = async {
        match &dump {
            Some(dump) => {
                let open = async |part: &ExtractPart| {
                    let source = LoadSource::Copy { reason: COPY_OF_A_DUMP.to_owned() };
                    let input = dump::input(env, dump, &part.name)?;
                    Ok((Origin { namespace: None, uuid: None, source }, input))
                };
                extract_all(env, options, &parts, &open).await
            }
            None => {
                let server = ServerCollections::connect(env, options, &parts).await?;
                extract_all(env, options, &parts, &async |part: &ExtractPart| server.open(part).await).await
            }
        }
    };
    env.stop.or_done(work).await
}

/// A collection to extract.
struct ExtractPart {
    /// The collection's name in MongoDB.
    name: String,
    /// Its tables, with the prefix.
    layout: Layout,
    layout_hash: String,
    sql: String,
}

impl ExtractPart {
    fn new(layout: &Layout, options: &ExtractOptions) -> Result<ExtractPart, Failure> {
        let name = layout.collection.clone();
        let layout = prefixed(layout, options.prefix.as_deref())?;
        let sql = printable::sql(&ddl::render(&layout, &options.schema)?);
        Ok(ExtractPart { name, layout_hash: ddl::layout_hash(&layout)?, sql, layout })
    }
}

/// A collection's origin, before its first document is read.
struct Origin {
    namespace: Option<Namespace>,
    uuid: Option<[u8; 16]>,
    source: LoadSource,
}

struct ServerCollections<'e> {
    env: &'e Env,
    options: &'e ExtractOptions,
    cluster: Cluster,
    collections: Vec<Collection>,
}

impl<'e> ServerCollections<'e> {
    /// Connects and checks that all collections exist, before anything is written.
    async fn connect(
        env: &'e Env,
        options: &'e ExtractOptions,
        parts: &[ExtractPart],
    ) -> Result<ServerCollections<'e>, Failure> {
        let cluster = env.mongo().await?;
        let mut collections = Vec::new();
        for part in parts {
            collections.push(cluster.collection(&part.name).await?);
        }
        Ok(ServerCollections { env, options, cluster, collections })
    }

    /// Current position of each shard, or why the extract can only be a copy.
    async fn source(&self, part: &ExtractPart) -> LoadSource {
        let copy = |reason: &str| LoadSource::Copy { reason: reason.to_owned() };
        if self.options.filter.is_some() {
            return copy("it was extracted with --filter, so that it is only a part of the collection");
        }
        if self.options.prefix.is_some() {
            return copy("it was extracted with --prefix, as a copy next to the tables of the collection");
        }
        if part.layout.key.source == KeySource::Id {
            return copy("its schema has no _id, without which changes cannot be followed");
        }
        let positions = async { Ok::<Positions, Failure>(newest_positions(&self.cluster.oplogs().await?).await?) };
        match positions.await {
            Ok(captured) => LoadSource::Followable { captured },
            // An extract needs no oplog. If the server is gone, reading reports it.
            Err(failure) => {
                let notice = Notice::NotFollowable { collection: part.name.clone(), failure: failure.clone() };
                self.env.notice(&notice);
                LoadSource::Copy { reason: format!("it was extracted without a position in the oplog: {failure}") }
            }
        }
    }

    /// A collection's origin, and its documents.
    async fn open(&self, part: &ExtractPart) -> Result<(Origin, DocumentInput<RangeScan>), Failure> {
        let collection = self.collections.iter().find(|collection| collection.name == part.name);
        let collection = collection.ok_or_else(|| Failure::failed(format!("{} was not looked for", part.name)))?;
        let settings = &self.env.settings;
        // Taken before the first document is read, so that later changes are in the oplog after it.
        let source = self.source(part).await;
        let segments = plan_segments(&self.cluster, collection, settings.load_workers * SEGMENTS_A_CURSOR).await?;
        let options = ScanOptions {
            batch_bytes: pipeline::range_bytes(settings.memory),
            filter: self.options.filter.clone(),
            ..ScanOptions::default()
        };
        let sources = RangeScan::cursors(&self.cluster, collection, segments, options, settings.load_workers)?;
        let expected = collection.size().filter(|_| self.options.filter.is_none()).map(|size| size.documents);
        let origin = Origin {
            namespace: Some(self.cluster.namespace(&collection.name)),
            uuid: collection.sources.iter().flatten().find_map(|source| source.uuid),
            source,
        };
        Ok((origin, DocumentInput { sources, expected: expected.map(ExpectedWork::Documents) }))
    }
}

/// Extracts all parts; `open` returns the origin of one, and its documents.
async fn extract_all<S: RangeSource + 'static>(
    env: &Env,
    options: &ExtractOptions,
    parts: &[ExtractPart],
    open: &impl AsyncFn(&ExtractPart) -> Result<(Origin, DocumentInput<S>), Failure>,
) -> Result<Vec<LoadedCollection>, Failure> {
    let layouts: Vec<Layout> = parts.iter().map(|part| part.layout.clone()).collect();
    let files: Vec<&Path> = options.ddl_file.iter().chain(&options.stats_file).map(AsRef::as_ref).collect();
    check_folders(options, &files)?;
    let folder = ExtractFolder::create(&options.folder, &layouts, &files, options.replaces)?;
    let filter = options.filter.as_ref().and_then(|filter| serde_json::to_string(filter).ok());
    let mut manifest = Manifest::new(options.prefix.clone(), filter);
    let mut reports = Vec::new();
    for part in parts {
        let (origin, input) = open(part).await?;
        let (extracted, report) = extract_one(env, options, part, &folder, origin, input).await?;
        manifest.collections.push(extracted);
        reports.push(report);
    }
    if let Some(path) = &options.stats_file {
        let tables = reports.iter().flat_map(|report| &report.tables);
        let lines: String = tables.map(|(table, rows)| format!("{table} {rows}\n")).collect();
        write_whole(path, &lines)?;
    }
    if let Some(path) = &options.ddl_file {
        let sql: Vec<&str> = parts.iter().map(|part| part.sql.as_str()).collect();
        write_whole(path, &sql.join("\n"))?;
    }
    folder.finish(manifest)?;
    Ok(reports)
}

/// Checks early that the files' folders exist.
fn check_folders(options: &ExtractOptions, files: &[&Path]) -> Result<(), Failure> {
    let failed = |path: &Path, why: String| Failure::usage(format!("cannot write {}: {why}", path.display()));
    fs::create_dir_all(&options.folder).map_err(|error| failed(&options.folder, error.to_string()))?;
    for file in files {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if file.is_dir() || !folder.is_dir() {
            return Err(failed(
                file,
                format!("expected a file in a folder that is there, such as {}", options.folder.display()),
            ));
        }
    }
    Ok(())
}

async fn extract_one(
    env: &Env,
    options: &ExtractOptions,
    part: &ExtractPart,
    folder: &ExtractFolder,
    origin: Origin,
    DocumentInput { sources, expected }: DocumentInput<impl RangeSource + 'static>,
) -> Result<(ExtractedCollection, LoadedCollection), Failure> {
    let (settings, layout, started) = (&env.settings, &part.layout, Instant::now());
    let files = folder.collection(layout, FILE_BYTES)?;
    let sinks = (0..settings.load_workers).map(|_| FileSink::new(&files, layout.tables.len())).collect();
    let rejects = Arc::new(RejectLimit::new(options.max_rejects, 0));
    let counters = Arc::new(Counters::default());
    let progress = env.observer.begin(Activity::counted(&part.name, &counters, expected));
    let flow = pipeline::load(layout, sources, sinks, settings.memory, &rejects, &counters).await?;
    drop(progress);
    if rejects.exceeded() {
        return Err(too_many_rejects(options, part, &rejects));
    }
    flow.check().map_err(|counts| {
        Failure::failed(format!("the counts of {} do not add up: {counts}", part.name))
            .remedy("this is a bug in gizer; the folder is marked as incomplete")
    })?;
    let tables = tokio::task::spawn_blocking(move || files.finish()).await;
    let tables = tables.map_err(|error| pipeline::without_result("writer", &error))??;
    let ledger = ledger(&part.name, layout, &flow.tally, &flow.written);
    if let Some(first) = rejects.first_reason() {
        let rejected = counted(ledger.rejected, "document", "documents");
        let folder = options.folder.join("gizer-rejected");
        let what = format!("{rejected} rejected, kept in {} (the first: {first})", folder.display());
        env.notice(&Notice::Rejected { collection: part.name.clone(), what });
    }
    let report = LoadedCollection {
        name: part.name.clone(),
        unfit: UnfitReport::of(&flow.tally, layout),
        ledger: ledger.clone(),
        tables: tables.iter().map(|table| (table.name.clone(), table.rows())).collect(),
        sizes: tables.iter().map(|table| table.bytes()).collect(),
        bytes: counters.bytes(),
        read_now: flow.read,
        took: started.elapsed(),
        written: flow.written,
    };
    let Origin { namespace, uuid, source } = origin;
    let (name, layout_hash) = (part.name.clone(), part.layout_hash.clone());
    Ok((ExtractedCollection { name, layout_hash, namespace, uuid, source, ledger, tables }, report))
}

fn too_many_rejects(options: &ExtractOptions, part: &ExtractPart, rejects: &RejectLimit) -> Failure {
    let first = rejects.first_reason().map(|first| format!(" (the first: {first})")).unwrap_or_default();
    let message = format!(
        "more than {} of {} rejected, which is what --max-rejects allows{first}: the extract was stopped, and its folder is \
         marked as incomplete",
        counted(options.max_rejects, "document", "documents"),
        part.name,
    );
    Failure::failed(message).remedy(format!(
        "look at some in {}; fix the schema file or the documents, or extract with a greater --max-rejects, with --force",
        options.folder.join("gizer-rejected").display()
    ))
}

/// Writes a file atomically.
fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".gizer-{}.new", std::process::id()));
    let unfinished = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        Failure::failed(format!("cannot write {}: {error}", path.display()))
    })
}
