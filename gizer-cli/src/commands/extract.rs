//! `gizer extract`: collections into text files, as the classic tool wrote them. No PostgreSQL is needed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gizer_engine::Counters;
use gizer_engine::pipeline::{self, RejectLimit};
use gizer_flatten::change::{Namespace, Positions};
use gizer_oplog::{Cluster, Collection, Dump, RangeScan, RangeSource, ScanOptions, newest_positions, plan_segments};
use gizer_pg::csv::{ExtractFolder, ExtractedCollection, FILE_BYTES, FileSink, Manifest};
use gizer_pg::load::LoadSource;
use gizer_pg::{ddl, printable};
use gizer_schema::{KeySource, Layout};

use super::load_begin::SEGMENTS_A_CURSOR;
use super::load_filling::{Input, ledger};
use super::load_report::{CollectionReport, print};
use super::{Context, Failures, Layouts, load_dump, prefixed};
use crate::args::ExtractArgs;
use crate::exit::{ExitCode, Failure};
use crate::progress::{Expected, Progress};
use crate::report::{self, UnfitReport};

/// Extracts the collections. The first failure ends it: an extract is whole, or marked as incomplete.
///
/// # Errors
/// [`Failure`] of whatever kept it from being whole.
pub async fn run(context: &Context, args: &ExtractArgs) -> Result<ExitCode, Failure> {
    let dump = args.dump.as_deref().map(Dump::open).transpose()?;
    if dump.is_some() {
        load_dump::refuse_with_dump("--filter", args.filter.is_some())?;
    }
    let Layouts { usable, failures } = match &dump {
        Some(dump) => load_dump::layouts(context, dump, &args.collections)?,
        None => context.layouts(&args.collections)?,
    };
    // An extract without one of its collections would be taken for all of them.
    if let Some(failure) = failures.into_first() {
        return Err(failure);
    }
    let parts = usable
        .iter()
        .map(|layout| Part::new(context, layout, args.prefix.as_deref()))
        .collect::<Result<Vec<Part>, Failure>>()?;
    let work = async {
        match &dump {
            Some(dump) => extract(context, args, &parts, &Dumped { context, dump }).await,
            None => {
                let server = Served::connect(context, args, &parts).await?;
                extract(context, args, &parts, &server).await
            }
        }
    };
    let reports = context.signals.unless_interrupted(work).await?;
    print(context.format, &reports, &Failures::default());
    Ok(ExitCode::Done)
}

/// A collection that is extracted.
struct Part {
    /// The collection's name in MongoDB.
    name: String,
    /// Its tables, with the prefix.
    layout: Layout,
    layout_hash: String,
    sql: String,
}

impl Part {
    fn new(context: &Context, layout: &Layout, prefix: Option<&str>) -> Result<Part, Failure> {
        let name = layout.collection.clone();
        let layout = prefixed(layout, prefix)?;
        let sql = printable::sql(&ddl::render(&layout, &context.config.postgres_schema)?);
        Ok(Part { name, layout_hash: ddl::layout_hash(&layout)?, sql, layout })
    }
}

/// The collections, wherever they are.
trait Collections {
    type Source: RangeSource + 'static;

    /// What is known of a collection before the first of its documents is read, and its documents.
    async fn open(&self, part: &Part) -> Result<(Origin, Input<Self::Source>), Failure>;
}

/// What is known of a collection.
struct Origin {
    namespace: Option<Namespace>,
    uuid: Option<[u8; 16]>,
    source: LoadSource,
}

struct Dumped<'e> {
    context: &'e Context,
    dump: &'e Dump,
}

impl Collections for Dumped<'_> {
    type Source = gizer_oplog::Unplaced<gizer_oplog::DumpScan>;

    async fn open(&self, part: &Part) -> Result<(Origin, Input<Self::Source>), Failure> {
        let input = load_dump::input(self.context, self.dump, &part.name)?;
        let source = LoadSource::Copy { reason: load_dump::COPY_OF_A_DUMP.to_owned() };
        Ok((Origin { namespace: None, uuid: None, source }, input))
    }
}

struct Served<'e> {
    context: &'e Context,
    args: &'e ExtractArgs,
    cluster: Cluster,
    collections: Vec<Collection>,
}

impl<'e> Served<'e> {
    /// Connects, and looks whether all collections are there, before anything is written.
    async fn connect(context: &'e Context, args: &'e ExtractArgs, parts: &[Part]) -> Result<Served<'e>, Failure> {
        let cluster = context.mongo().await?;
        let mut collections = Vec::new();
        for part in parts {
            collections.push(cluster.collection(&part.name).await?);
        }
        Ok(Served { context, args, cluster, collections })
    }

    /// Where each shard is now, or why what is extracted can only be a copy.
    async fn source(&self, part: &Part) -> LoadSource {
        let copy = |reason: &str| LoadSource::Copy { reason: reason.to_owned() };
        if self.args.filter.is_some() {
            return copy("it was extracted with --filter, so that it is only a part of the collection");
        }
        if self.args.prefix.is_some() {
            return copy("it was extracted with --prefix, as a copy beside the tables of the collection");
        }
        if part.layout.key.source == KeySource::Id {
            return copy("its schema has no _id, without which changes cannot be followed");
        }
        let positions = async { Ok::<Positions, Failure>(newest_positions(&self.cluster.oplogs().await?).await?) };
        match positions.await {
            Ok(captured) => LoadSource::Followable { captured },
            // An extract needs no oplog. If it is the server that is gone, reading says so.
            Err(failure) => {
                report::note(format!("{}: cannot be followed later: {failure}", part.name));
                LoadSource::Copy { reason: format!("it was extracted without a position in the oplog: {failure}") }
            }
        }
    }
}

