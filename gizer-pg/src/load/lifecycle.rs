//! A load of one collection from its beginning to its swap.

use gizer_flatten::change::{Namespace, Positions};
use gizer_schema::Layout;

use super::additions;
use super::cancels::Cancels;
use super::remake;
use super::sink::{CopySink, LoadFence};
use super::staging::{self, KeySettings, StagingTable};
use super::survey;
use super::swap::{self, SwapPart, SwapSettings, Swapped};
use crate::connect::Session;
use crate::error::PgError;
use crate::state::{self, Ledger, LoadRow};

/// Whether what is loaded can be followed afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadSource {
    /// Yes, from these positions on: where each shard was before the first document was read.
    Followable {
        /// One a shard.
        captured: Positions,
    },
    /// No: a dump, a part of the collection, a schema without `_id`. It is marked as a copy.
    Copy {
        /// Why, for `gizer status` and for `sync`, which refuses it with these words.
        reason: String,
    },
}

/// What is to be loaded.
#[derive(Debug, Clone)]
pub struct LoadRequest<'a> {
    /// The tables.
    pub layout: &'a Layout,
    /// Where the documents come from; `None` where no server tells, as for a dump.
    pub namespace: Option<&'a Namespace>,
    /// The collection's UUID in MongoDB.
    pub uuid: Option<[u8; 16]>,
    /// What can be done with it later.
    pub source: LoadSource,
}

impl LoadRequest<'_> {
    pub(super) fn row(&self) -> LoadRow<'_> {
        let captured = match &self.source {
            LoadSource::Followable { captured } => Some(captured),
            LoadSource::Copy { .. } => None,
        };
        LoadRow { collection: &self.layout.collection, namespace: self.namespace, uuid: self.uuid, captured }
    }
}

/// A load under way. It holds the collection's lock on its session.
///
/// Dropped without [`swap`](Load::swap) or [`abandon`](Load::abandon) it is like a load that died: nothing of the live
/// tables has changed, and the next load drops the staging tables.
#[derive(Debug)]
pub struct Load<'a> {
    pub(super) session: &'a Session,
    pub(super) request: LoadRequest<'a>,
    fence: LoadFence,
    pub(super) tables: Vec<StagingTable>,
    cancels: Cancels,
}

