//! A resync: live tables are made equal to the documents in place, and followed again.
//!
//! ```text
//!   Resync::begin ── tables as the layout has them, with their keys; lock, epoch; no writer is left
//!   Resync::resume ── or: what is left of an interrupted one
//!        │
//!        ├── state::save_resync ── with the rows of each chunk: how far it has come
//!        │
//!   Resync::finish ── what is recorded of a load, and the position; nothing is swapped
//! ```
//!
//! It has what a load has of fences: the collection's lock, an epoch, and `load_captured`.

use gizer_schema::Layout;

use super::adopt::adopt;
use super::lifecycle::LoadRequest;
use super::swap::SwapSettings;
use super::{LoadFence, locks};
use crate::connect::Session;
use crate::ddl::layout_hash;
use crate::error::PgError;
use crate::growth::giving_way;
use crate::state::{self, AuditSegment, Ledger, Loaded, Standing, UnfinishedResync};

/// A running resync. It holds the collection's lock on its session.
///
/// Dropped without [`finish`](Resync::finish) or [`abandon`](Resync::abandon) it counts as
/// interrupted: every chunk that was committed is as its documents were, and the next one resumes.
#[derive(Debug)]
pub struct Resync<'a> {
    session: &'a Session,
    request: LoadRequest<'a>,
    fence: LoadFence,
    names: Vec<String>,
    hash: String,
}