impl Collections for Served<'_> {
    type Source = RangeScan;

    async fn open(&self, part: &Part) -> Result<(Origin, Input<RangeScan>), Failure> {
        let collection = self.collections.iter().find(|collection| collection.name == part.name);
        let collection = collection.ok_or_else(|| Failure::failed(format!("{} was not looked for", part.name)))?;
        let config = &self.context.config;
        // Before the first document is read: whatever changes from here on is in the oplog after it.
        let source = self.source(part).await;
        let segments = plan_segments(&self.cluster, collection, config.load_workers * SEGMENTS_A_CURSOR).await?;
        let options = ScanOptions {
            batch_bytes: pipeline::range_bytes(config.memory),
            filter: self.args.filter.clone(),
            ..ScanOptions::default()
        };
        let sources = RangeScan::cursors(&self.cluster, collection, segments, options, config.load_workers)?;
        let expected = collection.size().filter(|_| self.args.filter.is_none()).map(|size| size.documents);
        let origin = Origin {
            namespace: Some(self.cluster.namespace(&collection.name)),
            uuid: collection.sources.iter().flatten().find_map(|source| source.uuid),
            source,
        };
        Ok((origin, Input { sources, expected: expected.map(Expected::Documents) }))
    }
}

async fn extract(
    context: &Context,
    args: &ExtractArgs,
    parts: &[Part],
    from: &impl Collections,
) -> Result<Vec<CollectionReport>, Failure> {
    let layouts: Vec<Layout> = parts.iter().map(|part| part.layout.clone()).collect();
    let beside: Vec<&Path> = args.ddl_file.iter().chain(&args.stats_file).map(AsRef::as_ref).collect();
    check_folders(args, &beside)?;
    let folder = ExtractFolder::create(&args.csv_path, &layouts, &beside, args.force)?;
    let filter = args.filter.as_ref().and_then(|filter| serde_json::to_string(filter).ok());
    let mut manifest = Manifest::new(args.prefix.clone(), filter);
    let mut reports = Vec::new();
    for part in parts {
        let (extracted, report) = extract_one(context, args, part, &folder, from).await?;
        manifest.collections.push(extracted);
        reports.push(report);
    }
    if let Some(path) = &args.stats_file {
        let tables = reports.iter().flat_map(|report| &report.tables);
        let lines: String = tables.map(|(table, rows)| format!("{table} {rows}\n")).collect();
        write_whole(path, &lines)?;
    }
    if let Some(path) = &args.ddl_file {
        let sql: Vec<&str> = parts.iter().map(|part| part.sql.as_str()).collect();
        write_whole(path, &sql.join("\n"))?;
    }
    folder.finish(manifest)?;
    Ok(reports)
}

/// Whether there is a folder for each of these files: better known now than at the end of the extract.
fn check_folders(args: &ExtractArgs, files: &[&Path]) -> Result<(), Failure> {
    let failed = |path: &Path, why: String| Failure::usage(format!("cannot write {}: {why}", path.display()));
    fs::create_dir_all(&args.csv_path).map_err(|error| failed(&args.csv_path, error.to_string()))?;
    for file in files {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if file.is_dir() || !folder.is_dir() {
            return Err(failed(
                file,
                format!("expected a file in a folder that is there, such as {}", args.csv_path.display()),
            ));
        }
    }
    Ok(())
}

async fn extract_one(
    context: &Context,
    args: &ExtractArgs,
    part: &Part,
    folder: &ExtractFolder,
    from: &impl Collections,
) -> Result<(ExtractedCollection, CollectionReport), Failure> {
    let (config, layout, started) = (&context.config, &part.layout, Instant::now());
    let (origin, Input { sources, expected }) = from.open(part).await?;
    let files = folder.collection(layout, FILE_BYTES)?;
    let sinks = (0..config.load_workers).map(|_| FileSink::new(&files, layout.tables.len())).collect();
    let rejects = Arc::new(RejectLimit::new(args.max_rejects, 0));
    let counters = Arc::new(Counters::default());
    let progress = Progress::start(&part.name, Arc::clone(&counters), expected);
    let flow = pipeline::load(layout, sources, sinks, config.memory, &rejects, &counters).await?;
    drop(progress);
    if rejects.exceeded() {
        return Err(too_many_rejects(args, part, &rejects));
    }
    flow.check().map_err(|counts| {
        Failure::failed(format!("the counts of {} do not add up: {counts}", part.name))
            .remedy("this is a fault in gizer; the folder is marked as incomplete")
    })?;
    let tables = tokio::task::spawn_blocking(move || files.finish()).await;
    let tables = tables.map_err(|error| Failure::failed(format!("a writer ended without a result: {error}")))??;
    let ledger = ledger(&part.name, layout, &flow.tally, &flow.written);
    if let Some(first) = rejects.first_reason() {
        let rejected = report::counted(ledger.rejected, "document", "documents");
        let folder = args.csv_path.join("gizer-rejected");
        report::note(format!("{}: {rejected} rejected, kept in {} (the first: {first})", part.name, folder.display()));
    }
    let report = CollectionReport {
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

fn too_many_rejects(args: &ExtractArgs, part: &Part, rejects: &RejectLimit) -> Failure {
    let first = rejects.first_reason().map(|first| format!(" (the first: {first})")).unwrap_or_default();
    let message = format!(
        "more than {} of {} rejected, which is what --max-rejects allows{first}: the extract was stopped, and its folder is \
         marked as incomplete",
        report::counted(args.max_rejects, "document", "documents"),
        part.name,
    );
    Failure::failed(message).remedy(format!(
        "look at some in {}; mend the schema file or the documents, or extract with a greater --max-rejects, with --force",
        args.csv_path.join("gizer-rejected").display()
    ))
}

/// Writes a file that is there whole or not at all.
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
