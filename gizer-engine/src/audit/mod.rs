//! Audits compare tables with their documents (`docs/architecture/audit.md`).
//!
//! ```text
//!   plan: segments ──▶ Worker (several): chunk by chunk ──▶ AuditReport
//!                        │  snapshot, its Moment; documents as of it; rows; compared
//!                        └─ settle: what differs where the time is out of reach
//! ```

mod chunk;
mod plan;
mod report;
mod settle;
mod threads;
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

pub(crate) use chunk::{ComparedChunk, ids_of_keys, last_key, next_keys, stretch_of};
pub(crate) use plan::KEYS_OF_TABLES;
pub use plan::{AuditPlan, keys_of_tables, plan};
pub use report::AuditReport;
pub(crate) use settle::read_ids;
pub(crate) use threads::on_threads;
pub use verify::{VerifiedCollection, VerifyOptions, verify};
pub(crate) use worker::cannot_compare;
pub use worker::{look_again, run};

use crate::counters::Counters;

/// How much of a collection is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Full,
    /// About this many documents, and the rows between them.
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

/// The audited tables, and the time at which they should equal the documents.
#[derive(Debug, Clone)]
pub enum AuditTables {
    /// Live tables of this load. The state tables tell the time, in the same snapshot.
    Live(i64),
    /// Staging tables of an aligned load, at this moment.
    Staging(Moment),
}

impl AuditTables {
    /// Epoch of their load.
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

/// An audit's parameters; each worker has a copy.
#[derive(Clone)]
pub struct Audit {
    /// How MongoDB is read.
    pub settings: Arc<AuditSettings>,
    /// The oplogs, which decide when a time is out of reach.
    pub oplogs: Arc<[Oplog]>,
    /// The tables.
    pub layout: Arc<Layout>,
    /// The collection.
    pub watched: WatchedCollection,
    /// Which of its tables.
    pub tables: AuditTables,
    /// Set where keys sort like `_id`s.
    pub order: Option<KeyOrder>,
    /// Whether the collection was gone at the tables' time: no row should be left.
    pub is_gone: bool,
    /// Documents per chunk.
    pub chunk_documents: usize,
    /// How much is audited.
    pub extent: Extent,
    /// How many differences are named.
    pub named: usize,
    /// Whether differences show both values.
    pub show_values: bool,
    /// The row with its progress.
    pub id: Option<AuditId>,
    /// Keys to look at again: for live tables those queued for repair, which are repaired if this
    /// is set; for staging tables the undecided ones.
    pub again: Option<Arc<Mutex<Vec<RepairKey>>>>,
    /// Progress counters.
    pub counters: Arc<Counters>,
}

/// Bytes of BSON per chunk, about. Each worker holds one, with its rows.
const CHUNK_BYTES: u64 = 2 << 20;

/// Limit of a read at a time: normally milliseconds, unless it waits for a prepared transaction.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// A worker's document readers.
pub struct AuditReaders {
    pub(crate) chunks: ClusterChunks,
    look_up: ClusterLookUp,
    /// Looks up which `_id`s exist.
    pub(crate) exists: ClusterLookUp,
}

impl AuditReaders {
    /// Reads this cluster, through a router or shard by shard.
    pub fn new(cluster: &Cluster, oplogs: &[Oplog]) -> AuditReaders {
        let look_up = || cluster.look_up(oplogs).with_time_limit(READ_LIMIT);
        let chunks = cluster.chunks(oplogs).with_time_limit(READ_LIMIT);
        AuditReaders { chunks, look_up: look_up(), exists: look_up().ids_only() }
    }
}

/// Number of audit workers: one more than a load's.
///
/// Each waits for MongoDB, then for PostgreSQL, then compares. Two on two cores left a quarter
/// idle; three made an audit 13 % faster.
pub(crate) fn workers(load_workers: usize) -> usize {
    load_workers + 1
}

const CHUNK_DOCUMENTS: u64 = 5_000;

/// Whether two collections are the same, by UUID. An earlier version recorded no shards.
pub fn same_uuids(one: &BTreeMap<String, [u8; 16]>, other: &BTreeMap<String, [u8; 16]>) -> bool {
    let set = |uuids: &BTreeMap<String, [u8; 16]>| uuids.values().copied().collect::<BTreeSet<_>>();
    set(one) == set(other)
}

/// The audited tables and their collection.
pub struct AuditTarget {
    /// The layout of the tables.
    pub layout: Arc<Layout>,
    /// The collection, by UUID.
    pub watched: WatchedCollection,
    /// Which tables they are.
    pub tables: AuditTables,
}

impl Audit {
    /// An audit of these tables against a collection, `None` if it is gone; not recorded.
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

    /// Whether its collection has these UUIDs.
    pub(super) fn is_of(&self, uuids: &BTreeMap<String, [u8; 16]>) -> bool {
        same_uuids(&self.watched.uuids, uuids)
    }

    /// A sample of about this many documents, or all of a collection not much larger: chunks would
    /// overlap, and all takes no longer.
    pub fn extent(collection: Option<&Collection>, sample: Option<u64>) -> Extent {
        let all = collection.and_then(Collection::size).map_or(0, |size| size.documents);
        match sample {
            Some(sample) if sample.saturating_mul(4) < all => Extent::Sample(sample),
            _ => Extent::Full,
        }
    }

    /// Documents per drawn `_id` of a sample.
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
