//! Audits: tables beside the documents that they should hold. `docs/verify.md` says why what one finds is true.
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
mod worker;

use std::sync::{Arc, Mutex};

use gizer_oplog::{Cluster, Oplog, WatchedCollection};
use gizer_pg::rows::WhichTables;
use gizer_pg::state::{AuditId, Moment, RepairKey};
use gizer_schema::Layout;
use gizer_verify::{KeyOrder, key_order};

pub(crate) use plan::{Plan, keys_of_tables, plan};
pub(crate) use report::Report;
pub(crate) use worker::{look_again, run};

use crate::config::Config;
use crate::progress::Counters;

/// How much of a collection is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Full,
    /// About so many documents, and the rows between them.
    Sample(u64),
}

impl Extent {
    /// The name in `gizer_audit`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Extent::Full => "full",
            Extent::Sample(_) => "sample",
        }
    }
}

/// Which tables are looked at, and how it is known at which time they should equal the documents.
#[derive(Debug, Clone)]
pub(crate) enum Tables {
    /// Those that people read: the state tables tell, in the snapshot in which they are read. They are of this load.
    Live(i64),
    /// Those of a load that has been aligned, which stand as it says.
    Staging(Moment),
}

impl Tables {
    fn which(&self) -> WhichTables {
        match self {
            Tables::Live(_) => WhichTables::Live,
            Tables::Staging(_) => WhichTables::Staging,
        }
    }
}

/// What is audited, and how: the same for all workers.
#[derive(Clone)]
pub(crate) struct Audit<'a> {
    pub(crate) config: &'a Config,
    pub(crate) cluster: &'a Cluster,
    pub(crate) oplogs: &'a [Oplog],
    pub(crate) layout: &'a Layout,
    pub(crate) watched: WatchedCollection,
    pub(crate) tables: Tables,
    /// Where the order of the keys is that of the `_id`s.
    pub(crate) order: Option<KeyOrder>,
    /// Whether the collection does not exist any more: no row should be left.
    pub(crate) is_gone: bool,
    /// Documents of one chunk, at most.
    pub(crate) chunk_documents: usize,
    /// Whether one chunk of each segment is enough.
    pub(crate) extent: Extent,
    /// Differences that are named one by one.
    pub(crate) named: usize,
    /// Where it is written down how far it has come.
    pub(crate) id: Option<AuditId>,
    /// Where what differs is queued to be repaired: those keys, to be looked at again.
    pub(crate) repair: Option<&'a Mutex<Vec<RepairKey>>>,
    pub(crate) counters: Arc<Counters>,
}

impl Audit<'_> {
    /// Where the order of the keys is that of the `_id`s: rows can be read by ranges.
    pub(crate) fn order(layout: &Layout, has_collation: bool) -> Option<KeyOrder> {
        key_order(layout.key.ty).filter(|_| !has_collation)
    }
}
