//! A load from a server: captured, filled, aligned, verified, swapped in.

use gizer_flatten::change::Positions;
use gizer_oplog::{
    Cluster, Collection, MongoError, Oplog, RangeScan, ScanOptions, WatchedCollection, newest_positions,
};
use gizer_pg::load::{Load, LoadRequest, LoadSource};
use gizer_pg::state::{self, CollectionState, Resumed};
use gizer_pg::{Session, Target};
use gizer_schema::{KeySource, Layout};

use super::begin::{begin, identity, plan_from_start};
use super::fill::{DocumentInput, FillContext, FilledLoad, WantedCollection, names};
use super::run_row::{LoadRunRow, work_of};
use super::{LoadOptions, LoadedCollection};
use crate::counters::ExpectedWork;
use crate::due::record_failures;
use crate::env::Env;
use crate::failure::Failure;
use crate::failures::Failures;
use crate::notice::Notice;
use crate::pipeline;
use crate::retry::Retry;
use crate::spool::{Capture, end_capture, start_capture};

/// Loads the collections; a load that lost a server is resumed if the server comes back in time.
pub(super) async fn load_all(
    env: &Env,
    options: &LoadOptions,
    wanted: &[WantedCollection],
    loaded: &mut Vec<LoadedCollection>,
    failures: &mut Failures,
) {
    let (mut retry, mut options, mut begun) = (Retry::once(env), options.clone(), false);
    let mut left = wanted.to_vec();
    loop {
        let (before, mut attempt) = (loaded.len(), Failures::default());
        attempt_all(env, &options, &left, &mut begun, loaded, &mut attempt).await;
        if loaded.len() > before {
            retry.reset();
        }
        let all = attempt.clone();
        match attempt.take_passing() {
            Some((failure, names)) if begun && retry.wait(env, &failure).await => {
                // With --together, one that cannot be loaded keeps all from being swapped in.
                let again = |one: &WantedCollection| options.together || names.contains(&one.name);
                left.retain(again);
                options.restart = false;
                if !options.together {
                    failures.extend(attempt);
                }
            }
            _ => return failures.extend(all),
        }
    }
}

