//! Weighs a resync against a load, where the position of tables is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gizer_flatten::change::ClusterTime;
use gizer_flatten::range::IdBound;
use gizer_oplog::{Cluster, Collection, Oplog, ReadAt, Stretch, WatchedCollection, draw_ids};
use gizer_pg::disk::free_disk;
use gizer_pg::load::survey;
use gizer_pg::readiness::readiness;
use gizer_pg::rows::{RowStore, WhichTables};
use gizer_pg::state::CollectionStatus;
use gizer_pg::{PgError, Session};
use gizer_schema::Layout;
use gizer_verify::Auditor;

use super::decide::{Facts, Presence};
use super::look::Overview;
use crate::audit::{AuditReaders, cannot_compare};
use crate::failure::Failure;
use crate::wording::thousands;

/// What is done where the position of tables is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LostPosition {
    /// What takes less.
    #[default]
    Auto,
    /// A resync, wherever there are tables.
    Resync,
    /// A load.
    Load,
    /// Nothing: a person decides.
    Stop,
}

/// A resync next to a load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResyncEstimate {
    /// Why the tables cannot be replaced, if so.
    pub hindrance: Option<String>,
    /// Documents that were compared with their rows, and how many of them differ.
    pub sampled: u64,
    /// Of these.
    pub differing: u64,
    /// What the last load took, scaled to the documents of now; `None` if that is not known.
    pub load: Option<Duration>,
    /// What the last resync took, scaled as well.
    pub resync: Option<Duration>,
    /// Bytes of the tables with their keys: a load takes as much again.
    pub size: u64,
    /// Free bytes on the server's disk; `None` if that is not known.
    pub free: Option<u64>,
}

/// Time of comparing all rows, as a part of the time of a load (`docs/performance.md`).
const COMPARING: f64 = 0.6;

/// Time of writing all rows in place, on top of that.
const WRITING: f64 = 2.0;

/// Room that a load leaves on the disk: its WAL, and what comes meanwhile.
const DISK_SPARED: u64 = 20;

/// Parts of a sample that begin at a drawn `_id`, in addition to the first.
const SAMPLE_PARTS: usize = 4;

/// Documents of one part.
const SAMPLE_PART: usize = 100;

impl ResyncEstimate {
    /// Which of the documents differ, by the sample.
    fn share(&self) -> f64 {
        self.differing as f64 / self.sampled.max(1) as f64
    }

    /// What a resync is expected to take, if a load or a resync was measured.
    pub fn expected_resync(&self) -> Option<Duration> {
        let writing = |load: Duration| load.mul_f64(WRITING * self.share());
        match (self.resync, self.load) {
            (Some(resync), load) => Some(resync + load.map_or(Duration::ZERO, writing)),
            (None, Some(load)) => Some(load.mul_f64(COMPARING) + writing(load)),
            (None, None) => None,
        }
    }

    /// Whether a second copy of the tables has no room.
    fn is_short_of_disk(&self) -> bool {
        self.free.is_some_and(|free| free < self.size.saturating_add(self.size / 100 * DISK_SPARED))
    }