impl<'a> Resync<'a> {
    fn new(session: &'a Session, request: LoadRequest<'a>) -> Result<Resync<'a>, PgError> {
        let names = request.layout.tables.iter().map(|table| table.name.clone()).collect();
        let fence = LoadFence { collection: request.layout.collection.clone(), load_epoch: 0 };
        let hash = layout_hash(request.layout)?;
        Ok(Resync { session, request, fence, names, hash })
    }

    /// Looks for a resync of the same collection into the same tables that did not finish. Nothing
    /// is locked, and nothing changes.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn earlier(session: &Session, request: &LoadRequest<'_>) -> Result<Option<UnfinishedResync>, PgError> {
        let identity = request.identity();
        let find = state::unfinished_resync(session, &request.layout.collection, identity.as_deref());
        session.in_snapshot(find).await
    }

    /// Starts a resync, under the collection's lock. The tables of the classic tool get gizer's keys
    /// and marks first; then, in one transaction in which nobody may write the tables, the next
    /// epoch is taken: a batch that has written them has committed before, and no later one can.
    ///
    /// # Errors
    /// [`PgError::Locked`] if another run loads the collection; [`PgError::ForeignTable`] if a table
    /// is missing or has not the columns of the layout; [`PgError::DuplicateKey`] or
    /// [`PgError::NotAdopted`] if tables of the classic tool cannot have gizer's keys;
    /// [`PgError::TablesHeld`] if writers held the tables all the time; [`PgError::NoRights`].
    pub async fn begin(
        session: &'a Session,
        request: LoadRequest<'a>,
        settings: &SwapSettings,
    ) -> Result<Resync<'a>, PgError> {
        let mut resync = Resync::new(session, request)?;
        // Before anything is done to the tables, which another run may be writing.
        state::hold_load(session, &resync.fence.collection).await?;
        match resync.take(settings).await {
            Ok(epoch) => resync.fence.load_epoch = epoch,
            Err(error) => {
                state::release_load(session, &resync.fence.collection).await;
                return Err(error);
            }
        }
        tracing::debug!(collection = resync.fence.collection, load_epoch = resync.fence.load_epoch, "resync began");
        Ok(resync)
    }

    /// Takes the tables out of following, under the collection's lock; gives the epoch.
    async fn take(&self, settings: &SwapSettings) -> Result<i64, PgError> {
        let Resync { session, request, names, hash, .. } = self;
        let layout = request.layout;
        let (_, loaded_as) = session.in_snapshot(state::loaded_as(session, &layout.collection)).await?;
        if loaded_as.is_some_and(|loaded_as| loaded_as != *hash) {
            let why = "its schema file has changed since it was loaded".to_owned();
            let (schema, collection) = (session.schema().to_owned(), layout.collection.clone());
            return Err(PgError::NotAdopted { schema, collection, why });
        }
        adopt(session, layout, settings).await?;
        let (lock, identity) = (lock_writers(session, layout)?, request.identity());
        giving_way(session, layout, settings, async || {
            locks::set_lock_timeout(session, settings.lock_timeout).await?;
            session.run(format!("keeping writers from the tables of {}", layout.collection), &lock).await?;
            let row = request.row(identity.as_deref());
            state::begin_resync(session, &row, names, hash).await
        })
        .await
    }

    /// Takes up a resync that [`earlier`](Resync::earlier) has found, under a new epoch. `request`
    /// must say from which positions on it was captured.
    ///
    /// # Errors
    /// As [`begin`](Resync::begin); [`PgError::Fenced`] if another run has begun since.
    pub async fn resume(
        session: &'a Session,
        request: LoadRequest<'a>,
        unfinished: &UnfinishedResync,
    ) -> Result<Resync<'a>, PgError> {
        let mut resync = Resync::new(session, request)?;
        let identity = resync.request.identity();
        let layout = resync.request.layout;
        let row = resync.request.row(identity.as_deref());
        let resume = state::resume_resync(session, &row, unfinished.load_epoch);
        match session.in_transaction(resume).await {
            Ok(epoch) => resync.fence.load_epoch = epoch,
            Err(error) => return Err(let_go(session, layout, error).await),
        }
        tracing::debug!(collection = layout.collection, load_epoch = resync.fence.load_epoch, "resync resumed");
        Ok(resync)
    }

    /// Records what it is going to go through: from now on it can be resumed.
    ///
    /// # Errors
    /// [`PgError::Fenced`]; whatever the server says.
    pub async fn plan(&self, segments: &[AuditSegment]) -> Result<(), PgError> {
        self.session
            .in_transaction(async {
                state::check_load(self.session, &self.fence).await?;
                state::plan_resync(self.session, &self.fence, segments).await
            })
            .await
    }

    /// The tables that it makes equal.
    pub fn layout(&self) -> &'a Layout {
        self.request.layout
    }

    /// What everything that it writes is checked against.
    pub fn fence(&self) -> &LoadFence {
        &self.fence
    }

    /// Records the collection as loaded and followed from where it stands, and gives the lock back.
    ///
    /// # Errors
    /// [`PgError::Fenced`] if another run has taken over.
    pub async fn finish(self, ledger: &Ledger, standing: &Standing) -> Result<(), PgError> {
        let loaded = Loaded {
            row: self.request.row(None),
            tables: &self.names,
            layout_hash: &self.hash,
            ledger,
            standing: Some(standing),
            copy_because: None,
        };
        let finish = async {
            self.session.run("ending the resync", "SET LOCAL synchronous_commit TO on").await?;
            state::claim_swap(self.session, &self.fence).await?;
            state::finish_resync(self.session, &self.fence, &loaded).await
        };
        self.session.in_transaction(finish).await?;
        state::release_load(self.session, &self.fence.collection).await;
        Ok(())
    }

    /// Records why the resync has ended, and gives the lock back. What was made equal stays, and
    /// the next one resumes; a load is due until then.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn abandon(self, reason: &str, starts_over: bool) -> Result<(), PgError> {
        let LoadFence { collection, load_epoch } = &self.fence;
        let record = async {
            if starts_over {
                state::check_load(self.session, &self.fence).await?;
                state::clear_resync(self.session, collection).await?;
            }
            state::fail_load(self.session, collection, *load_epoch, reason, !starts_over).await
        };
        let outcome = self.session.in_transaction(record).await;
        state::release_load(self.session, collection).await;
        outcome
    }
}

/// What keeps writers from the tables for the rest of a transaction; readers go on (PostgreSQL
/// documentation, "Explicit Locking").
fn lock_writers(session: &Session, layout: &Layout) -> Result<String, PgError> {
    let tables = layout.tables.iter().map(|table| Ok(session.relation(&table.name)?.to_string()));
    let tables = tables.collect::<Result<Vec<String>, PgError>>()?;
    Ok(format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", tables.join(", ")))
}

/// The lock outlives the transaction that took it.
async fn let_go(session: &Session, layout: &Layout, error: PgError) -> PgError {
    if !matches!(error, PgError::Locked { .. }) {
        state::release_load(session, &layout.collection).await;
    }
    error
}
