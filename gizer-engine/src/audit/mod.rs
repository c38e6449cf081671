//! Audits compare tables with the documents that they should hold. `docs/architecture/audit.md` says why what one finds is true.
//!
//! ```text
//!   plan: segments ──▶ Worker (several): chunk by chunk ──▶ AuditReport
//!                        │  snapshot, its Moment; documents as of it; rows; compared
//!                        └─ settle: what differs where the time is out of reach
//! ```

mod plan;
mod report;
mod settle;
mod touched;
mod verify;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gizer_oplog::{Cluster, ClusterChunks, ClusterLookUp, Collection, FollowOptions, Oplog, WatchedCollection};
use gizer_pg::rows::WhichTables;
use gizer_pg::state::{AuditId, Moment, RepairKey};
use gizer_schema::Layout;
use gizer_verify::{Auditor, KeyOrder, key_order};

pub use plan::{AuditPlan, keys_of_tables, plan};
pub use report::AuditReport;
pub use verify::{Verified, VerifyOptions, verify};
pub use worker::{look_again, run};

use crate::counters::Counters;

/// How much of a collection is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Full,
    /// About so many documents, and the rows between them.
    Sample(u64),
}

impl Extent {
    /// The name in `gizer_audit`.
    pub fn name(self) -> &'static str {
        match self {
            Extent::Full => "full",
            Extent::Sample(_) => "sample",
        }
    }
}

/// The tables of an audit, and at which time they should equal the documents.
#[derive(Debug, Clone)]
pub enum AuditTables {
    /// Those that people read, of this load. The state tables say when, in the snapshot in which they are read.
    Live(i64),
    /// Those of a load that has been aligned, and stands as this says.
    Staging(Moment),
}

impl AuditTables {
    /// The load that they are of.
    fn epoch(&self) -> i64 {
        match self {
            AuditTables::Live(epoch) => *epoch,
            AuditTables::Staging(moment) => moment.live_epoch,
        }
    }

    fn which(&self) -> WhichTables {
        match self {
            AuditTables::Live(_) => WhichTables::Live,
            AuditTables::Staging(_) => WhichTables::Staging,
        }
    }
}

/// How MongoDB is read by an audit.
#[derive(Debug, Clone)]
pub struct AuditSettings {
    /// How changes are read from the oplog.
    pub changes: FollowOptions,
    /// Whether shards are read one by one, and not through a router.
    pub shards_apart: bool,
}

/// What is audited, and how; each worker has a copy.
#[derive(Clone)]
pub struct Audit {
    /// How MongoDB is read.
    pub settings: Arc<AuditSettings>,
    /// The oplogs that decide where a time is out of reach.
    pub oplogs: Arc<[Oplog]>,
    /// The tables.
    pub layout: Arc<Layout>,
    /// The collection.
    pub watched: WatchedCollection,
    /// Which of its tables.
    pub tables: AuditTables,
    /// Where the order of the keys is that of the `_id`s.
    pub order: Option<KeyOrder>,
    /// Whether the collection was gone when the tables were brought up to date: no row should be left.
    pub is_gone: bool,
    /// Documents of one chunk, at most.
    pub chunk_documents: usize,
    /// How much of it is looked at.
    pub extent: Extent,
    /// Differences that are named one by one.
    pub named: usize,
    /// Whether they are named with both values.
    pub show_values: bool,
    /// The row that says how far it has come.
    pub id: Option<AuditId>,
    /// Keys to look at again. Of live tables those that were queued to be repaired, which they are where this is given; of staging
    /// tables those that nothing decides about yet.
    pub again: Option<Arc<Mutex<Vec<RepairKey>>>>,
    /// What was looked at so far.
    pub counters: Arc<Counters>,
}

/// Bytes of BSON of one chunk, about. Each worker has its documents, their rows and what is compared in memory.
const CHUNK_BYTES: u64 = 2 << 20;

