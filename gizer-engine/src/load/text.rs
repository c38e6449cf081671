//! Loads text files of an extract or of the classic tool.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gizer_pg::PgError;
use gizer_pg::csv::{ExtractedCollection, TextFile, TextFolder};
use gizer_pg::ddl::layout_hash;
use gizer_pg::load::{Load, LoadRequest, LoadSource, Written};
use gizer_pg::state::Ledger;
use gizer_schema::{Layout, TableId};

use super::LoadedCollection;
use super::dump::{begin, connect};
use super::fill::{CompleteTables, FillContext};
use super::run_row::{LoadRunRow, work_of};
use crate::counters::{Counters, ExpectedWork};
use crate::env::Env;
use crate::failure::Failure;
use crate::failures::Failures;
use crate::layouts::{Layouts, prefixed};
use crate::notice::Notice;
use crate::observer::{Activity, Event};
use crate::pipeline;
use crate::unfit::UnfitReport;

/// Why files of the classic tool cannot be followed.
const UNPROVEN: &str = "it was copied from files that may be incomplete, of an unknown time";

/// Options of a load of text files.
#[derive(Debug, Clone)]
pub struct TextLoad {
    /// The folder.
    pub folder: PathBuf,
    /// Collections; empty for all that were extracted or have a schema file.
    pub collections: Vec<String>,
    /// Prefix of the tables.
    pub prefix: Option<String>,
}

/// Loads text files one collection at a time; a failure of one does not stop the others.
///
/// # Errors
/// [`Failure`] if the folder is unusable, or there is no schema file. Failures of collections are
/// in the returned [`Failures`].
pub async fn load_text(env: &Env, request: &TextLoad) -> Result<(Vec<LoadedCollection>, Failures), Failure> {
    let folder = TextFolder::open(&request.folder)?;
    check_prefix(request, &folder)?;
    let mut names = request.collections.clone();
    match &folder.manifest {
        Some(manifest) if names.is_empty() => {
            names.extend(manifest.collections.iter().map(|collection| collection.name.clone()));
        }
        Some(_) => {}
        None => env.notice(&Notice::UnprovenFiles { folder: request.folder.display().to_string() }),
    }
    let Layouts { usable, mut failures } = Layouts::read(env, &names)?;
    let mut parts = Vec::new();
    for layout in usable {
        match TextPart::new(&layout, request, &folder) {
            Ok(part) => parts.push(part),
            Err(failure) => failures.add(&layout.collection, failure),
        }
    }
    let mut loaded = Vec::new();
    if !parts.is_empty() {
        load_all(env, &folder, parts, &mut loaded, &mut failures).await;
    }
    loaded.iter().for_each(|each| env.observer.observe(Event::Loaded(each)));
    Ok((loaded, failures))
}

fn check_prefix(request: &TextLoad, folder: &TextFolder) -> Result<(), Failure> {
    let Some(manifest) = &folder.manifest else { return Ok(()) };
    if manifest.prefix == request.prefix {
        return Ok(());
    }
    let said = |prefix: &Option<String>| {
        prefix.as_ref().map_or_else(|| "without --prefix".to_owned(), |prefix| format!("with --prefix {prefix}"))
    };
    let (was, is) = (said(&manifest.prefix), said(&request.prefix));
    let message = format!("{} was extracted {was}, and is to be copied {is}", request.folder.display());
    Err(Failure::usage(message).remedy(format!("copy it {was}")))
}

/// A collection to copy.
struct TextPart {
    /// The collection's name in MongoDB.
    name: String,
    /// Its tables, with the prefix.
    layout: Layout,
    extracted: Option<ExtractedCollection>,
    /// By table.
    files: Vec<Vec<TextFile>>,
}

impl TextPart {
    /// Checks that the collection's files are complete.
    fn new(layout: &Layout, request: &TextLoad, folder: &TextFolder) -> Result<TextPart, Failure> {
        let name = layout.collection.clone();
        let layout = prefixed(layout, request.prefix.as_deref())?;
        let extracted = match &folder.manifest {
            None => None,
            Some(manifest) => {
                let extracted = manifest.collection(&name).ok_or_else(|| {
                    Failure::usage(format!("{name} was not extracted into {}", request.folder.display()))
                })?;
                if extracted.layout_hash != layout_hash(&layout)? {
                    let message = format!("the schema file of {name} is not that of the extract: it has other tables");
                    return Err(Failure::usage(message).remedy("take the schema file of the extract, or extract again"));
                }
                Some(extracted.clone())
            }
        };
        let files = folder.files(&layout, extracted.as_ref())?;
        Ok(TextPart { name, layout, extracted, files })
    }

    fn request(&self) -> LoadRequest<'_> {
        let unproven = || LoadSource::Copy { reason: UNPROVEN.to_owned() };
        let extracted = self.extracted.as_ref();
        LoadRequest {
            layout: &self.layout,
            namespace: extracted.and_then(|extracted| extracted.namespace.clone()),
            uuids: extracted.map(uuids).unwrap_or_default(),
            source: extracted.map_or_else(unproven, |extracted| extracted.source.clone()),
            resumable_as: None,
        }
    }

    /// The extract's counts; without them a row of the root table is a document.
    fn ledger(&self, written: &Written) -> Ledger {
        if let Some(extracted) = &self.extracted {
            return extracted.ledger.clone();
        }
        let documents = written.rows.first().copied().unwrap_or_default();
        let rows = self.layout.tables.iter().map(|table| table.name.clone()).zip(written.rows.iter().copied());
        Ledger { read: documents, loaded: documents, rows: rows.collect(), ..Ledger::default() }
    }
}

