//! Where entries are kept aside: in a file, or in a second PostgreSQL.

use gizer_oplog::spool::{Appended, Span, Spool, SpoolError, SpoolIdentity, keeps};
use gizer_oplog::{MongoError, OplogBatch, OplogPosition};
use gizer_pg::spool::{PgSpool, PgSpoolIdentity, PgSpoolPlace};

use super::{SpoolSettings, of_cache};
use crate::failure::{Failure, FailureKind};

/// A spool of either kind, with one way to use it.
pub(super) enum Store {
    /// `None` while the disk is waited for on another thread.
    File(Option<Box<Spool>>),
    Postgres(Box<PgSpool>),
}

impl Store {
    /// Opens what the configuration names, and keeps other runs from writing it.
    pub(super) async fn open(settings: &SpoolSettings, identity: SpoolIdentity) -> Result<Store, Failure> {
        let limit = settings.limit;
        if let Some(target) = &settings.cache {
            let SpoolIdentity { owner, shard, database } = identity;
            let identity = PgSpoolIdentity { owner, shard, database };
            let spool = PgSpool::open(target, &identity, limit).await.map_err(of_cache)?;
            return Ok(Store::Postgres(Box::new(spool)));
        }
        let path = settings.folder.join(identity.file_name());
        let spool = blocking(move || Spool::open(&path, &identity, limit)).await?;
        if let Some(cut) = spool.cut() {
            let why = if cut.damaged { "is damaged" } else { "was torn by a crash" };
            let (path, bytes) = (spool.path().display(), cut.bytes);
            tracing::warn!("spool {path} {why}: its last {bytes} bytes are cut off");
        }
        Ok(Store::File(Some(Box::new(spool))))
    }

    /// What it covers; `None` before it was begun.
    pub(super) fn span(&self) -> Option<Span> {
        match self {
            Store::File(spool) => spool.as_ref().and_then(|spool| spool.span()),
            Store::Postgres(spool) => spool.span().map(|(start, reached)| {
                let of = |PgSpoolPlace { time, term }| OplogPosition { time, term };
                Span { start: of(start), reached: of(reached) }
            }),
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        match self {
            Store::File(spool) => spool.as_ref().is_some_and(|spool| spool.is_dirty()),
            Store::Postgres(spool) => spool.is_dirty(),
        }
    }

    pub(super) async fn begin(&mut self, start: OplogPosition) -> Result<(), Failure> {
        match self {
            Store::File(spool) => on_file(spool, move |spool| spool.begin(start)).await,
            Store::Postgres(spool) => spool.begin(place(start)).await.map_err(of_cache),
        }
    }

    /// Adds what may matter of a batch.
    pub(super) async fn append(&mut self, batch: OplogBatch, database: &str) -> Result<Appended, Failure> {
        match self {
            Store::File(spool) => on_file(spool, move |spool| spool.append(batch.entries(), batch.position())).await,
            Store::Postgres(spool) => {
                let entries = batch.entries().filter(|entry| keeps(entry, database));
                let entries: Vec<(PgSpoolPlace, &[u8])> =
                    entries.map(|entry| (place(entry.position()), entry.document().as_bytes())).collect();
                let before = spool.bytes();
                let added = spool.append(&entries, place(batch.position())).await.map_err(of_cache)?;
                Ok(Appended { entries: added as u64, bytes: spool.bytes() - before, full: spool.is_full() })
            }
        }
    }

    /// Removes what was kept: nobody needs it any more.
    pub(super) async fn remove(self) -> Result<(), Failure> {
        match self {
            Store::File(Some(spool)) => blocking(move || spool.remove()).await,
            Store::File(None) => Ok(()),
            Store::Postgres(spool) => spool.remove().await.map_err(of_cache),
        }
    }

    pub(super) async fn sync(&mut self) -> Result<(), Failure> {
        match self {
            Store::File(spool) => on_file(spool, Spool::sync).await,
            Store::Postgres(spool) => spool.sync().await.map_err(of_cache),
        }
    }
}

fn place(OplogPosition { time, term }: OplogPosition) -> PgSpoolPlace {
    PgSpoolPlace { time, term }
}

/// Runs what waits for the disk where it holds up nobody else.
async fn on_file<T: Send + 'static>(
    place: &mut Option<Box<Spool>>,
    work: impl FnOnce(&mut Spool) -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, Failure> {
    let Some(mut spool) = place.take() else {
        return Err(Failure::failed("the spool was left in the middle of a write"));
    };
    let (spool, outcome) = blocking(move || {
        let outcome = work(&mut spool);
        Ok((spool, outcome))
    })
    .await?;
    *place = Some(spool);
    outcome.map_err(of_file)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(of_file),
        Err(_) => Err(Failure::failed("the thread that writes the spool has panicked")),
    }
}

fn of_file(error: SpoolError) -> Failure {
    let in_use = matches!(error, SpoolError::InUse { .. });
    let failure = Failure::from(MongoError::Spool(error));
    if in_use { Failure { kind: FailureKind::Locked, ..failure } } else { failure }
}
