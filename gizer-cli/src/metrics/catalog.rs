//! The list of all metrics: names, labels and what they mean. `docs/metrics.md` is its table for people.
//!
//! Names and units are those of Prometheus' "Metric and label naming": the prefix of the program, base units (seconds, bytes) as a
//! suffix, `_total` for what only grows, `_timestamp_seconds` for a time as seconds since 1970 in UTC.

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

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricDefinition {
    MetricDefinition { name, kind: MetricKind::Counter, labels, help }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    lasting: Lasting,
    help: &'static str,
) -> MetricDefinition {
    MetricDefinition { name, kind: MetricKind::Gauge(lasting), labels, help }
}

/// Changes.
pub const CHANGES: MetricDefinition = counter(
    "gizer_changes_applied_total",
    &["collection", "operation"],
    "Changes of the oplog that were applied and committed, by operation: insert, replace, update, delete, migration.",
);
/// Documents of loads.
pub const LOADED: MetricDefinition = counter(
    "gizer_documents_loaded_total",
    &["collection"],
    "Documents of loads that were swapped in, each counted when that happened.",
);
/// Rows.
pub const ROWS: MetricDefinition = counter(
    "gizer_rows_written_total",
    &["collection", "operation"],
    "Rows committed, by operation: insert, update, delete of what is followed; copy of loads that were swapped in.",
);
/// Rejected documents.
pub const REJECTED: MetricDefinition = counter(
    "gizer_rejected_documents_total",
    &["collection"],
    "Documents kept aside in gizer_reject because no rows can be made of them.",
);
/// Unknown fields.
pub const UNKNOWN: MetricDefinition = counter(
    "gizer_unknown_values_total",
    &["collection"],
    "Values of committed changes in fields that the schema does not have, each counted as often as its document was written.",
);
/// Values that do not fit.
pub const UNFIT: MetricDefinition = counter(
    "gizer_unfit_values_total",
    &["collection"],
    "Values of committed changes of another type than the schema has, each counted as often as its document was written.",
);
/// Batches.
pub const BATCHES: MetricDefinition =
    counter("gizer_batches_committed_total", &[], "Transactions that applied a batch of changes or repairs.");
/// How long batches took.
pub const BATCH_SECONDS: MetricDefinition = MetricDefinition {
    name: "gizer_batch_duration_seconds",
    kind: MetricKind::Histogram(&[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0]),
    labels: &[],
    help: "Time from the beginning of a batch's transaction to its commit.",
};
/// Repairs.
pub const REPAIRS: MetricDefinition = counter(
    "gizer_repairs_total",
    &["reason"],
    "Documents whose rows were made equal because they were found different.",
);
/// Reloads.
pub const RELOADS: MetricDefinition =
    counter("gizer_reloads_total", &["reason"], "Collections that became due for a load while they were followed.");
/// Positions.
pub const POSITION: MetricDefinition = gauge(
    "gizer_position_timestamp_seconds",
    &["shard"],
    Lasting::UntilFollowed,
    "Time of the last entry of the shard's oplog up to which everything is in the tables.",
);
/// Verified positions.
pub const VERIFIED: MetricDefinition = gauge(
    "gizer_verified_timestamp_seconds",
    &["shard"],
    Lasting::UntilFollowed,
    "Time up to which the tables were last known to be equal, with all that was written read back and compared.",
);
/// Lag.
pub const LAG: MetricDefinition = gauge(
    "gizer_lag_seconds",
    &["shard"],
    Lasting::UntilFollowed,
    "Newest entry of the shard's oplog, as last looked at (each 5 s), minus the position; 0 if the position is later.",
);
/// Headroom.
pub const HEADROOM: MetricDefinition = gauge(
    "gizer_oplog_headroom_seconds",
    &["shard"],
    Lasting::UntilFollowed,
    "The position minus the oldest entry of the shard's oplog, as last looked at (each 15 s): what may still roll over.",
);
/// Catching up.
pub const CATCHING_UP: MetricDefinition = gauge(
    "gizer_catching_up",
    &[],
    Lasting::UntilFollowed,
    "1 while some documents were read later than the position, so that the tables equal no single moment; else 0.",
);
/// State of expected collections.
pub const STANDING: MetricDefinition = gauge(
    "gizer_collection_standing",
    &["collection", "standing"],
    Lasting::UntilFollowed,
    "1 for how a collection stands that is expected to be copied: followed, loading, load due, waiting, failing, refused, paused, excluded, copy.",
);
/// Memory in use.
pub const LOOKUP_MEMORY: MetricDefinition = gauge(
    "gizer_documents_under_way_bytes",
    &[],
    Lasting::Never,
    "Memory of documents that were looked up to be applied, and are not written yet.",
);
/// Differences.
pub const DIFFERING: MetricDefinition = gauge(
    "gizer_differing_documents",
    &["collection"],
    Lasting::ByLabels,
    "Documents and keys that differed at the end of the last verify, after its repairs.",
);
/// When a collection was last audited.
pub const VERIFY_ENDED: MetricDefinition = gauge(
    "gizer_verify_end_timestamp_seconds",
    &["collection"],
    Lasting::ByLabels,
    "When the last verify of the collection came to its end.",
);
/// When a run began.
pub const RUN_STARTED: MetricDefinition = gauge(
    "gizer_last_run_start_timestamp_seconds",
    &["command"],
    Lasting::ByLabels,
    "When the last run of the command began; it is under way if that is later than its end.",
);
/// When a run ended.
pub const RUN_ENDED: MetricDefinition = gauge(
    "gizer_last_run_end_timestamp_seconds",
    &["command"],
    Lasting::ByLabels,
    "When the last run of the command ended.",
);
/// How a run ended.
pub const RUN_EXIT_CODE: MetricDefinition = gauge(
    "gizer_last_run_exit_code",
    &["command"],
    Lasting::ByLabels,
    "The exit code of the last run of the command that has ended.",
);
/// When a run succeeded.
pub const RUN_SUCCEEDED: MetricDefinition = gauge(
    "gizer_last_success_timestamp_seconds",
    &["command"],
    Lasting::ByLabels,
    "When a run of the command last ended with exit code 0.",
);
/// The version.
pub const BUILD_INFO: MetricDefinition =
    gauge("gizer_build_info", &["version"], Lasting::UntilWritten, "1, with the version of gizer as a label.");
/// When the process began.
pub const PROCESS_STARTED: MetricDefinition =
    gauge("process_start_time_seconds", &[], Lasting::Never, "When the process began.");
/// Resident memory.
pub const PROCESS_MEMORY: MetricDefinition =
    gauge("process_resident_memory_bytes", &[], Lasting::Never, "Resident memory of the process.");

/// All metrics, in the order in which they are written.
pub const ALL: &[&MetricDefinition] = &[
    &CHANGES,
    &LOADED,
    &ROWS,
    &REJECTED,
    &UNKNOWN,
    &UNFIT,
    &BATCHES,
    &BATCH_SECONDS,
    &REPAIRS,
    &RELOADS,
    &POSITION,
    &VERIFIED,
    &LAG,
    &HEADROOM,
    &CATCHING_UP,
    &STANDING,
    &LOOKUP_MEMORY,
    &DIFFERING,
    &VERIFY_ENDED,
    &RUN_STARTED,
    &RUN_ENDED,
    &RUN_EXIT_CODE,
    &RUN_SUCCEEDED,
    &BUILD_INFO,
    &PROCESS_STARTED,
    &PROCESS_MEMORY,
];