async fn load_all(
    env: &Env,
    folder: &TextFolder,
    parts: Vec<TextPart>,
    loaded: &mut Vec<LoadedCollection>,
    failures: &mut Failures,
) {
    let names = |parts: &[TextPart]| parts.iter().map(|part| part.name.clone()).collect::<Vec<String>>();
    let (target, session) = match connect(env).await {
        Ok(connected) => connected,
        Err(failure) => return failures.end_run(Some(failure), names(&parts)),
    };
    let run = LoadRunRow::new(&session, &[]);
    let filling = FillContext { env, session: &session, target: &target, max_rejects: 0, is_resumable: false };
    for (i, part) in parts.iter().enumerate() {
        match load_one(&filling, &run, folder, part).await {
            Ok(swapped) => loaded.extend(swapped),
            Err(failure) => {
                let ends_run = failure.ends_run;
                failures.add(&part.name, failure);
                if ends_run {
                    failures.end_run(None, names(&parts[i + 1..]));
                    break;
                }
            }
        }
    }
    if let Err(failure) = run.close(work_of(loaded), failures).await {
        failures.end_run(Some(failure), None);
    }
}

async fn load_one(
    filling: &FillContext<'_>,
    run: &LoadRunRow<'_>,
    folder: &TextFolder,
    part: &TextPart,
) -> Result<Vec<LoadedCollection>, Failure> {
    let load = begin(filling, run, part.request()).await?;
    let work = async |load: &Load<'_>| {
        run.open().await?;
        fill(filling, load, folder, part).await
    };
    filling.swap(vec![filling.filled(load, None, work).await?]).await
}

async fn fill(
    filling: &FillContext<'_>,
    load: &Load<'_>,
    folder: &TextFolder,
    part: &TextPart,
) -> Result<CompleteTables, Failure> {
    let started = Instant::now();
    let mut sinks = Vec::new();
    for _ in 0..filling.env.settings.load_workers {
        sinks.push(load.text_sink(gizer_pg::connect(filling.target).await?)?);
    }
    let mut files = Vec::new();
    for (i, of_table) in part.files.iter().enumerate() {
        files.extend(of_table.iter().map(|file| (TableId(i), file.clone())));
    }
    let bytes = files.iter().map(|(_, file)| file.bytes).sum();
    let counters = Arc::new(Counters::default());
    let activity = Activity::counted(&part.name, &counters, Some(ExpectedWork::Bytes(bytes)));
    let progress = filling.env.observer.begin(activity);
    let written = tokio::select! {
        // The session holds the collection's lock, without which nothing can be swapped in.
        lost = filling.session.ended() => return Err(lost.into()),
        written = pipeline::copy(files, sinks, &counters) => written?,
    };
    drop(progress);
    store_rejects(filling, load, folder, part).await?;
    filling.build_keys(load, &part.name).await?;
    let ledger = part.ledger(&written);
    let report = LoadedCollection {
        name: part.name.clone(),
        tables: part.layout.tables.iter().map(|table| table.name.clone()).zip(written.rows.iter().copied()).collect(),
        sizes: load.table_sizes().await?,
        unfit: UnfitReport::new(&part.layout),
        bytes: counters.bytes(),
        read_now: ledger.loaded,
        took: Duration::ZERO,
        ledger,
        written,
    };
    Ok(CompleteTables { report, started, standing: None })
}

/// Stores the extract's rejects as a load would.
async fn store_rejects(
    filling: &FillContext<'_>,
    load: &Load<'_>,
    folder: &TextFolder,
    part: &TextPart,
) -> Result<(), Failure> {
    let expected = part.extracted.as_ref().map_or(0, |extracted| extracted.ledger.rejected);
    if expected == 0 {
        return Ok(());
    }
    let files = folder.rejected(&part.layout);
    let mut rejected = files.read()?;
    let mut sink = load.text_sink(gizer_pg::connect(filling.target).await?)?;
    loop {
        let batch = rejected.next_batch()?;
        if batch.is_empty() {
            break;
        }
        sink.keep_aside(&batch).await?;
    }
    let found = sink.finish().rejected;
    if found == expected {
        return Ok(());
    }
    Err(PgError::ExtractDiffers {
        path: files.documents.display().to_string(),
        expected: format!("{expected} documents"),
        found: format!("{found} documents"),
    }
    .into())
}

/// The collection's UUID for each captured shard: an extract knows one.
fn uuids(extracted: &ExtractedCollection) -> BTreeMap<String, [u8; 16]> {
    match (&extracted.source, extracted.uuid) {
        (LoadSource::Followable { captured }, Some(uuid)) => {
            captured.keys().map(|shard| (shard.clone(), uuid)).collect()
        }
        _ => BTreeMap::new(),
    }
}
