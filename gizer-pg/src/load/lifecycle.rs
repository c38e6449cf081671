//! A load of one collection from its beginning to its swap.

use std::collections::BTreeMap;

use gizer_flatten::change::{Namespace, Positions};
use gizer_flatten::range::Segment;
use gizer_schema::Layout;
use sha2::{Digest, Sha256};

use super::additions;
use super::cancels::Cancels;
use super::remake;
use super::sink::{CopySink, LoadFence};
use super::staging::{self, KeySettings, StagingTable};
use super::survey::{self, Extent};
use super::swap::{self, Replacement, SwapPart, SwapSettings, Swapped};
use super::text::{TEXT_FORM, TextSink};
use crate::connect::Session;
use crate::error::PgError;
use crate::state::{self, Ledger, LoadRow, Resumed, Standing, UnfinishedLoad};

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
    /// Where the documents come from; `None` where no server says, as for a dump.
    pub namespace: Option<Namespace>,
    /// The collection's UUID in MongoDB on each shard that has it, by the name of the shard's oplog. All are one where there
    /// is a router; replica sets without one have each their own.
    pub uuids: BTreeMap<String, [u8; 16]>,
    /// What can be done with it later.
    pub source: LoadSource,
    /// What must be the same, like the layout, for a later load to resume this one: which collection, which part of
    /// it. `None` if none can.
    pub resumable_as: Option<String>,
}

impl LoadRequest<'_> {
    /// What `resumable_as` says, and everything that rows follow from: the version of gizer, and the layout to the last field.
    pub(super) fn identity(&self) -> Option<String> {
        let layout = Sha256::digest(format!("{:?}", self.layout));
        self.resumable_as.as_ref().map(|of| format!("gizer {} {} {of}", env!("CARGO_PKG_VERSION"), hex::encode(layout)))
    }

    pub(super) fn row<'r>(&'r self, identity: Option<&'r str>) -> LoadRow<'r> {
        let captured = match &self.source {
            LoadSource::Followable { captured } => Some(captured),
            LoadSource::Copy { .. } => None,
        };
        let namespace = self.namespace.as_ref();
        LoadRow { collection: &self.layout.collection, namespace, uuids: &self.uuids, captured, identity }
    }
}

/// Whether a load that did not finish can be resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// There is none.
    None,
    /// It can.
    Unfinished(UnfinishedLoad),
    /// It cannot.
    Useless {
        /// Why, as a clause: `its schema file has changed`.
        why: &'static str,
    },
}

/// How often to look for what prevents a load. Nothing of it is locked, and another load that is swapped in
/// meanwhile takes the tables away below a view that two collections have in common.
const SURVEY_ATTEMPTS: usize = 5;

