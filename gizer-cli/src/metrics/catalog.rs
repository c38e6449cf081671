//! The list of all metrics: names, labels and what they mean. `docs/metrics.md` is its table for people.
//!
//! Names and units are those of Prometheus' "Metric and label naming": the prefix of the program, base units (seconds, bytes) as a
//! suffix, `_total` for what only grows, `_timestamp_seconds` for a time as seconds since 1970 in UTC.

use Lasting::{ByLabels, Never, UntilFollowed, UntilWritten};
use MetricKind::{Counter, Gauge, Histogram};

/// One metric.
#[derive(Debug)]
pub struct MetricDefinition {
    /// Its name.
    pub name: &'static str,
    /// What kind it is.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Its help, in a line.
    pub help: &'static str,
}

/// What kind a metric is, as Prometheus has them, and how the textfile goes on with it from run to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricKind {
    /// Only grows. In the textfile each run adds to what is there.
    Counter,
    /// Counts of what was at most so much. In the textfile each run adds to what is there.
    Histogram(&'static [f64]),
    /// A value of now.
    Gauge(Lasting),
}

/// How long a value in the textfile lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// Until one with the same labels is written.
    ByLabels,
    /// Until another run follows: that one knows all of them, or says by leaving one out that it is not known.
    UntilFollowed,
    /// Until another run ends, of whichever command.
    UntilWritten,
    /// It is of this process alone, and not in the textfile.
    Never,
}

/// Makes a constant of each metric, and the list of them.
macro_rules! catalog {
    ($($constant:ident: $kind:expr, $name:literal, [$($label:literal),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: MetricDefinition =
                MetricDefinition { name: $name, kind: $kind, labels: &[$($label),*], help: $help };
        )+

        /// All metrics, in the order in which they are written.
        pub const ALL: &[&MetricDefinition] = &[$(&$constant),+];
    };
}

const BATCH_BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

catalog! {
    CHANGES: Counter, "gizer_changes_applied_total", ["collection", "operation"],
        "Changes of the oplog that were applied and committed, by operation: insert, replace, update, delete, migration.";
    LOADED: Counter, "gizer_documents_loaded_total", ["collection"],
        "Documents of loads that were swapped in, each counted when that happened.";
    RESYNCED: Counter, "gizer_documents_resynced_total", ["collection"],
        "Documents that resyncs have compared, each counted when its resync was done.";
    RESYNC_DIFFERED: Counter, "gizer_resync_differences_total", ["collection"],
        "Documents whose rows differed, and keys of rows without a document, of resyncs that were done.";
    ROWS: Counter, "gizer_rows_written_total", ["collection", "operation"],
        "Rows committed, by operation: insert, update, delete of what is followed or resynced; copy of loads that were swapped in.";
    REJECTED: Counter, "gizer_rejected_documents_total", ["collection"],
        "Documents put into gizer_reject because no rows can be made of them.";
    UNKNOWN: Counter, "gizer_unknown_values_total", ["collection"],
        "Values of committed changes in fields that the schema does not have, each counted as often as its document was written.";
    UNFIT: Counter, "gizer_unfit_values_total", ["collection"],
        "Values of committed changes of another type than the schema has, each counted as often as its document was written.";
    BATCHES: Counter, "gizer_batches_committed_total", [], "Transactions that applied a batch of changes or repairs.";
    BATCH_SECONDS: Histogram(BATCH_BOUNDS), "gizer_batch_duration_seconds", [],
        "Time from the beginning of a batch's transaction to its commit.";
    REPAIRS: Counter, "gizer_repairs_total", ["reason"],
        "Documents whose rows were made equal because they were found different.";
    RELOADS: Counter, "gizer_reloads_total", ["reason"],
        "Collections that became due for a load while they were followed.";
    SCHEMA_VERSIONS: Counter, "gizer_schema_versions_total", ["collection"],
        "How often the schema of a collection has grown in place.";
    POSITION: Gauge(UntilFollowed), "gizer_position_timestamp_seconds", ["shard"],
        "Time of the last entry of the shard's oplog up to which everything is in the tables.";
    VERIFIED: Gauge(UntilFollowed), "gizer_verified_timestamp_seconds", ["shard"],
        "Time up to which the tables were last known to be equal, with all that was written read back and compared.";
    LAG: Gauge(UntilFollowed), "gizer_lag_seconds", ["shard"],
        "Newest entry of the shard's oplog, as last looked at (each 5 s), minus the position; 0 if the position is later.";
    HEADROOM: Gauge(UntilFollowed), "gizer_oplog_headroom_seconds", ["shard"],
        "The position minus the oldest entry of the shard's oplog, as last looked at (each 15 s): what may still roll over.";
    CATCHING_UP: Gauge(UntilFollowed), "gizer_catching_up", [],
        "1 while some documents were read later than the position, so that the tables equal no single moment; else 0.";
    STANDING: Gauge(UntilFollowed), "gizer_collection_standing", ["collection", "standing"],
        "1 for the state of a collection that is expected to be copied: followed, loading, load due, resyncing, waiting, failing, refused, paused, excluded, copy.";
    LOOKUP_MEMORY: Gauge(Never), "gizer_documents_under_way_bytes", [],
        "Memory of documents that were looked up to be applied, and are not written yet.";
    DIFFERING: Gauge(ByLabels), "gizer_differing_documents", ["collection"],
        "Documents and keys that differed at the end of the last verify, after its repairs.";
    VERIFY_ENDED: Gauge(ByLabels), "gizer_verify_end_timestamp_seconds", ["collection"],
        "When the last verify of the collection ended.";
    RUN_STARTED: Gauge(ByLabels), "gizer_last_run_start_timestamp_seconds", ["command"],
        "When the last run of the command began; it is running if that is later than its end.";
    RUN_ENDED: Gauge(ByLabels), "gizer_last_run_end_timestamp_seconds", ["command"],
        "When the last run of the command ended.";
    RUN_EXIT_CODE: Gauge(ByLabels), "gizer_last_run_exit_code", ["command"],
        "The exit code of the last run of the command that has ended.";
    RUN_SUCCEEDED: Gauge(ByLabels), "gizer_last_success_timestamp_seconds", ["command"],
        "When a run of the command last ended with exit code 0.";
    BUILD_INFO: Gauge(UntilWritten), "gizer_build_info", ["version"], "1, with the version of gizer as a label.";
    PROCESS_STARTED: Gauge(Never), "process_start_time_seconds", [], "When the process began.";
    PROCESS_MEMORY: Gauge(Never), "process_resident_memory_bytes", [], "Resident memory of the process.";
}
