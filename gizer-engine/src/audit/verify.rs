//! Verifies live tables against the documents, during writes and following.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gizer_oplog::{Cluster, Collection, MongoError, Oplog, WatchedCollection};
use gizer_pg::Session;
use gizer_pg::ddl::layout_hash;
use gizer_pg::state::{self, AuditSubject, CollectionState, Followed, Obstacle, RepairKey};
use gizer_schema::Layout;
use gizer_schema::names::shortened;

use super::{Audit, AuditPlan, AuditReaders, AuditReport, AuditTables, AuditTarget, Extent};
use crate::audit;
use crate::counters::ExpectedWork;
use crate::env::Env;
use crate::evolve::restore_schema_files;
use crate::failure::{Failure, FailureKind};
use crate::failures::Failures;
use crate::follow::{audit_settings, layouts_of, sync_once};
use crate::notice::Notice;
use crate::observer::{Activity, Event};
use crate::retry::Retry;
use crate::wording::{command, resync_or_load};

/// Options of a verification.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Collections; empty for all followed ones.
    pub collections: Vec<String>,
    /// Whether to repair differences.
    pub repairs: bool,
    /// About this many random documents; `None` for all.
    pub sample: Option<u64>,
    /// Whether to start over instead of resuming an interrupted audit.
    pub restart: bool,
    /// Whether both values of different cells are shown.
    pub shows_values: bool,
    /// How many differences are named.
    pub named: usize,
}

/// An audited collection.
#[derive(Debug)]
pub struct VerifiedCollection {
    /// Its name.
    pub name: String,
    /// How much was audited.
    pub extent: Extent,
    /// The findings.
    pub found: AuditReport,
    /// Differences left after the repair.
    pub left: Option<AuditReport>,
    /// Duration.
    pub took: Duration,
}

impl VerifiedCollection {
    /// Whether everything is equal now.
    pub fn is_equal(&self) -> bool {
        self.left.as_ref().unwrap_or(&self.found).is_equal()
    }

    /// The outcome in a word.
    pub fn outcome(&self) -> &'static str {
        match (self.found.is_equal(), self.is_equal()) {
            (true, _) => "equal",
            (false, true) => "repaired",
            (false, false) => "differs",
        }
    }
}

/// How often an audit restarts after a reload of its tables.
const MAX_ATTEMPTS: usize = 3;

/// How long repairs may make no progress before the follower counts as stuck.
const STUCK_LIMIT: Duration = Duration::from_secs(60);

/// How long a follower may seem gone: between pausing and starting a load it holds no lock.
const ABSENCE_LIMIT: Duration = Duration::from_secs(3);

/// How often to check that.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Audits collections one by one, resuming interrupted audits.
///
/// # Errors
/// [`Failure`] if nothing can be audited. Failures of collections are in the [`Failures`].
pub async fn verify(env: &Env, options: &VerifyOptions) -> Result<(Vec<VerifiedCollection>, Failures), Failure> {
    let verifying = env.stop.or_done(VerifyRun::set_up(env, options)).await?;
    let (mut verified, mut failures) = (Vec::new(), Failures::default());
    for name in &verifying.names {
        let mut retry = Retry::once(env);
        let outcome = loop {
            match env.stop.or_done(verifying.collection(name)).await {
                Err(failure) if retry.wait(env, &failure).await => {}
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(report) => {
                env.observer.observe(Event::Verified(&report));
                verified.push(report);
            }
            Err(failure) => {
                let ends_run = failure.ends_run;
                failures.add(name.clone(), failure);
                if ends_run {
                    break;
                }
            }
        }
    }
    Ok((verified, failures))
}

/// A followed collection.
struct FollowedState {
    followed: Followed,
    /// The collection in MongoDB; `None` if it did not exist at the tables' time.
    collection: Option<Collection>,
}

/// A running verification.
struct VerifyRun<'v> {
    env: &'v Env,
    options: &'v VerifyOptions,
    cluster: Cluster,
    oplogs: Vec<Oplog>,
    names: Vec<String>,
}

