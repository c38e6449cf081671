//! `gizer load --dump`: from the files of mongodump, without a MongoDB server.

use std::collections::BTreeMap;
use std::path::Path;

use gizer_oplog::{Dump, DumpScan, UnplacedSource};
use gizer_pg::load::{Load, LoadRequest, LoadSource};
use gizer_pg::state::{self, Resumed};
use gizer_pg::{Session, Target};

use super::fill::{DocumentInput, FillContext, FilledLoad, WantedCollection, names};
use super::run_row::{LoadRunRow, work_of};
use super::{LoadOptions, LoadedCollection};
use crate::counters::ExpectedWork;
use crate::env::Env;
use crate::failure::Failure;
use crate::failures::Failures;
use crate::layouts::Layouts;
use crate::notice::Notice;
use crate::pipeline;

/// Why tables loaded from a dump cannot be followed.
pub const COPY_OF_A_DUMP: &str = "it was loaded from a dump, which does not say from where on changes are missing";

/// Refuses options that need a server.
///
/// # Errors
/// [`Failure`] of kind [`Usage`](crate::FailureKind::Usage) if the option was given.
pub fn refuse_with_dump(option: &str, given: bool) -> Result<(), Failure> {
    if !given {
        return Ok(());
    }
    let message = format!("{option} cannot be used with --dump: it needs a MongoDB server");
    Err(Failure::usage(message).remedy("restore the dump into a server, or let mongodump choose with --query"))
}

/// Opens the dump, if there is one, and reads the layouts of the collections to load.
pub(super) fn open(
    env: &Env,
    path: Option<&Path>,
    filtered: bool,
    named: &[String],
) -> Result<(Option<Dump>, Layouts), Failure> {
    let Some(path) = path else { return Ok((None, Layouts::read(env, named)?)) };
    let dump = Dump::open(path)?;
    refuse_with_dump("--filter", filtered)?;
    let layouts = layouts(env, &dump, named)?;
    Ok((Some(dump), layouts))
}

/// Layouts of the collections to load from a dump: the named ones, or all with a schema file.
fn layouts(env: &Env, dump: &Dump, named: &[String]) -> Result<Layouts, Failure> {
    if !named.is_empty() {
        let mut layouts = Layouts::read(env, named)?;
        layouts.usable.retain(|layout| match dump.file(&layout.collection) {
            Ok(_) => true,
            Err(error) => {
                layouts.failures.add(&layout.collection, error.into());
                false
            }
        });
        return Ok(layouts);
    }
    for (name, reason) in dump.skipped() {
        env.notice(&Notice::Skipped { name: name.clone(), reason: reason.to_string() });
    }
    let files = env.schema_files()?;
    let mut names = Vec::new();
    for file in dump.files() {
        if files.existing(&file.collection).is_some() {
            names.push(file.collection.clone());
        } else {
            let (name, reason) = (file.collection.clone(), "it has no schema file".to_owned());
            env.notice(&Notice::Skipped { name, reason });
        }
    }
    if names.is_empty() {
        let (dump, folder) = (dump.path().display(), files.folder().display());
        let message = format!("no collection of the dump {dump} has a schema file in {folder}");
        return Err(
            Failure::usage(message).remedy(format!("run `gizer schema infer --dump {dump}` to make schema files"))
        );
    }
    Layouts::read(env, &names)
}

/// The documents of a collection.
pub(super) fn input(
    env: &Env,
    dump: &Dump,
    collection: &str,
) -> Result<DocumentInput<UnplacedSource<DumpScan>>, Failure> {
    let file = dump.file(collection)?;
    Ok(DocumentInput {
        sources: vec![UnplacedSource(file.scan(pipeline::range_bytes(env.settings.memory)))],
        expected: file.bytes.map(ExpectedWork::Bytes),
    })
}

/// Loads the collections one by one; a failure of one does not stop the others.
pub(super) async fn load_all(
    env: &Env,
    options: &LoadOptions,
    dump: &Dump,
    wanted: &[WantedCollection],
    loaded: &mut Vec<LoadedCollection>,
    failures: &mut Failures,
) {
    let (target, session) = match connect(env).await {
        Ok(connected) => connected,
        Err(failure) => return failures.end_run(Some(failure), names(wanted)),
    };
    let run = LoadRunRow::new(&session, &[]);
    let filling =
        FillContext { env, session: &session, target: &target, max_rejects: options.max_rejects, is_resumable: false };
    filling
        .load_all(
            wanted,
            options.together,
            async |one| load(&filling, &run, dump, one).await,
            async |_| Ok(()),
            loaded,
            failures,
        )
        .await;
    if let Err(failure) = run.close(work_of(loaded), failures).await {
        failures.end_run(Some(failure), None);
    }
}

/// Connects to PostgreSQL alone, with the state tables.
pub(super) async fn connect(env: &Env) -> Result<(Target, Session), Failure> {
    let connect = async {
        let target = env.target()?;
        let session = env.postgres().await?;
        state::prepare(&session).await?;
        Ok((target, session))
    };
    env.stop.or_done(connect).await
}

async fn load<'l>(
    filling: &FillContext<'l>,
    run: &LoadRunRow<'_>,
    dump: &Dump,
    wanted: &'l WantedCollection,
) -> Result<FilledLoad<'l>, Failure> {
    let input = input(filling.env, dump, &wanted.name)?;
    let request = LoadRequest {
        layout: &wanted.layout,
        namespace: None,
        uuids: BTreeMap::new(),
        source: LoadSource::Copy { reason: COPY_OF_A_DUMP.to_owned() },
        resumable_as: None,
    };
    let load = begin(filling, run, request).await?;
    let work = async |load: &Load<'l>| {
        run.open().await?;
        filling.fill(load, &wanted.name, input, Resumed::default()).await
    };
    filling.filled(load, None, work).await
}

/// Starts a load that cannot be resumed.
pub(super) async fn begin<'l>(
    filling: &FillContext<'l>,
    run: &LoadRunRow<'_>,
    request: LoadRequest<'l>,
) -> Result<Load<'l>, Failure> {
    let begin = async { Ok(Load::begin(filling.session, request).await?) };
    let begun = filling.env.stop.or_done(begin).await;
    if let Err(failure) = &begun {
        run.open_for(failure).await;
    }
    begun
}
