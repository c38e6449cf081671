//! Notices for people, besides the results.

use std::fmt;
use std::time::Duration;

use gizer_flatten::change::ClusterTime;

use crate::failure::Failure;
use crate::wording::{counted, printable, thousands, utc};

/// A notice for people, one line long.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the sentence of the variant speaks of")]
pub enum Notice {
    /// A transient failure; the work is retried after a pause.
    Retrying { failure: Failure, pause: Duration },
    /// A collection is skipped, for this reason.
    Skipped { name: String, reason: String },
    /// A load starts over although an earlier one was interrupted.
    StartsOver { collection: String, why: String },
    /// A load resumes an interrupted one after this many documents.
    Resumes { collection: String, documents: u64 },
    /// A resync resumes an interrupted one after this many documents.
    ResyncResumes { collection: String, documents: u64 },
    /// A collection was dropped, created or renamed during its resync, which starts over.
    ResyncStartsOver { collection: String },
    /// A collection is gone from MongoDB; its tables are emptied.
    Emptied { collection: String },
    /// A swap waits for readers of the live tables, at most this long.
    WaitsForReaders { collections: Vec<String>, limit: Duration },
    /// Tables that are no longer in the schema were dropped.
    DroppedTables(Vec<String>),
    /// Views were recreated on new tables.
    RecreatedViews(Vec<String>),
    /// Staging tables of a failed load were dropped.
    DroppedLeftovers { collection: String, tables: usize },
    /// Documents changed so often during a load that they were not compared.
    NotCompared { collection: String, documents: u64 },
    /// A folder of text files that may be incomplete.
    UnprovenFiles { folder: String },
    /// An extracted collection can only be a copy.
    NotFollowable { collection: String, failure: Failure },
    /// Documents of an extract were rejected.
    Rejected { collection: String, what: String },
    /// The spool of a load could not be finished, for this reason.
    SpoolUnfinished { why: String },
    /// Settings exclude a collection; its tables stay.
    Excluded { collection: String },
    /// A collection is paused; its tables stay.
    Paused { collection: String },
    /// There is nothing to infer a schema from yet.
    Waiting { collection: String, why: String },
    /// A collection is no longer copied, for this reason.
    NotCopied { collection: String, why: String },
    /// A load is due, for this reason.
    LoadDue { collection: String, why: String },
    /// A collection was reloaded.
    Reloaded { collection: String, documents: u64 },
    /// A collection was set apart; the others go on.
    SetApart { failure: Failure },
    /// A shard was added and is followed from this time.
    NewShard { shard: String, from: ClusterTime },
    /// A schema that an earlier run let grow goes on, after this many documents.
    EvolveResumes { collection: String, documents: u64 },
    /// A collection is audited since a column has become DECIMAL.
    VerifiesNumbers { collection: String },
    /// A schema file was written that an earlier run had not come to.
    RestoredSchemaFile { collection: String },
    /// The key of a schema file was widened to any `_id`.
    WidenedKey { collection: String },
    /// An audit resumes where an earlier one was interrupted.
    AuditResumes { collection: String },
    /// A collection was reloaded, dropped or created meanwhile; its audit starts over.
    AuditStartsOver { collection: String },
    /// Different documents were queued for repair.
    ToRepair { collection: String, documents: u64 },
}

impl Notice {
    /// Whether it is a warning.
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
            ResyncResumes { collection, documents } => {
                write!(f, "{collection}: resuming after {} of an interrupted resync", documents_of(documents))
            }
            ResyncStartsOver { collection } => {
                write!(f, "{collection}: dropped, created or renamed in MongoDB meanwhile; the resync starts over")
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
            UnprovenFiles { folder } => write!(f, "{folder}: not an extract of gizer: its files may be incomplete"),
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
                write!(f, "{}: its _id has several types: the schema file now gives it type KEY", of(collection))
            }
            EvolveResumes { collection, documents } => write!(
                f,
                "{collection}: going on with the new columns of an interrupted run, after {}",
                documents_of(documents)
            ),
            VerifiesNumbers { collection } => write!(
                f,
                "{collection}: a column has become DECIMAL; comparing with MongoDB, where numbers may have zeros at their end"
            ),
            RestoredSchemaFile { collection } => write!(
                f,
                "{collection}: its schema has grown, and the run ended before its file was written: written now"
            ),
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
