//! Resyncs collections: live tables are made equal to the documents in place, and followed again
//! (`docs/architecture/resync.md`).
//!
//! ```text
//!   job     capture T0 ──▶ Worker (several): chunk by chunk ──▶ align ──▶ position
//!                            │  documents as of now; rows of the same keys; compared
//!                            └─ what differs: written, read back, committed with how far it has come
//! ```
//!
//! Nothing is swapped: readers see rows of before and after next to each other, each document as a
//! whole. What was done stays done; an interrupted resync resumes.

mod counts;
mod job;
mod worker;

use std::time::Duration;

use gizer_pg::state::{self, CollectionState, CollectionStatus, Ledger};

pub use counts::ResyncedRows;

use crate::audit::AuditReport;
use crate::env::Env;
use crate::evolve::restore_schema_files;
use crate::failure::Failure;
use crate::failures::Failures;
use crate::layouts::Layouts;
use crate::observer::Event;
use crate::unfit::UnfitReport;

/// Options of a resync.
#[derive(Debug, Clone, Default)]
pub struct ResyncOptions {
    /// Collections; empty for all that have tables.
    pub collections: Vec<String>,
    /// Whether to start over instead of resuming an interrupted one.
    pub restart: bool,
    /// How many differences are named.
    pub named: usize,
    /// Whether the tables of a collection that is gone from MongoDB are emptied.
    pub empties_gone: bool,
}

/// A resynced collection.
#[derive(Debug)]
pub struct ResyncedCollection {
    /// Its name.
    pub name: String,
    /// What of its rows was not as its documents; all of it is now.
    pub found: AuditReport,
    /// Rows written because of that.
    pub written: ResyncedRows,
    /// Counts of its documents.
    pub ledger: Ledger,
    /// Rows by table, in the order of the layout.
    pub tables: Vec<(String, u64)>,
    /// Values without a place in the schema.
    pub unfit: UnfitReport,
    /// Bytes of BSON.
    pub bytes: u64,
    /// Documents read by this run: less than all after resuming.
    pub read_now: u64,
    /// Duration.
    pub took: Duration,
}

/// Resyncs collections one by one.
///
/// # Errors
/// [`Failure`] if there is nothing to resync. Failures of collections are in [`Failures`].
pub async fn resync(env: &Env, options: &ResyncOptions) -> Result<(Vec<ResyncedCollection>, Failures), Failure> {
    let wanted = env.stop.or_done(wanted(env, options)).await?;
    let Layouts { usable, mut failures } = Layouts::read(env, &wanted)?;
    let mut resynced = Vec::new();
    if !usable.is_empty() {
        job::resync_all(env, options, usable, &mut resynced, &mut failures).await;
    }
    resynced.iter().for_each(|each| env.observer.observe(Event::Resynced(each)));
    Ok((resynced, failures))
}

/// The collections, by name: those that have tables which are followed or were, unless some are named.
async fn wanted(env: &Env, options: &ResyncOptions) -> Result<Vec<String>, Failure> {
    let session = env.postgres().await?;
    restore_schema_files(env, &session).await?;
    if !options.collections.is_empty() {
        return Ok(options.collections.clone());
    }
    let status = state::read_status(&session, 0).await?.unwrap_or_default();
    let is_wanted = |known: &CollectionStatus| {
        let has_tables = known.live && matches!(known.state, CollectionState::Following | CollectionState::LoadDue);
        has_tables && !env.settings.selection.excludes(&known.collection)
    };
    let known = status.collections.iter().filter(|known| is_wanted(known));
    let names: Vec<String> = known.map(|known| known.collection.clone()).collect();
    if names.is_empty() {
        return Err(Failure::usage("there is nothing to resync: no collection has tables that gizer has loaded")
            .remedy("run `gizer load`, or name the collection whose tables the classic tool has loaded"));
    }
    Ok(names)
}