/// `begun` is set once both servers answered.
async fn attempt_all(
    env: &Env,
    options: &LoadOptions,
    wanted: &[WantedCollection],
    begun: &mut bool,
    loaded: &mut Vec<LoadedCollection>,
    failures: &mut Failures,
) {
    let LoadServers { target, cluster, session, oplogs } = match connect(env, options, wanted).await {
        Ok(connected) => connected,
        Err(failure) => return failures.end_run(Some(failure), names(wanted)),
    };
    *begun = true;
    let loading: Vec<String> = wanted.iter().map(|one| one.layout.collection.clone()).collect();
    let capture = match start_capture(env, &session, &oplogs, &loading, options.restart).await {
        Ok(capture) => capture,
        Err(failure) => return failures.end_run(Some(failure), names(wanted)),
    };
    let run = LoadRunRow::new(&session, &oplogs);
    let filling =
        FillContext { env, session: &session, target: &target, max_rejects: options.max_rejects, is_resumable: true };
    let job =
        LoadJob { env, options, cluster: &cluster, oplogs: &oplogs, session: &session, filling, run: &run, capture };
    let (load, align) =
        (async |one| job.load(one).await, async |filled: &mut FilledLoad<'_>| job.align_and_verify(filled).await);
    job.filling.load_all(wanted, options.together, load, align, loaded, failures).await;
    end_capture(env, &session, job.capture).await;
    record_outcome(env, options, &session, loaded, failures).await;
    if let Err(failure) = run.close(work_of(loaded), failures).await {
        failures.end_run(Some(failure), None);
    }
}

/// Records obstacles of collections, and clears those of loaded ones; not for copies.
async fn record_outcome(
    env: &Env,
    options: &LoadOptions,
    session: &Session,
    loaded: &[LoadedCollection],
    failures: &Failures,
) {
    if options.prefix.is_some() || env.stop.is_asked() {
        return;
    }
    for LoadedCollection { name, .. } in loaded {
        if let Err(error) = state::clear_obstacle(session, name).await {
            tracing::warn!(%error, "that {name} is loaded could not be recorded");
            return;
        }
    }
    record_failures(session, failures.by_collection()).await;
}

/// Average document size from which one cursor is used.
const LARGE_ON_AVERAGE: u64 = 1 << 20;

/// Both servers and the needed oplogs.
struct LoadServers {
    target: Target,
    cluster: Cluster,
    session: Session,
    oplogs: Vec<Oplog>,
}

/// Whether a collection can be followed after this load.
fn followable(options: &LoadOptions, layout: &Layout) -> bool {
    options.filter.is_none() && options.prefix.is_none() && layout.key.source == KeySource::UnderscoreId
}

/// Connects both servers and reads the oplogs and state tables.
async fn connect(env: &Env, options: &LoadOptions, wanted: &[WantedCollection]) -> Result<LoadServers, Failure> {
    let target = env.target()?;
    let connect = async {
        let (cluster, session) = tokio::try_join!(env.mongo(), env.postgres())?;
        // A copy needs no position, so a server without an oplog will do.
        let any = wanted.iter().any(|one| followable(options, &one.layout));
        let oplogs = if any { cluster.oplogs().await? } else { Vec::new() };
        state::prepare(&session).await?;
        if options.prefix.is_none() {
            let names: Vec<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
            state::expect(&session, &names, None).await?;
        }
        Ok((cluster, session, oplogs))
    };
    let (cluster, session, oplogs) = env.stop.or_done(connect).await?;
    Ok(LoadServers { target, cluster, session, oplogs })
}

/// Shared by all collections of one load.
pub(super) struct LoadJob<'j, 's> {
    pub(super) env: &'j Env,
    pub(super) options: &'j LoadOptions,
    pub(super) cluster: &'j Cluster,
    pub(super) oplogs: &'j [Oplog],
    pub(super) session: &'j Session,
    filling: FillContext<'j>,
    run: &'j LoadRunRow<'s>,
    /// `None` if nothing can be followed.
    pub(super) capture: Option<Capture>,
}

impl LoadJob<'_, '_> {
    async fn load<'l>(&'l self, wanted: &'l WantedCollection) -> Result<FilledLoad<'l>, Failure> {
        let stop = &self.env.stop;
        let look = async {
            // Taken before the collection is read, so that later changes are in the oplog after it.
            let captured = newest_positions(self.oplogs).await?;
            Ok((self.collection(&wanted.name).await?, captured))
        };
        let (collection, captured) = stop.or_done(look).await?;
        let request = LoadRequest {
            layout: &wanted.layout,
            namespace: Some(self.cluster.namespace(&collection.name)),
            uuids: self.cluster.uuids(&collection, self.oplogs),
            source: self.source_of(&wanted.layout, captured),
            resumable_as: Some(identity(&collection, self.options.filter.as_ref())),
        };
        let (load, plan) = stop.or_done(self.begin(request, &collection)).await?;
        let work = async |load: &Load<'l>| {
            self.run.open().await?;
            let plan = match plan {
                Some(plan) => plan,
                None => plan_from_start(self, load, &collection).await?,
            };
            self.filling.fill(load, &collection.name, self.input(&collection, &plan)?, plan).await
        };
        let watched = WatchedCollection {
            namespace: self.cluster.namespace(&collection.name),
            uuids: self.cluster.uuids(&collection, self.oplogs),
        };
        self.filling.filled(load, Some(watched), work).await
    }

    /// The collection in MongoDB; an empty one if it is gone and its tables are to be emptied.
    async fn collection(&self, name: &str) -> Result<Collection, Failure> {
        match self.cluster.collection(name).await {
            Err(MongoError::NoSuchCollection { .. } | MongoError::NoSuchDatabase { .. })
                if self.options.empties_gone && self.has_tables(name).await? =>
            {
                self.env.notice(&Notice::Emptied { collection: name.to_owned() });
                Ok(self.cluster.absent_collection(name))
            }
            found => Ok(found?),
        }
    }

    /// Whether the collection has followed tables.
    async fn has_tables(&self, name: &str) -> Result<bool, Failure> {
        let status = state::read_status(self.session, 0).await?.unwrap_or_default();
        let followed = |state| matches!(state, CollectionState::Following | CollectionState::LoadDue);
        Ok(status.collections.iter().any(|known| known.collection == name && known.live && followed(known.state)))
    }

    /// Whether the loaded tables can be followed, and from where.
    fn source_of(&self, layout: &Layout, captured: Positions) -> LoadSource {
        let copy = |reason: &str| LoadSource::Copy { reason: reason.to_owned() };
        if self.options.filter.is_some() {
            return copy("it was loaded with --filter, so that it is only a part of the collection");
        }
        if self.options.prefix.is_some() {
            return copy("it was loaded with --prefix, next to the tables that are followed");
        }
        match layout.key.source {
            KeySource::Id => copy("its schema has no _id, without which changes cannot be followed"),
            KeySource::UnderscoreId => LoadSource::Followable { captured },
        }
    }

    async fn begin<'l>(
        &'l self,
        request: LoadRequest<'l>,
        collection: &Collection,
    ) -> Result<(Load<'l>, Option<Resumed>), Failure> {
        let begun = begin(self, request, collection).await;
        if let Err(failure) = &begun {
            self.run.open_for(failure).await;
        }
        begun
    }

    /// The rest of a collection to read, with as many cursors as workers.
    fn input(&self, collection: &Collection, plan: &Resumed) -> Result<DocumentInput<RangeScan>, Failure> {
        let settings = &self.env.settings;
        let options = ScanOptions {
            batch_bytes: pipeline::range_bytes(settings.memory),
            filter: self.options.filter.clone(),
            ..ScanOptions::default()
        };
        let segments = plan.segments.clone();
        // A cursor holds two replies of large documents, and one keeps PostgreSQL busy.
        let large = collection.size().is_some_and(|size| size.average() >= LARGE_ON_AVERAGE);
        let cursors = if large { 1 } else { settings.load_workers };
        // The size of a filtered collection is unknown.
        let expected = collection.size().filter(|_| self.options.filter.is_none()).map(|size| size.documents);
        Ok(DocumentInput {
            sources: RangeScan::cursors(self.cluster, collection, segments, options, cursors)?,
            expected: expected.map(ExpectedWork::Documents),
        })
    }

    /// Whether changes since these positions can still be read.
    pub(super) async fn reaches(&self, captured: &Positions) -> Result<bool, Failure> {
        match &self.capture {
            Some(capture) => capture.still_reaches(self.oplogs, captured).await,
            None => Ok(false),
        }
    }
}
