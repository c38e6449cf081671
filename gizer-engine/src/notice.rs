//! What a person may want to know of the engine's work, beyond its results.

use std::fmt;
use std::time::Duration;

use gizer_flatten::change::ClusterTime;

use crate::failure::Failure;
use crate::wording::{counted, printable, thousands, utc};

/// Something that a person may want to know. Its text is one line.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the sentence of the variant speaks of")]
pub enum Notice {
    /// A failure that may pass; the same is tried again after a pause.
    Retrying { failure: Failure, pause: Duration },
    /// A collection is not looked at, for this reason.
    Skipped { name: String, reason: String },
    /// A load starts over although an earlier one was interrupted.
    StartsOver { collection: String, why: String },
    /// A load resumes where an earlier one was interrupted, after so many documents.
    Resumes { collection: String, documents: u64 },
    /// A collection is gone from MongoDB, and its tables are emptied.
    Emptied { collection: String },
    /// Loaded tables wait for readers of the live ones, for so long at most.
    WaitsForReaders { collections: Vec<String>, limit: Duration },
    /// Tables that are no longer in the schema were dropped.
    DroppedTables(Vec<String>),
    /// Views were recreated on new tables.
    RecreatedViews(Vec<String>),
    /// Staging tables of a failed load were dropped.
    DroppedLeftovers { collection: String, tables: usize },
    /// Documents of a load have changed so often that they were not compared.
    NotCompared { collection: String, documents: u64 },
    /// A folder of text files without proof that they are whole.
    UnprovenFiles { folder: String },
    /// What is extracted of a collection can only be a copy.
    NotFollowable { collection: String, failure: Failure },
    /// Documents of an extract were rejected.
    Rejected { collection: String, what: String },
    /// The spool of a load could not be finished, for this reason.
    SpoolUnfinished { why: String },
    /// Settings leave a collection out, and its tables stay as they are.
    Excluded { collection: String },
    /// A person has paused a collection, and its tables stay as they are.
    Paused { collection: String },
    /// There is nothing to infer a schema from yet.
    Waiting { collection: String, why: String },
    /// A collection is not copied any more, for this reason.
    NotCopied { collection: String, why: String },
    /// Only a load helps, for this reason.
    LoadDue { collection: String, why: String },
    /// A collection was reloaded.
    Reloaded { collection: String, documents: u64 },
    /// A collection stays where it is, and the others go on.
    SetApart { failure: Failure },
    /// A shard was added, and is followed from there.
    NewShard { shard: String, from: ClusterTime },
    /// The key of a schema file was widened, so that it takes any `_id`.
    WidenedKey { collection: String },
    /// An audit resumes where an earlier one was interrupted.
    AuditResumes { collection: String },
    /// A collection was reloaded, dropped or created meanwhile, and its audit starts over.
    AuditStartsOver { collection: String },
    /// So many documents were found different, and are queued for repair.
    ToRepair { collection: String, documents: u64 },
}

impl Notice {
    /// Whether something is not as it should be.
    pub fn is_warning(&self) -> bool {
        matches!(self, Notice::Retrying { .. } | Notice::NotCompared { .. } | Notice::SpoolUnfinished { .. })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Notice::*;
        let of = |collection: &str| printable(collection);
        let documents_of = |number: &u64| counted(*number, "document", "documents");
        match self {
            Retrying { failure, pause } => write!(f, "{failure}; retrying in {:.1} s", pause.as_secs_f64()),
            Skipped { name, reason } => write!(f, "skipped {name}: {reason}"),
            StartsOver { collection, why } => write!(f, "{collection}: starting over, because {why}"),
            Resumes { collection, documents } => {
                write!(f, "{collection}: resuming after {} documents of an interrupted load", thousands(*documents))
            }
            Emptied { collection } => write!(f, "{}: gone from MongoDB; its tables are emptied", of(collection)),
            WaitsForReaders { collections, limit } => write!(
                f,
                "{}: loaded; waiting for readers of the live tables to finish, for {} s at most (load.swap_timeout)",
                collections.join(", "),
                limit.as_secs()
            ),
            DroppedTables(tables) => write!(f, "dropped, no longer in the schema: {}", tables.join(", ")),
            RecreatedViews(views) => write!(f, "recreated on the new tables: {}", views.join(", ")),
            DroppedLeftovers { collection, tables } => {
                let tables = counted(*tables as u64, "staging table", "staging tables");
                write!(f, "{}: dropped {tables} that a failed load left behind", of(collection))
            }
            NotCompared { collection, documents } => write!(
                f,
                "{collection}: {} so often that they were not compared before the swap; `gizer verify` compares them",
                counted(*documents, "document has changed", "documents have changed")
            ),
            UnprovenFiles { folder } => {
                write!(f, "{folder}: no extract of gizer has made it: whether its files are complete is not proven")
            }
            NotFollowable { collection, failure } => write!(f, "{collection}: cannot be followed later: {failure}"),
            Rejected { collection, what } => write!(f, "{collection}: {what}"),
            SpoolUnfinished { why } => f.write_str(why),
            Excluded { collection } => write!(f, "{}: excluded; its tables stay as they are", of(collection)),
            Paused { collection } => write!(f, "{}: paused; its tables stay as they are", of(collection)),
            Waiting { collection, why } => write!(f, "{}: waiting: {why}", of(collection)),
            NotCopied { collection, why } => write!(f, "{}: {why}", of(collection)),
            LoadDue { collection, why } => write!(f, "{}: a load is due: {why}", of(collection)),
            Reloaded { collection, documents } => write!(f, "{collection}: reloaded, {}", documents_of(documents)),
            SetApart { failure } => write!(f, "{}; the others go on", failure.message),
            NewShard { shard, from } => write!(f, "{shard}: a new shard, followed from {} on", utc(*from)),
            WidenedKey { collection } => {
                write!(f, "{}: its _id is of several types: it is KEY in the schema file from now on", of(collection))
            }
            AuditResumes { collection } => {
                write!(f, "{collection}: resuming the interrupted audit (--restart starts over)")
            }
            AuditStartsOver { collection } => {
                write!(f, "{collection}: reloaded, dropped or created meanwhile; the audit starts over")
            }
            ToRepair { collection, documents } => write!(f, "{collection}: {} to be repaired", documents_of(documents)),
        }
    }
}
