//! Typed events of the running engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gizer_flatten::change::Positions;
use gizer_oplog::Oplog;
use gizer_pg::rows::TableCounts;

use crate::audit::VerifiedCollection;
use crate::counters::{Counters, ExpectedWork};
use crate::evolve::EvolvedCollection;
use crate::failure::Failure;
use crate::follow::ChangeCounts;
use crate::infer::InferredSchema;
use crate::load::LoadedCollection;
use crate::notice::Notice;
use crate::resync::ResyncedCollection;
use crate::wording::thousands;

/// Receives the engine's events.
///
/// * **Never blocks.** It is called in the middle of the work.
/// * **Ordered.** Events of one run come one by one.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Takes one event.
    fn observe(&self, event: Event<'_>);

    /// Whether [`Event::VerifiedUpTo`] is worth a query whenever following starts.
    fn wants_verified_up_to(&self) -> bool {
        false
    }

    /// Starts a longer activity, which ends when the returned value is dropped.
    fn begin(&self, activity: Activity) -> Box<dyn Send> {
        let _ = activity;
        Box::new(())
    }
}

/// A longer activity.
#[derive(Debug, Clone)]
pub struct Activity {
    /// The collection.
    pub collection: String,
    /// What is done.
    pub kind: ActivityKind,
}

/// The kinds of [`Activity`].
#[derive(Debug, Clone)]
pub enum ActivityKind {
    /// Documents or files pass the stages.
    Counted {
        /// The counters.
        counters: Arc<Counters>,
        /// The total, if known.
        expected: Option<ExpectedWork>,
    },
    /// A step of unknown length, in words: `keys and indexes`.
    Step(&'static str),
}

impl Activity {
    /// An activity with counters.
    pub fn counted(collection: &str, counters: &Arc<Counters>, expected: Option<ExpectedWork>) -> Activity {
        let kind = ActivityKind::Counted { counters: Arc::clone(counters), expected };
        Activity { collection: collection.to_owned(), kind }
    }

    /// A step of unknown length.
    pub fn step(collection: &str, step: &'static str) -> Activity {
        Activity { collection: collection.to_owned(), kind: ActivityKind::Step(step) }
    }
}

/// Ignores all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn observe(&self, _: Event<'_>) {}
}

/// An event.
#[derive(Debug, Clone, Copy)]
pub enum Event<'e> {
    /// A notice for people.
    Notice(&'e Notice),
    /// A schema was inferred and its file written.
    Inferred(&'e InferredSchema),
    /// A collection was loaded and swapped in.
    Loaded(&'e LoadedCollection),
    /// A collection was resynced.
    Resynced(&'e ResyncedCollection),
    /// The schema of a collection has grown.
    Evolved(&'e EvolvedCollection),
    /// An audit of a collection ended.
    Verified(&'e VerifiedCollection),
    /// Following of these collections starts.
    Follows {
        /// By name.
        collections: &'e [&'e str],
        /// One a shard.
        oplogs: &'e [Oplog],
    },
    /// Following ended.
    FollowsNoMore {
        /// Whether it reached its goal: then the oplogs' ends are worth another look.
        done: bool,
    },
    /// A batch was committed.
    Committed(&'e CommittedBatch<'e>),
    /// The tables have reached these positions.
    StandsAt {
        /// By shard.
        positions: &'e Positions,
        /// Whether documents in the tables may be later than the positions; `None` if unchanged.
        catching_up: Option<bool>,
    },
    /// The tables are verified up to here: all writes were read back.
    VerifiedUpTo(&'e Positions),
    /// Change of the bytes in flight from MongoDB to the tables; negative if they shrink.
    InFlight(i64),
    /// An event of a collection.
    Collection(&'e CollectionEvent),
}

/// An event of a collection, once committed.
#[derive(Debug, Clone)]
pub struct CollectionEvent {
    /// Its name.
    pub collection: String,
    /// Its kind.
    pub what: CollectionEventKind,
}

/// The kinds of [`CollectionEvent`].
#[derive(Debug, Clone)]
pub enum CollectionEventKind {
    /// It was dropped or renamed in MongoDB; its tables are empty.
    Gone,
    /// It is reloaded, for this reason.
    ReloadDue(String),
    /// Too many documents were repaired in one run; it is reloaded.
    TooManyRepairs {
        /// How many.
        repairs: u64,
        /// The limit.
        most: u64,
    },
    /// It was set apart, as before the batch.
    SetApart {
        /// Why.
        failure: Failure,
        /// Whether it is reloaded; otherwise it is failing and retried.
        reload: bool,
    },
    /// It was failing and is followed again.
    FollowedAgain,
}

/// The reason of a reload after too many repairs.
pub(crate) const TOO_MANY_REPAIRS: &str =
    "more documents had to be repaired in one run than [verify] max_repairs allows";

impl CollectionEvent {
    /// Why the collection is reloaded, if the log or repairs demand it.
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

/// What a batch applied to one collection.
#[derive(Debug, Clone, Copy, Default)]
pub struct AppliedCounts {
    /// Changes, by kind.
    pub changes: ChangeCounts,
    /// Rows.
    pub rows: TableCounts,
    /// Rejected documents.
    pub rejected: u64,
    /// Values in fields missing in the schema.
    pub unknown: u64,
    /// Values that do not fit their field.
    pub unfit: u64,
}

/// A committed batch.
#[derive(Debug)]
pub struct CommittedBatch<'c> {
    /// By collection.
    pub applied: Vec<(&'c str, AppliedCounts)>,
    /// Repaired documents, by reason.
    pub repaired: Vec<(&'c str, u64)>,
    /// From the start of the transaction to the commit.
    pub took: Duration,
}

/// Counts documents' bytes as in flight until dropped.
#[derive(Debug)]
pub struct InFlight {
    observer: Arc<dyn Observer>,
    bytes: i64,
}

impl InFlight {
    /// Counts this many bytes from now on.
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