impl<'a> Load<'a> {
    /// Looks at what stands in the way, takes the collection's lock and its next epoch, drops the staging tables of a
    /// dead load, and makes empty ones. All or nothing. The state tables must be there ([`state::prepare`]).
    ///
    /// # Errors
    /// [`PgError::Locked`] if another run loads the collection; whatever the [`survey`](super::survey()) finds in the
    /// way; [`PgError::NotCarriedOver`] if an index, a constraint or a view of the live tables cannot be made on the new ones;
    /// [`PgError::ForeignTable`] if a staging table's name is taken; [`PgError::StagingBusy`] if statements of a
    /// dead load still run; [`PgError::NoRights`].
    pub async fn begin(session: &'a Session, request: LoadRequest<'a>) -> Result<Load<'a>, PgError> {
        let tables = staging::staging_tables(request.layout, session.schema())?;
        session.begin().await?;
        let outcome = begin_in_transaction(session, &request, &tables).await;
        let load_epoch = match session.end(outcome).await {
            Ok(load_epoch) => load_epoch,
            Err(error) => {
                // Whoever else holds the lock keeps it.
                if !matches!(error, PgError::Locked { .. }) {
                    state::release_load(session, &request.layout.collection).await;
                }
                if error.is_lock_conflict() {
                    return Err(staging::busy(session, request.layout).await);
                }
                return Err(error);
            }
        };
        let fence = LoadFence { collection: request.layout.collection.clone(), load_epoch };
        tracing::debug!(collection = fence.collection, load_epoch, "load began");
        Ok(Load { session, request, fence, tables, cancels: Cancels::default() })
    }

    /// What every unit of this load is checked against.
    pub fn fence(&self) -> &LoadFence {
        &self.fence
    }

    /// A sink that writes into the staging tables over a connection of its own.
    ///
    /// # Errors
    /// [`PgError::UnusableName`] if a column cannot be named.
    pub fn sink(&self, session: Session) -> Result<CopySink, PgError> {
        let targets = staging::copy_targets(self.request.layout, &self.tables)?;
        Ok(CopySink::new(session, self.fence.clone(), targets))
    }

    /// Adds the keys, makes the indexes and constraints again that somebody has added to the live tables, and analyses, in parallel over the given sessions; with none, on the load's own. The sinks must
    /// have finished.
    ///
    /// If the future is dropped, what runs on the sessions is cancelled by requests that are sent in the background of
    /// the current tokio runtime; [`abandon`](Load::abandon) waits for them.
    ///
    /// # Errors
    /// [`PgError::DuplicateKey`] if two documents have one key; [`PgError::NotCarriedOver`] if the new rows do not fit
    /// an index or a constraint of the live tables. The tables that already have their keys keep them, so
    /// that this cannot be called again.
    pub async fn build_keys(&self, sessions: &[&Session], settings: KeySettings) -> Result<(), PgError> {
        let own = [self.session];
        let sessions = if sessions.is_empty() { &own } else { sessions };
        staging::build_keys(sessions, self.request.layout, &self.tables, settings, &self.cancels).await
    }

    /// Puts the staging tables in the place of the live ones, writes down what was loaded, and gives the lock back. One
    /// transaction, tried again while readers hold the live tables.
    ///
    /// # Errors
    /// [`PgError::TablesBusy`] if they hold them for longer than the settings allow; [`PgError::Fenced`] if another run
    /// has taken over; whatever has come to stand in the way since [`begin`](Load::begin). The live tables are then as
    /// they were, and the staging tables stay. Only if the connection is lost during the commit may the swap have taken
    /// place all the same.
    pub async fn swap(
        &self,
        settings: &SwapSettings,
        ledger: &Ledger,
        exact_at: Option<&Positions>,
    ) -> Result<Swapped, PgError> {
        swap::swap_together(&[SwapPart { load: self, ledger, exact_at }], settings).await
    }

    /// Writes down that the load failed and gives the lock back. The live tables and what is known of them stay as they
    /// are; a collection that has none is due for a load. The staging tables stay until the next load.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn abandon(self, reason: &str) -> Result<(), PgError> {
        let LoadFence { collection, load_epoch } = &self.fence;
        let cancelled = self.cancels.settle().await;
        let write_down = async || {
            // Whatever was interrupted may have left its transaction open: this one rolls it back first.
            self.session.begin().await?;
            let outcome = state::fail_load(self.session, collection, *load_epoch, reason).await;
            self.session.end(outcome).await
        };
        let outcome = match write_down().await {
            // The request came after what it was meant for had ended.
            Err(PgError::Cancelled { .. }) if cancelled => write_down().await,
            outcome => outcome,
        };
        state::release_load(self.session, collection).await;
        outcome
    }
}

async fn begin_in_transaction(
    session: &Session,
    request: &LoadRequest<'_>,
    tables: &[StagingTable],
) -> Result<i64, PgError> {
    // First the lock: who does not get it need not hear what is in the other run's way.
    let load_epoch = state::begin_load(session, &request.row()).await?;
    let survey = survey::survey_in_transaction(session, request.layout).await?;
    tracing::debug!(collection = request.layout.collection, live = survey.live.len(), "tables to replace");
    staging::recreate(session, request.layout, tables).await?;
    additions::rehearse(session, &survey.additions, tables).await?;
    remake::rehearse(session, request.layout, &survey, tables).await?;
    Ok(load_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{RunKind, ShardPositions};

    /// That it compiles is the test: every step of a load can run in a task of its own.
    #[allow(dead_code)]
    fn steps_can_be_spawned(session: &'static Session, load: &'static Load<'static>, request: LoadRequest<'static>) {
        fn spawnable(_: impl Future + Send) {}
        spawnable(state::prepare(session));
        spawnable(state::Run::start(session, RunKind::InitLoad, const { &ShardPositions::new() }));
        spawnable(Load::begin(session, request));
        spawnable(load.build_keys(&[], KeySettings::default()));
        spawnable(async { load.swap(&SwapSettings::default(), &Ledger::default(), None).await.map(drop) });
        spawnable(state::read_status(session, 1));
    }
}