/// A running load. It holds the collection's lock on its session.
///
/// Dropped without [`swap`](Load::swap) or [`abandon`](Load::abandon) it counts as an interrupted load: nothing of the live
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
    /// Starts a load: looks for what prevents it, takes the collection's lock and next epoch, and makes empty staging
    /// tables in place of those of an interrupted load. All or nothing. The state tables must be there
    /// ([`state::prepare`]).
    ///
    /// # Errors
    /// [`PgError::Locked`] if another run loads the collection; whatever the [`survey`](super::survey()) finds in the
    /// way; [`PgError::NotCarriedOver`] if an index, a constraint or a view of the live tables cannot be made on the new ones;
    /// [`PgError::ForeignTable`] if a staging table's name is taken; [`PgError::StagingBusy`] if statements of a
    /// dead load still run; [`PgError::NoRights`].
    pub async fn begin(session: &'a Session, request: LoadRequest<'a>) -> Result<Load<'a>, PgError> {
        Ok(Self::start(session, request, None).await?.0)
    }

    /// Looks for a load of the same documents into the same tables that did not finish. Nothing is locked, and
    /// nothing changes.
    pub async fn earlier(session: &Session, request: &LoadRequest<'_>) -> Result<Earlier, PgError> {
        let tables = staging::staging_tables(request.layout, session.schema())?;
        session
            .in_snapshot(async {
                let collection = &request.layout.collection;
                let Some((unfinished, identity)) = state::unfinished(session, collection).await? else {
                    return Ok(Earlier::None);
                };
                if identity.is_none() || identity != request.identity() {
                    return Ok(Earlier::Useless {
                        why: "what is to be loaded, its schema file or gizer's version has changed",
                    });
                }
                if !staging::are_there(session, request.layout, &tables).await? {
                    return Ok(Earlier::Useless { why: "its staging tables are gone" });
                }
                Ok(Earlier::Unfinished(unfinished))
            })
            .await
    }

    /// Takes up a load that [`earlier`](Load::earlier) has found: its staging tables and what is in them, under a new epoch.
    /// Gives what is left of it. `request` must say from which positions on it was captured.
    ///
    /// # Errors
    /// As [`begin`](Load::begin); [`PgError::Fenced`] if another run has begun a load since;
    /// [`PgError::UnreadableState`] if what was recorded of it cannot be used.
    pub async fn resume(
        session: &'a Session,
        request: LoadRequest<'a>,
        unfinished: &UnfinishedLoad,
    ) -> Result<(Load<'a>, Resumed), PgError> {
        Self::start(session, request, Some(unfinished.load_epoch)).await
    }

    /// `old_epoch` is that of the load that is taken up, if one is.
    async fn start(
        session: &'a Session,
        request: LoadRequest<'a>,
        old_epoch: Option<i64>,
    ) -> Result<(Load<'a>, Resumed), PgError> {
        let tables = staging::staging_tables(request.layout, session.schema())?;
        let mut looks = 1;
        let (load_epoch, resumed) = loop {
            let start = start_in_transaction(session, &request, &tables, old_epoch);
            let error = match session.in_transaction(start).await {
                Ok(started) => break started,
                Err(error) => error,
            };
            // Whoever else holds the lock keeps it.
            if !matches!(error, PgError::Locked { .. }) {
                state::release_load(session, &request.layout.collection).await;
            }
            if error.is_lock_conflict() {
                return Err(staging::busy(session, request.layout).await);
            }
            if !error.is_vanished_object() || looks == SURVEY_ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(collection = request.layout.collection, %error, "something vanished while it was looked at");
            looks += 1;
        };
        let fence = LoadFence { collection: request.layout.collection.clone(), load_epoch };
        tracing::debug!(collection = fence.collection, load_epoch, ?old_epoch, "load began");
        Ok((Load { session, request, fence, tables, cancels: Cancels::default() }, resumed))
    }

    /// Records what is going to be read: from now on the load can be resumed. Before the first range is written.
    ///
    /// # Errors
    /// [`PgError::Fenced`]; whatever the server says.
    pub async fn plan(&self, segments: &[Segment]) -> Result<(), PgError> {
        let LoadFence { collection, load_epoch } = &self.fence;
        self.session
            .in_transaction(async {
                state::check_load(self.session, &self.fence).await?;
                state::write_segments(self.session, collection, *load_epoch, segments).await
            })
            .await
    }

    /// Forgets what was written: the load cannot be resumed, the next one starts over.
    ///
    /// # Errors
    /// [`PgError::Fenced`]; whatever the server says.
    pub async fn give_up(&self) -> Result<(), PgError> {
        self.session
            .in_transaction(async {
                state::check_load(self.session, &self.fence).await?;
                state::clear_ranges(self.session, &self.fence.collection).await
            })
            .await
    }

    /// The tables that it fills.
    pub fn layout(&self) -> &'a Layout {
        self.request.layout
    }

    /// What can be done later with what is loaded.
    pub fn source(&self) -> &LoadSource {
        &self.request.source
    }

    /// What every range of this load is checked against.
    pub fn fence(&self) -> &LoadFence {
        &self.fence
    }

    /// A sink that writes into the staging tables over a connection of its own.
    ///
    /// # Errors
    /// [`PgError::UnusableName`] if a column cannot be named.
    pub fn sink(&self, session: Session) -> Result<CopySink, PgError> {
        let targets = staging::copy_targets(self.request.layout, &self.tables, "FORMAT binary")?;
        Ok(CopySink::new(session, self.fence.clone(), targets))
    }

    /// A sink that copies text files into the staging tables over a connection of its own.
    ///
    /// # Errors
    /// [`PgError::UnusableName`] if a column cannot be named.
    pub fn text_sink(&self, session: Session) -> Result<TextSink, PgError> {
        let targets = staging::copy_targets(self.request.layout, &self.tables, TEXT_FORM)?;
        Ok(TextSink::new(session, self.fence.clone(), targets))
    }

    /// Adds keys, recreates the indexes and constraints that somebody added to the live tables, and analyses. It works
    /// in parallel over the given sessions; with none, on the load's own. The sinks must have finished.
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
        let replacement = Replacement { layout: self.request.layout, tables: &self.tables, extent: Extent::All };
        staging::build_keys(sessions, replacement, settings, &self.cancels).await
    }

    /// Bytes that each table takes on disk with its keys and indexes, in the order of the layout's tables.
    pub async fn table_sizes(&self) -> Result<Vec<u64>, PgError> {
        staging::sizes(self.session, &self.tables).await
    }

    /// Puts the staging tables in the place of the live ones, records what was loaded, and gives the lock back. One
    /// transaction, tried again while readers hold the live tables.
    ///
    /// # Errors
    /// [`PgError::TablesBusy`] if they hold them for longer than the settings allow; [`PgError::Fenced`] if another run
    /// has taken over; whatever has come to prevent it since [`begin`](Load::begin). The live tables are then as
    /// they were, and the staging tables stay. Only if the connection is lost during the commit may the swap have taken
    /// place all the same.
    pub async fn swap(
        &self,
        settings: &SwapSettings,
        ledger: &Ledger,
        standing: Option<&Standing>,
    ) -> Result<Swapped, PgError> {
        swap::swap_together(&[SwapPart { load: self, ledger, standing }], settings).await
    }

    /// Records that the load failed and gives the lock back. The live tables and what is known of them stay as they
    /// are; a collection that has none is due for a load. The staging tables stay until the next load, or until
    /// [`drop_leftovers`](super::drop_leftovers). Where it `goes_on`, a load stays due, as after an interrupted one.
    pub async fn abandon(self, reason: &str, goes_on: bool) -> Result<(), PgError> {
        let LoadFence { collection, load_epoch } = &self.fence;
        let cancelled = self.cancels.settle().await;
        // Whatever was interrupted may have left its transaction open: this one rolls it back first.
        let fail = || state::fail_load(self.session, collection, *load_epoch, reason, goes_on);
        let write_down = || self.session.in_transaction(fail());
        let outcome = match write_down().await {
            // The request came after what it was meant for had ended.
            Err(PgError::Cancelled { .. }) if cancelled => write_down().await,
            outcome => outcome,
        };
        state::release_load(self.session, collection).await;
        outcome
    }
}

async fn start_in_transaction(
    session: &Session,
    request: &LoadRequest<'_>,
    tables: &[StagingTable],
    old_epoch: Option<i64>,
) -> Result<(i64, Resumed), PgError> {
    let layout = request.layout;
    let identity = request.identity();
    let row = request.row(identity.as_deref());
    // First the lock: who does not get it need not hear what is in the other run's way.
    let load_epoch = match old_epoch {
        None => state::begin_load(session, &row).await?,
        Some(old) => state::resume_load(session, &row, old).await?,
    };
    let survey = survey::survey_in_transaction(session, layout, Extent::All).await?;
    tracing::debug!(collection = layout.collection, live = survey.live.len(), "tables to replace");
    let resumed = match old_epoch {
        None => {
            staging::recreate(session, layout, tables).await?;
            additions::rehearse(session, &survey.additions, tables).await?;
            Resumed::default()
        }
        Some(old) => state::take_up(session, layout, old, load_epoch).await?,
    };
    remake::rehearse(session, layout, &survey, tables).await?;
    Ok((load_epoch, resumed))
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
