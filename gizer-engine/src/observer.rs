//! Typed events: what the engine says while it works.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gizer_flatten::change::Positions;
use gizer_oplog::Oplog;
use gizer_pg::rows::TableCounts;

use crate::audit::Verified;
use crate::counters::{Counters, Expected};
use crate::failure::Failure;
use crate::follow::ChangeCounts;
use crate::infer::InferredSchema;
use crate::load::Loaded;
use crate::notice::Notice;
use crate::wording::thousands;

/// Receives the events of the engine.
///
/// * **Never waits.** It is called in the middle of the work.
/// * **In order.** Events of one run come one after the other.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Takes one event.
    fn observe(&self, event: Event<'_>);

    /// Whether [`Event::VerifiedUpTo`] is worth a query each time that following is set up.
    fn wants_verified_up_to(&self) -> bool {
        false
    }

    /// Work has begun that may take a while; it ends when what is given is dropped.
    fn begin(&self, activity: Activity) -> Box<dyn Send> {
        let _ = activity;
        Box::new(())
    }
}

/// Work that may take a while.
#[derive(Debug, Clone)]
pub struct Activity {
    /// The collection.
    pub collection: String,
    /// What is done with it.
    pub kind: ActivityKind,
}

/// The kinds of [`Activity`].
#[derive(Debug, Clone)]
pub enum ActivityKind {
    /// Documents or files go through the stages.
    Counted {
        /// What they have done so far.
        counters: Arc<Counters>,
        /// How much there is, if that is known.
        expected: Option<Expected>,
    },
    /// Something whose end is not known, in words: `keys and indexes`.
    Step(&'static str),
}

impl Activity {
    /// What these counters count.
    pub fn counted(collection: &str, counters: &Arc<Counters>, expected: Option<Expected>) -> Activity {
        let kind = ActivityKind::Counted { counters: Arc::clone(counters), expected };
        Activity { collection: collection.to_owned(), kind }
    }

    /// A step whose end is not known.
    pub fn step(collection: &str, step: &'static str) -> Activity {
        Activity { collection: collection.to_owned(), kind: ActivityKind::Step(step) }
    }
}

/// An observer of nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn observe(&self, _: Event<'_>) {}
}

/// What happens.
#[derive(Debug, Clone, Copy)]
pub enum Event<'e> {
    /// A person may want to know this.
    Notice(&'e Notice),
    /// The schema of a collection was inferred, and its file is written.
    Inferred(&'e InferredSchema),
    /// A collection was loaded, and its tables are swapped in.
    Loaded(&'e Loaded),
    /// An audit of a collection has ended.
    Verified(&'e Verified),
    /// These collections are followed from now on, by these oplogs.
    Follows {
        /// By name.
        collections: &'e [&'e str],
        /// One a shard.
        oplogs: &'e [Oplog],
    },
    /// Following has ended; the ends of the oplogs are worth another look where it has come to its end as it was to.
    FollowsNoMore {
        /// Whether it has.
        done: bool,
    },
    /// A batch is committed.
    Committed(&'e CommittedBatch<'e>),
    /// The tables stand here now.
    StandsAt {
        /// By shard.
        positions: &'e Positions,
        /// Whether documents in the tables may be later than the position; `None`: as before.
        catching_up: Option<bool>,
    },
    /// The tables are known to be equal up to here: all that was written was read back.
    VerifiedUpTo(&'e Positions),
    /// So many more bytes of documents are on their way from MongoDB to the tables; fewer, where it is negative.
    InFlight(i64),
    /// Something has happened to a collection.
    Collection(&'e CollectionEvent),
}

/// What has happened to a collection, once it is committed.
#[derive(Debug, Clone)]
pub struct CollectionEvent {
    /// Its name.
    pub collection: String,
    /// What it is.
    pub what: CollectionEventKind,
}

/// The kinds of [`CollectionEvent`].
#[derive(Debug, Clone)]
pub enum CollectionEventKind {
    /// It was dropped or renamed in MongoDB, and its tables are empty.
    Gone,
    /// Only a load helps, for this reason; it is reloaded.
    ReloadDue(String),
    /// Too many documents had to be repaired in one run; it is reloaded.
    TooManyRepairs {
        /// How many.
        repairs: u64,
        /// How many are allowed.
        most: u64,
    },
    /// It is left as it was before the batch.
    SetApart {
        /// Why.
        failure: Failure,
        /// Whether it is reloaded; else it is failing, and retried.
        reload: bool,
    },
    /// It was failing, and is followed again.
    FollowedAgain,
}

/// The reason of a load where too many documents were repaired.
pub(crate) const TOO_MANY_REPAIRS: &str =
    "more documents had to be repaired in one run than [verify] max_repairs allows";

impl CollectionEvent {
    /// Why the collection is reloaded, if the log or repairs say so.
    pub fn reload_reason(&self) -> Option<&str> {
        match &self.what {
            CollectionEventKind::ReloadDue(reason) => Some(reason),
            CollectionEventKind::TooManyRepairs { .. } => Some(TOO_MANY_REPAIRS),
            CollectionEventKind::Gone | CollectionEventKind::SetApart { .. } | CollectionEventKind::FollowedAgain => {
                None
            }
        }
    }
}

impl fmt::Display for CollectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CollectionEvent { collection, what } = self;
        match what {
            CollectionEventKind::Gone => {
                write!(f, "{collection}: dropped or renamed in MongoDB; its tables are empty now")
            }
            CollectionEventKind::ReloadDue(why) => write!(f, "{collection}: {why}; it is reloaded"),
            CollectionEventKind::TooManyRepairs { repairs, most } => write!(
                f,
                "{collection}: {} documents to repair in one run, with at most {} allowed ([verify] max_repairs); it is reloaded",
                thousands(*repairs),
                thousands(*most)
            ),
            CollectionEventKind::SetApart { failure, reload: true } => {
                write!(f, "{}; it is reloaded", failure.message)
            }
            CollectionEventKind::SetApart { failure, reload: false } => {
                write!(f, "{}; failing, retried automatically; the others go on", failure.message)
            }
            CollectionEventKind::FollowedAgain => write!(f, "{collection}: followed again"),
        }
    }
}

/// Counts of what a batch applied to one collection.
#[derive(Debug, Clone, Copy, Default)]
pub struct AppliedCounts {
    /// Changes, by kind.
    pub changes: ChangeCounts,
    /// Rows.
    pub rows: TableCounts,
    /// Documents that were rejected.
    pub rejected: u64,
    /// Values in fields that the schema does not have.
    pub unknown: u64,
    /// Values that the schema has a field for, and do not fit.
    pub unfit: u64,
}

/// A batch that is committed.
#[derive(Debug)]
pub struct CommittedBatch<'c> {
    /// By collection.
    pub applied: Vec<(&'c str, AppliedCounts)>,
    /// Documents that were repaired, by reason.
    pub repaired: Vec<(&'c str, u64)>,
    /// From the start of the transaction to the commit.
    pub took: Duration,
}

/// Documents in flight: counts their bytes with the observer until it is dropped.
#[derive(Debug)]
pub struct InFlight {
    observer: Arc<dyn Observer>,
    bytes: i64,
}

impl InFlight {
    /// So many bytes from now on.
    pub fn of(observer: &Arc<dyn Observer>, bytes: usize) -> InFlight {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        observer.observe(Event::InFlight(bytes));
        InFlight { observer: Arc::clone(observer), bytes }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.observer.observe(Event::InFlight(-self.bytes));
    }
}