impl<'v> VerifyRun<'v> {
    async fn set_up(env: &'v Env, options: &'v VerifyOptions) -> Result<VerifyRun<'v>, Failure> {
        let (cluster, session) = tokio::try_join!(env.mongo(), env.postgres())?;
        let oplogs = cluster.oplogs().await?;
        state::prepare(&session).await?;
        restore_schema_files(env, &session).await?;
        let status = state::read_status(&session, 0).await?;
        let collections = status.map(|status| status.collections).unwrap_or_default();
        let can_be = |name: &str| {
            let found = collections.iter().find(|collection| collection.collection == name);
            match found {
                Some(found) if found.live && found.state == CollectionState::Following => Ok(()),
                // A follower may be about to reload it: worth waiting for if it was named.
                Some(found)
                    if found.live && found.state == CollectionState::LoadDue && !options.collections.is_empty() =>
                {
                    Ok(())
                }
                Some(found) => Err(Some((found.state, found.reason.clone()))),
                None => Err(None),
            }
        };
        let names = match options.collections.as_slice() {
            [] => {
                let followed = collections.iter().map(|collection| collection.collection.clone());
                followed.filter(|name| can_be(name).is_ok()).collect()
            }
            names => {
                for name in names {
                    can_be(name).map_err(|state| cannot_be_audited(name, state))?;
                }
                names.to_vec()
            }
        };
        let names: Vec<String> = names;
        if names.is_empty() {
            return Err(Failure::new(FailureKind::LoadDue, "there is nothing to verify: no collection is followed")
                .remedy("run `gizer load`, then `gizer verify`"));
        }
        Ok(VerifyRun { env, options, cluster, oplogs, names })
    }

    /// Audits a collection, and repairs it if requested.
    async fn collection(&self, name: &str) -> Result<VerifiedCollection, Failure> {
        let session = self.env.postgres().await?;
        state::hold_audit(&session, name).await?;
        // Nobody lets its schema grow from here on, and a run that has may have ended before it
        // wrote the file.
        restore_schema_files(self.env, &session).await?;
        let mut attempts = MAX_ATTEMPTS;
        let mut stand = self.stand(&session, name).await?;
        loop {
            attempts -= 1;
            let failure = match self.audit(&session, &stand, Instant::now()).await {
                Err(failure) if !failure.ends_run && attempts > 0 => failure,
                outcome => return outcome,
            };
            let before = std::mem::replace(&mut stand, self.stand(&session, name).await?).followed;
            let now = &stand.followed;
            if now.live_epoch == before.live_epoch && audit::same_uuids(&now.uuids, &before.uuids) {
                return Err(failure);
            }
            self.env.notice(&Notice::AuditStartsOver { collection: name.to_owned() });
        }
    }

    /// The collection's state, once settled: while someone follows, its latest DDL is waited for.
    async fn stand(&self, session: &Session, name: &str) -> Result<FollowedState, Failure> {
        let (began, mut seen) = (Instant::now(), Instant::now());
        loop {
            let followed = session
                .in_snapshot(state::followed(session))
                .await?
                .into_iter()
                .find(|followed| followed.collection == name);
            let mut is_loading = false;
            let failure = match followed {
                // It did not exist at the tables' time, whether it does now or not.
                Some(followed) if followed.uuids.is_empty() => return Ok(FollowedState { followed, collection: None }),
                Some(followed) => {
                    let collection = match self.cluster.collection(&followed.namespace.collection).await {
                        Ok(collection) => Some(collection),
                        Err(MongoError::NoSuchCollection { .. } | MongoError::NoSuchDatabase { .. }) => None,
                        Err(error) => return Err(error.into()),
                    };
                    let uuids = |collection: &Collection| self.cluster.uuids(collection, &self.oplogs);
                    match collection {
                        Some(there) if audit::same_uuids(&uuids(&there), &followed.uuids) => {
                            return Ok(FollowedState { followed, collection: Some(there) });
                        }
                        _ => is_another(name),
                    }
                }
                None => {
                    let status = state::read_status(session, 0).await?;
                    let collections = status.map(|status| status.collections).unwrap_or_default();
                    let found = collections.into_iter().find(|collection| collection.collection == name);
                    is_loading = found.as_ref().is_some_and(|found| found.loading_now);
                    cannot_be_audited(name, found.map(|found| (found.state, found.reason)))
                }
            };
            if is_loading || state::is_followed_now(session).await? {
                seen = Instant::now();
            }
            if began.elapsed() >= STUCK_LIMIT || seen.elapsed() >= ABSENCE_LIMIT {
                return Err(failure);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn audit(
        &self,
        session: &Session,
        stand: &FollowedState,
        began: Instant,
    ) -> Result<VerifiedCollection, Failure> {
        let FollowedState { followed, collection } = stand;
        if state::unfinished_version(session, &followed.collection).await?.is_some() {
            let message =
                format!("the schema of {} has begun to grow, and the run that did it has ended", followed.collection);
            return Err(Failure::failed(message).remedy("run `gizer sync`, which goes on with it"));
        }
        let layouts = layouts_of(self.env, std::slice::from_ref(followed))?;
        let [layout] = layouts.as_slice() else { return Err(cannot_be_audited(&followed.collection, None)) };
        let differing = Arc::new(Mutex::new(Vec::new()));
        let mut audit = self.audit_of(layout, followed, collection.as_ref(), &differing);
        let extent = audit.extent;
        let subject = AuditSubject {
            live_epoch: followed.live_epoch,
            kind: extent.name(),
            identity: identity(layout, followed, &audit)?,
        };
        let (name, order) = (&layout.collection, audit.order);
        if self.options.repairs {
            self.try_rejects(session, name).await?;
        }
        let segments = async || match collection {
            Some(collection) => audit::plan(&self.cluster, collection, layout, order, extent).await,
            None => Ok(vec![audit::keys_of_tables()]),
        };
        let (id, plan) = AuditPlan::begin(session, name, &subject, self.options.restart, segments, audit.named).await?;
        let AuditPlan { segments, mut found, is_resumed } = plan;
        if is_resumed {
            self.env.notice(&Notice::AuditResumes { collection: name.clone() });
        }
        audit.id = Some(id.clone());
        let expected = collection.as_ref().and_then(Collection::size).map(|size| match extent {
            Extent::Full => ExpectedWork::Documents(size.documents),
            Extent::Sample(documents) => ExpectedWork::Documents(documents),
        });
        let progress = self.env.observer.begin(Activity::counted(name, &audit.counters, expected));
        found.add(audit::run(&audit, self.env, &self.cluster, segments, &found).await?, audit.named);
        drop(progress);
        let differing = std::mem::take(&mut *differing.lock().unwrap_or_else(PoisonError::into_inner));
        let mut verified = VerifiedCollection { name: name.clone(), extent, found, left: None, took: began.elapsed() };
        if self.options.repairs && !verified.found.is_equal() {
            let left = self.repair(session, &audit, followed, differing).await?;
            verified.found.repaired = verified.found.differing().saturating_sub(left.differing());
            verified.left = Some(left);
            verified.took = began.elapsed();
        }
        let json = serde_json::to_value(verified.found.without_values())
            .map_err(|error| Failure::failed(error.to_string()))?;
        state::finish_audit(session, &id, verified.outcome(), &json).await?;
        Ok(verified)
    }

    fn audit_of(
        &self,
        layout: &Arc<Layout>,
        followed: &Followed,
        collection: Option<&Collection>,
        differing: &Arc<Mutex<Vec<RepairKey>>>,
    ) -> Audit {
        let mut uuids = followed.uuids.clone();
        if let Some(uuid) = uuids.remove("") {
            // An earlier version did not record the shards.
            uuids.extend(self.oplogs.iter().map(|oplog| (oplog.name().to_owned(), uuid)));
        }
        let subject = AuditTarget {
            layout: Arc::clone(layout),
            watched: WatchedCollection { namespace: followed.namespace.clone(), uuids },
            tables: AuditTables::Live(followed.live_epoch),
        };
        let extent = Audit::extent(collection, self.options.sample);
        Audit {
            named: self.options.named,
            show_values: self.options.shows_values,
            again: self.options.repairs.then(|| Arc::clone(differing)),
            ..Audit::of(audit_settings(self.env, &self.cluster), &self.oplogs, subject, collection, extent)
        }
    }

    /// Has refused documents retried by the follower, or by a round of following.
    async fn try_rejects(&self, session: &Session, name: &str) -> Result<(), Failure> {
        if state::try_rejects_now(session, name).await? == 0 || state::is_followed_now(session).await? {
            return Ok(());
        }
        match Box::pin(sync_once(self.env)).await {
            // Another run was faster.
            Err(failure) if failure.kind == FailureKind::Locked => Ok(()),
            outcome => outcome,
        }
    }

    /// Why a collection is not followed, so that its repairs stay queued; `None` if it is.
    async fn why_not_followed(&self, session: &Session, name: &str) -> Result<Option<Failure>, Failure> {
        let expected = state::read_expected(session).await?;
        let obstacle = expected.into_iter().find(|each| each.collection == name).and_then(|each| each.obstacle);
        Ok(obstacle.map(|Obstacle { kind, reason, remedy, .. }| {
            let failure = Failure::failed(format!("{name} is {kind}: {reason}; its repairs stay queued"));
            match remedy {
                Some(remedy) => failure.remedy(remedy),
                None => failure,
            }
        }))
    }

    /// Has differences repaired by the follower or by a round of following; returns the rest.
    async fn repair(
        &self,
        session: &Session,
        audit: &Audit,
        followed: &Followed,
        differing: Vec<RepairKey>,
    ) -> Result<AuditReport, Failure> {
        let name = &followed.collection;
        self.env.notice(&Notice::ToRepair { collection: name.clone(), documents: differing.len() as u64 });
        let (mut waiting, mut since) = (u64::MAX, Instant::now());
        loop {
            let now = state::repairs_waiting(session).await?.get(name).copied().unwrap_or_default();
            if now == 0 {
                break;
            }
            if now < waiting {
                (waiting, since) = (now, Instant::now());
            }
            if since.elapsed() >= STUCK_LIMIT {
                let message = format!("{now} repairs of {name} are waiting, and no follower takes them");
                return Err(Failure::failed(message)
                    .remedy("run `gizer sync` to see what prevents it; the repairs stay queued"));
            }
            if !state::is_followed_now(session).await? {
                match Box::pin(sync_once(self.env)).await {
                    // Another run was faster.
                    Err(failure) if failure.kind == FailureKind::Locked => {}
                    outcome => outcome?,
                }
            }
            if let Some(failure) = self.why_not_followed(session, name).await? {
                return Err(failure);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let audit = Audit { again: None, id: None, ..audit.clone() };
        let readers = AuditReaders::new(&self.cluster, &self.oplogs);
        audit::look_again(&audit, session, readers, differing).await
    }
}

/// What must be unchanged to resume an audit: what is audited, and how it is reported.
fn identity(layout: &Layout, followed: &Followed, audit: &Audit) -> Result<String, Failure> {
    let uuids: Vec<String> = followed.uuids.values().map(hex::encode).collect();
    let values = if audit.show_values { " with values" } else { "" };
    Ok(format!("{} {} {}{values}", layout_hash(layout)?, uuids.join(","), audit.named))
}

/// The failure of a collection that is not the tables' one.
fn is_another(name: &str) -> Failure {
    let message = format!(
        "{name} was dropped, renamed or replaced in MongoDB after its tables were brought up to date: its documents of that time \
         are gone, and nothing can be compared"
    );
    Failure::failed(message).remedy("run `gizer sync`, then `gizer verify`")
}

fn cannot_be_audited(name: &str, state: Option<(CollectionState, Option<String>)>) -> Failure {
    match state {
        None => Failure::usage(format!("expected a collection that has been loaded, got {:?}", shortened(name)))
            .remedy("`gizer status` shows those that have been"),
        Some((CollectionState::Copy, reason)) => {
            let why = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            Failure::usage(format!("{name} is a copy{why}: there is no time at which it should match the source"))
                .remedy("load all of it from a server to have it followed and verified")
        }
        Some((CollectionState::LoadDue, reason)) => {
            let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            Failure::new(FailureKind::LoadDue, format!("a load of {name} is due{why}")).remedy(resync_or_load(name))
        }
        Some(_) => Failure::new(FailureKind::LoadDue, format!("{name} has not been loaded yet"))
            .remedy(format!("`{}`", command("load", [name], &[]))),
    }
}