    /// Why a resync is better than a load, or why it is not.
    ///
    /// # Errors
    /// The reason for a load.
    pub fn choose(&self) -> Result<String, String> {
        if let Some(hindrance) = &self.hindrance {
            return Ok(format!("its tables cannot be replaced ({hindrance})"));
        }
        if self.is_short_of_disk() {
            let (size, free) = (gib(self.size), gib(self.free.unwrap_or_default()));
            return Ok(format!("a second copy of its tables takes {size}, and {free} of the disk are free"));
        }
        if self.sampled == 0 {
            return Err("there are no documents: a load makes empty tables".to_owned());
        }
        let differ = if self.differing == 1 { "differs" } else { "differ" };
        let sample = format!("{} of {} sampled documents {differ}", thousands(self.differing), thousands(self.sampled));
        let is_faster = match (self.expected_resync(), self.load) {
            (Some(resync), Some(load)) => resync <= load,
            _ => COMPARING + WRITING * self.share() <= 1.0,
        };
        if is_faster { Ok(sample) } else { Err(format!("{sample}: writing them all again takes less time")) }
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

impl Overview {
    /// Weighs a resync against a load, for each collection whose position is lost and that could be
    /// resynced.
    ///
    /// # Errors
    /// [`Failure`] if a server cannot be asked.
    pub async fn weigh(
        &self,
        session: &Session,
        cluster: &Cluster,
        oplogs: &[Oplog],
        facts: &mut [Facts],
    ) -> Result<(), Failure> {
        let is_copied = |facts: &&mut Facts| !matches!(facts.source, Presence::Skipped(_));
        for facts in facts.iter_mut().filter(is_copied).filter(|facts| facts.can_be_resynced()) {
            let (Some(layout), Some(known)) = (self.layout(&facts.name), &facts.known) else { continue };
            let source = self.source.get(&facts.name);
            match weigh(session, (cluster, oplogs), layout, known, source).await {
                Ok(estimate) => facts.estimate = Some(estimate),
                // One that cannot be looked at does not keep the others from it; its load says why.
                Err(failure) if !failure.ends_run => {
                    tracing::info!(collection = facts.name, %failure, "a resync could not be weighed");
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

async fn weigh(
    session: &Session,
    (cluster, oplogs): (&Cluster, &[Oplog]),
    layout: &Layout,
    known: &CollectionStatus,
    source: Option<&Collection>,
) -> Result<ResyncEstimate, Failure> {
    let hindrance = match survey(session, layout).await {
        Ok(_) => None,
        Err(PgError::Dependents { dependents, table, .. }) => Some(format!("{} on {table}", dependents.join(", "))),
        Err(error @ (PgError::NoRights { .. } | PgError::ForeignTable { .. } | PgError::NameTaken { .. })) => {
            Some(error.to_string())
        }
        Err(error) => return Err(error.into()),
    };
    let names: Vec<String> = layout.tables.iter().map(|table| table.name.clone()).collect();
    let sizes = readiness(session, &names).await?.sizes;
    let (sampled, differing) = match source {
        Some(collection) => sample(session, (cluster, oplogs), layout, collection).await?,
        // All rows go.
        None => (0, 0),
    };
    let documents = source.and_then(Collection::size).map(|size| size.documents);
    let last = |millis: Option<u64>| {
        let ledger = known.ledger.as_ref().filter(|ledger| ledger.read > 0)?;
        let scale = documents.map_or(1.0, |documents| documents as f64 / ledger.read as f64);
        Some(Duration::from_secs_f64(millis? as f64 / 1e3 * scale))
    };
    Ok(ResyncEstimate {
        hindrance,
        sampled,
        differing,
        load: last(known.ledger.as_ref().and_then(|ledger| ledger.millis)),
        resync: last(known.ledger.as_ref().and_then(|ledger| ledger.resync_millis)),
        size: sizes.values().sum(),
        free: free_disk(session).await?,
    })
}

/// Compares some documents, as they are now, with their rows; returns how many, and how many differ.
async fn sample(
    session: &Session,
    (cluster, oplogs): (&Cluster, &[Oplog]),
    layout: &Layout,
    collection: &Collection,
) -> Result<(u64, u64), Failure> {
    let mut starts: VecDeque<Option<IdBound>> = VecDeque::from([None]);
    let watched =
        WatchedCollection { namespace: cluster.namespace(&collection.name), uuids: cluster.uuids(collection, oplogs) };
    let mut readers = AuditReaders::new(cluster, oplogs);
    let layout = Arc::new(layout.clone());
    let mut store = RowStore::open(session, &layout, WhichTables::Live).await?;
    let mut auditor = Auditor::of_cells(&layout, 0);
    let (mut sampled, mut differing) = (0, 0);
    while let Some(after) = starts.pop_front() {
        let is_first = after.is_none();
        let stretch = Stretch { after, upto: None };
        let at = ReadAt::Committed(ClusterTime::default());
        let chunk = readers.chunks.read(&watched, &stretch, at, SAMPLE_PART).await?;
        store.begin_snapshot().await?;
        let audited = auditor.documents(&mut store, &chunk.documents).await;
        store.end_snapshot().await;
        let audited = audited.map_err(cannot_compare)?;
        sampled += audited.verdict.documents;
        differing += audited.differing.len() as u64;
        // Of a small collection the first part is all.
        if is_first && chunk.last.is_some() {
            starts.extend(draw_ids(cluster, collection, SAMPLE_PARTS).await?.into_iter().map(Some));
        }
    }
    Ok((sampled, differing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(sampled: u64, differing: u64) -> ResyncEstimate {
        ResyncEstimate { sampled, differing, ..ResyncEstimate::default() }
    }

    #[test]
    fn few_differences_are_written_in_place() {
        assert_eq!(estimate(500, 5).choose(), Ok("5 of 500 sampled documents differ".to_owned()));
        assert!(estimate(500, 500).choose().is_err());
        assert!(estimate(0, 0).choose().is_err(), "a collection that is gone or empty by now");
    }

    #[test]
    fn what_has_been_measured_counts() {
        let times = |load, resync| ResyncEstimate {
            load: Some(Duration::from_secs(load)),
            resync: Some(Duration::from_secs(resync)),
            ..estimate(500, 0)
        };
        assert!(times(10, 9).choose().is_ok());
        assert!(times(10, 11).choose().is_err());
        assert_eq!(times(10, 9).expected_resync(), Some(Duration::from_secs(9)));
        let all = ResyncEstimate { differing: 500, ..times(10, 9) };
        assert_eq!(all.expected_resync(), Some(Duration::from_secs(29)));
    }

    #[test]
    fn tables_that_cannot_be_replaced_or_doubled_are_resynced_whatever_differs() {
        let all = estimate(500, 500);
        let hindrance = Some("policy mine on posts".to_owned());
        let reason = ResyncEstimate { hindrance, ..all.clone() }.choose().unwrap();
        assert_eq!(reason, "its tables cannot be replaced (policy mine on posts)");
        let short = ResyncEstimate { size: 100 << 30, free: Some(110 << 30), ..all.clone() };
        assert_eq!(
            short.choose().unwrap(),
            "a second copy of its tables takes 100.0 GiB, and 110.0 GiB of the disk are free"
        );
        assert!(ResyncEstimate { size: 100 << 30, free: Some(130 << 30), ..all }.choose().is_err());
    }
}