/// How long a read at a time may take: milliseconds, unless it waits for a prepared transaction.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// What one worker reads documents with.
pub struct AuditReaders {
    chunks: ClusterChunks,
    look_up: ClusterLookUp,
    /// Looks up what only has to be there.
    exists: ClusterLookUp,
}

impl AuditReaders {
    /// Reads this cluster, through a router or shard by shard.
    pub fn new(cluster: &Cluster, oplogs: &[Oplog]) -> AuditReaders {
        let look_up = || cluster.look_up(oplogs).giving_up_after(READ_LIMIT);
        let chunks = cluster.chunks(oplogs).giving_up_after(READ_LIMIT);
        AuditReaders { chunks, look_up: look_up(), exists: look_up().ids_only() }
    }
}

/// How many workers an audit has: one more than a load.
///
/// Each waits for MongoDB, then for PostgreSQL, and then compares. With two on two cores a quarter of both stood idle, and with three
/// an audit took 13 % less.
fn workers(load_workers: usize) -> usize {
    load_workers + 1
}

/// Most documents of one chunk.
const CHUNK_DOCUMENTS: u64 = 5_000;

/// Whether two collections are one, by its UUIDs on the shards. An earlier version did not write down on which shards.
pub fn same_uuids(one: &BTreeMap<String, [u8; 16]>, other: &BTreeMap<String, [u8; 16]>) -> bool {
    let set = |uuids: &BTreeMap<String, [u8; 16]>| uuids.values().copied().collect::<BTreeSet<_>>();
    set(one) == set(other)
}

/// The tables of an audit, and the collection whose documents they should hold.
pub struct AuditTarget {
    /// The layout of the tables.
    pub layout: Arc<Layout>,
    /// The collection, by UUID.
    pub watched: WatchedCollection,
    /// Which tables they are.
    pub tables: AuditTables,
}

impl Audit {
    /// An audit of these tables against a collection, `None` if it is gone. Nothing is written down of it, and ten differences are
    /// named.
    pub fn of(
        settings: AuditSettings,
        oplogs: &[Oplog],
        subject: AuditTarget,
        collection: Option<&Collection>,
        extent: Extent,
    ) -> Audit {
        let AuditTarget { layout, watched, tables } = subject;
        let average = collection.and_then(Collection::size).map_or(0, |size| size.average()).max(1);
        let chunk = (CHUNK_BYTES / average).clamp(1, CHUNK_DOCUMENTS);
        let has_collation = collection.is_some_and(|collection| collection.collation.is_some());
        Audit {
            settings: Arc::new(settings),
            oplogs: oplogs.into(),
            order: key_order(layout.key.ty).filter(|_| !has_collation),
            layout,
            watched,
            tables,
            is_gone: collection.is_none(),
            chunk_documents: usize::try_from(chunk).unwrap_or(1),
            extent,
            named: 10,
            show_values: false,
            id: None,
            again: None,
            counters: Arc::new(Counters::default()),
        }
    }

    /// Whether its documents are those of a collection with these UUIDs.
    pub(super) fn is_of(&self, uuids: &BTreeMap<String, [u8; 16]>) -> bool {
        same_uuids(&self.watched.uuids, uuids)
    }

    /// A sample of about so many documents, or all of a collection that has few more: chunks would overlap, and all of it takes no
    /// longer.
    pub fn extent(collection: Option<&Collection>, sample: Option<u64>) -> Extent {
        let all = collection.and_then(Collection::size).map_or(0, |size| size.documents);
        match sample {
            Some(sample) if sample.saturating_mul(4) < all => Extent::Sample(sample),
            _ => Extent::Full,
        }
    }

    /// Documents of a sample that are looked at behind each `_id` that was drawn.
    fn sample_chunk(&self) -> Option<u64> {
        match self.extent {
            Extent::Full => None,
            Extent::Sample(documents) => Some(documents.min(plan::SAMPLE_CHUNK)),
        }
    }

    fn auditor(&self) -> Auditor<'_> {
        Auditor::new(&self.layout, self.named, self.show_values)
    }
}
