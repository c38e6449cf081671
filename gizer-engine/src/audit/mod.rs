//! Audits: tables beside the documents that they should hold. `docs/architecture/audit.md` says why what one finds is true.
//!
//! ```text
//!   plan: segments ──▶ Worker (several): chunk by chunk ──▶ Report
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

pub use plan::{Plan, keys_of_tables, plan};
pub use report::Report;
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

/// Which tables are looked at, and how it is known at which time they should equal the documents.
#[derive(Debug, Clone)]
pub enum Tables {
    /// Those that people read: the state tables tell, in the snapshot in which they are read. They are of this load.
    Live(i64),
    /// Those of a load that has been aligned, which stand as it says.
    Staging(Moment),
}

impl Tables {
    /// The load that they are of.
    fn epoch(&self) -> i64 {
        match self {
            Tables::Live(epoch) => *epoch,
            Tables::Staging(moment) => moment.live_epoch,
        }
    }

    fn which(&self) -> WhichTables {
        match self {
            Tables::Live(_) => WhichTables::Live,
            Tables::Staging(_) => WhichTables::Staging,
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

/// What is audited, and how: the same for all workers, each of which is a task and has one of its own.
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
    pub tables: Tables,
    /// Where the order of the keys is that of the `_id`s.
    pub order: Option<KeyOrder>,
    /// Whether the collection did not exist any more when the tables were brought up to date: no row should be left.
    pub is_gone: bool,
    /// Documents of one chunk, at most.
    pub chunk_documents: usize,
    /// Whether one chunk of each segment is enough.
    pub extent: Extent,
    /// Differences that are named one by one.
    pub named: usize,
    /// Whether they are named with both values.
    pub show_values: bool,
    /// Where it is written down how far it has come.
    pub id: Option<AuditId>,
    /// Where keys are gathered that have to be looked at again: of live tables those that were queued to be repaired, which
    /// they are where this is given; of staging tables those that nothing decides about yet.
    pub again: Option<Arc<Mutex<Vec<RepairKey>>>>,
    /// What was looked at so far.
    pub counters: Arc<Counters>,
}

/// Bytes of BSON of one chunk, about: its documents, their rows and what is compared are in memory at once, for each worker.
const CHUNK_BYTES: u64 = 2 << 20;

/// How long a read at a time may take that is a matter of milliseconds, unless it waits for a prepared transaction.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// What one worker reads documents with: chunks, documents by `_id`, and which `_id`s there are.
pub fn readers(cluster: &Cluster, oplogs: &[Oplog]) -> (ClusterChunks, ClusterLookUp, ClusterLookUp) {
    let look_up = || cluster.look_up(oplogs).giving_up_after(READ_LIMIT);
    (cluster.chunks(oplogs).giving_up_after(READ_LIMIT), look_up(), look_up().ids_only())
}

/// How many workers an audit has, of so many that a load has: one more. Each waits for MongoDB, then for PostgreSQL, and then compares; with two on
/// two cores a quarter of both stood idle, and with three an audit took 13 % less.
pub fn workers(load_workers: usize) -> usize {
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
pub struct AuditedTables {
    /// The layout of the tables.
    pub layout: Arc<Layout>,
    /// The collection, by UUID.
    pub watched: WatchedCollection,
    /// Which tables they are.
    pub tables: Tables,
}

impl Audit {
    /// An audit of these tables beside a collection, `None` if it does not exist any more. Nothing is written down of it, and ten
    /// differences are named.
    pub fn of(
        settings: AuditSettings,
        oplogs: &[Oplog],
        subject: AuditedTables,
        collection: Option<&Collection>,
        extent: Extent,
    ) -> Audit {
        let AuditedTables { layout, watched, tables } = subject;
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

    /// Whether it is of a collection that has these UUIDs on its shards: of that one the documents are read.
    pub(super) fn is_of(&self, uuids: &BTreeMap<String, [u8; 16]>) -> bool {
        same_uuids(&self.watched.uuids, uuids)
    }

    /// The whole collection, or a sample of about so many documents where there are many times as many: of fewer, chunks would
    /// overlap, and all of it takes no longer.
    pub fn extent(collection: Option<&Collection>, sample: Option<u64>) -> Extent {
        let all = collection.and_then(Collection::size).map_or(0, |size| size.documents);
        match sample {
            Some(sample) if sample.saturating_mul(4) < all => Extent::Sample(sample),
            _ => Extent::Full,
        }
    }

    /// Of a sample, how many documents are looked at behind each `_id` that was drawn.
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
